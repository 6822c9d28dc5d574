"""Scores against their formulas, scikit-image's own implementation and published test values."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from llpack import metrics

# Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", Color Res. Appl. 2005, table 1:
# pairs 1, 4, 7, 13, 17, 19, 25 and 33.
SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, -0.0010, 2.4900), (50, 0.0009, -2.4900), 4.8045),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
]


def noise(seed: int, shape=(40, 48, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_psnr_is_the_mean_squared_error_of_all_channels_in_decibels():
    picture, truth = noise(0), noise(1)
    error = np.mean((picture.astype(float) - truth) ** 2)
    assert metrics.psnr(picture, truth) == pytest.approx(10 * np.log10(255**2 / error))
    assert metrics.psnr(truth, truth) == np.inf


def test_ssim_is_the_authors_uniform_window():
    """Wang et al. 2004 in 7x7 uniform windows, unbiased variances, windows inside the picture."""
    truth = noise(2, (16, 18, 3))
    picture = np.clip(truth + np.random.default_rng(3).normal(0, 40, truth.shape), 0, 255)
    picture = picture.astype(np.uint8)
    values = []
    for y, x, channel in np.ndindex(10, 12, 3):
        p, t = (i[y : y + 7, x : x + 7, channel].astype(float).ravel() for i in (picture, truth))
        covariance = np.cov(p, t)
        luminance = (2 * p.mean() * t.mean() + 2.55**2) / (p.mean() ** 2 + t.mean() ** 2 + 2.55**2)
        spread = covariance[0, 0] + covariance[1, 1] + 7.65**2
        values.append(luminance * (2 * covariance[0, 1] + 7.65**2) / spread)
    assert metrics.ssim(picture, truth) == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.parametrize(("first", "second", "difference"), SHARMA)
def test_colour_difference_gives_the_published_values(first, second, difference):
    pair = np.array(first, float), np.array(second, float)
    assert metrics.colour_difference(*pair) == pytest.approx(difference, abs=1e-4)
    assert metrics.colour_difference(*pair[::-1]) == pytest.approx(difference, abs=1e-4)


def test_brightness_is_aligned_in_linear_light():
    """A picture with a known fraction of the light becomes the truth again."""
    from llpack.rendering import bt709_curve, bt709_linear

    truth = noise(4) // 2 + 60
    dim = np.rint(255 * bt709_curve(0.5 * bt709_linear(truth / 255))).astype(np.uint8)
    aligned = metrics.align_brightness(dim, truth)
    assert metrics.psnr(dim, truth) < 20
    assert np.abs(aligned.astype(int) - truth).max() <= 2


def test_aligning_a_black_picture_leaves_it_black():
    black = np.zeros((8, 8, 3), np.uint8)
    assert not metrics.align_brightness(black, noise(5, (8, 8, 3))).any()


def test_large_pictures_are_compared_on_averages_of_sixteen_pixels(monkeypatch):
    picture = noise(6)
    whole = metrics.to_lab(picture)
    assert whole.shape == (40, 48, 3)
    monkeypatch.setattr(metrics, "MAX_PIXELS_FOR_COLOUR", 100)
    blocks = metrics.to_lab(np.pad(picture, ((0, 3), (0, 1), (0, 0))))  # what is over is left out
    assert blocks.shape == (10, 12, 3)
    np.testing.assert_allclose(blocks[2, 3], rgb2lab(picture[8:12, 12:16].mean((0, 1)) / 255))


def test_shadow_shift_sees_the_darkest_tenth_alone():
    lab = np.zeros((10, 10, 3))
    lab[..., 0] = np.linspace(10, 90, 100).reshape(10, 10)
    shifted = lab.copy()
    shifted[0] += (5, -4, 3)
    shifted[1:] += (0, 50, 50)
    a, b, neutral = metrics.shadow_shift(shifted, lab)
    assert (a, b, neutral) == (pytest.approx(-4), pytest.approx(3), True)
    assert not metrics.shadow_shift(lab, shifted)[2]


def test_sixteen_bits_are_truncated_as_the_authors_do():
    exact = np.arange(256, dtype=np.uint16) * 257
    below = exact[1:] - 1
    np.testing.assert_array_equal(metrics.eight_bits(below), np.arange(255))
    np.testing.assert_array_equal(
        metrics.eight_bits(exact), (np.float32(exact / 65535.0) * np.float32(255)).astype(np.uint8)
    )


def test_equal_pictures_score_perfectly_and_different_shapes_are_refused():
    picture = noise(7)
    score = metrics.score(picture, picture)
    assert score.psnr == score.aligned_psnr == np.inf
    assert score.ssim == pytest.approx(1)
    assert (score.ciede2000, score.ciede2000_p95, score.shadow_a, score.shadow_b) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="same shape"):
        metrics.score(picture, picture[:-1])
