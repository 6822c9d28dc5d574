"""What a picture file says about itself: camera, lens, exposure, time, author.

ExifRead reads every file that is a TIFF inside (ARW, NEF, CR2, DNG, PEF, ORF, RW2, ...) and JPEG.
The other RAW containers hold a TIFF, a JPEG or two plain strings somewhere: it is found here and
handed over. Files come from strangers: every value is checked, reading is bounded, nothing raises.
"""

import io
import logging
import math
import re
import struct
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import exifread

MAX_TEXT = 120  # characters kept of any string
MAX_READS = 20_000  # a normal file takes fewer than 1,000
MAX_READ_BYTES = 1 << 16  # the longest string worth reading is far shorter
HEAD_BYTES = 1 << 18  # a RAF's JPEG header, a CR3's or MRW's metadata lie in its first 256 KiB

# ExifRead's tag names without their directory, in the order in which they are believed.
_TEXT_TAGS = {
    "make": ("Make",),
    "model": ("Model",),
    "lens": ("LensModel",),
    "artist": ("Artist",),
    "copyright": ("Copyright",),
}
_DATE_TAGS = ("DateTimeOriginal", "DateTimeDigitized", "DateTime")
_NUMBER_TAGS = {
    "exposure_time": ("ExposureTime",),
    "f_number": ("FNumber",),
    "iso": ("ISOSpeed", "RecommendedExposureIndex", "ISOSpeedRatings"),  # the last ends at 65535
    "focal_length": ("FocalLength",),
}
# Anything outside is a damaged or invented value: seconds, f-number, ISO, millimetres.
_PLAUSIBLE = {
    "exposure_time": (1e-7, 1e6),
    "f_number": (0.1, 1000.0),
    "iso": (0.1, 1e8),
    "focal_length": (0.1, 1e5),
}
_DATE = re.compile(r"(?!0000)\d{4}:(0[1-9]|1[0-2]):(0[1-9]|[12]\d|3[01]) [0-2]\d:[0-5]\d:[0-6]\d")

# A damaged file is our callers' subject, not the library's log's.
logging.getLogger("exifread").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class Exif:
    """What is carried over from a file to its results; None where the file does not say.

    Units: exposure_time in seconds, focal_length in millimetres, taken as "YYYY:MM:DD HH:MM:SS".
    """

    make: str | None = None
    model: str | None = None
    lens: str | None = None
    exposure_time: float | None = None
    f_number: float | None = None
    iso: float | None = None
    focal_length: float | None = None
    taken: str | None = None
    artist: str | None = None
    copyright: str | None = None

    @property
    def camera(self) -> str:
        """ "Make Model", without the make where the model repeats it ("NIKON D500")."""
        if not self.model:
            return self.make or "unknown camera"
        words = (self.make or "").casefold().split()
        if not words or self.model.casefold().split()[0] in words:
            return self.model
        return f"{self.make} {self.model}"

    @property
    def exposure(self) -> str:
        """ "1/10 s, f/2.8, ISO 3200, 50 mm": what is known of it, in this order."""
        parts = []
        if self.exposure_time is not None:
            slow = self.exposure_time >= 0.3
            seconds = f"{self.exposure_time:.3g}" if slow else f"1/{1 / self.exposure_time:.0f}"
            parts.append(f"{seconds} s")
        if self.f_number is not None:
            parts.append(f"f/{self.f_number:.3g}")
        if self.iso is not None:
            parts.append(f"ISO {self.iso:.0f}")
        if self.focal_length is not None:
            parts.append(f"{self.focal_length:.3g} mm")
        return ", ".join(parts)


def read_exif(path: str | Path) -> Exif:
    """What the file says about itself; a damaged or foreign file gives an Exif with gaps."""
    try:
        with open(path, "rb") as file:
            values = _read_values(file)
    except OSError:
        values = {}
    texts = {field: _first(clean_text, values, names) for field, names in _TEXT_TAGS.items()}
    numbers = {
        field: _first(lambda v, field=field: clean_number(field, v), values, names)
        for field, names in _NUMBER_TAGS.items()
    }
    return Exif(**texts, **numbers, taken=_first(clean_date, values, _DATE_TAGS))


