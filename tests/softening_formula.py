"""What `softening` does to a picture, pixel by pixel, in numpy."""

import numpy as np


def with_ramps(encoded: np.ndarray) -> np.ndarray:
    """Low steps between blocks of 8 pixels as ramps: (H, W, 3), first from column to column."""
    for axis in (1, 0):
        lines = np.moveaxis(encoded.copy(), axis, 0)
        for border in range(8, len(lines) - 1, 8):
            step = lines[border] - lines[border - 1]
            step = step * np.maximum(0, 1 - np.abs(step) / 0.04)
            for pixel, share in ((-2, 1 / 8), (-1, 3 / 8), (0, -3 / 8), (1, -1 / 8)):
                lines[border + pixel] += share * step
        encoded = np.moveaxis(lines, 0, axis)
    return encoded
