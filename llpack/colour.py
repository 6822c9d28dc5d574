"""Colour of cameras: from the matrix that describes a sensor to linear sRGB, and back."""

import numpy as np

# Linear sRGB (BT.709 primaries, D65) to CIE XYZ, IEC 61966-2-1.
SRGB_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)


def camera_to_srgb(xyz_to_camera: np.ndarray) -> np.ndarray:
    """(3, 3) float32: white-balanced linear camera RGB -> linear sRGB, rows summing to 1.

    xyz_to_camera: (3, 3), XYZ of a D65 scene -> camera RGB before white balance, as DNG's
    ColorMatrix and LibRaw's table give it. As dcraw and LibRaw do: the rows of sRGB -> camera are
    normalised, so that equal RGB stays equal (white stays white), and the result is inverted.
    Raises numpy.linalg.LinAlgError for a singular matrix.
    """
    srgb_to_camera = np.asarray(xyz_to_camera, np.float64) @ SRGB_TO_XYZ
    srgb_to_camera /= srgb_to_camera.sum(1, keepdims=True)
    return np.linalg.inv(srgb_to_camera).astype(np.float32)
