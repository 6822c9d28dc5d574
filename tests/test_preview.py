"""The small stand-in for a frame: same colours, same levels, a mosaic as before."""

import dataclasses

import numpy as np
import pytest

from llpack.banding import row_offsets
from llpack.preview import reduced
from llpack.raw import MIN_SIDE, read_raw


@pytest.fixture
def frame(tiny_dng):
    return read_raw(tiny_dng())


def with_mosaic(frame, mosaic, **changes):
    return dataclasses.replace(frame, mosaic=mosaic.astype(np.uint16), **changes)


def test_sites_of_one_colour_are_averaged(frame):
    random = np.random.default_rng(0)
    large = with_mosaic(frame, random.integers(500, 4000, (600, 900)))
    small = reduced(large, pixels=600 * 900 / 9)
    assert small.mosaic.shape == (200, 300)
    scale = small.white_level / large.white_level
    for top in (0, 1):
        for left in (0, 1):
            plane = large.mosaic[top::2, left::2].astype(float)
            means = plane.reshape(100, 3, 150, 3).mean((1, 3))
            assert np.allclose(small.mosaic[top::2, left::2] / scale, means, atol=1 / scale)


def test_values_mean_the_same_light(frame):
    large = with_mosaic(frame, np.full((400, 400), 1000), black_level=(512.0,) * 4)
    small = reduced(large, pixels=40_000)
    for one in (large, small):
        share = (one.mosaic.mean() - one.black_level[0]) / (one.white_level - one.black_level[0])
        assert share == pytest.approx((1000 - 512) / (large.white_level - 512), rel=1e-3)


def test_row_noise_is_taken_off_as_from_the_whole_frame(frame):
    random = np.random.default_rng(0)
    noisy = 600 + random.normal(0, 1.5, (400, 1)) + random.normal(0, 8, (400, 1200))
    large = with_mosaic(frame, noisy, black_level=(512.0,) * 4, white_level=16383.0)
    offsets = row_offsets(large)
    assert offsets.std() > 0.5
    small = reduced(large, pixels=400 * 1200 / 4)
    plane = (large.mosaic - offsets[:, None])[1::2, 0::2]
    means = plane.reshape(100, 2, 300, 2).mean((1, 3))
    scale = small.white_level / large.white_level
    assert np.allclose(small.mosaic[1::2, 0::2] / scale, means, atol=1 / scale)


def test_a_clipped_frame_stays_within_sixteen_bits(frame):
    large = with_mosaic(frame, np.full((400, 400), 65535), white_level=65535.0)
    assert reduced(large, pixels=40_000).mosaic.min() == 65535


def test_a_small_frame_comes_back_as_it_is(frame):
    assert reduced(frame) is frame


def test_no_side_gets_too_small_for_the_network(frame):
    long = with_mosaic(frame, np.full((MIN_SIDE + 2, 3000), 1000))
    assert min(reduced(long, pixels=1000).mosaic.shape) >= MIN_SIDE
    odd = with_mosaic(frame, np.full((602, 1002), 1000))
    assert all(side % 2 == 0 for side in reduced(odd, pixels=50_000).mosaic.shape)
