"""Calibrated sensor noise: what a camera adds to the light when there is almost none.

Model (Wei et al., CVPR 2020 and TPAMI 2021, "P + TL + r + q + c"), in digital numbers (DN) of a
14-bit sensor above the black level:

    noisy = K * Poisson(clean / K) + TukeyLambda(shape) * scale + one offset for each row
            + one offset for each CFA position, then rounded and clipped by the converter

`K` is the gain in DN for each photo-electron. Plain Poisson-Gaussian noise is 2 to 6 dB worse to
train on: the long tail, the rows and the offsets are what matters in the dark.

Sources of the numbers:
- `a7s2`: the Sony A7S II for each ISO as calibrated by PMN (Feng et al., ACM MM 2022; released with
  its code, Apache-2.0). The sensor changes its conversion gain at ISO 2000, where read noise falls,
  so the table has two branches.
- `CAMERAS`: ELD's five cameras (released with its code, MIT licence), pairs of equal ISO averaged.
  Lines are log(scale) = slope * log(K) + bias with a spread of sigma, natural logarithms.
"""

from dataclasses import dataclass

import numpy as np

FULL_SCALE = 16383 - 512  # DN between black and white level of the calibrated cameras
LOGISTIC_LIMIT = 1e-6  # a Tukey-lambda shape below this is the logistic distribution


