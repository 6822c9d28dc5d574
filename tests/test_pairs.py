"""Real pairs: only training scenes, every orientation in RGGB, and the picture that belongs to it."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from llpack import pairs, scenes
from llpack.errors import LlpackError, UnreadableRaw
from llpack.metrics import psnr
from llpack.rendering import Demosaic, render_strip
from llpack.synthetic import darken, write_dark
from llpack.training import Recipe, training_batches

CAMERA = "Sony A7S II"
HEIGHT, WIDTH = 112, 130


def exposure(light_left: float, seed: int):
    """A scene without noise and with differently bright and coloured corners; RawFrame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / WIDTH
    photo = np.stack([40 + 150 * x, 50 + 120 * y, 190 - 90 * x - 50 * y], -1) + 6 * seed
    photo = photo.astype(np.uint8)
    frame = scenes.bright_frame(photo, darken(photo, camera=CAMERA, iso=100, ratio=1), CAMERA)
    dn = (frame.mosaic - 512.0) * light_left
    return dataclasses.replace(frame, mosaic=np.rint(512 + dn).astype(np.uint16))


def write_pair(folder, scene: str, seed: int = 0, frames: int = 1) -> None:
    """Short exposures with a tenth of the light: 1 s beside 10 s."""
    short, long = folder / "Sony" / "short", folder / "Sony" / "long"
    for part in (short, long):
        part.mkdir(parents=True, exist_ok=True)
    write_dark(long / f"{scene}_00_10s.ARW", exposure(1, seed), CAMERA)
    for number in range(frames):
        write_dark(short / f"{scene}_{number:02}_1s.ARW", exposure(0.1, seed), CAMERA)


@pytest.fixture
def sid(tmp_path):
    write_pair(tmp_path, "00001", seed=0, frames=2)
    write_pair(tmp_path, "00002", seed=5)
    for name in ("10003", "20201"):  # test and validation: opening them would fail
        for part, seconds in (("short", "0.1"), ("long", "10")):
            path = tmp_path / "Sony" / part / f"{name}_00_{seconds}s.ARW"
            path.write_bytes(b"not to be opened")
    return tmp_path


def batches(folder, **changes):
    settings = {"steps": 40, "batch": 3, "patch": 64, "late_part": 0.0, "pairs": str(folder)}
    return training_batches(Recipe("", **settings | changes))


def rendered(mosaic: np.ndarray, camera_to_srgb: np.ndarray) -> np.ndarray:
    camera_rgb = Demosaic()(torch.as_tensor(mosaic)[None])[0]
    return render_strip(camera_rgb, camera_to_srgb).transpose(2, 0, 1)


def test_only_training_scenes_are_trained_on(sid):
    found = pairs.training_pairs(sid)
    assert [(p.short.name, p.long.name, p.ratio) for p in found] == [
        ("00001_00_1s.ARW", "00001_00_10s.ARW", 10),
        ("00001_01_1s.ARW", "00001_00_10s.ARW", 10),
        ("00002_00_1s.ARW", "00002_00_10s.ARW", 10),
    ]
    listed = {path.name for path in (sid / "Sony" / "short").iterdir()} - {p.short.name for p in found}
    assert listed == {"10003_00_0.1s.ARW", "20201_00_0.1s.ARW"}
    scored = scenes.sid_test_pairs(sid / "Sony")
    assert [p.short.name for p in scored] == ["10003_00_0.1s.ARW"]


def test_the_ratio_is_capped_as_in_the_protocol(sid):
    for path in (sid / "Sony" / "short").glob("00002*"):
        path.rename(path.with_name("00002_00_0.033s.ARW"))
    assert pairs.training_pairs(sid)[-1].ratio == 300


@pytest.mark.parametrize("flips", list(itertools.product((0, 1), repeat=3)))
def test_in_each_orientation_the_mosaic_renders_as_the_picture(sid, flips, monkeypatch):
    """A wrong phase of the mosaic would show wrong colours, a wrong place another gradient."""
    opened = pairs.open_pair(pairs.training_pairs(sid)[0])
    rng = np.random.default_rng(0)
    coins = iter([np.array(flips)])
    drawn = rng.integers

    class Coins:
        random = rng.random
        uniform = rng.uniform

        @staticmethod
        def integers(high, size=None):
            return next(coins) if size == 3 else drawn(high)

    patch = pairs.real_patch(opened, 64, Coins())
    assert (patch.mosaic.shape, patch.mosaic.dtype) == ((1, 64, 64), np.float32)
    assert (patch.picture.shape, patch.picture.dtype) == ((3, 64, 64), np.uint8)
    shown = rendered(patch.mosaic, patch.camera_to_srgb)
    inside = np.s_[:, 4:-4, 4:-4]
    assert psnr(shown[inside], patch.picture[inside]) > 40
    red_right = (np.diff(patch.picture[0].astype(int), axis=1 - flips[2])).mean() > 0
    assert red_right != bool(flips[1])


