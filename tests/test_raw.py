"""RAW files in, mosaics with their meaning out."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import rawpy
from conftest import COLOR_MATRIX, dark_mosaic

from llpack.raw import _levels, read_raw

# --- the mosaic -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cfa, top, left", [("RGGB", 0, 0), ("GRBG", 0, 1), ("GBRG", 1, 0), ("BGGR", 1, 1)]
)
@pytest.mark.parametrize("height, width", [(96, 128), (97, 129), (97, 128), (96, 129)])
def test_every_cfa_and_size_gives_whole_rggb_cells(tiny_dng, cfa, top, left, height, width):
    mosaic = dark_mosaic(height, width)
    frame = read_raw(tiny_dng(mosaic, cfa=cfa))
    rows, columns = (height - top) // 2 * 2, (width - left) // 2 * 2
    np.testing.assert_array_equal(frame.mosaic, mosaic[top : top + rows, left : left + columns])
    assert frame.cfa == cfa
    assert frame.mosaic.dtype == np.uint16
    assert (frame.height, frame.width) == (rows, columns)


@pytest.mark.parametrize("top, left", [(0, 0), (3, 0), (0, 5), (3, 5), (4, 6)])
@pytest.mark.parametrize("cfa", ["RGGB", "GBRG"])
def test_masked_borders_are_cut_off_and_the_phase_stays_right(tiny_dng, cfa, top, left):
    # Each colour has its own value: a wrong phase would mix them.
    height, width = 100, 131
    rows, columns = np.mgrid[:height, :width]
    values = np.array([{"R": 600, "G": 700, "B": 800}[color] for color in cfa]).reshape(2, 2)
    noise = dark_mosaic(height, width) % 8
    mosaic = (values[(rows - top) % 2, (columns - left) % 2] + noise).astype(np.uint16)
    frame = read_raw(tiny_dng(mosaic, cfa=cfa, active_area=(top, left, 99, 128)))
    planes = [frame.mosaic[y::2, x::2] // 100 for y, x in np.ndindex(2, 2)]
    assert [set(plane.flat) for plane in planes] == [{6}, {7}, {7}, {8}]


def test_the_mosaic_outlives_the_reader(tiny_dng):
    mosaic = read_raw(tiny_dng()).mosaic
    assert mosaic.base is None  # not a view into LibRaw's memory


def test_names_with_other_letters_are_opened(tiny_dng):
    assert read_raw(tiny_dng(name="été 夜.dng")).megapixels == pytest.approx(96 * 128 / 1e6)


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cfa, expected",
    [
        ("RGGB", (1, 2, 3, 4)),
        ("GRBG", (2, 1, 4, 3)),
        ("GBRG", (3, 4, 1, 2)),
        ("BGGR", (4, 3, 2, 1)),
    ],
)
def test_black_level_follows_the_shift_to_rggb(tiny_dng, cfa, expected):
    frame = read_raw(tiny_dng(cfa=cfa, black=(1, 2, 3, 4)))
    assert frame.black_level == expected
    assert frame.white_level == 4095


@pytest.mark.parametrize(
    "own, expected",
    [
        (None, 16383),
        ([15360, 15300, 15360, 15360], 15300),  # the channel that clips first decides
        ([0, 0, 0, 0], 16383),
        ([65535, 100, 65535, 65535], 16383),  # not in the range that LibRaw knows
    ],
)
def test_the_cameras_own_clipping_points_are_used_when_sane(own, expected):
    libraw = SimpleNamespace(
        white_level=16383, camera_white_level_per_channel=own, black_level_per_channel=[512] * 4
    )
    assert _levels(libraw, dark_mosaic(64, 64), [0, 1, 3, 2], []) == ((512,) * 4, expected)


def test_impossible_levels_are_replaced_and_noted(tiny_dng):
    frame = read_raw(tiny_dng(black=5000))
    assert (frame.black_level, frame.white_level) == ((0, 0, 0, 0), 4095)
    assert "black level" in frame.notes[0]
    frame = read_raw(tiny_dng(white=100))  # the mosaic's largest value has 10 bits
    assert (frame.black_level, frame.white_level) == ((512, 512, 512, 512), 1023)
    assert "white level" in frame.notes[0]


# --- colour ---------------------------------------------------------------------------------------


def test_as_shot_white_balance(tiny_dng):
    frame = read_raw(tiny_dng(neutral=(0.5, 1, 0.625)))
    np.testing.assert_allclose(frame.white_balance, (2, 1, 1.6), rtol=1e-6)
    frame = read_raw(tiny_dng(neutral=(1, 0.8, 0.5)))  # red needs the smallest gain
    np.testing.assert_allclose(frame.white_balance, (1, 1.25, 2), rtol=1e-6)
    assert frame.notes == ()


@pytest.mark.parametrize("neutral", [None, (0, 1, 0), (0.0001, 1, 1)])
def test_without_a_white_balance_daylight_is_used(tiny_dng, neutral):
    frame = read_raw(tiny_dng(neutral=neutral))
    # Daylight: what makes D65 white, XYZ (0.9505, 1, 1.089), neutral in camera RGB.
    white = np.array(COLOR_MATRIX) @ (0.9505, 1, 1.089)
    np.testing.assert_allclose(frame.white_balance, (1 / white) / (1 / white).min(), rtol=1e-3)
    assert "daylight" in frame.notes[0]


def test_without_any_colour_information_the_average_is_grey(tiny_dng):
    signal = np.tile(np.uint16([[100, 400], [400, 200]]), (48, 64))
    mosaic = 512 + signal + dark_mosaic(96, 128) % 2
    frame = read_raw(tiny_dng(mosaic, neutral=None, color_matrix=None))
    np.testing.assert_allclose(frame.white_balance, (4, 1, 2), rtol=0.01)
    np.testing.assert_array_equal(frame.camera_to_srgb, np.eye(3))
    assert ["grey" in frame.notes[0], "matrix" in frame.notes[1]] == [True, True]


def test_without_light_no_white_balance_is_invented(tiny_dng):
    mosaic = 400 + dark_mosaic(96, 128) % 8  # all below black
    frame = read_raw(tiny_dng(mosaic, neutral=None, color_matrix=None))
    assert frame.white_balance == (1, 1, 1)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.ones((3, 3)), -np.eye(3), None])
def test_impossible_matrices_are_replaced_by_a_neutral_one(tiny_dng, matrix):
    frame = read_raw(tiny_dng(color_matrix=matrix))
    np.testing.assert_array_equal(frame.camera_to_srgb, np.eye(3))
    assert any("matrix" in note for note in frame.notes)


def test_a_known_camera_without_its_own_matrix_gets_the_one_libraw_knows(tiny_dng):
    frame = read_raw(tiny_dng(color_matrix=None, make="SONY", model="ILCE-7SM2"))
    assert frame.notes == ()
    np.testing.assert_allclose(frame.camera_to_srgb.sum(1), 1, atol=1e-5)
    assert frame.camera_to_srgb[0, 0] > 1.2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"make": "SONY", "model": "ILCE-7SM2"},  # LibRaw's table has another matrix than the file
        {"make": "SONY", "model": "ILCE-7SM2", "color_matrix": None},
    ],
)
def test_colours_equal_those_of_libraw(tiny_dng, options):
    """A uniform patch through levels, white balance and matrix equals LibRaw's linear rendering."""
    patch = np.tile(np.uint16([[900, 1400], [1404, 1100]]), (48, 64))
    patch[0, 0] = 4095  # LibRaw takes the brightest pixel for white if it is far above the rest
    path = tiny_dng(patch, **options)
    frame = read_raw(path)
    values = (frame.mosaic[48:50, 64:66].ravel() - 512.0) / (4095 - 512)
    red, green, blue = np.array([values[0], values[1:3].mean(), values[3]]) * frame.white_balance
    expected = frame.camera_to_srgb @ (red, green, blue)
    with rawpy.imread(str(path)) as raw:
        rendered = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16,
            demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR, adjust_maximum_thr=0,
        )  # fmt: skip
    np.testing.assert_allclose(rendered[47:51, 63:67].mean((0, 1)) / 65535, expected, atol=1e-3)


