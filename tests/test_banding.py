"""Row noise is measured over the width of a frame and taken off; scenes are left alone."""

import dataclasses

import numpy as np
import pytest

from llpack.amplifier import amplify
from llpack.banding import MIN_COLUMNS, row_offsets
from llpack.metadata import Exif
from llpack.raw import RawFrame

WIDTH, HEIGHT = 2 * MIN_COLUMNS + 256, 256


def frame_of(mosaic: np.ndarray) -> RawFrame:
    return RawFrame(
        mosaic=np.clip(np.rint(mosaic), 0, 65535).astype(np.uint16),
        black_level=(512.0,) * 4,
        white_level=16383.0,
        white_balance=(1.0, 1.0, 1.0),
        camera_to_srgb=np.eye(3, dtype=np.float32),
        orientation=1,
        cfa="RGGB",
        exif=Exif(),
    )


def noisy_scene(scene: np.ndarray, rows: np.ndarray, sigma: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    return 512 + scene + rng.normal(0, sigma, scene.shape) + rows[:, None]


def test_most_of_the_row_noise_is_found():
    rows = np.random.default_rng(2).normal(0, 1.0, HEIGHT)
    scene = np.broadcast_to(np.linspace(0, 40, WIDTH), (HEIGHT, WIDTH))
    left = rows - row_offsets(frame_of(noisy_scene(scene, rows)))
    assert left.std() < 0.6 * rows.std()


def test_without_row_noise_next_to_nothing_is_taken_off():
    scene = np.broadcast_to(np.linspace(0, 40, HEIGHT)[:, None], (HEIGHT, WIDTH))
    offsets = row_offsets(frame_of(noisy_scene(scene, np.zeros(HEIGHT))))
    assert np.abs(offsets).max() < 6.0 / 4


def test_a_line_across_the_whole_scene_stays():
    scene = np.zeros((HEIGHT, WIDTH))
    scene[120:122] = 60
    frame = frame_of(noisy_scene(scene, np.zeros(HEIGHT)))
    assert np.abs(row_offsets(frame)[120:122]).max() < 3


def test_a_bright_scene_is_changed_by_less_than_a_thousandth():
    rng = np.random.default_rng(3)
    scene = rng.uniform(0, 12000, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    offsets = row_offsets(frame_of(512 + scene))
    assert np.abs(offsets).max() < 16e-4 * (16383 - 512)


def test_a_narrow_frame_is_left_alone():
    rows = np.random.default_rng(2).normal(0, 1.0, HEIGHT)
    narrow = noisy_scene(np.zeros((HEIGHT, 2 * MIN_COLUMNS - 2)), rows)
    assert not row_offsets(frame_of(narrow)).any()


def test_amplify_takes_the_offsets_off_before_everything_else():
    frame = frame_of(np.full((64, 64), 612.0))
    offsets = np.linspace(-1, 1, 64).astype(np.float32)
    rows = slice(10, 20)
    expected = (100 - offsets[rows]) / (16383 - 512) * 3
    got = amplify(frame, 3.0, rows, row_offsets=offsets)[0, 0].numpy()
    np.testing.assert_allclose(got, np.broadcast_to(expected[:, None], got.shape), rtol=1e-4)


@pytest.mark.parametrize("orientation", [1, 6])
def test_rows_are_the_sensors_rows_whatever_the_orientation(orientation):
    rows = np.random.default_rng(2).normal(0, 1.0, HEIGHT)
    frame = frame_of(noisy_scene(np.zeros((HEIGHT, WIDTH)), rows))
    turned = dataclasses.replace(frame, orientation=orientation)
    np.testing.assert_array_equal(row_offsets(turned), row_offsets(frame))
