"""Training patches look as the engine's input does, and their pictures as it would render them."""

import numpy as np
import pytest
import torch
from PIL import Image

from llpack import patches
from llpack.amplifier import VALUE_RANGE
from llpack.errors import LlpackError
from llpack.patches import (
    HELD_OUT,
    MIN_ELECTRONS_AT_WHITE,
    SyntheticBatches,
    dark_patch,
    random_colour,
    random_exposure,
    random_white_balance,
    training_photos,
)
from llpack.rendering import Demosaic, render_strip
from llpack.sensor_noise import FULL_SCALE, SensorNoise


def noisy_photo(height=64, width=64, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat_photo(*colour: int) -> np.ndarray:
    return np.full((16, 16, 3), colour, np.uint8)


@pytest.fixture
def noiseless(monkeypatch):
    silent = SensorNoise(1e-5, 0.0, 0.1, 0.0, (0.0,) * 4)
    monkeypatch.setattr(patches, "random_exposure", lambda rng: (1.0, silent))


def test_patches_are_as_the_engine_amplifies():
    rng = np.random.default_rng(0)
    made = [dark_patch(noisy_photo(seed=seed), rng) for seed in range(40)]
    for patch in made:
        assert (patch.mosaic.shape, patch.mosaic.dtype) == ((1, 64, 64), np.float32)
        assert (patch.picture.shape, patch.picture.dtype) == ((3, 64, 64), np.uint8)
        assert (patch.camera_to_srgb.shape, patch.camera_to_srgb.dtype) == ((3, 3), np.float32)
        assert VALUE_RANGE[0] <= patch.mosaic.min() <= patch.mosaic.max() <= VALUE_RANGE[1]
    below_black = [patch.mosaic.min() < 0 for patch in made]
    assert any(below_black)
    assert not all(below_black)  # some cameras cut there


@pytest.mark.parametrize(
    ("colour", "sites"),
    [((120, 0, 0), [(0, 0)]), ((0, 120, 0), [(0, 1), (1, 0)]), ((0, 0, 120), [(1, 1)])],
)
def test_one_colour_lights_only_its_sites(colour, sites, noiseless, monkeypatch):
    monkeypatch.setattr(patches, "random_colour", lambda rng: np.eye(3, dtype=np.float32))
    monkeypatch.setattr(patches, "random_tint", lambda rng: np.eye(3, dtype=np.float32))
    mosaic = dark_patch(flat_photo(*colour), np.random.default_rng(0)).mosaic[0]
    for row, column in np.ndindex(2, 2):
        lit = mosaic[row::2, column::2]
        assert (lit > 0.01).all() if (row, column) in sites else (lit < 1e-3).all()


@pytest.mark.parametrize("seed", range(12))
def test_the_picture_is_the_clean_mosaic_rendered(seed, noiseless):
    """For any camera, white balance, brightness, contrast and error of the amplification."""
    rng = np.random.default_rng(seed)
    patch = dark_patch(flat_photo(*rng.integers(40, 120, 3)), rng)
    camera_rgb = Demosaic()(torch.from_numpy(patch.mosaic)[None])[0]
    rendered = render_strip(camera_rgb, patch.camera_to_srgb).transpose(2, 0, 1)
    assert np.ptp(patch.picture, axis=(1, 2)).max() == 0
    assert np.abs(rendered[:, 4:-4, 4:-4].astype(int) - patch.picture[:, 4:-4, 4:-4]).max() <= 1


def test_white_stays_white(noiseless):
    for seed in range(12):
        patch = dark_patch(flat_photo(255, 255, 255), np.random.default_rng(seed))
        assert np.ptp(patch.picture.astype(int), axis=0).max() <= 1


def test_something_of_the_picture_survives():
    rng = np.random.default_rng(0)
    exposures = [random_exposure(rng) for _ in range(300)]
    ratios = np.array([ratio for ratio, _ in exposures])
    assert ratios.min() == 1
    assert 200 < ratios.max() <= 350
    for ratio, noise in exposures:
        assert FULL_SCALE / (ratio * noise.gain) >= MIN_ELECTRONS_AT_WHITE


def test_cameras_between_cameras_keep_white():
    rng = np.random.default_rng(0)
    for _ in range(20):
        np.testing.assert_allclose(random_colour(rng).sum(1), 1, atol=1e-5)
        red, green, blue = random_white_balance(rng)
        assert min(red, blue) > green == 1


def test_tints_keep_grey_and_its_brightness_and_change_the_rest():
    rng = np.random.default_rng(9)
    hues = []
    for _ in range(200):
        tint = patches.random_tint(rng)
        np.testing.assert_allclose(tint.sum(0), 1, atol=1e-6)  # the sum of the three colours stays
        np.testing.assert_allclose(tint.sum(1), 1, atol=1e-6)  # grey stays grey
        red = tint @ [1, 0, 0] - 1 / 3
        assert 0.49 < np.linalg.norm(red) / (2 / 3) ** 0.5 < 1.61  # saturation
        hues.append(np.arctan2(3**0.5 * (red[1] - red[2]), 2 * red[0] - red[1] - red[2]))
    assert np.abs(hues).max() > 2.5 and np.median(np.abs(hues)) < 0.6  # any hue; most near their own


def test_batches_are_decided_by_seed_and_step():
    photos = [noisy_photo(96, 128), noisy_photo(70, 64, seed=1)]

    def size_at(step):
        return (64, 3) if step < 5 else (80, 2)

    one, other = (SyntheticBatches(photos, size_at, 8, seed=3) for _ in range(2))
    other[0], other[2]  # whatever was drawn before
    for step in (1, 4, 6):
        for part, same in zip(one[step], other[step], strict=True):
            assert torch.equal(part, same)
    assert not torch.equal(one[1][0], one[2][0])
    assert not torch.equal(one[1][0], SyntheticBatches(photos, size_at, 8, seed=4)[1][0])
    assert len(one) == 8
    assert [part.shape for part in one[1]] == [(3, 1, 64, 64), (3, 3, 64, 64), (3, 3, 3)]
    assert one[6][1].shape == (2, 3, 80, 80)  # larger than a photo: it is mirrored


def test_photos_that_are_held_out_are_never_loaded(tmp_path):
    for name in HELD_OUT:
        (tmp_path / f"{name}.jpg").write_text("not even opened")
    with pytest.raises(LlpackError, match=f"No photos to train on in {tmp_path}"):
        training_photos(tmp_path)
    Image.fromarray(np.full((64, 80, 3), 77, np.uint8)).save(tmp_path / "mine.PNG")
    (tmp_path / "notes.txt").write_text("no photo")
    photos = training_photos(tmp_path)
    assert [photo.shape for photo in photos] == [(64, 80, 3)]
    assert (photos[0] == 77).all()


def test_photos_of_the_examples_and_the_evaluation_are_held_out(shared_data):
    shown = {path.stem for path in (shared_data / "example_photos").iterdir()}
    assert shown <= HELD_OUT
    there = {path.stem for path in (shared_data / "photos").iterdir()}
    assert HELD_OUT - shown <= there  # no name is misspelt