# --- orientation, metadata, summary ---------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_exifs(tiny_dng, orientation):
    assert read_raw(tiny_dng(orientation=orientation)).orientation == orientation


def test_summary_is_for_people(tiny_dng):
    rows = read_raw(tiny_dng(neutral=None)).summary()
    assert dict(rows) == {
        "Camera": "Acme One",
        "Size": "128 x 96 (0.0 MP)",
        "CFA": "RGGB",
        "Black level": "512",
        "White level": "4095",
        "White balance": "R 2.81, G 1.00, B 1.36",
        "Orientation": "upright",
        "Note": "The file has no valid white balance; daylight is used instead.",
    }


def test_importing_the_reader_does_not_load_libraw():
    code = "import sys, llpack.raw; sys.exit('rawpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, size, black, white, camera, exposure",
    [
        ("blackmagic_outdoor.dng", (2176, 4128), 512, 65535, "unknown camera", ""),
        ("canon_powershot_g2_colorchecker.crw", (1720, 2312), 32, 1023, "Canon PowerShot G2",
         "1/50 s, f/4, ISO 50, 7 mm"),
        ("canon_powershot_s40_box.crw", (1720, 2312), 32, 1023, "Canon PowerShot S40",
         "1/4 s, f/2.8, ISO 50, 7.09 mm"),
    ],
)  # fmt: skip
def test_real_raw_files(shared_data, name, size, black, white, camera, exposure):
    frame = read_raw(shared_data / "raw" / name)
    assert frame.mosaic.shape == size
    assert (frame.black_level, frame.white_level) == ((black,) * 4, white)
    assert (frame.exif.camera, frame.exif.exposure) == (camera, exposure)
    assert 1.3 < frame.white_balance[0] < 2.5 and 1.3 < frame.white_balance[2] < 2.5
    assert frame.white_balance[1] == 1
    np.testing.assert_allclose(frame.camera_to_srgb.sum(1), 1, atol=1e-5)
    assert not np.array_equal(frame.camera_to_srgb, np.eye(3))
    assert frame.notes == ()
