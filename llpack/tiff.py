"""The directories that DNG and TIFF files begin with, and that JPEG and PNG carry as their Exif.

Layout and types are those of TIFF 6.0 (Adobe, 1992), the tags of the Exif directory those of Exif
2.32 (CIPA DC-008).
"""

import struct
from fractions import Fraction

import numpy as np

from llpack.metadata import Exif

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL = 1, 2, 3, 4, 5, 7, 10
_STRUCT_CODE = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", UNDEFINED: "B", SRATIONAL: "i"}

STRIP_OFFSETS, EXIF_DIRECTORY = 273, 34665  # filled in when the layout is known
MAX_SHORT = 65535

Tags = dict[int, tuple[int, object]]  # tag number -> (type, value or values); None is left out


def author_tags(exif: Exif) -> Tags:
    """What the image directory says about camera and author."""
    return {
        271: (ASCII, exif.make),
        272: (ASCII, exif.model),
        315: (ASCII, exif.artist),
        33432: (ASCII, exif.copyright),
    }


def exposure_tags(exif: Exif) -> Tags:
    """What the Exif directory says about the exposure; ISO only as far as 16 bits go."""
    return {
        33434: (RATIONAL, exif.exposure_time),
        33437: (RATIONAL, exif.f_number),
        34855: (SHORT, None if exif.iso is None else min(round(exif.iso), MAX_SHORT)),
        36867: (ASCII, exif.taken),
        37386: (RATIONAL, exif.focal_length),
        42036: (ASCII, exif.lens),
    }


def long_iso_tags(iso: float | None) -> Tags:
    """ISO in 32 bits, for the Exif directory."""
    iso = None if iso is None else round(iso)
    return {
        34864: (SHORT, iso and 3),  # SensitivityType: ISOSpeed
        34867: (LONG, iso),
    }


def tiff_head(tags: Tags, exif_tags: Tags) -> bytes:
    """Header, image directory and Exif directory; the pixels follow at once, in a single strip.

    A StripOffsets among `tags` is set to the end of what is returned.
    """
    start = 8  # behind the header
    tags = tags | {EXIF_DIRECTORY: (LONG, 0)}  # offsets need the directories' lengths
    exif_start = start + len(_directory(tags, start))
    exif_directory = _directory(exif_tags, exif_start)
    tags[EXIF_DIRECTORY] = (LONG, exif_start)
    if STRIP_OFFSETS in tags:
        tags[STRIP_OFFSETS] = (LONG, exif_start + len(exif_directory))
    return struct.pack("<2sHI", b"II", 42, start) + _directory(tags, start) + exif_directory


def _directory(tags: Tags, start: int) -> bytes:
    """One directory at byte `start`; values longer than four bytes follow its entries."""
    tags = {tag: value for tag, value in tags.items() if value[1] is not None}
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
    if isinstance(value, bytes):
        return len(value), value
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
