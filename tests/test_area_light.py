"""Large areas get the mosaic's light, details and what is in doubt stay the network's."""

import numpy as np
import pytest
import torch
from area_formula import with_measured_light
from scipy.ndimage import convolve1d
from test_engine import dark_frame

from llpack.area_light import REACH, SMOOTHING, AreaLight, doubt, picture_averages
from llpack.banding import pixel_noise

FACTORS = [4, 8]  # sides of the blocks that are packed: with the detail path, and without


def packed(picture: np.ndarray, factor: int) -> torch.Tensor:
    """(H, W, 3) -> (H/p, W/p, p, p, 3) float32."""
    height, width = picture.shape[:2]
    blocks = picture.reshape(height // factor, factor, width // factor, factor, 3)
    return torch.from_numpy(np.ascontiguousarray(blocks.swapaxes(1, 2), np.float32))


def mosaic_of(picture: np.ndarray) -> np.ndarray:
    """RGGB sites of (H, W, 3)."""
    mosaic = picture[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = picture[0::2, 0::2, 0], picture[1::2, 1::2, 2]
    return mosaic


def corrected(picture, mosaic, doubt, factor) -> np.ndarray:
    """What the module makes of a whole frame."""
    rows, columns = (side // 16 for side in mosaic.shape)
    areas = AreaLight(rows, columns, torch.as_tensor(doubt).float())
    areas.measure(0, rows, torch.from_numpy(mosaic).float()[None, None])
    areas.draw(0, rows, picture_averages(packed(picture, factor)))
    factors, added = (
        part.numpy().repeat(factor, 0).repeat(factor, 1) for part in areas.correction(0, rows, factor)
    )
    return picture * factors + added


def random_scene(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture and the mosaic of a brighter one, both with detail."""
    rng = np.random.default_rng(seed)
    picture = rng.random((16 * rows, 16 * columns, 3)) * 0.5
    light = rng.random((rows, columns, 3)).repeat(16, 0).repeat(16, 1)
    return picture, mosaic_of(picture + light)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("size", [(4, 5), (17, 12)])
def test_the_rule_is_the_formula(size, factor):
    picture, mosaic = random_scene(*size)
    unsure = np.array([0.2, 0.05, 0.1])
    expected = with_measured_light(picture, mosaic, unsure, factor)
    result = corrected(picture, mosaic, unsure, factor)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.abs(result - picture).max() > 0.05


@pytest.mark.parametrize("factor", FACTORS)
def test_a_cast_of_the_whole_picture_goes_and_detail_stays(factor):
    rng = np.random.default_rng(1)
    truth = 0.3 + 0.1 * rng.random((160, 192, 3))
    drawn = truth * [0.8, 1.1, 1.0]
    result = corrected(drawn, mosaic_of(truth), np.full(3, 1e-3), factor)
    # Half of the cast is added evenly to pixels that differ by a sixth around their mean.
    np.testing.assert_allclose(result, truth, atol=0.5 * 0.07 / 6)
    np.testing.assert_allclose(result.mean((0, 1)), truth.mean((0, 1)), atol=1e-3)


def test_what_is_small_beside_the_doubt_is_left():
    truth = np.full((160, 160, 3), 0.3)
    for share, kept in ((0.1, 0.01), (1, 0.5), (10, 0.99)):
        missing = share * 0.01
        result = corrected(truth - missing, mosaic_of(truth), np.full(3, 0.01), 4)
        np.testing.assert_allclose(result - (truth - missing), kept * missing, rtol=0.02)


def test_black_beside_what_is_brightened_gets_half_of_its_tint():
    truth = np.full((160, 192, 3), 0.3)
    truth[:, 80:] = 0
    result = corrected(truth * [0.7, 1, 1], mosaic_of(truth), np.full(3, 1e-3), 4)
    # At the border an area lacks half of the 0.09 that are missing beside it.
    assert 0.01 < result[80, 82, 0] < 0.25 * 0.09 + 0.005
    np.testing.assert_allclose(result[:, -16:], 0, atol=1e-6)
    np.testing.assert_allclose(result[:, :16], truth[:, :16], atol=2e-3)


def test_no_factor_is_extreme():
    dark, light = np.full((160, 160, 3), 0.01), np.full((160, 160, 3), 0.9)
    for drawn, truth, factor in ((dark, light, 4.0), (light, dark, 0.5)):
        result = corrected(drawn, mosaic_of(truth), np.full(3, 1e-3), 8)
        np.testing.assert_allclose(result, factor * drawn + (truth - drawn) / 2, atol=0.01)


def test_light_above_white_is_not_missing():
    white = np.ones((160, 160, 3))
    result = corrected(white, mosaic_of(1.8 * white), np.full(3, 1e-3), 4)
    np.testing.assert_array_equal(result, white)


def test_rows_are_known_when_all_around_are_drawn():
    areas = AreaLight(40, 6, torch.ones(3))
    strips = [(0, 10), (10, 20), (20, 30), (30, 40)]
    averages = torch.zeros(3, 10, 6)
    for drawn, known in (((20, 30), []), ((0, 10), []), ((10, 20), [0, 1]), ((30, 40), [0, 1, 2, 3])):
        areas.draw(*drawn, averages)
        assert [i for i, strip in enumerate(strips) if areas.known(*strip)] == known


@pytest.mark.parametrize("factor", FACTORS)
def test_strips_are_the_whole_frame(factor):
    picture, mosaic = random_scene(30, 7)
    areas = AreaLight(30, 7, torch.full((3,), 0.1))
    areas.measure(0, 30, torch.from_numpy(mosaic).float()[None, None])
    areas.draw(0, 30, picture_averages(packed(picture, factor)))
    whole = torch.cat(areas.correction(0, 30, factor), 2)
    blocks = 16 // factor
    for first, last in ((0, 4), (4, 11), (11, 30)):
        strip = torch.cat(areas.correction(first, last, factor), 2)
        torch.testing.assert_close(strip, whole[first * blocks : last * blocks])
    assert REACH > SMOOTHING  # one more, for the way between two blocks


def test_the_doubt_is_the_noise_of_an_area():
    """Twice the spread of smoothed averages of nothing but noise, with what black may be off."""
    frame = dark_frame(960, 960)
    rng = np.random.default_rng(2)
    frame.mosaic[:] = np.rint(rng.normal(512, 40, frame.mosaic.shape))
    np.testing.assert_allclose(pixel_noise(frame), 40, rtol=0.03)
    found = doubt(frame, 100).numpy()
    scale = 100 / (frame.white_level - min(frame.black_level))
    light = (frame.mosaic - 512.0) * scale
    for colour, (gain, sites) in enumerate(((2.0, [(0, 0)]), (1.0, [(0, 1), (1, 0)]), (1.5, [(1, 1)]))):
        means = np.mean([light[r::2, c::2].reshape(60, 8, 60, 8).mean((1, 3)) for r, c in sites], 0)
        for axis in (0, 1):
            means = convolve1d(means, np.r_[1:6, 4:0:-1] / 25, axis=axis, mode="wrap")
        expected = gain * np.hypot(2 * means.std(), 100 * 0.4 / 15871)
        np.testing.assert_allclose(found[colour], expected, rtol=0.12)
