"""Moments of the noise against closed forms, and the calibration against its sources."""

import json
import math

import numpy as np
import pytest

from llpack.sensor_noise import CAMERAS, SensorNoise, a7s2, any_camera, tukey_quantile

NAMES = {
    "Sony A7S II": "SonyA7S2",
    "Nikon D850": "NikonD850",
    "Canon EOS 5D Mark IV": "CanonEOS5D4",
    "Canon EOS 70D": "CanonEOS70D",
    "Canon EOS 700D": "CanonEOS700D",
}
SIDE = 600


def noise(gain=1.0, read_scale=0.0, tukey_lambda=0.1, row_sigma=0.0, channel_bias=(0.0,) * 4):
    return SensorNoise(gain, read_scale, tukey_lambda, row_sigma, channel_bias)


def exposed(model: SensorNoise, level: float, seed: int = 0) -> np.ndarray:
    clean = np.full((SIDE, SIDE), level, np.float32)
    dn = model.expose(clean, np.random.default_rng(seed))
    assert dn.dtype == np.float32
    return dn.astype(np.float64)


def tukey_variance(shape: float) -> float:
    """Closed form (Joiner and Rosenblatt 1971); the logistic distribution's at 0."""
    if shape == 0:
        return math.pi**2 / 3
    half = math.gamma(shape + 1) ** 2 / math.gamma(2 * shape + 2)
    return 2 / shape**2 * (1 / (1 + 2 * shape) - half)


@pytest.mark.parametrize("gain", [0.1, 3.0, 25.0])
@pytest.mark.parametrize("level", [0.5, 40.0, 900.0])
def test_photons_are_poisson(gain, level):
    """Mean the light, variance gain times the light, values whole electrons."""
    dn = exposed(noise(gain), level)
    assert dn.mean() == pytest.approx(level, abs=5 * (gain * level) ** 0.5 / SIDE)
    assert dn.var() == pytest.approx(gain * level, rel=0.02 + 5 * (gain / level) ** 0.5 / SIDE)
    electrons = dn / gain
    np.testing.assert_allclose(electrons, np.rint(electrons), atol=1e-2)
    assert dn.min() >= 0


def test_no_light_no_noise_but_the_sensors():
    assert not exposed(noise(), 0).any()


@pytest.mark.parametrize(
    ("shape", "deviation"),
    [(-0.24, 3.04), (-0.14, 2.38), (-0.09, 2.14), (-0.044, 1.96), (0, 1.814), (0.05, 1.67),
     (0.10, 1.54), (0.14, 1.453), (0.20, 1.334)],
)  # fmt: skip
def test_tukey_deviations_are_the_tables(shape, deviation):
    """Every probability once: no luck is involved."""
    count = 1 << 21
    quantiles = tukey_quantile((np.arange(count) + 0.5) / count, shape).astype(np.float64)
    assert quantiles.mean() == pytest.approx(0, abs=0.005)
    assert quantiles.std() == pytest.approx(deviation, rel=0.005)
    assert tukey_variance(shape) ** 0.5 == pytest.approx(deviation, rel=0.005)


@pytest.mark.parametrize("shape", [2e-6, -2e-6, 1e-3, -1e-3])
def test_tukey_goes_over_into_the_logistic_distribution(shape):
    probability = np.linspace(1e-4, 1 - 1e-4, 999)
    logistic = np.log(probability / (1 - probability))
    np.testing.assert_allclose(tukey_quantile(probability, 0.0), logistic, rtol=1e-3, atol=1e-4)
    # In float32 a shape of 2e-6 leaves few digits: (p**shape - ...) / shape.
    np.testing.assert_allclose(tukey_quantile(probability, shape), logistic, rtol=0.01, atol=0.1)


@pytest.mark.parametrize("shape", [-0.24, 0.0, 0.2])
def test_tukey_is_finite_at_the_ends(shape):
    ends = tukey_quantile(np.array([0, 1 - 2**-24, 0.5], np.float32), shape)
    assert np.isfinite(ends).all()
    assert ends[0] < -5 * (shape <= 0) - 4
    assert ends[1] > 4
    assert ends[2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [-0.1, 0.0, 0.15])
def test_read_noise_has_the_closed_forms_variance(shape):
    dn = exposed(noise(read_scale=3.0, tukey_lambda=shape), 0)
    assert dn.mean() == pytest.approx(0, abs=0.06)
    assert dn.var() == pytest.approx(9 * tukey_variance(shape), rel=0.02)
    assert (dn < 0).mean() == pytest.approx(0.5, abs=0.01)


def test_all_parts_add_up():
    model = noise(2.0, 3.0, -0.05, 4.0)
    expected = 2.0 * 50 + 9 * tukey_variance(-0.05) + 16
    variances = [exposed(model, 50, seed).var() for seed in range(3)]
    assert np.mean(variances) == pytest.approx(expected, rel=0.04)


def test_row_noise_is_one_offset_for_each_row():
    dn = exposed(noise(row_sigma=5.0), 0)
    assert not np.ptp(dn, axis=1).any()
    assert dn[:, 0].std() == pytest.approx(5, rel=0.1)
    assert abs(np.corrcoef(dn[:-1, 0], dn[1:, 0])[0, 1]) < 0.15

    dn = exposed(noise(read_scale=1.0, tukey_lambda=0.0, row_sigma=2.0), 0)
    same_row = np.corrcoef(dn[:, 0], dn[:, 101])[0, 1]
    assert same_row == pytest.approx(4 / (4 + math.pi**2 / 3), abs=0.12)
    assert abs(np.corrcoef(dn[0], dn[101])[0, 1]) < 0.15


