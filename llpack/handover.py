"""A RawFrame from the decoding process to the server: one line of JSON, and the pixels in a file.

The sender may have been taken over by a hostile file. So nothing is unpickled, every value is
checked again, and an answer with anything odd in it is refused as a whole.
"""

import dataclasses
import json
import unicodedata
from io import FileIO

import numpy as np

from llpack.calibration import MAX_GAIN, MAX_MATRIX_ENTRY
from llpack.dng import CFA_PHASES
from llpack.errors import LimitExceeded, LlpackError, UnreadableRaw, UnsupportedSensor
from llpack.metadata import Exif, clean_date, clean_number, clean_text
from llpack.raw import MIN_SIDE, RawFrame
from llpack.refusals import MAX_MEGAPIXELS

MAX_PIXEL_BYTES = 2 * MAX_MEGAPIXELS * 1_000_000
MAX_HEADER_BYTES = 1 << 15
MAX_NOTES = 8
MAX_MESSAGE = 1000  # characters; a file's name is at most 255 of them
_REFUSALS = {cls.__name__: cls for cls in (UnreadableRaw, UnsupportedSensor, LimitExceeded)}
_EXIF_TEXTS = ("make", "model", "lens", "artist", "copyright")
_EXIF_NUMBERS = ("exposure_time", "f_number", "iso", "focal_length")


class BadAnswer(Exception):
    """The answer is not one that an intact decoding process gives."""


def frame_header(frame: RawFrame) -> dict:
    """Everything but the pixels, JSON-able."""
    return {
        "dtype": frame.mosaic.dtype.str,
        "shape": frame.mosaic.shape,
        "bytes": frame.mosaic.nbytes,
        "black_level": frame.black_level,
        "white_level": frame.white_level,
        "white_balance": frame.white_balance,
        "camera_to_srgb": frame.camera_to_srgb.tolist(),
        "orientation": frame.orientation,
        "cfa": frame.cfa,
        "exif": dataclasses.asdict(frame.exif),
        "notes": frame.notes,
    }


def refusal_header(refusal: LlpackError) -> dict:
    return {"refusal": type(refusal).__name__, "message": str(refusal)}


def received_frame(line: bytes, pixels: FileIO) -> RawFrame:
    """The frame that the answer ``line`` describes and whose mosaic lies in ``pixels``.

    Raises
    ------
    UnreadableRaw, UnsupportedSensor, LimitExceeded : the refusal that the answer is
    BadAnswer : anything else
    """
    header = _parsed(line)
    if "refusal" in header:
        raise _refusal(header)
    try:
        values = _checked_values(header)
        return RawFrame(mosaic=_mosaic(header, pixels), **values)
    except KeyError as error:
        raise BadAnswer(f"{error} is missing") from error


def _parsed(line: bytes) -> dict:
    if not line.endswith(b"\n") or len(line) > MAX_HEADER_BYTES:
        raise BadAnswer("not a complete line")
    try:
        header = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("not JSON") from error
    if not isinstance(header, dict):
        raise BadAnswer("not an object")
    return header


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _refusal(header: dict) -> LlpackError:
    kind, message = header["refusal"], header.get("message")
    if not isinstance(kind, str) or not isinstance(message, str):
        raise BadAnswer("a refusal without words")
    if kind not in _REFUSALS or not 0 < len(message) <= MAX_MESSAGE:
        raise BadAnswer("an unknown refusal")
    # Control and format characters can come from a file's name; they have no place in a sentence.
    return _REFUSALS[kind]("".join(" " if unicodedata.category(c)[0] == "C" else c for c in message))


def _mosaic(header: dict, pixels: FileIO) -> np.ndarray:
    if header["dtype"] != "<u2":
        raise BadAnswer("not uint16")
    height, width = (_whole(side) for side in _list(header["shape"], 2))
    if height % 2 or width % 2 or min(height, width) < MIN_SIDE:
        raise BadAnswer("an impossible shape")
    size = 2 * height * width
    if size > MAX_PIXEL_BYTES or _whole(header["bytes"]) != size or pixels.seek(0, 2) != size:
        raise BadAnswer("the pixels do not have the size that their shape needs")
    mosaic = np.empty((height, width), np.dtype("<u2"))
    target, done = memoryview(mosaic).cast("B"), 0
    pixels.seek(0)
    while done < size:
        count = pixels.readinto(target[done:])
        if not count:
            raise BadAnswer("the pixels end early")
        done += count
    return mosaic


def _checked_values(header: dict) -> dict:
    """All fields of RawFrame but the mosaic."""
    (white,) = _numbers([header["white_level"]], 1, 0, 65535)
    black = _numbers(header["black_level"], 4, 0, 65535)
    gains = _numbers(header["white_balance"], 3, 1, MAX_GAIN * 1.001)
    rows = _list(header["camera_to_srgb"], 3)
    matrix = [_numbers(row, 3, -MAX_MATRIX_ENTRY, MAX_MATRIX_ENTRY) for row in rows]
    if not max(black) < white or min(gains) != 1:
        raise BadAnswer("impossible levels or gains")
    if any(abs(sum(row) - 1) > 1e-3 for row in matrix):
        raise BadAnswer("an impossible matrix")
    orientation, cfa = _whole(header["orientation"]), header["cfa"]
    if orientation not in range(1, 9) or cfa not in CFA_PHASES:
        raise BadAnswer("an impossible orientation or CFA")
    notes = header["notes"]
    if not isinstance(notes, list) or len(notes) > MAX_NOTES:
        raise BadAnswer("not a list of notes")
    if not all(isinstance(note, str) and clean_text(note) == note for note in notes):
        raise BadAnswer("impossible notes")
    return {
        "black_level": black,
        "white_level": white,
        "white_balance": gains,
        "camera_to_srgb": np.array(matrix, np.float32),
        "orientation": orientation,
        "cfa": cfa,
        "exif": _exif(header["exif"]),
        "notes": tuple(notes),
    }


def _exif(values: object) -> Exif:
    if not isinstance(values, dict) or set(values) != set(Exif.__dataclass_fields__):
        raise BadAnswer("impossible metadata")
    cleaned = {field: clean_text(values[field]) for field in _EXIF_TEXTS}
    cleaned |= {field: clean_number(field, values[field]) for field in _EXIF_NUMBERS}
    cleaned["taken"] = clean_date(values["taken"])
    if any(cleaned[field] != values[field] for field in values):
        raise BadAnswer("metadata that are not clean")
    return Exif(**cleaned)


def _list(value: object, length: int) -> list:
    if not isinstance(value, list) or len(value) != length:
        raise BadAnswer(f"not a list of {length}")
    return value


def _numbers(value: object, count: int, low: float, high: float) -> tuple[float, ...]:
    numbers = _list(value, count)
    if not all(type(number) in (int, float) and low <= number <= high for number in numbers):
        raise BadAnswer("a number is out of range")
    return tuple(float(number) for number in numbers)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise BadAnswer("not a whole number")
    return value
