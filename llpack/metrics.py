"""How far a picture is from the truth, by the measures that are published for this task.

All pictures are display sRGB, (H, W, 3) uint8, of the same size. PSNR and SSIM are scikit-image's
with the settings of the authors' evaluation, so that numbers can be set beside the paper's.
"""

from dataclasses import dataclass

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from llpack.rendering import bt709_curve, bt709_linear

# Colour is compared pixel by pixel up to this size. Above it, where a pixel is too small to be seen
# on its own, on averages of 4x4 pixels; it also is 16 times as fast.
MAX_PIXELS_FOR_COLOUR = 2_000_000
BLOCK = 4

DARKEST_SHARE = 10  # per cent of the pixels that count as deep shadow
NEUTRAL_LIMIT = 3.0  # of |a*| and |b*|: shadows of the truth below it are taken as neutral

_LINEAR_OF_CODE = bt709_linear(np.arange(256) / 255)
_LINEAR_OF_CODE[0] = 0  # exactly, where the formula leaves a rounding error


@dataclass(frozen=True)
class Score:
    """One picture against its truth; dB, SSIM 0..1, CIEDE2000 and CIELAB units."""

    psnr: float
    ssim: float
    aligned_psnr: float  # after the best common brightness factor, see `align_brightness`
    ciede2000: float  # mean
    ciede2000_p95: float
    shadow_a: float  # a* and b* of the darkest tenth, minus the truth's; +a* red, +b* yellow
    shadow_b: float
    neutral_shadows: bool  # whether the truth's darkest tenth is neutral


def score(picture: np.ndarray, truth: np.ndarray) -> Score:
    """All measures at once. Raises ValueError for pictures of different shapes or not uint8."""
    if picture.shape != truth.shape or picture.dtype != np.uint8 or truth.dtype != np.uint8:
        raise ValueError("pictures to compare must be uint8 arrays of the same shape")
    lab, truth_lab = to_lab(picture), to_lab(truth)
    difference = colour_difference(lab, truth_lab)
    shift_a, shift_b, neutral = shadow_shift(lab, truth_lab)
    return Score(
        psnr=psnr(picture, truth),
        ssim=ssim(picture, truth),
        aligned_psnr=psnr(align_brightness(picture, truth), truth),
        ciede2000=float(difference.mean()),
        ciede2000_p95=float(np.percentile(difference, 95)),
        shadow_a=shift_a,
        shadow_b=shift_b,
        neutral_shadows=neutral,
    )


def eight_bits(picture: np.ndarray) -> np.ndarray:
    """uint8 of a uint16 picture, truncated with the authors' arithmetic (float32, times 255)."""
    return ((picture / np.float32(65535)) * np.float32(255)).astype(np.uint8)


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite if all are equal."""
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(truth, picture, data_range=255))


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity as the authors call it: uniform 7x7 windows, sample covariance, mean
    over the channels (scikit-image's old `multichannel=True`). Not Wang's Gaussian windows."""
    return float(structural_similarity(truth, picture, channel_axis=-1, data_range=255))


def align_brightness(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The picture, its light multiplied by the one factor that minimises the squared error to the
    truth in linear light: sum(p t) / sum(p p), as ELD and PMN align before they score.

    They do it on RAW values; here the display curve is undone, and applied again.
    """
    light, truth_light = _LINEAR_OF_CODE[picture], _LINEAR_OF_CODE[truth]
    energy = np.vdot(light, light)
    factor = np.vdot(light, truth_light) / energy if energy > 0 else 1.0
    codes = 255 * bt709_curve(np.minimum(_LINEAR_OF_CODE * factor, 1))
    # Rounded: these values come from whole codes, which truncation would lower by one.
    return np.rint(codes).astype(np.uint8)[picture]


def to_lab(picture: np.ndarray) -> np.ndarray:
    """CIELAB (D65, 2 degrees) of an sRGB picture; of its 4x4 averages when it is large."""
    height, width = picture.shape[:2]
    if height * width > MAX_PIXELS_FOR_COLOUR:
        rows, columns = height // BLOCK, width // BLOCK
        cut = picture[: rows * BLOCK, : columns * BLOCK]
        blocks = cut.reshape(rows, BLOCK, columns, BLOCK, 3)
        return rgb2lab(blocks.mean((1, 3)) / 255)
    return rgb2lab(picture)


def colour_difference(lab: np.ndarray, truth_lab: np.ndarray) -> np.ndarray:
    """CIEDE2000 with all weights 1, value by value, of CIELAB arrays (..., 3)."""
    return deltaE_ciede2000(truth_lab, lab)


def shadow_shift(lab: np.ndarray, truth_lab: np.ndarray) -> tuple[float, float, bool]:
    """Mean a* and b* minus the truth's where the truth is darkest (a tenth of the picture), and
    whether the truth is neutral there. Both arrays are CIELAB, (h, w, 3)."""
    lightness = truth_lab[..., 0]
    darkest = lightness <= np.percentile(lightness, DARKEST_SHARE)
    there = truth_lab[darkest][:, 1:].mean(0)
    shift_a, shift_b = lab[darkest][:, 1:].mean(0) - there
    return float(shift_a), float(shift_b), bool((np.abs(there) <= NEUTRAL_LIMIT).all())
