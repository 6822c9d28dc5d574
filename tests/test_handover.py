"""Only an answer that an intact decoding process gives becomes a frame."""

import json

import pytest

from llpack.errors import LimitExceeded, UnsupportedSensor
from llpack.handover import BadAnswer, frame_header, received_frame, refusal_header
from llpack.raw import read_raw


@pytest.fixture
def sent(tiny_dng, tmp_path):
    """The header of a frame, and the open file with its pixels."""
    frame = read_raw(tiny_dng(neutral=None))
    path = tmp_path / "pixels"
    frame.mosaic.tofile(path)
    with open(path, "r+b", buffering=0) as pixels:
        yield frame_header(frame), pixels


def as_line(header: dict) -> bytes:
    return json.dumps(header).encode() + b"\n"


def test_an_intact_answer_becomes_the_frame(sent):
    header, pixels = sent
    frame = received_frame(as_line(header), pixels)
    assert json.dumps(frame_header(frame)) == json.dumps(header)
    assert frame.mosaic.base is None


NAN, HUGE = float("nan"), 1e300


@pytest.mark.parametrize(
    "field, value",
    [
        ("dtype", "|O"),
        ("dtype", "<f8"),
        ("shape", [96, 130]),
        ("shape", [96, -128]),
        ("shape", [96, 128, 1]),
        ("shape", [48, 256.0]),
        ("shape", [48, 256]),  # as many bytes, but smaller than any frame is
        ("shape", [1 << 30, 1 << 30]),
        ("shape", "96"),
        ("bytes", 5),
        ("bytes", True),
        ("black_level", [512, 512, 512]),
        ("black_level", [512, 512, 512, NAN]),
        ("black_level", [512, 512, 512, -1]),
        ("black_level", [512, 512, 512, 4095]),
        ("white_level", 0),
        ("white_level", 65536),
        ("white_level", None),
        ("white_level", "4095"),
        ("white_balance", [2, 1, HUGE]),
        ("white_balance", [2, 1.5, 1.25]),
        ("white_balance", [2, 1, 0]),
        ("white_balance", [2, 1, float("inf")]),
        ("camera_to_srgb", [[1, 0, 0]] * 2),
        ("camera_to_srgb", [[1, 0, 0.5]] * 3),
        ("camera_to_srgb", [[9, -8, 0]] * 3),
        ("camera_to_srgb", [[NAN, 0, 1]] * 3),
        ("camera_to_srgb", None),
        ("orientation", 0),
        ("orientation", 9),
        ("orientation", True),
        ("cfa", "RGBW"),
        ("cfa", ["RGGB"]),
        ("exif", {}),
        ("exif", None),
        ("notes", ["x"] * 9),
        ("notes", ["x" * 1000]),
        ("notes", ["\x1b[2J"]),
        ("notes", [1]),
        ("notes", "note"),
    ],
)
def test_one_wrong_value_refuses_the_whole(sent, field, value):
    header, pixels = sent
    with pytest.raises(BadAnswer):
        received_frame(as_line(header | {field: value}), pixels)


@pytest.mark.parametrize(
    "field, value",
    [
        ("make", "x" * 1000),
        ("make", "a\nb"),
        ("model", 5),
        ("iso", -5),
        ("iso", NAN),
        ("exposure_time", "1"),
        ("taken", "yesterday"),
        ("unknown", None),
    ],
)
def test_one_wrong_metadata_value_refuses_the_whole(sent, field, value):
    header, pixels = sent
    header["exif"][field] = value
    with pytest.raises(BadAnswer):
        received_frame(as_line(header), pixels)


def test_every_field_is_needed(sent):
    header, pixels = sent
    for field in header:
        partial = {name: value for name, value in header.items() if name != field}
        with pytest.raises(BadAnswer, match=field):
            received_frame(as_line(partial), pixels)


@pytest.mark.parametrize("change", [-1, 1])
def test_pixels_of_another_size_are_refused(sent, change):
    header, pixels = sent
    pixels.truncate(header["bytes"] + change)
    with pytest.raises(BadAnswer):
        received_frame(as_line(header), pixels)


@pytest.mark.parametrize("line", [b"", b"{}", b"\xff\n", b"null\n", b"{}{}\n", b"[" * 20000 + b"\n"])
def test_other_lines_are_refused(sent, line):
    with pytest.raises(BadAnswer):
        received_frame(line, sent[1])


def test_refusals_arrive_with_their_class_and_words(sent):
    for refusal in (UnsupportedSensor("a.raf: X-Trans"), LimitExceeded("too large")):
        with pytest.raises(type(refusal)) as caught:
            received_frame(as_line(refusal_header(refusal)), sent[1])
        assert str(caught.value) == str(refusal)


@pytest.mark.parametrize(
    "header",
    [
        {"refusal": "KeyboardInterrupt", "message": "x"},
        {"refusal": "UnreadableRaw", "message": "x" * 1001},
        {"refusal": "UnreadableRaw", "message": ""},
        {"refusal": "UnreadableRaw"},
        {"refusal": ["UnreadableRaw"], "message": "x"},
    ],
)
def test_other_refusals_are_not_passed_on(sent, header):
    with pytest.raises(BadAnswer):
        received_frame(as_line(header), sent[1])


def test_control_characters_in_a_refusal_become_spaces(sent):
    line = as_line({"refusal": "UnreadableRaw", "message": "a\x1b[2J\u202eb.dng"})
    with pytest.raises(Exception, match=r"^a \[2J b\.dng$"):
        received_frame(line, sent[1])
