"""A photo to light and back, and what a synthetic frame says about itself."""

import numpy as np
import pytest
import rawpy
from PIL import Image

from llpack import synthetic
from llpack.engine import plain_picture
from llpack.errors import LlpackError, UnreadableRaw
from llpack.sensor_noise import FULL_SCALE, SensorNoise
from llpack.synthetic import (
    COLOURS,
    LINEAR_OF_CODE,
    darken,
    digitise,
    fit_photo,
    mosaic_of,
    open_photo,
    scene_light,
)

SIDE = 16  # of a colour patch


@pytest.fixture
def noiseless(monkeypatch):
    """Sensors that only round."""
    silent = SensorNoise(1e-5, 0.0, 0.1, 0.0, (0.0,) * 4)
    monkeypatch.setattr(synthetic, "a7s2", lambda iso, rng: silent)
    for camera in synthetic.CAMERAS.values():
        monkeypatch.setattr(type(camera), "at_iso", lambda self, iso, rng: silent)


def colour_chart() -> np.ndarray:
    """(80, 128, 3): forty muted colours, greys, black and white."""
    rng = np.random.default_rng(0)
    grey = rng.integers(50, 200, (5, 8, 1))
    colours = (grey + rng.integers(-35, 36, (5, 8, 3))).astype(np.uint8)
    colours[0, :4] = np.array([0, 90, 180, 255])[:, None]
    return colours.repeat(SIDE, 0).repeat(SIDE, 1)


def centres(picture: np.ndarray) -> np.ndarray:
    return picture[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE].astype(int)


@pytest.mark.parametrize("camera", COLOURS)
def test_a_photo_survives_the_way_to_the_sensor_and_back(camera, noiseless):
    photo = colour_chart()
    picture = plain_picture(darken(photo, camera=camera, iso=100, ratio=1), 1)
    assert np.abs(centres(picture) - centres(photo)).max() <= 1


def test_a_darkened_photo_comes_back_when_it_is_amplified(noiseless):
    photo = colour_chart()
    picture = plain_picture(darken(photo, iso=800, ratio=64), 64)
    off = np.abs(centres(picture) - centres(photo))
    assert off.max() <= 12  # of 14 bits, 64 times less light leaves eight
    assert off.mean() < 2


def test_the_ratio_scales_the_light(noiseless):
    photo = colour_chart()
    means = {ratio: darken(photo, iso=100, ratio=ratio).mosaic.mean() - 512 for ratio in (1, 10, 100)}
    assert means[10] == pytest.approx(means[1] / 10, rel=0.01)
    assert means[100] == pytest.approx(means[1] / 100, rel=0.01)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_however_the_camera_was_held_the_scene_is_upright(orientation, noiseless):
    photo = colour_chart()
    frame = darken(photo, iso=100, ratio=1, orientation=orientation)
    assert frame.orientation == orientation
    assert frame.mosaic.shape == ((128, 80) if orientation in (6, 8) else (80, 128))
    picture = plain_picture(frame, 1)
    assert np.abs(centres(picture) - centres(photo)).max() <= 1


def test_white_is_where_the_strongest_channel_clips():
    colour = COLOURS["Sony A7S II"]
    light = scene_light(np.full((4, 4, 3), 255, np.uint8), colour.to_srgb)
    np.testing.assert_allclose(light, 1, atol=1e-5)
    red, green, blue = colour.white_balance
    cell = [[1 / red, 1 / green], [1 / green, 1 / blue]]
    np.testing.assert_allclose(mosaic_of(light, colour.white_balance), np.tile(cell, (2, 2)), 1e-5)


def test_highlights_clip_in_the_exposure_that_is_taken_not_before():
    rng = np.random.default_rng(0)
    quiet = SensorNoise(0.01, 1e-6, 0.0, 1e-6, (0.0,) * 4)
    bright = np.full((64, 64), 5.0, np.float32)
    assert digitise(bright, 1, quiet, rng).max() == FULL_SCALE
    assert digitise(bright, 100, quiet, rng).mean() == pytest.approx(FULL_SCALE / 20, rel=0.01)


def test_light_is_never_negative_and_exposure_scales_it():
    photo = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 10, 200]]], np.uint8)
    to_srgb = COLOURS["Nikon D850"].to_srgb
    light = scene_light(photo, to_srgb)
    assert light.min() >= 0
    np.testing.assert_allclose(scene_light(photo, to_srgb, 0.25), light / 4, rtol=1e-5)