def clean_text(value: object) -> str | None:
    """One printable line of at most ``MAX_TEXT`` characters, or None if nothing is left."""
    if isinstance(value, bytes):
        value = value.split(b"\0", 1)[0].decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    # Category C: control and format characters (also the ones that reverse the writing direction).
    value = value[: 4 * MAX_TEXT].split("\0", 1)[0]
    value = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in value)
    return " ".join(value.split())[:MAX_TEXT].strip() or None


def clean_date(value: object) -> str | None:
    """ "YYYY:MM:DD HH:MM:SS", or None for anything else and for the zeros of an unset clock."""
    text = clean_text(value)
    return text if text and _DATE.fullmatch(text) else None


def clean_number(field: str, value: object) -> float | None:
    """``value`` as a float if it is plausible for that field of `Exif`, else None."""
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    low, high = _PLAUSIBLE[field]
    return number if math.isfinite(number) and low <= number <= high else None


def _first(clean, values: dict[str, object], names: tuple[str, ...]):
    cleaned = (clean(values[name]) for name in names if name in values)
    return next((value for value in cleaned if value is not None), None)


def _read_values(file: BinaryIO) -> dict[str, object]:
    """Tag name (without directory) -> string or number, from wherever the container keeps it."""
    head = file.read(HEAD_BYTES)
    if head[6:14] == b"HEAPCCDR":  # Canon CRW
        return _crw_values(file)
    if head[4:12] == b"ftypcrx ":  # Canon CR3: one TIFF each for the image and the Exif directory
        return _box_values(head, b"CMT1") | _box_values(head, b"CMT2")
    if head.startswith(b"FUJIFILMCCD-RAW"):  # RAF: the Exif data is in the embedded JPEG
        (offset,) = struct.unpack(">I", head[84:88].rjust(4, b"\0"))
        file.seek(offset)
        return _exifread_values(io.BytesIO(file.read(HEAD_BYTES)))
    if head.startswith(b"\0MRM"):  # Minolta MRW: a TIFF in the block TTW
        return _exifread_values(io.BytesIO(head[head.find(b"\0TTW") + 8 :]))
    return _exifread_values(file)


def _box_values(head: bytes, name: bytes) -> dict[str, object]:
    """Values of the TIFF inside an ISO base media box: 4 bytes of size, 4 of name, content."""
    at = head.find(name)
    if at < 4:
        return {}
    (size,) = struct.unpack(">I", head[at - 4 : at])
    return _exifread_values(io.BytesIO(head[at + 4 : at - 4 + size]))


def _crw_values(file: BinaryIO) -> dict[str, object]:
    """CRW keeps make and model as two strings in a record behind the picture data."""
    file.seek(0, io.SEEK_END)
    file.seek(max(0, file.tell() - HEAD_BYTES))
    found = re.search(rb"(Canon)\0(Canon [ -~]{1,60})\0", file.read(HEAD_BYTES))
    return {"Make": found[1], "Model": found[2]} if found else {}


def _exifread_values(file: BinaryIO) -> dict[str, object]:
    try:
        tags = exifread.process_file(_Bounded(file), details=False, extract_thumbnail=False)
    except Exception:  # noqa: BLE001 - the library's parsers fail in many ways on damaged files
        return {}
    values = {}
    for name, tag in tags.items():
        directory, _, field = name.partition(" ")
        value = getattr(tag, "values", None)
        if isinstance(value, list):
            value = value[0] if value else None
            value = value[0] if isinstance(value, tuple) else value  # floats come as 1-tuples
        if directory in ("Image", "EXIF") and value is not None:
            values[field] = value
    return values


class _Bounded:
    """A file that refuses long or endless reading: tag counts in a hostile file reach billions."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._reads_left = MAX_READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError("too many reads")
        return self._file.read(min(size, MAX_READ_BYTES) if size >= 0 else MAX_READ_BYTES)
