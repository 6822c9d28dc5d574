"""A DNG that llpack writes is read back exactly by LibRaw, and holds what other programs look for."""

import numpy as np
import pytest
import rawpy
import tifffile
from conftest import COLOR_MATRIX, dark_mosaic

from llpack.dng import encode_lossless_jpeg, write_dng
from llpack.errors import OutputError
from llpack.metadata import Exif, read_exif
from llpack.raw import read_raw

EXIF = Exif(
    make="SONY",
    model="ILCE-7SM2",
    lens="FE 55mm F1.8 ZA",
    exposure_time=1 / 30,
    f_number=2.8,
    iso=102400,
    focal_length=55.0,
    taken="2024:02:29 23:59:58",
    artist="Ada Lovelace",
    copyright="© Ada",
)


def write(path, mosaic, **options):
    defaults = {
        "black_level": (512, 512, 512, 512),
        "white_level": 16383,
        "as_shot_neutral": (0.5, 1, 0.625),
        "color_matrix": np.array(COLOR_MATRIX),
    }
    write_dng(path, mosaic, **(defaults | options))
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("cfa", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_libraw_reads_back_every_pixel_and_the_cfa(tmp_path, cfa, compress):
    mosaic = dark_mosaic(98, 130)
    path = write(tmp_path / "a.dng", mosaic, cfa=cfa, compress=compress)
    with rawpy.imread(str(path)) as raw:
        np.testing.assert_array_equal(raw.raw_image_visible, mosaic)
        assert "".join("RGBG"[i] for i in raw.raw_pattern.flat) == cfa


def test_levels_neutral_matrix_orientation_and_exif_survive(tmp_path):
    path = write(
        tmp_path / "a.dng", dark_mosaic(96, 128), black_level=(510, 511, 512, 513),
        orientation=8, exif=EXIF,
    )  # fmt: skip
    frame = read_raw(path)
    assert frame.black_level == (510, 511, 512, 513)
    assert frame.white_level == 16383
    np.testing.assert_allclose(frame.white_balance, (2, 1, 1.6), rtol=1e-6)
    assert frame.orientation == 8
    assert frame.exif == EXIF
    assert read_exif(path) == EXIF
    with tifffile.TiffFile(path) as tiff:  # an independent reader sees the numbers themselves
        tags = tiff.pages[0].tags
        matrix = np.reshape(tags["ColorMatrix1"].value, (3, 3, 2))
        np.testing.assert_allclose(matrix[..., 0] / matrix[..., 1], COLOR_MATRIX, atol=1e-6)
        assert tags["CalibrationIlluminant1"].value == 21


def test_lossless_jpeg_is_exact_over_all_16_bits_and_odd_cell_counts():
    import imagecodecs

    mosaic = np.random.default_rng(1).integers(0, 65536, (66, 74), dtype=np.uint16)
    decoded = imagecodecs.jpegsof3_decode(encode_lossless_jpeg(mosaic))
    np.testing.assert_array_equal(decoded.reshape(mosaic.shape), mosaic)


def test_compression_is_used_only_where_it_makes_the_file_smaller(tmp_path):
    dark = dark_mosaic(96, 128)
    assert write(tmp_path / "dark.dng", dark).stat().st_size < dark.nbytes
    noise = np.random.default_rng(0).integers(0, 65536, (96, 128), dtype=np.uint16)
    path = write(tmp_path / "noise.dng", noise, black_level=(0,) * 4, white_level=65535)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].compression == 1
    np.testing.assert_array_equal(read_raw(path).mosaic, noise)


def test_exif_that_is_not_known_is_left_out(tmp_path):
    path = write(tmp_path / "a.dng", dark_mosaic(64, 64))
    assert read_exif(path) == Exif()


def test_fractions_stay_in_range_for_large_and_tiny_values(tmp_path):
    exif = Exif(exposure_time=3600.5, f_number=1.05, focal_length=0.5, iso=3276800)
    path = write(tmp_path / "a.dng", dark_mosaic(64, 64), black_level=(40000.7,) * 4,
                 white_level=65535, exif=exif)  # fmt: skip
    assert read_exif(path) == exif
    assert read_raw(path).black_level == (40000,) * 4  # LibRaw keeps whole numbers


@pytest.mark.parametrize("shape, dtype", [((65, 64), np.uint16), ((64, 64), np.float32)])
def test_wrong_mosaics_are_refused(tmp_path, shape, dtype):
    with pytest.raises(ValueError, match="mosaic"):
        write(tmp_path / "a.dng", np.zeros(shape, dtype))


def test_a_folder_that_does_not_exist_is_named_in_words(tmp_path):
    with pytest.raises(OutputError, match="a.dng could not be written"):
        write(tmp_path / "nowhere" / "a.dng", dark_mosaic(64, 64))
