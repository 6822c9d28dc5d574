"""The loss compares pictures as they are displayed, by the measures it is named after."""

import numpy as np
import pytest
import torch

from llpack.losses import border_steps, display, picture_loss, structural_dissimilarity
from llpack.rendering import render_strip

MATRIX = np.array([[1.7, -0.55, -0.15], [-0.2, 1.6, -0.4], [0.0, -0.4, 1.4]], np.float32)


def test_display_is_the_rendering():
    torch.manual_seed(0)
    encoded = torch.rand(2, 3, 40, 50)
    matrices = torch.from_numpy(np.stack([MATRIX, np.eye(3, dtype=np.float32)]))
    shown = display(encoded, matrices).clamp(0, 1) * 255
    for picture, one, matrix in zip(shown, encoded, matrices.numpy(), strict=True):
        rendered = render_strip(one**2, matrix).transpose(2, 0, 1)
        assert (picture - torch.from_numpy(rendered)).abs().max() <= 0.51


def test_astray_values_find_their_way_back():
    encoded = torch.tensor([-0.5, 1.5]).reshape(1, 1, 1, 2).repeat(1, 3, 1, 1).requires_grad_()
    display(encoded, torch.eye(3)[None]).sum().backward()
    assert encoded.grad.min() > 0


def test_border_steps_are_those_between_blocks_and_no_others():
    blocks = torch.rand(1, 3, 4, 5).repeat_interleave(8, 2).repeat_interleave(8, 3)
    down, right = border_steps(blocks)
    assert down.shape == (1, 3, 3, 40)
    assert right.shape == (1, 3, 32, 4)
    assert down.abs().min() > 0
    assert right.abs().min() > 0
    tile = torch.rand(1, 3, 8, 8)
    tile[..., 0], tile[..., 7] = 0.5, 0.5
    assert border_steps(tile.repeat(1, 1, 4, 5))[1].abs().max() == 0


def test_dissimilarity_is_one_minus_ssim():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 32, 32)
    assert structural_dissimilarity(picture, picture).item() == pytest.approx(0, abs=1e-6)
    assert structural_dissimilarity(picture, 1 - picture).item() > 0.5

    def by_definition(x, y):
        """Wang et al. 2004, a single scale: K1 = 0.01, K2 = 0.03, windows side by side."""
        scores = []
        for row, column in np.ndindex(x.shape[0] // 8, x.shape[1] // 8):
            window = np.s_[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            a, b = x[window], y[window]
            covariance = np.mean((a - a.mean()) * (b - b.mean()))
            light = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
            scores.append(light * (2 * covariance + 9e-4) / (a.var() + b.var() + 9e-4))
        return np.mean(scores)

    other = (picture + 0.2 * torch.rand(1, 3, 32, 32)).clamp(0, 1)
    x, y = (p[0].double().mean(0).numpy() for p in (picture, other))
    halves = [p.reshape(16, 2, 16, 2).mean((1, 3)) for p in (x, y)]
    expected = 1 - (by_definition(x, y) + by_definition(*halves)) / 2
    assert structural_dissimilarity(picture, other).item() == pytest.approx(expected, abs=1e-4)


def test_loss_is_zero_for_the_truth():
    truth = torch.rand(1, 3, 16, 16)
    eye = torch.eye(3)[None]
    encoded = torch.rand(1, 3, 16, 16)
    truth = display(encoded, eye)
    assert picture_loss(encoded, eye, truth, 0.2, 0.5, 1.0).item() == pytest.approx(0, abs=1e-5)
    assert picture_loss(encoded.flip(3), eye, truth, 0.2, 0.5, 1.0).item() > 0.1
