"""Write a Bayer mosaic as a DNG 1.4 file, the open RAW format that every RAW developer reads.

The file is a plain TIFF: one image directory with the mosaic, one Exif directory. Tag numbers and
types are those of Adobe's "Digital Negative (DNG) Specification 1.4.0.0" (2012) and of Exif 2.3.
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from llpack.errors import OutputError
from llpack.metadata import Exif

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL = 1, 2, 3, 4, 5, 7, 10
_STRUCT_CODE = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B", SRATIONAL: "i"}

STRIP_OFFSETS, EXIF_IFD = 273, 34665  # filled in when the layout is known
UNCOMPRESSED, LOSSLESS_JPEG = 1, 7
CFA_PHOTOMETRIC = 32803
D65 = 21
CFA_PHASES = ("RGGB", "GRBG", "GBRG", "BGGR")

Tags = dict[int, tuple[int, object]]  # tag number -> (type, value or values)

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
        274: (SHORT, orientation),
        278: (LONG, height),  # RowsPerStrip: a single strip
        279: (LONG, len(pixels)),
        33422: (BYTE, ["RGB".index(color) for color in cfa]),
        50708: (ASCII, exif.camera),  # UniqueCameraModel
        50714: (RATIONAL, black_level),
        50717: (LONG, round(white_level)),
        50721: (SRATIONAL, np.asarray(color_matrix, float).ravel()),  # ColorMatrix1
        50728: (RATIONAL, as_shot_neutral),
        **_author_tags(exif),
    }
    _write(Path(path), _tiff(tags, _exif_tags(exif), pixels))


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
    import imagecodecs  # large, and only needed here

    height, width = mosaic.shape
    pairs = np.ascontiguousarray(mosaic).reshape(height, width // 2, 2)
    return imagecodecs.jpeg8_encode(pairs, lossless=True, predictor=1, bitspersample=16)


def _author_tags(exif: Exif) -> Tags:
    return _given({
        271: (ASCII, exif.make),
        272: (ASCII, exif.model),
        306: (ASCII, exif.taken),
        315: (ASCII, exif.artist),
        33432: (ASCII, exif.copyright),
    })  # fmt: skip


def _exif_tags(exif: Exif) -> Tags:
    iso = None if exif.iso is None else round(exif.iso)
    return _given({
        33434: (RATIONAL, exif.exposure_time),
        33437: (RATIONAL, exif.f_number),
        34855: (SHORT, iso and min(iso, 65535)),  # 16 bits; ISOSpeed below has 32
        34864: (SHORT, iso and 3),  # SensitivityType: ISOSpeed
        34867: (LONG, iso),
        36864: (UNDEFINED, tuple(b"0230")),  # ExifVersion
        36867: (ASCII, exif.taken),
        37386: (RATIONAL, exif.focal_length),
        42036: (ASCII, exif.lens),
    })  # fmt: skip


def _given(tags: Tags) -> Tags:
    return {tag: (kind, value) for tag, (kind, value) in tags.items() if value is not None}


def _tiff(tags: Tags, exif_tags: Tags, pixels: bytes) -> bytes:
    """Header, image directory, Exif directory, pixels: offsets need the directories' lengths."""
    tags = tags | {STRIP_OFFSETS: (LONG, 0), EXIF_IFD: (LONG, 0)}
    start = 8
    exif_start = start + len(_directory(tags, start))
    pixels_start = exif_start + len(_directory(exif_tags, exif_start))
    tags |= {STRIP_OFFSETS: (LONG, pixels_start), EXIF_IFD: (LONG, exif_start)}
    return b"".join(
        (
            struct.pack("<2sHI", b"II", 42, start),
            _directory(tags, start),
            _directory(exif_tags, exif_start),
            pixels,
        )
    )


def _directory(tags: Tags, start: int) -> bytes:
    """One TIFF directory at byte ``start``; values longer than four bytes follow its entries."""
    entries, values = b"", b""
    values_start = start + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):  # TIFF wants ascending tag numbers
        kind, value = tags[tag]
        count, data = _encode(kind, value)
        if len(data) > 4:
            inline = struct.pack("<I", values_start + len(values))
            values += data + b"\0" * (len(data) % 2)  # values start at even offsets
        else:
            inline = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + inline
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values


def _encode(kind: int, value: object) -> tuple[int, bytes]:
    """Number of values and their bytes."""
    if kind == ASCII:
        data = value.encode("utf-8") + b"\0"
        return len(data), data
    values = [value] if np.isscalar(value) else list(value)
    count = len(values)
    if kind in (RATIONAL, SRATIONAL):
        fractions = [_fraction(float(v)) for v in values]
        values = [part for f in fractions for part in (f.numerator, f.denominator)]
    return count, struct.pack(f"<{len(values)}{_STRUCT_CODE[kind]}", *map(int, values))


def _fraction(value: float) -> Fraction:
    """The nearest fraction whose numerator and denominator fit into 31 bits."""
    largest = int(2**31 / max(abs(value), 1))
    return Fraction(value).limit_denominator(min(1_000_000, max(largest, 1)))
