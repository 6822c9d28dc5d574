"""The training loss: how far a picture is from the truth as displayed, never in linear light.

Pictures are (B, 3, H, W), display sRGB 0..1.
"""

import torch
from torch.nn import functional as F

from llpack.packing import PACK
from llpack.rendering import bt709_curve


def display(encoded: torch.Tensor, camera_to_srgb: torch.Tensor) -> torch.Tensor:
    """The network's output (B, 3, H, W) as it will be displayed: differentiable rendering.

    Same formulas as `rendering`; outside of 0..1 a tenth of the slope is left, so that a value
    that went astray finds its way back.
    """
    encoded = _leaky_unit(encoded)
    linear = torch.einsum("bij,bjhw->bihw", camera_to_srgb, encoded * encoded.abs())
    linear = _leaky_unit(linear)
    return bt709_curve(linear)


def _leaky_unit(x: torch.Tensor) -> torch.Tensor:
    return torch.lerp(x.clamp(0, 1), x, 0.1)


def structural_dissimilarity(picture: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - SSIM of the grey pictures in windows side by side, mean of full and half scale.

    Wang et al. 2004 with uniform 8x8 windows. Overlapping windows, as scores use them, cost many
    times more and train the same.
    """
    picture, truth = picture.mean(1, keepdim=True), truth.mean(1, keepdim=True)
    total = 0
    for _ in range(2):
        mean_p, mean_t = F.avg_pool2d(picture, 8), F.avg_pool2d(truth, 8)
        variance_p = F.avg_pool2d(picture**2, 8) - mean_p**2
        variance_t = F.avg_pool2d(truth**2, 8) - mean_t**2
        covariance = F.avg_pool2d(picture * truth, 8) - mean_p * mean_t
        luminance = (2 * mean_p * mean_t + 1e-4) / (mean_p**2 + mean_t**2 + 1e-4)
        structure = (2 * covariance + 9e-4) / (variance_p + variance_t + 9e-4)
        total = total + 1 - (luminance * structure).mean()
        picture, truth = F.avg_pool2d(picture, 2), F.avg_pool2d(truth, 2)
    return total / 2


def colour_difference(picture: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean colour difference of two displayed pictures in hundredths: CIE94, with CIEDE2000's
    lesser weight of lightness in deep shadows and highlights and greater one of near-neutral a*.

    L1 hardly sees a faint cast in the shadows; the eye does.
    """
    (light_p, a_p, b_p), (light_t, a_t, b_t) = _lab(picture), _lab(truth)
    chroma = (a_t**2 + b_t**2).sqrt()
    off_middle = (light_t - 50) ** 2
    lightness = (light_p - light_t) / (1 + 0.015 * off_middle * (20 + off_middle).rsqrt())
    redness = 1.3 * (a_p - a_t) / (1 + 0.045 * chroma)
    yellowness = (b_p - b_t) / (1 + 0.045 * chroma)
    # Half a unit is not seen, and keeps the root's slope finite.
    difference = (lightness**2 + redness**2 + yellowness**2 + 0.25).sqrt() - 0.5
    return difference.mean() / 100


def _lab(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CIELAB of (B, 3, H, W) display sRGB, D65; (B, H, W) each."""
    low, linear = picture / 12.92, ((picture.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    r, g, b = torch.where(picture > 0.04045, linear, low).unbind(1)
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883
    x, y, z = (
        torch.where(v > 0.008856, v.clamp(min=0.008856) ** (1 / 3), 7.787 * v + 16 / 116)
        for v in (x, y, z)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def border_steps(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences of the pixels on either side of every border between UnPack's blocks."""
    down = picture[..., PACK::PACK, :] - picture[..., PACK - 1 : -1 : PACK, :]
    right = picture[..., PACK::PACK] - picture[..., PACK - 1 : -1 : PACK]
    return down, right


def picture_loss(
    encoded: torch.Tensor,
    camera_to_srgb: torch.Tensor,
    truth: torch.Tensor,
    similarity: float,
    colour: float,
    borders: float,
) -> torch.Tensor:
    """Loss of the network's output against the picture (0..1) that it should become.

    Each block of pixels is drawn from features of its own, which noise makes differ from the
    neighbours'; plain L1 leaves faint steps between blocks, so these count once more.
    """
    picture = display(encoded, camera_to_srgb)
    steps = zip(border_steps(picture), border_steps(truth), strict=True)
    return (
        F.l1_loss(picture, truth)
        + similarity * structural_dissimilarity(picture, truth)
        + colour * colour_difference(picture, truth)
        + borders * sum(F.l1_loss(*pair) for pair in steps)
    )
