"""White balance and colour matrix from what a RAW file or LibRaw says, each checked.

All functions return None for values that no real camera has; the caller then tries the next source.
"""

from collections.abc import Sequence

import numpy as np

from llpack.colour import SRGB_TO_XYZ, camera_to_srgb

MAX_GAIN = 32.0  # between the strongest and the weakest channel; tungsten light needs about 4
MAX_GREY_WORLD_GAIN = 8.0  # an average is weaker evidence than the camera's own measurement
MAX_MATRIX_ENTRY = 8.0  # real camera -> sRGB matrices stay below 4
MIN_WHITE_RESPONSE = 0.01  # of a camera channel; real ones are between 0.3 and 1.5
MIN_MATRIX_DIAGONAL = 0.25  # the test LibRaw applies to a file's own matrix


def white_balance_gains(multipliers: Sequence[float]) -> tuple[float, float, float] | None:
    """Gains for R, G, B, the smallest 1.0, from LibRaw's multipliers for R, G1, B, G2.

    G1 and G2 are averaged; G2 = 0 means "the same as G1".
    """
    values = np.asarray(multipliers, dtype=np.float64)
    if values.shape != (4,) or not np.isfinite(values).all():
        return None
    red, green, blue, second_green = values
    if second_green > 0:
        green = (green + second_green) / 2
    return _normalised_gains((red, green, blue), MAX_GAIN)


def grey_world_gains(
    mosaic: np.ndarray, black_level: Sequence[float], white_level: float
) -> tuple[float, float, float] | None:
    """Gains that make the average of the RGGB ``mosaic`` neutral, clipped pixels left out."""
    means = []
    for position, black in enumerate(black_level):
        plane = mosaic[position // 2 :: 2, position % 2 :: 2]
        exposed = plane[plane < black + 0.95 * (white_level - black)]
        means.append(exposed.mean() - black if exposed.size else 0.0)
    red, green, blue = means[0], (means[1] + means[2]) / 2, means[3]
    if min(red, green, blue) <= 0:
        return None
    return _normalised_gains((1 / red, 1 / green, 1 / blue), MAX_GREY_WORLD_GAIN)


def matrix_from_xyz(xyz_to_camera: np.ndarray) -> np.ndarray | None:
    """(3, 3) camera RGB -> linear sRGB from LibRaw's (4, 3) XYZ -> camera RGB table."""
    matrix = np.asarray(xyz_to_camera, dtype=np.float64)
    if matrix.shape != (4, 3) or not np.isfinite(matrix).all():
        return None
    white = (matrix[:3] @ SRGB_TO_XYZ).sum(axis=1)
    if (white < MIN_WHITE_RESPONSE).any():
        return None
    try:
        return _plausible_matrix(camera_to_srgb(matrix[:3]))
    except np.linalg.LinAlgError:
        return None


def matrix_from_file(color_matrix: np.ndarray) -> np.ndarray | None:
    """(3, 3) camera RGB -> linear sRGB from LibRaw's (3, 4) matrix of the file's own values."""
    matrix = np.asarray(color_matrix, dtype=np.float64)
    if matrix.shape != (3, 4) or not np.isfinite(matrix).all():
        return None
    sums = matrix[:, :3].sum(axis=1, keepdims=True)
    if (sums < 0.5).any() or (sums > 2).any():
        return None
    return _plausible_matrix(matrix[:, :3] / sums)


def _normalised_gains(
    gains: tuple[float, float, float], limit: float
) -> tuple[float, float, float] | None:
    smallest = min(gains)
    if smallest <= 0 or max(gains) > limit * smallest:
        return None
    red, green, blue = (float(gain / smallest) for gain in gains)
    return red, green, blue


def _plausible_matrix(matrix: np.ndarray) -> np.ndarray | None:
    plausible = (
        np.isfinite(matrix).all()
        and np.abs(matrix).max() <= MAX_MATRIX_ENTRY
        and np.diag(matrix).min() >= MIN_MATRIX_DIAGONAL
    )
    return matrix.astype(np.float32) if plausible else None