@pytest.mark.parametrize("jitter", [0.7, 1.0, 1.4])
def test_the_picture_is_as_bright_as_the_amplified_mosaic(sid, jitter, monkeypatch):
    monkeypatch.setattr(pairs, "random_jitter", lambda rng: jitter)
    opened = pairs.open_pair(pairs.training_pairs(sid)[0])
    patch = pairs.real_patch(opened, 64, np.random.default_rng(3))
    shown = rendered(patch.mosaic, patch.camera_to_srgb).astype(int)
    assert abs(np.median(shown - patch.picture)) <= 2
    clipped = dataclasses.replace(opened, truth=np.full_like(opened.truth, 255))
    white = pairs.real_patch(clipped, 64, np.random.default_rng(3))
    assert (white.picture == 255).all()  # clipped light is not made grey


def test_the_short_exposure_is_balanced_as_the_long_one(sid):
    pair = pairs.training_pairs(sid)[0]
    frame = dataclasses.replace(exposure(0.1, 0), white_balance=(1.2, 1.0, 2.9))
    write_dark(pair.short, frame, CAMERA)
    opened = pairs.open_pair(pair)
    assert opened.frame.white_balance == pytest.approx((2.35, 1.0, 1.62), abs=0.01)


def test_a_frame_on_its_side_keeps_its_picture(sid):
    pair = pairs.training_pairs(sid)[0]
    upright = pairs.open_pair(pair)
    write_dark(pair.long, dataclasses.replace(exposure(1, 0), orientation=6), CAMERA)
    np.testing.assert_array_equal(pairs.open_pair(pair).truth, upright.truth)


def test_batches_are_decided_by_seed_and_step(sid):
    one, other = batches(sid), batches(sid)
    other[0], other[33]  # whatever was opened before
    for step in (1, 20):
        for part, same in zip(one[step], other[step], strict=True):
            assert torch.equal(part, same)
    assert not torch.equal(one[1][0], batches(sid, seed=1)[1][0])
    assert [part.shape for part in one[1]] == [(3, 1, 64, 64), (3, 3, 64, 64), (3, 3, 3)]


def test_every_pair_has_its_turn_and_few_are_opened(sid, monkeypatch):
    opened = []
    real = pairs.open_pair
    monkeypatch.setattr(pairs, "open_pair", lambda pair: opened.append(pair.short.name) or real(pair))
    monkeypatch.setattr(pairs, "PAIRS_OPEN", 2)
    made = batches(sid)
    order = [made.pair_at(place).short.name for place in range(6)]
    assert len(set(order[:3])) == len(set(order[3:])) == 3
    for step in range(2 * pairs.STEPS_PER_PAIR):
        made[step]
    assert len(opened) <= 4 and set(opened[:2]) <= set(order[:2]) and set(opened) == set(order[:3])


def test_the_share_of_real_patches(sid, tmp_path_factory):
    photos = [np.full((64, 64, 3), 90, np.uint8)]
    mixed = pairs.MixedBatches(pairs.training_pairs(sid), 0.25, photos, lambda step: (64, 8), 20, 0)
    matrix = torch.from_numpy(pairs.open_pair(mixed.pairs[0]).frame.camera_to_srgb)
    real = [torch.equal(one, matrix) for step in range(20) for one in mixed[step][2]]
    assert 0.15 < np.mean(real) < 0.35


def test_what_cannot_be_trained_on_is_said(sid, tmp_path):
    with pytest.raises(LlpackError, match="Nothing to train on"):
        training_batches(Recipe(""))
    with pytest.raises(LlpackError, match="it has no Sony/short"):
        batches(tmp_path / "Sony" / "short")
    with pytest.raises(LlpackError, match="too small for patches of 128x128"):
        batches(sid, patch=128)[0]
    for path in (sid / "Sony" / "short").glob("0*"):
        path.write_bytes(b"damaged")
    with pytest.raises(UnreadableRaw, match="0000._0"):
        batches(sid)[0]
    for path in (sid / "Sony" / "short").glob("0*"):
        path.unlink()
    with pytest.raises(LlpackError, match="no training images"):
        batches(sid)
