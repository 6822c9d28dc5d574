"""The histogram is numpy's, the formula is the one on paper, and the estimate keeps its range."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import COLOR_MATRIX
from torch import nn

from llpack import amplifier
from llpack.amplifier import BINS, EDGES, VALUE_RANGE, Amplifier, amplify, bin_shares, histogram
from llpack.colour import camera_to_srgb
from llpack.metadata import Exif
from llpack.raw import RawFrame

AUTHORS_EDGES = [(2 ** (8 * i / 63) - 1) / 255 for i in range(64)]


def frame_of(mosaic, black=(0.0,) * 4, white=100.0, white_balance=(1.0, 1.0, 1.0)) -> RawFrame:
    return RawFrame(
        mosaic=np.array(mosaic, np.uint16),
        black_level=black,
        white_level=white,
        white_balance=white_balance,
        camera_to_srgb=camera_to_srgb(np.array(COLOR_MATRIX)),
        orientation=1,
        cfa="RGGB",
        exif=Exif(),
    )


def numpy_shares(values: np.ndarray) -> np.ndarray:
    return np.histogram(values.clip(0, 1), AUTHORS_EDGES)[0] / values.size


def test_edges_are_the_authors():
    np.testing.assert_allclose(EDGES, AUTHORS_EDGES, rtol=1e-12)
    assert len(EDGES) == BINS + 1 == 64
    assert EDGES[1] * 16383 == pytest.approx(5.9, abs=0.1)  # DN of 14 bits


@pytest.mark.parametrize("brightness", [0.003, 0.1, 1.5])
def test_histogram_is_numpys(brightness):
    """Some values are below black, some clipped; an edge itself may fall to either side."""
    rng = np.random.default_rng(0)
    values = (brightness * rng.random(50_000) - 0.001).astype(np.float32)
    off = np.abs(bin_shares(values) - numpy_shares(values))
    assert off.max() <= 2 / values.size


def test_every_bin_counts_what_lies_in_it():
    middles = np.array([(low + high) / 2 for low, high in zip(EDGES, EDGES[1:], strict=False)])
    for place, middle in enumerate(middles):
        assert bin_shares(np.full(5, middle, np.float32)).tolist() == np.eye(BINS)[place].tolist()


@pytest.mark.parametrize(("value", "place"), [(0, 0), (-0.5, 0), (1, 62), (0.99999, 62), (3, 62)])
def test_the_ends_are_closed(value, place):
    assert bin_shares(np.full((2, 3), value, np.float32))[place] == 1


def test_histogram_of_a_frame_knows_its_levels():
    rng = np.random.default_rng(1)
    black = (500.0, 510.0, 520.0, 530.0)
    mosaic = rng.integers(480, 900, (64, 96))
    values = mosaic - np.tile([black[:2], black[2:]], (32, 48))
    values = values / (4095 - np.tile([black[:2], black[2:]], (32, 48)))
    frame = frame_of(mosaic, black, 4095.0)
    np.testing.assert_allclose(histogram(frame), numpy_shares(values), atol=3 / mosaic.size)
    assert histogram(frame).sum() == pytest.approx(1)


def test_a_sampled_histogram_is_close_to_the_full_one(monkeypatch):
    rows, columns = np.mgrid[:256, :384]
    light = 300 * (1 + np.sin(rows / 50) * np.cos(columns / 70))
    mosaic = 512 + np.random.default_rng(2).poisson(light)
    frame = frame_of(mosaic, (512.0,) * 4, 16383.0)
    full = histogram(frame)
    monkeypatch.setattr(amplifier, "_SAMPLED_CELLS", frame.mosaic.size // 4 // 9)
    sampled = histogram(frame)
    assert not np.array_equal(sampled, full)
    assert np.abs(sampled - full).sum() < 0.05
    assert sampled.sum() == pytest.approx(1)


MOSAIC = [[10, 40, 12, 44], [30, 20, 36, 24], [110, 120, 5, 0], [130, 100, 60, 15]]
BLACK = (10.0, 20.0, 30.0, 0.0)


def test_amplify_by_hand():
    """Times 3: R (v - 10) / 100 * 2, G1 (v - 20) / 90, G2 (v - 30) / 80, B v / 110 * 1.5."""
    frame = frame_of(MOSAIC, BLACK, 110.0, (2.0, 1.0, 1.5))
    expected = [
        [0.0, 60 / 90, 0.12, 72 / 90],
        [0.0, 90 / 110, 18 / 80, 108 / 110],
        [2.0, 2.0, -0.3, -60 / 90],  # 6 and 300 / 90 are cut at 2; negative values stay
        [2.0, 2.0, 90 / 80, 67.5 / 110],
    ]
    whole = amplify(frame, 3, slice(0, 4))
    assert whole.dtype == torch.float32
    assert whole.shape == (1, 1, 4, 4)
    np.testing.assert_allclose(whole[0, 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(amplify(frame, 3, slice(2, 4)), whole[:, :, 2:])


def test_amplify_for_the_authors_weights():
    frame = frame_of(MOSAIC, BLACK, 110.0, (2.0, 1.0, 1.5))
    seen = amplify(frame, 3, slice(2, 4), balanced=False, value_range=(0.0, float("inf")))
    expected = [[3.0, 300 / 90, 0.0, 0.0], [300 / 80, 300 / 110, 90 / 80, 45 / 110]]
    np.testing.assert_allclose(seen[0, 0], expected, rtol=1e-5, atol=1e-6)


def test_amplified_values_stay_in_their_range():
    mosaic = np.random.default_rng(3).integers(0, 65536, (64, 64))
    values = amplify(frame_of(mosaic, (512.0,) * 4, 16383.0), 1000, slice(0, 64))
    assert (values.min(), values.max()) == VALUE_RANGE


def test_amplify_leaves_the_frame_alone():
    frame = frame_of(MOSAIC, BLACK, 110.0)
    amplify(frame, 3, slice(0, 4))
    np.testing.assert_array_equal(frame.mosaic, MOSAIC)


def test_a_clipped_sensor_is_at_least_white_without_amplification():
    frame = frame_of(np.full((4, 4), 4095), (510.0, 512.0, 513.0, 530.0), 4095.0, (1.9, 1.0, 1.4))
    assert amplify(frame, 1, slice(0, 4)).min() >= 1 - 1e-6


@pytest.mark.parametrize(("stops", "factor"), [(0, 1), (5, 32), (-4, 1), (40, 1000)])
def test_estimates_are_powers_of_two_within_the_range(stops, factor):
    network = Amplifier()
    nn.init.zeros_(network.stops.weight)
    nn.init.constant_(network.stops.bias, stops)
    assert network.estimate(frame_of(np.arange(64 * 64).reshape(64, 64))) == factor


def test_the_estimate_does_not_depend_on_bit_depth():
    torch.manual_seed(0)
    network = Amplifier()
    mosaic = np.random.default_rng(4).integers(500, 900, (64, 64))
    frame = frame_of(mosaic, (512.0,) * 4, 4095.0)
    finer = frame_of(mosaic * 4, (2048.0,) * 4, 16380.0)
    assert network.estimate(finer) == pytest.approx(network.estimate(frame), rel=1e-3)
    other = dataclasses.replace(frame, mosaic=frame.mosaic + 1000)
    assert network.estimate(other) != network.estimate(frame)