def test_codes_in_linear_light_are_bt709s():
    assert LINEAR_OF_CODE[[0, 255]] == pytest.approx([0, 1], abs=1e-6)
    assert LINEAR_OF_CODE[10] == pytest.approx(10 / 255 / 4.5)  # on the toe
    assert LINEAR_OF_CODE[128] == pytest.approx(((128 / 255 + 0.0993) / 1.0993) ** 2.222, rel=1e-3)


@pytest.mark.parametrize("camera", COLOURS)
def test_the_seed_decides_the_noise(camera):
    photo = colour_chart()
    first, same, other = (
        darken(photo, camera=camera, iso=3200, ratio=100, seed=seed).mosaic for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert (first < 512).any()  # noise below black is kept
    assert first.max() <= 512 + FULL_SCALE


def test_a_frame_says_what_it_is():
    frame = darken(colour_chart(), camera="Canon EOS 5D Mark IV", iso=1600, ratio=250)
    assert (frame.exif.make, frame.exif.model, frame.exif.iso) == ("Canon", "EOS 5D Mark IV", 1600)
    assert (frame.black_level, frame.white_level) == ((512,) * 4, 16383)
    assert min(frame.white_balance) == 1
    assert "synthetic" in frame.notes[0]
    assert "1/250" in frame.notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera": "Acme One"}, "No noise is known for camera 'Acme One'; known: Sony A7S II"),
        ({"iso": 50}, "ISO 50 is outside"),
        ({"iso": 51200}, "ISO 51200 is outside"),
        ({"iso": float("nan")}, "outside"),
        ({"ratio": 0.5}, "ratio of 0.5 would brighten"),
        ({"ratio": -3}, "would brighten"),
        ({"ratio": float("nan")}, "ratio"),
    ],
)
def test_what_cannot_be_darkened(changes, message):
    with pytest.raises(LlpackError, match=message):
        darken(colour_chart(), **{"iso": 800, "ratio": 100} | changes)


LIBRAW_NAMES = {
    "Sony A7S II": ("Sony", "ILCE-7SM2"),
    "Nikon D850": ("NIKON CORPORATION", "NIKON D850"),
    "Canon EOS 5D Mark IV": ("Canon", "Canon EOS 5D Mark IV"),
    "Canon EOS 70D": ("Canon", "Canon EOS 70D"),
    "Canon EOS 700D": ("Canon", "Canon EOS 700D"),
}


@pytest.mark.parametrize("camera", COLOURS)
def test_colours_are_those_of_libraws_table(camera, tiny_dng):
    make, model = LIBRAW_NAMES[camera]
    path = tiny_dng(color_matrix=None, make=make, model=model)
    with rawpy.imread(str(path)) as raw:
        table = raw.rgb_xyz_matrix[:3]
    np.testing.assert_allclose(COLOURS[camera].matrix, table, atol=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_photos_are_opened_with_even_sides(tmp_path, name):
    pixels = np.full((71, 99, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    photo = open_photo(tmp_path / name)
    assert (photo.shape, photo.dtype) == ((70, 98, 3), np.uint8)
    assert np.abs(photo.astype(int) - (200, 100, 50)).max() <= 3


def test_photos_are_opened_upright(tmp_path):
    image = Image.fromarray(np.zeros((64, 96, 3), np.uint8))
    image.getexif()[274] = 6
    image.save(tmp_path / "a.png", exif=image.getexif())
    assert open_photo(tmp_path / "a.png").shape == (96, 64, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_kinds_of_photos_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (64, 66), (102, 102, 102)).convert(mode).save(path)
    np.testing.assert_allclose(open_photo(path), 102, atol=2)


def test_what_is_no_photo(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (63, 200)).save(tmp_path / "small.png")
    for name in ("text.jpg", "small.png", "missing.jpg"):
        with pytest.raises(UnreadableRaw, match=name):
            open_photo(tmp_path / name)


def test_fitting_cuts_about_the_centre():
    photo = np.zeros((100, 300, 3), np.uint8)
    photo[:, 100:200] = 255
    fitted = fit_photo(photo, (64, 64))
    assert fitted.shape == (64, 64, 3)
    assert fitted.min() >= 240