def test_channel_bias_sits_on_its_position():
    dn = exposed(noise(channel_bias=(1.5, -2.0, 0.25, 7.0)), 0)
    assert np.unique(dn[0::2, 0::2]) == 1.5
    assert np.unique(dn[0::2, 1::2]) == -2
    assert np.unique(dn[1::2, 0::2]) == 0.25
    assert np.unique(dn[1::2, 1::2]) == 7


def test_the_seed_decides():
    model = noise(2.0, 3.0, 0.1, 1.0)
    np.testing.assert_array_equal(exposed(model, 9), exposed(model, 9))
    assert not np.array_equal(exposed(model, 9), exposed(model, 9, seed=1))


PMN_ROWS = {  # ISO: gain, shape, scale, row; as PMN publishes them
    100: (0.0956, 0.149, 0.702, 0.139),
    400: (0.3825, 0.022, 1.182, 0.362),
    1600: (1.5301, -0.044, 3.228, 0.989),
    2000: (1.9126, -0.013, 1.436, 0.331),
    6400: (6.1203, -0.075, 3.450, 0.722),
    25600: (24.481, -0.091, 12.176, 2.276),
}


@pytest.mark.parametrize("iso", PMN_ROWS)
def test_a7s2_is_the_published_table(iso):
    gain, shape, scale, row = PMN_ROWS[iso]
    model = a7s2(iso, np.random.default_rng(0))
    assert model.gain == pytest.approx(gain, rel=0.01)
    assert model.tukey_lambda == pytest.approx(shape)
    assert model.read_scale == pytest.approx(scale)
    assert model.row_sigma == pytest.approx(row)


def test_a7s2_has_a_second_gain_at_iso_2000():
    below, above = (a7s2(iso, np.random.default_rng(0)) for iso in (1600, 2000))
    assert above.gain > below.gain
    assert above.read_scale < below.read_scale / 2
    # PMN's Gaussian read noise: 4.1 electrons at ISO 1600, 1.4 at ISO 2000.
    for model, electrons in ((below, 4.1), (above, 1.4)):
        deviation = model.read_scale * tukey_variance(model.tukey_lambda) ** 0.5
        assert deviation / model.gain == pytest.approx(electrons, rel=0.08)


def test_a7s2_between_the_rows():
    middle = a7s2((3200 * 6400) ** 0.5, np.random.default_rng(0))
    assert middle.read_scale == pytest.approx((2.042 * 3.450) ** 0.5)
    assert middle.row_sigma == pytest.approx((0.445 * 0.722) ** 0.5)
    assert middle.tukey_lambda == pytest.approx((-0.035 - 0.075) / 2)


@pytest.mark.parametrize("camera", CAMERAS)
def test_cameras_are_elds_calibration(camera, shared_data):
    """Pairs of equal ISO are averaged, the rest is only rounded."""
    released = json.loads((shared_data / "noise" / "eld_camera_noise.json").read_text())
    source, ours = released["cameras"][NAMES[camera]], CAMERAS[camera]
    assert ours.gain_range == pytest.approx((source["K_min"], source["K_max"]), rel=1e-3)
    for line, key in ((ours.read, "tukey_lambda_scale"), (ours.row, "row_scale")):
        expected = [source[key][part] for part in ("slope", "bias", "sigma")]
        assert line == pytest.approx(expected, abs=1e-4)
    shapes = np.reshape(source["tukey_lambda_shapes"], (-1, 2)).mean(1)
    np.testing.assert_allclose(ours.tukey_lambda, shapes, atol=0.0011)
    biases = np.reshape(source["color_bias"], (-1, 2, 4)).mean(1)
    np.testing.assert_allclose(ours.channel_bias, biases, atol=0.011)


@pytest.mark.parametrize("camera", CAMERAS)
def test_scales_spread_log_normally_about_their_line(camera):
    calibrated, rng = CAMERAS[camera], np.random.default_rng(0)
    gain = 10 * calibrated.gain_range[0]
    models = [calibrated.at_iso(1000, rng) for _ in range(2000)]
    assert models[0].gain == pytest.approx(gain)
    for (slope, bias, sigma), field in (
        (calibrated.read, "read_scale"),
        (calibrated.row, "row_sigma"),
    ):
        logs = np.log([getattr(model, field) for model in models])
        assert logs.mean() == pytest.approx(slope * math.log(gain) + bias, abs=0.04)
        assert logs.std() == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("camera", CAMERAS)
def test_shape_and_bias_follow_the_gain(camera):
    calibrated, rng = CAMERAS[camera], np.random.default_rng(0)
    for gain, end in zip(calibrated.gain_range, (0, -1), strict=True):
        model = calibrated.at_gain(gain, rng)
        assert model.tukey_lambda == pytest.approx(calibrated.tukey_lambda[end])
        assert model.channel_bias == calibrated.channel_bias[end]


def test_any_camera_stays_among_cameras():
    rng = np.random.default_rng(0)
    for _ in range(50):
        model = any_camera(rng)
        assert 0.1 <= model.gain <= 20
        assert -0.24 <= model.tukey_lambda <= 0.2
        assert 0.1 < model.read_scale < 100
        assert 0.01 < model.row_sigma < 30
        assert np.isfinite(model.expose(np.ones((4, 4)), rng)).all()
