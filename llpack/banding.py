"""Row noise: every row of a sensor is read with a small offset of its own.

In the dark it is amplified to stripes across the picture, which the network, seeing a few dozen rows
and columns at a time, cannot tell from the scene. Over the whole width of a frame it can be measured:
the pixels' own noise averages out, and a scene seldom has the same step in all columns.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from llpack.raw import RawFrame

MIN_COLUMNS = 512  # of one colour; fewer do not average the pixels' noise away
_MAX_COLUMNS = 2048
# What is taken for row noise and no more: a scene's own horizontal lines must not be wiped out.
# Calibrated row noise is at most a quarter of the pixels' own noise, and 2e-4 of the full scale.
_SHARE_OF_PIXEL_NOISE = 0.5
_SHARE_OF_FULL_SCALE = 5e-4
_ROWS = 64  # of a plane, looked at together: they stay in the cache
_DAMPING = 0.02  # of slow changes from row to row, which are the scene's rather than the sensor's


def row_offsets(frame: RawFrame, each: Callable = map) -> np.ndarray:
    """(H,) float32: DN by which each row of the mosaic seems to be too high.

    Zero for frames too narrow to tell. `each` is `map` or, for several threads, an executor's.
    """
    offsets = np.zeros(frame.height, np.float32)
    if frame.width // 2 < MIN_COLUMNS:
        return offsets
    step = max(1, frame.width // 2 // _MAX_COLUMNS)
    limit = _SHARE_OF_FULL_SCALE * (frame.white_level - max(frame.black_level))
    planes = [frame.mosaic[site // 2 :: 2, site % 2 :: 2 * step] for site in range(4)]
    bends = list(each(partial(_bends, limit=limit), planes))
    for parity in (0, 1):  # rows of one kind: red with green, green with blue
        offsets[parity::2] = _offsets_of_bends(np.mean(bends[2 * parity : 2 * parity + 2], 0))
    return offsets


def pixel_noise(frame: RawFrame) -> np.ndarray:
    """(4,): standard deviation of the pixels' noise at R, G1, G2, B, in DN; typical of the frame."""
    planes = [frame.mosaic[site // 2 :: 2, site % 2 :: 2] for site in range(4)]
    return np.array([_noise_of_bends(plane) for plane in planes]) / 1.5**0.5  # of three pixels


def _bends(plane: np.ndarray, limit: float) -> np.ndarray:
    """How far each row lies above the mean of its two neighbours: (rows,), zero where it is not
    noise, and at the first and last row."""
    last, noise = len(plane) - 1, _noise_of_bends(plane)
    means = np.zeros(len(plane), np.float32)
    for first in range(1, last, _ROWS):
        bend = _bend(plane[first - 1 : min(first + _ROWS, last) + 1])
        np.clip(bend, -3 * noise, 3 * noise, out=bend)
        means[first : first + len(bend)] = bend.mean(1)
    means[np.abs(means) > min(limit, _SHARE_OF_PIXEL_NOISE * noise)] = 0
    return means


def _noise_of_bends(plane: np.ndarray) -> float:
    """Standard deviation of the pixels' bends: by the median, which edges do not move."""
    last = len(plane) - 1
    sample = [_bend(plane[row - 1 : row + 2]) for row in range(1, last, max(1, last // 16))]
    return float(1.4826 * np.median(np.abs(sample)))  # the usual factor for normal noise


def _bend(rows: np.ndarray) -> np.ndarray:
    """Each row but the outermost minus the mean of its two neighbours, float32."""
    values = rows.astype(np.float32)
    around = values[:-2] + values[2:]
    around *= -0.5
    around += values[1:-1]
    return around


def _offsets_of_bends(bends: np.ndarray) -> np.ndarray:
    """Offsets whose second differences are the bends, least squares, slow changes damped."""
    mirrored = np.concatenate([bends, bends[::-1]])  # without a jump from the last row to the first
    frequencies = 2 * np.pi * np.fft.rfftfreq(len(mirrored))
    response = 1 - np.cos(frequencies)
    spectrum = np.fft.rfft(mirrored) * response / (response**2 + _DAMPING)
    return np.fft.irfft(spectrum, len(mirrored))[: len(bends)]
