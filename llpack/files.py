"""Finished pictures to files: JPEG, PNG and 16-bit TIFF, with colour profile and metadata."""

import contextlib
import functools
import io
import os
import secrets
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from llpack.errors import OutputError
from llpack.jpeg import encode_jpeg, segment
from llpack.metadata import Exif
from llpack.tiff import (
    ASCII,
    LONG,
    MAX_SHORT,
    RATIONAL,
    SHORT,
    STRIP_OFFSETS,
    UNDEFINED,
    Tags,
    author_tags,
    exposure_tags,
    long_iso_tags,
    tiff_head,
)

FORMATS = {"jpg": 8, "png": 8, "tiff": 16}  # name, also the file's suffix -> bits to render with
JPEG_QUALITY = 92
# Of noise, which is large and slow to show; and it is only looked at.
SCREEN_QUALITY = 80
SOFTWARE = "llpack"


def write_picture(
    path: str | Path, picture: np.ndarray, exif: Exif, *, format: str, for_screen: bool = False
) -> None:
    """Write a picture (H, W, 3), upright, sRGB, as `format` (a key of `FORMATS`).

    JPEG has quality 92 and full colour resolution (4:4:4), or `for_screen` quality 80 and 4:2:0. TIFF
    has as many bits as the picture's type; JPEG and PNG want uint8. The file appears under its name
    only when it is complete.

    Raises
    ------
    ValueError : an unknown format or a picture of the wrong shape or type
    OutputError : the file cannot be written; nothing is left of it
    """
    path = Path(path)
    allowed = (np.uint8, np.uint16) if format == "tiff" else (np.uint8,)
    if format not in FORMATS or picture.dtype not in allowed or picture.shape[2:] != (3,):
        raise ValueError(f"no {format} of a {picture.dtype} picture of shape {picture.shape}")
    if format == "tiff":
        parts = _tiff(picture, exif)
    elif format == "png":
        parts = _png(picture, exif)
    else:
        parts = _jpeg(picture, exif, for_screen)
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


def _jpeg(picture: np.ndarray, exif: Exif, for_screen: bool) -> list[bytes | memoryview]:
    """The parts of a JPEG file: Pillow would first copy the picture to four bytes a pixel."""
    quality, subsampling = (SCREEN_QUALITY, "420") if for_screen else (JPEG_QUALITY, "444")
    header, *scans = encode_jpeg(picture, quality, subsampling)
    jfif = 4 + int.from_bytes(header[4:6])  # start of image and the JFIF segment; ours follow
    profile = b"ICC_PROFILE\0" + bytes([1, 1]) + srgb_profile()  # part 1 of 1
    ours = segment(0xE1, _exif_block(exif)) + segment(0xE2, profile)
    return [header[:jfif], ours, header[jfif:], *scans]


def _png(picture: np.ndarray, exif: Exif) -> list[bytes]:
    encoded = io.BytesIO()
    # Level 1: three times as fast as the default, and a tenth larger on a noisy picture.
    options = {"icc_profile": srgb_profile(), "exif": _exif_block(exif), "compress_level": 1}
    Image.fromarray(picture).save(encoded, "PNG", **options)
    return [encoded.getvalue()]


def _exif_block(exif: Exif) -> bytes:
    return b"Exif\0\0" + tiff_head(*_metadata(exif))


def _tiff(picture: np.ndarray, exif: Exif) -> list:
    """The parts of an uncompressed TIFF file: Pillow cannot write 16-bit RGB."""
    height, width = picture.shape[:2]
    pixels = np.ascontiguousarray(picture, picture.dtype.newbyteorder("<"))
    tags, exif_tags = _metadata(exif)
    tags |= {
        256: (LONG, width),
        257: (LONG, height),
        258: (SHORT, (8 * pixels.itemsize,) * 3),  # BitsPerSample
        259: (SHORT, 1),  # Compression: none
        262: (SHORT, 2),  # PhotometricInterpretation: RGB
        STRIP_OFFSETS: (LONG, 0),
        277: (SHORT, 3),  # SamplesPerPixel
        278: (LONG, height),  # RowsPerStrip: a single strip
        279: (LONG, pixels.nbytes),  # StripByteCounts
        284: (SHORT, 1),  # PlanarConfiguration: RGBRGB
        34675: (UNDEFINED, srgb_profile()),
    }
    return [tiff_head(tags, exif_tags), pixels.data]


def _metadata(exif: Exif) -> tuple[Tags, Tags]:
    """Tags of the image directory and of the Exif directory."""
    tags = {
        274: (SHORT, 1),  # Orientation: results are upright
        282: (RATIONAL, 72),  # XResolution, YResolution and their unit: demanded, without meaning
        283: (RATIONAL, 72),
        296: (SHORT, 2),
        305: (ASCII, SOFTWARE),
        **author_tags(exif),
    }
    exif_tags = {
        36864: (UNDEFINED, b"0232"),  # ExifVersion
        40961: (SHORT, 1),  # ColorSpace: sRGB
        **exposure_tags(exif),
        **(long_iso_tags(exif.iso) if (exif.iso or 0) > MAX_SHORT else {}),
    }
    return tags, exif_tags


@functools.cache
def srgb_profile() -> bytes:
    """The ICC profile of sRGB, as every result carries it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
