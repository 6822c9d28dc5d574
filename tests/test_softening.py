"""Borders between blocks: low steps become ramps, wherever a picture is cut into bands."""

import numpy as np
import pytest
import torch
from softening_formula import with_ramps
from test_area_light import FACTORS, packed

from llpack.softening import soften


def unpacked(blocks: torch.Tensor) -> np.ndarray:
    rows, columns, side = blocks.shape[:3]
    return blocks.numpy().swapaxes(1, 2).reshape(rows * side, columns * side, 3)


def in_bands(picture: np.ndarray, side: int, heights: list[int]) -> np.ndarray:
    """`soften`, in bands of so many pixels."""
    bands = packed(picture, side).split([height // side for height in heights])
    for band, above in zip(bands, (None, *bands[:-1]), strict=True):
        soften(band, above)
    return np.concatenate([unpacked(band) for band in bands])


@pytest.mark.parametrize("side", FACTORS)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_low_step_becomes_a_ramp_and_a_high_one_stays(side, axis):
    for height, expected in (
        (0.001, [0, 0.125, 0.25, 0.25, 0.25, 0.125, 0]),
        (0.2, [0, 0, 0, 1, 0, 0, 0]),
    ):
        line = np.repeat([0.2, 0.2 + height], 8)
        picture = np.moveaxis(np.broadcast_to(line[:, None, None], (16, 16, 3)), 0, axis)
        found = np.moveaxis(in_bands(picture, side, [16]), axis, 0)[:, 3, 1]
        np.testing.assert_allclose(np.diff(found)[4:11] / height, expected, atol=0.03)


@pytest.mark.parametrize("side", FACTORS)
@pytest.mark.parametrize("heights", [[64], [16, 16, 16, 16], [48, 16], [16, 32, 16]])
@pytest.mark.parametrize("width", [16, 80])
def test_bands_are_the_whole_picture(side, heights, width):
    picture = 0.3 + 0.02 * np.random.default_rng(width).random((64, width, 3))
    found = in_bands(picture, side, heights)
    np.testing.assert_allclose(found, with_ramps(picture), atol=1e-6)
    assert np.abs(found - picture).max() > 1e-3
