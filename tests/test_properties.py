"""Properties that hold for every size, phase, level and text, checked on examples made up."""

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
from conftest import COLOR_MATRIX
from fuzz import frame_faults
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llpack.calibration import matrix_from_file, matrix_from_xyz, white_balance_gains
from llpack.dng import CFA_PHASES, write_dng
from llpack.errors import LlpackError
from llpack.handover import frame_header, received_frame
from llpack.metadata import Exif, clean_date, clean_number, clean_text, read_exif
from llpack.raw import RawFrame, read_raw

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
pure = settings(quick, max_examples=200)

sides = st.integers(32, 100).map(lambda half: 2 * half)
phases = st.sampled_from(CFA_PHASES)
any_float = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1e-30, 1e30])
texts = st.text(max_size=200).map(clean_text)
STARTS = [
    b"",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"FUJIFILMCCD-RAW ",
    b"\0MRM\0\0\0\0",
    b"\0\0\0\x18ftypcrx ",
    b"II\x1a\0\0\0HEAPCCDR",
]
# Rows and columns to the first red.
SHIFTS = dict(zip(CFA_PHASES, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True))


def frame_of(mosaic: np.ndarray, **options) -> RawFrame:
    """The mosaic written as a DNG and read again."""
    defaults = {
        "black_level": (512,) * 4,
        "white_level": 16383,
        "as_shot_neutral": (0.5, 1, 0.6),
        "color_matrix": COLOR_MATRIX,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dng"
        write_dng(path, mosaic, **defaults | options)
        return read_raw(path)


def mosaic_of(height: int, width: int, largest: int = 4000) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, largest, (height, width), dtype=np.uint16)


@quick
@given(sides, sides, phases, st.integers(1, 8), st.booleans())
def test_sizes_phases_and_orientations(height, width, cfa, orientation, compress):
    mosaic = mosaic_of(height, width)
    top, left = SHIFTS[cfa]
    rows, columns = (height - top) // 2 * 2, (width - left) // 2 * 2
    options = {"cfa": cfa, "orientation": orientation, "compress": compress}
    if min(rows, columns) < 64:
        try:
            frame_of(mosaic, **options)
        except LlpackError as refusal:
            assert "smaller than 64 x 64" in str(refusal)
            return
    frame = frame_of(mosaic, **options)
    np.testing.assert_array_equal(frame.mosaic, mosaic[top : top + rows, left : left + columns])
    assert (frame.cfa, frame.orientation) == (cfa, orientation)


@quick
@given(st.tuples(*[st.integers(0, 65535)] * 4), st.integers(0, 65535), phases)
def test_levels_are_the_files_or_sane(black, white, cfa):
    frame = frame_of(mosaic_of(66, 70), black_level=black, white_level=white, cfa=cfa)
    assert frame_faults(frame) == []
    if max(black) < white and white > 4000:
        order = np.roll(np.reshape(black, (2, 2)), SHIFTS[cfa], (0, 1)).ravel()
        assert frame.black_level == tuple(order)
        assert frame.white_level == white


@pure
@given(st.lists(any_float, min_size=4, max_size=4))
def test_gains_are_none_or_in_range(multipliers):
    gains = white_balance_gains(multipliers)
    assert gains is None or (min(gains) == 1 and max(gains) <= 32 * (1 + 1e-6))


@pure
@given(st.lists(any_float, min_size=12, max_size=12))
def test_matrices_are_none_or_keep_white(values):
    for matrix in (
        matrix_from_xyz(np.reshape(values, (4, 3))),
        matrix_from_file(np.reshape(values, (3, 4))),
    ):
        if matrix is not None:
            assert np.abs(matrix).max() <= 8
            np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-3)


@pure
@given(st.text() | st.binary())
def test_cleaned_texts_are_one_short_printable_line_and_stay_it(value):
    cleaned = clean_text(value)
    if cleaned is not None:
        assert 0 < len(cleaned) <= 120
        assert cleaned.isprintable() or not cleaned.isascii()
        assert "\n" not in cleaned and "\0" not in cleaned
        assert clean_text(cleaned) == cleaned


@pure
@given(st.sampled_from(["iso", "f_number", "focal_length", "exposure_time"]),
       any_float | st.integers() | st.text() | st.none())  # fmt: skip
def test_cleaned_numbers_are_finite_and_stay_what_they_are(field, value):
    number = clean_number(field, value)
    assert number is None or (0 < number < 1e9 and clean_number(field, number) == number)


@quick
@given(texts, texts, texts, texts, texts)
def test_any_metadata_go_through_a_file_and_to_the_server(make, model, lens, artist, owner):
    written = Exif(make, model, lens, iso=3200.0, artist=artist, copyright=owner)
    frame = frame_of(mosaic_of(64, 64), exif=written)
    assert frame_faults(frame) == []
    with tempfile.TemporaryFile(buffering=0) as pixels:
        frame.mosaic.tofile(pixels)
        line = json.dumps(frame_header(frame)).encode() + b"\n"
        received = received_frame(line, pixels)
    assert received.exif == frame.exif
    assert received.exif.iso == 3200


@quick
@given(st.binary(max_size=400), st.sampled_from(STARTS))
def test_metadata_of_any_bytes_are_read_without_an_error(data, start):
    with tempfile.NamedTemporaryFile() as file:
        file.write(start + data)
        file.flush()
        exif = read_exif(file.name)
    for value in dataclasses.asdict(exif).values():
        assert value is None or isinstance(value, (str, float))
    assert exif.taken is None or clean_date(exif.taken) == exif.taken
