"""Write a Bayer mosaic as a DNG 1.4 file, the open RAW format that every RAW developer reads.

The file is a plain TIFF: one image directory with the mosaic, one Exif directory. Tag numbers and
types are those of Adobe's "Digital Negative (DNG) Specification 1.4.0.0" (2012).
"""

from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np

from llpack.errors import OutputError
from llpack.metadata import Exif
from llpack.tiff import (
    ASCII,
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    SRATIONAL,
    STRIP_OFFSETS,
    UNDEFINED,
    Tags,
    author_tags,
    exposure_tags,
    long_iso_tags,
    tiff_head,
)

UNCOMPRESSED, LOSSLESS_JPEG = 1, 7
CFA_PHOTOMETRIC = 32803
D65 = 21
CFA_PHASES = ("RGGB", "GRBG", "GBRG", "BGGR")

_FIXED_TAGS: Tags = {
    254: (LONG, 0),  # NewSubfileType: the full-resolution image
    258: (SHORT, 16),  # BitsPerSample
    262: (SHORT, CFA_PHOTOMETRIC),
    277: (SHORT, 1),  # SamplesPerPixel
    284: (SHORT, 1),  # PlanarConfiguration
    305: (ASCII, "llpack"),
    33421: (SHORT, (2, 2)),  # CFARepeatPatternDim
    50706: (BYTE, (1, 4, 0, 0)),  # DNGVersion
    50707: (BYTE, (1, 1, 0, 0)),  # DNGBackwardVersion
    50710: (BYTE, (0, 1, 2)),  # CFAPlaneColor
    50711: (SHORT, 1),  # CFALayout: rectangular
    50713: (SHORT, (2, 2)),  # BlackLevelRepeatDim
    50778: (SHORT, D65),  # CalibrationIlluminant1
}


def write_dng(
    path: str | Path,
    mosaic: np.ndarray,
    *,
    black_level: Sequence[float],
    white_level: float,
    as_shot_neutral: Sequence[float],
    color_matrix: np.ndarray,
    cfa: str = "RGGB",
    orientation: int = 1,
    exif: Exif | None = None,
    compress: bool = True,
) -> None:
    """Write ``mosaic`` so that LibRaw reads back exactly these values.

    Parameters
    ----------
    mosaic : uint16, shape = (H, W), H and W even
    black_level : four DN in the raster order of the 2x2 CFA cell
    white_level : DN where the sensor clips
    as_shot_neutral : camera RGB of a neutral surface, largest value 1 (1 / white balance gains)
    color_matrix : (3, 3), XYZ -> camera RGB under D65
    compress : use lossless JPEG when that makes the file smaller

    Raises
    ------
    ValueError : a wrong shape, type or CFA
    OutputError : the file cannot be written
    """
    if mosaic.dtype != np.uint16 or mosaic.ndim != 2 or any(side % 2 for side in mosaic.shape):
        raise ValueError("the mosaic must be a uint16 array with an even height and width")
    if cfa not in CFA_PHASES:
        raise ValueError(f"the CFA must be one of {', '.join(CFA_PHASES)}, not {cfa!r}")
    exif = exif or Exif()
    pixels, compression = _encode_pixels(mosaic, compress)
    height, width = mosaic.shape
    tags: Tags = {
        **_FIXED_TAGS,
        256: (LONG, width),
        257: (LONG, height),
        259: (SHORT, compression),
        STRIP_OFFSETS: (LONG, 0),
        274: (SHORT, orientation),
        278: (LONG, height),  # RowsPerStrip: a single strip
        279: (LONG, len(pixels)),
        33422: (BYTE, ["RGB".index(color) for color in cfa]),
        50708: (ASCII, exif.camera),  # UniqueCameraModel
        50714: (RATIONAL, black_level),
        50717: (LONG, round(white_level)),
        50721: (SRATIONAL, np.asarray(color_matrix, float).ravel()),  # ColorMatrix1
        50728: (RATIONAL, as_shot_neutral),
        306: (ASCII, exif.taken),
        **author_tags(exif),
    }
    exif_tags = {
        36864: (UNDEFINED, b"0230"),  # ExifVersion
        **exposure_tags(exif),
        **long_iso_tags(exif.iso),
    }
    _write(Path(path), tiff_head(tags, exif_tags) + pixels)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(
            f"{path.name} could not be written: {error.strerror or error}. "
            "Choose another folder or free some space."
        ) from error


def _encode_pixels(mosaic: np.ndarray, compress: bool) -> tuple[bytes, int]:
    """The strip's bytes and its TIFF compression."""
    plain = mosaic.astype("<u2").tobytes()
    if compress:
        smaller = encode_lossless_jpeg(mosaic)
        if len(smaller) < len(plain):
            return smaller, LOSSLESS_JPEG
    return plain, UNCOMPRESSED


def encode_lossless_jpeg(mosaic: np.ndarray) -> bytes:
    """Lossless JPEG (ITU T.81 process 14), two components per row as cameras' own DNG files have.

    Every second pixel of a row has the same colour, so the left neighbour that predicts a pixel is
    one of its own colour.
    """
    height, width = mosaic.shape
    pairs = np.ascontiguousarray(mosaic).reshape(height, width // 2, 2)
    return imagecodecs.jpeg8_encode(pairs, lossless=True, predictor=1, bitspersample=16)
