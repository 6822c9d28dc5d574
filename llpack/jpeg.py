"""JPEG on all processors: strips of a picture, encoded at once, joined by restart markers.

libjpeg-turbo (imagecodecs) encodes each strip as a small JPEG. All have the same tables, so only the
restart markers between the strips (ITU-T T.81, B.2.1 and B.2.4.4) set the joined file apart from one
JPEG of the whole picture: the decoded pixels are the same.
"""

from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np

from llpack.machine import usable_cpus

_BLOCK_SIDE = {"444": 8, "420": 16}  # pixels of a minimum coded unit
_LONGEST_INTERVAL = 65535  # of units between restart markers
_FRAME_HEADER, _SCAN_HEADER, _RESTART_INTERVAL = 0xC0, 0xDA, 0xDD
_END_OF_IMAGE = b"\xff\xd9"


def encode_jpeg(picture: np.ndarray, quality: int, subsampling: str) -> list[bytes | memoryview]:
    """The parts of a JPEG file of a picture, (H, W, 3) uint8, to be written one after the other.

    subsampling : of the colours, "444" (none) or "420" (halved both ways)
    """
    side = _BLOCK_SIDE[subsampling]
    rows = _strip_rows(*picture.shape[:2], side)

    def encode(first: int) -> memoryview:
        strip = np.ascontiguousarray(picture[first : first + rows])
        options = {"outcolorspace": "YCBCR", "subsampling": subsampling}
        return memoryview(imagecodecs.jpeg8_encode(strip, quality, **options))

    with ThreadPoolExecutor(usable_cpus()) as pool:
        strips = list(pool.map(encode, range(0, picture.shape[0], rows)))
    interval = rows // side * -(-picture.shape[1] // side)
    tables, scan_header, _ = _split(strips[0])
    restarts = segment(_RESTART_INTERVAL, interval.to_bytes(2))
    parts = [_with_height(tables, picture.shape[0]) + restarts + bytes(scan_header)]
    for number, strip in enumerate(strips):
        if number:
            parts.append(bytes([0xFF, 0xD0 + (number - 1) % 8]))  # restart marker
        parts.append(_split(strip)[2])
    return [*parts, _END_OF_IMAGE]


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG segment: marker, then the length, which counts itself."""
    return bytes([0xFF, marker]) + (2 + len(content)).to_bytes(2) + content


def _strip_rows(height: int, width: int, side: int) -> int:
    """Rows of a strip, whole units: two strips for each processor, or more of a very large picture."""
    units = -(-width // side)
    even = -(-height // (2 * usable_cpus() * side))
    return side * max(1, min(even, _LONGEST_INTERVAL // units))


def _with_height(tables: memoryview, height: int) -> bytes:
    """What comes before a strip's scan, for a picture of another height."""
    tables = bytearray(tables)
    at = _position(tables, _FRAME_HEADER) + 5  # after marker, length and precision
    tables[at : at + 2] = height.to_bytes(2)
    return bytes(tables)


def _split(strip: memoryview) -> tuple[memoryview, memoryview, memoryview]:
    """What comes before the scan, the scan's header, and the coded pixels."""
    first = _position(strip, _SCAN_HEADER)
    pixels = first + 2 + int.from_bytes(strip[first + 2 : first + 4])
    return strip[:first], strip[first:pixels], strip[pixels : -len(_END_OF_IMAGE)]


def _position(jpeg: memoryview | bytearray, marker: int) -> int:
    """Of a segment among the headers: the first byte of its marker."""
    at = 2  # after the start of the image
    while jpeg[at + 1] != marker:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    return at
