"""What `area_light` does to a picture, written out in numpy for a whole frame."""

import numpy as np
from scipy.ndimage import convolve1d, map_coordinates


def with_measured_light(
    picture: np.ndarray, mosaic: np.ndarray, doubt: np.ndarray, factor: int
) -> np.ndarray:
    """The whole rule for a whole frame, in numpy: linear (H, W, 3) in and out."""
    rows, columns = (side // 16 for side in mosaic.shape)

    def means(values: np.ndarray) -> np.ndarray:
        return values.reshape(rows, 8, columns, 8).mean((1, 3))

    def smooth(values: np.ndarray) -> np.ndarray:
        values = np.pad(values, 5, mode="edge")
        for axis in (0, 1):
            values = convolve1d(values, np.r_[1:6, 4:0:-1] / 25, axis=axis)
        return values[4:-4, 4:-4]  # with one block more on every side

    sites = [[(0, 0)], [(0, 1), (1, 0)], [(1, 1)]]
    result = picture.copy()
    for colour, places in enumerate(sites):
        at = [(slice(row, None, 2), slice(column, None, 2)) for row, column in places]
        measured = smooth(np.minimum(np.mean([means(mosaic[place]) for place in at], 0), 1))
        drawn = smooth(np.mean([means(picture[..., colour][place]) for place in at], 0))
        missing = measured - drawn
        half = missing**3 / (missing**2 + doubt[colour] ** 2) / 2
        factors = np.clip((drawn + half + 0.002) / (drawn + 0.002), 0.4, 4)
        side = factor / 16
        places = np.mgrid[: 16 * rows // factor, : 16 * columns // factor] * side + (side - 1) / 2
        factors, half = (
            map_coordinates(grid, places + 1, order=1).repeat(factor, 0).repeat(factor, 1)
            for grid in (factors, half)
        )
        result[..., colour] = result[..., colour] * factors + half
    return result