@dataclass(frozen=True)
class SensorNoise:
    """One exposure's noise; all in DN of a 14-bit sensor except `tukey_lambda`, a pure shape."""

    gain: float  # K, DN for each photo-electron
    read_scale: float  # scale (not the standard deviation) of the Tukey-lambda read noise
    tukey_lambda: float
    row_sigma: float
    channel_bias: tuple[float, float, float, float]  # at R, G1, G2, B

    def expose(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Noisy DN above black, not yet rounded, for a clean mosaic.

        clean: (H, W), RGGB, DN above black, at least 0. Returns float32 (H, W); negative where
        read noise outweighs the light.
        """
        height, width = clean.shape
        noisy = rng.poisson(clean / self.gain).astype(np.float32)
        noisy *= np.float32(self.gain)
        uniform = rng.random((height, width), dtype=np.float32)
        noisy += np.float32(self.read_scale) * tukey_quantile(uniform, self.tukey_lambda)
        noisy += rng.normal(0, self.row_sigma, (height, 1)).astype(np.float32)
        red, green1, green2, blue = self.channel_bias
        noisy[0::2, 0::2] += red
        noisy[0::2, 1::2] += green1
        noisy[1::2, 0::2] += green2
        noisy[1::2, 1::2] += blue
        return noisy


def tukey_quantile(probability: np.ndarray, shape: float) -> np.ndarray:
    """Quantile function of the Tukey-lambda distribution, (p**l - (1-p)**l) / l.

    probability: any array in [0, 1); the ends are kept half a float32 step away from 0 and 1,
    where the quantile of a long-tailed shape is infinite.
    """
    p = np.clip(probability, 2**-25, 1 - 2**-24).astype(np.float32)
    if abs(shape) < LOGISTIC_LIMIT:
        return np.log(p / (1 - p))
    shape = np.float32(shape)
    return (p**shape - (1 - p) ** shape) / shape


# ISO, Tukey-lambda shape, Tukey-lambda scale, row sigma
_A7S2_LOW_GAIN = np.array(
    [
        (100, 0.149, 0.702, 0.139),
        (400, 0.022, 1.182, 0.362),
        (800, -0.008, 1.935, 0.572),
        (1600, -0.044, 3.228, 0.989),
    ]
)
_A7S2_HIGH_GAIN = np.array(
    [
        (2000, -0.013, 1.436, 0.331),
        (3200, -0.035, 2.042, 0.445),
        (6400, -0.075, 3.450, 0.722),
        (12800, -0.065, 7.038, 1.275),
        (25600, -0.091, 12.176, 2.276),
    ]
)
_A7S2_SECOND_GAIN_ISO = 1800  # between the last and first rows of the two branches
_A7S2_GAIN_PER_ISO = 0.0009546
# PMN's table has no black-frame offsets; ours are a quarter of a DN, the size of its residuals'
# effect after the black level is subtracted. ELD's tables below carry measured ones.
_A7S2_COMMON_BIAS, _A7S2_CHANNEL_BIAS = 0.25, 0.1


def a7s2(iso: float, rng: np.random.Generator) -> SensorNoise:
    """Sony A7S II at an ISO from 100 to 25600 (interpolated in log ISO, clamped at the ends)."""
    table = _A7S2_LOW_GAIN if iso < _A7S2_SECOND_GAIN_ISO else _A7S2_HIGH_GAIN
    log_iso = np.log(table[:, 0])
    shape = np.interp(np.log(iso), log_iso, table[:, 1])
    read = np.exp(np.interp(np.log(iso), log_iso, np.log(table[:, 2])))
    row = np.exp(np.interp(np.log(iso), log_iso, np.log(table[:, 3])))
    bias = rng.normal(0, _A7S2_COMMON_BIAS) + rng.normal(0, _A7S2_CHANNEL_BIAS, 4)
    return SensorNoise(_A7S2_GAIN_PER_ISO * iso, read, float(shape), row, tuple(bias))


@dataclass(frozen=True)
class CameraNoise:
    """A camera's noise as lines over the gain; the tables run from the lowest to the highest K."""

    gain_range: tuple[float, float]  # K at ISO 100 and ISO 6400
    read: tuple[float, float, float]  # slope, bias, sigma of log Tukey-lambda scale
    row: tuple[float, float, float]  # the same for the sigma of the row noise
    tukey_lambda: tuple[float, ...]
    channel_bias: tuple[tuple[float, float, float, float], ...]  # at R, G1, G2, B

    def at_gain(self, gain: float, rng: np.random.Generator) -> SensorNoise:
        """One exposure at gain K, with the calibration's spread around each line."""
        low, high = np.log(self.gain_range)
        place = np.clip((np.log(gain) - low) / (high - low), 0, 1)
        shape = np.interp(place, np.linspace(0, 1, len(self.tukey_lambda)), self.tukey_lambda)
        step = round(place * (len(self.channel_bias) - 1))
        return SensorNoise(
            gain=gain,
            read_scale=_on_line(self.read, gain, rng),
            tukey_lambda=float(shape),
            row_sigma=_on_line(self.row, gain, rng),
            channel_bias=self.channel_bias[step],
        )

    def at_iso(self, iso: float, rng: np.random.Generator) -> SensorNoise:
        """One exposure at an ISO; K is proportional to ISO."""
        return self.at_gain(self.gain_range[0] * iso / 100, rng)


def _on_line(line: tuple[float, float, float], gain: float, rng: np.random.Generator) -> float:
    slope, bias, sigma = line
    return float(np.exp(slope * np.log(gain) + bias + rng.normal(0, sigma)))


CAMERAS = {
    "Sony A7S II": CameraNoise(
        gain_range=(0.0939, 6.011),
        read=(0.4621, 0.5657, 0.2634),
        row=(0.5275, -0.5917, 0.2943),
        tukey_lambda=(0.121, 0.050, 0.0, -0.050, -0.086, -0.086, -0.114, -0.136, -0.143),
        channel_bias=(
            (1.49, 1.47, 1.49, 1.48),
            (-1.02, -1.04, -1.02, -1.04),
            (-0.26, -0.29, -0.26, -0.29),
            (0.61, 0.57, 0.61, 0.57),
            (2.08, 2.01, 2.32, 2.25),
            (-1.33, -1.37, -1.34, -1.36),
            (-1.56, -1.60, -1.32, -1.36),
            (1.18, 1.08, 1.16, 1.07),
            (4.06, 3.85, 4.29, 4.09),
        ),
    ),
    "Nikon D850": CameraNoise(
        gain_range=(0.415, 26.56),
        read=(0.4774, -0.0904, 0.2392),
        row=(0.4483, -1.7977, 0.2322),
        tukey_lambda=(-0.114, -0.200, -0.214, -0.229, -0.243, -0.171, -0.143, -0.100),
        channel_bias=(
            (-0.17, -0.19, -0.16, -0.17),
            (0.14, 0.10, 0.03, 0.0),
            (0.50, 0.36, 0.24, 0.14),
            (-2.75, -1.62, -2.17, -1.07),
            (-1.41, -0.69, -1.37, -0.61),
            (0.40, 0.57, 0.53, -0.28),
            (1.00, 1.54, 1.20, 0.76),
            (2.38, 3.75, 2.83, 0.25),
        ),
    ),
    "Canon EOS 5D Mark IV": CameraNoise(
        gain_range=(0.2182, 13.96),
        read=(0.6559, 1.0927, 0.2860),
        row=(0.4713, -0.8079, 0.2436),
        tukey_lambda=(0.150, 0.086, 0.200, 0.093, 0.064, 0.029, 0.021, 0.079, 0.114),
        channel_bias=(
            (0.04, 0.74, 0.71, -0.02),
            (0.89, 0.79, 0.76, -0.03),
            (0.08, 0.11, 0.04, 0.02),
            (0.04, 0.93, 0.89, 0.06),
            (0.95, 0.09, 0.88, 0.12),
            (-0.02, -0.09, 0.88, 0.73),
            (0.75, 0.79, -0.11, 0.49),
            (-0.10, -0.34, 0.27, 0.42),
            (0.02, 0.08, 0.52, 0.20),
        ),
    ),
    "Canon EOS 70D": CameraNoise(
        gain_range=(0.4075, 26.08),
        read=(0.4868, 1.4643, 0.3820),
        row=(0.7292, -0.9371, 0.2502),
        tukey_lambda=(0.143, 0.114, 0.029, -0.093, -0.171, -0.157, -0.086, -0.029),
        channel_bias=(
            (0.71, 0.61, 0.33, 0.38),
            (0.59, 0.59, 0.29, 0.25),
            (0.64, 0.62, 0.25, 0.26),
            (0.85, 0.91, 0.26, 0.22),
            (1.03, 1.35, 0.62, 0.21),
            (1.73, 2.00, 0.78, 0.49),
            (3.06, 3.35, 0.82, 0.05),
            (3.54, 5.72, 0.53, -0.69),
        ),
    ),
    "Canon EOS 700D": CameraNoise(
        gain_range=(0.4476, 28.65),
        read=(0.5982, 1.5370, 0.3888),
        row=(0.6221, -0.7756, 0.2485),
        tukey_lambda=(0.129, 0.100, 0.014, -0.093, -0.150, -0.129, -0.029, 0.014),
        channel_bias=(
            (0.72, 0.45, 0.50, 0.77),
            (0.60, 0.48, -0.27, -0.15),
            (0.0, -0.08, -0.40, -0.33),
            (0.70, 0.76, 0.29, 0.24),
            (0.76, 0.64, -0.04, 0.12),
            (0.64, 1.38, 0.08, -0.48),
            (1.25, 1.13, -0.63, -0.34),
            (2.34, 2.61, -2.25, -2.26),
        ),
    ),
}


def any_camera(rng: np.random.Generator) -> SensorNoise:
    """A camera that nobody has calibrated: every number drawn from the span of the five above."""
    gain = float(np.exp(rng.uniform(np.log(0.1), np.log(20))))
    lines = list(CAMERAS.values())
    read = [_on_line(camera.read, gain, rng) for camera in lines]
    row = [_on_line(camera.row, gain, rng) for camera in lines]
    return SensorNoise(
        gain=gain,
        read_scale=float(np.exp(rng.uniform(np.log(min(read)), np.log(max(read))))),
        tukey_lambda=float(rng.uniform(-0.24, 0.2)),
        row_sigma=float(np.exp(rng.uniform(np.log(min(row)), np.log(max(row))))),
        channel_bias=tuple(rng.normal(0, 0.1 * gain**0.5, 4)),
    )
