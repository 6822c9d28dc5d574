"""Finished pictures to files: JPEG, PNG and 16-bit TIFF, with colour profile and metadata."""

import contextlib
import functools
import io
import os
import secrets
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2
from PIL.TiffTags import ASCII, UNDEFINED

from llpack.errors import OutputError
from llpack.metadata import Exif

FORMATS = {"jpg": 8, "png": 8, "tiff": 16}  # name, also the file's suffix -> bits to render with
JPEG_QUALITY = 92
SOFTWARE = "llpack"
EXIF_DIRECTORY = 34665  # the tag that points from a TIFF's image directory to its Exif directory
STRIP_OFFSETS = 273
MAX_SHORT_ISO = 65535  # what the 16 bits of PhotographicSensitivity can say

Tags = dict[int, object]  # tag number -> value: text, whole number, Fraction, bytes or a tuple


def write_picture(path: str | Path, picture: np.ndarray, exif: Exif, *, format: str) -> None:
    """Write a picture (H, W, 3), upright, sRGB, as `format` (a key of `FORMATS`).

    JPEG has quality 92 and full colour resolution (4:4:4). TIFF has as many bits as the picture's
    type; JPEG and PNG want uint8. The file appears under its name only when it is complete.

    Raises
    ------
    ValueError : an unknown format or a picture of the wrong shape or type
    OutputError : the file cannot be written; nothing is left of it
    """
    path = Path(path)
    allowed = (np.uint8, np.uint16) if format == "tiff" else (np.uint8,)
    if format not in FORMATS or picture.dtype not in allowed or picture.shape[2:] != (3,):
        raise ValueError(f"no {format} of a {picture.dtype} picture of shape {picture.shape}")
    parts = _tiff(picture, exif) if format == "tiff" else [_encoded(picture, exif, format)]
    # In the same folder, because only there a rename is one step; short, because names have limits.
    partial = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        with open(partial, "xb") as file:
            file.writelines(parts)
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror or error}. "
            "Choose another folder or free some space."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _encoded(picture: np.ndarray, exif: Exif, format: str) -> bytes:
    """A JPEG or PNG file."""
    metadata = b"Exif\0\0" + _tiff_head(*_metadata(exif))
    options = {"icc_profile": srgb_profile(), "exif": metadata}
    encoded = io.BytesIO()
    if format == "jpg":
        options |= {"quality": JPEG_QUALITY, "subsampling": "4:4:4"}
        Image.fromarray(picture).save(encoded, "JPEG", **options)
    else:  # level 1: three times as fast as the default, and a tenth larger on a noisy picture
        Image.fromarray(picture).save(encoded, "PNG", compress_level=1, **options)
    return encoded.getvalue()


def _tiff(picture: np.ndarray, exif: Exif) -> list:
    """The parts of an uncompressed TIFF file: Pillow cannot write 16-bit RGB."""
    height, width = picture.shape[:2]
    pixels = np.ascontiguousarray(picture, picture.dtype.newbyteorder("<"))
    tags, exif_tags = _metadata(exif)
    tags |= {
        256: width,
        257: height,
        258: (8 * pixels.itemsize,) * 3,  # BitsPerSample
        259: 1,  # Compression: none
        262: 2,  # PhotometricInterpretation: RGB
        STRIP_OFFSETS: 0,  # counted from the end of the directory
        277: 3,  # SamplesPerPixel
        278: height,  # RowsPerStrip: a single strip
        279: pixels.nbytes,  # StripByteCounts
        284: 1,  # PlanarConfiguration: RGBRGB
        34675: srgb_profile(),
    }
    return [_tiff_head(tags, exif_tags), pixels.data]


def _metadata(exif: Exif) -> tuple[Tags, Tags]:
    """Tags of the image directory and of the Exif directory (Exif 2.32, CIPA DC-008)."""
    tags = {
        271: exif.make,
        272: exif.model,
        274: 1,  # Orientation: results are upright
        282: Fraction(72),  # XResolution, YResolution and their unit: demanded, without meaning
        283: Fraction(72),
        296: 2,
        305: SOFTWARE,
        315: exif.artist,
        33432: exif.copyright,
    }
    exif_tags = {
        33434: _fraction(exif.exposure_time),
        33437: _fraction(exif.f_number),
        **_iso_tags(exif.iso),
        36864: b"0232",  # ExifVersion
        36867: exif.taken,  # DateTimeOriginal
        37386: _fraction(exif.focal_length),
        40961: 1,  # ColorSpace: sRGB
        42036: exif.lens,
    }
    return tags, exif_tags


def _iso_tags(iso: float | None) -> Tags:
    if iso is None:
        return {}
    tags = {34855: min(round(iso), MAX_SHORT_ISO)}  # PhotographicSensitivity
    if iso > MAX_SHORT_ISO:
        tags |= {34864: 3, 34867: round(iso)}  # SensitivityType: ISOSpeed, and its value
    return tags


def _fraction(value: float | None) -> Fraction | None:
    """1/250 for 0.004: within 1e-7, and short enough for a 32-bit rational."""
    return None if value is None else Fraction(value).limit_denominator(10_000_000)


def _tiff_head(tags: Tags, exif_tags: Tags) -> bytes:
    """Header, Exif directory and image directory of a TIFF; also what JPEG and PNG carry."""
    start = 8  # behind the header
    exif_directory = _directory(exif_tags).tobytes(start)
    image_start = start + len(exif_directory)
    image_directory = _directory({**tags, EXIF_DIRECTORY: start}).tobytes(image_start)
    return struct.pack("<2sHI", b"II", 42, image_start) + exif_directory + image_directory


def _directory(tags: Tags) -> ImageFileDirectory_v2:
    """Pillow's writer with the types that it cannot guess; tags without a value are left out."""
    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        if isinstance(value, str):
            directory.tagtype[tag] = ASCII
            value = value.encode()  # UTF-8, as every reader expects; Pillow would write "?"
        elif isinstance(value, bytes):
            directory.tagtype[tag] = UNDEFINED
        elif isinstance(value, Fraction):
            value = IFDRational(value)
        if value is not None:
            directory[tag] = value
    return directory


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, as every result carries it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
