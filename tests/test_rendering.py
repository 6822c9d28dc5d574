"""Pictures look as LibRaw would render them, whites are white, and up is up."""

import numpy as np
import pytest
import rawpy
import torch
from conftest import COLOR_MATRIX
from PIL import Image, ImageOps

from llpack.raw import read_raw
from llpack.rendering import (
    BT709_OFFSET,
    BT709_TOE,
    Demosaic,
    bt709_curve,
    bt709_linear,
    orient,
    place_strip,
    render_strip,
    upright_size,
)

MATRIX = np.array([[1.8, -0.6, -0.2], [-0.3, 1.6, -0.3], [0.1, -0.7, 1.6]], np.float32)


def test_curve_is_a_line_and_a_power_law_that_meet_without_a_kink():
    assert BT709_TOE == pytest.approx(0.018, abs=1e-4)  # as ITU-R BT.709 rounds them
    assert BT709_OFFSET == pytest.approx(0.099, abs=5e-4)
    linear = np.linspace(0, 1, 10001)
    power_law = (1 + BT709_OFFSET) * linear ** (1 / 2.222) - BT709_OFFSET
    expected = np.where(linear < BT709_TOE, 4.5 * linear, power_law)
    np.testing.assert_allclose(bt709_curve(linear), expected, atol=1e-12)
    step = 1e-7
    slopes = np.diff(bt709_curve(BT709_TOE + np.array([-step, 0, step]))) / step
    np.testing.assert_allclose(slopes, 4.5, rtol=1e-4)


def test_curve_reaches_the_ends_and_has_an_inverse():
    linear = np.linspace(0, 1, 4097)
    display = bt709_curve(linear)
    assert display[0] == pytest.approx(0, abs=1e-12)
    assert display[-1] == pytest.approx(1, abs=1e-12)
    assert (np.diff(display) > 0).all()
    np.testing.assert_allclose(bt709_linear(display), linear, atol=1e-12)


def test_curve_takes_tensors_and_has_a_gradient_at_black():
    linear = torch.tensor([0.0, 0.01, 0.5], requires_grad=True)
    display = bt709_curve(linear)
    display.sum().backward()
    np.testing.assert_allclose(display.detach(), bt709_curve(linear.detach().numpy()), atol=1e-6)
    np.testing.assert_allclose(linear.grad[:2], 4.5)


@pytest.mark.parametrize(("bits", "dtype", "off_by"), [(8, np.uint8, 0.501), (16, np.uint16, 0.6)])
def test_strip_is_matrix_then_curve_then_rounding(bits, dtype, off_by):
    torch.manual_seed(0)
    camera_rgb = torch.rand(3, 250, 600) ** 4 * 1.1 - 0.01  # mostly shadows; some below 0, above 1
    before = camera_rgb.clone()
    picture = render_strip(camera_rgb, MATRIX, bits=bits)

    light = np.moveaxis(camera_rgb.numpy().clip(0, 1).astype(np.float64), 0, -1)
    srgb = (light @ MATRIX.T.astype(np.float64)).clip(0, 1)
    exact = (2**bits - 1) * bt709_curve(srgb)
    assert picture.dtype == dtype
    assert np.abs(picture - exact).max() <= off_by  # 0.5 is rounding itself
    assert torch.equal(camera_rgb, before)


def test_wide_strips_and_strips_of_a_larger_frame_render_alike():
    frame = torch.rand(3, 40, 9000)
    whole = render_strip(frame, MATRIX)
    parts = [render_strip(frame[:, row : row + 16], MATRIX) for row in range(0, 40, 16)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("seed", range(5))
def test_clipped_highlights_are_white_whatever_the_matrix(bits, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(3, 3))
    matrix[:, 2] = 1 - matrix[:, 0] - matrix[:, 1]
    clipped = torch.from_numpy(rng.uniform(1, 3, (3, 4, 6)).astype(np.float32))
    assert (render_strip(clipped, matrix.astype(np.float32), bits=bits) == 2**bits - 1).all()


@pytest.mark.parametrize(("bits", "off_by"), [(8, 1), (16, 12)])
def test_libraw_renders_the_same_file_alike(tiny_dng, bits, off_by):
    """Off by a code in 8 bits, where LibRaw truncates; in 16, its linear values are whole numbers,
    of which the toe makes 4.5 codes each."""
    rng = np.random.default_rng(3)
    colours = rng.uniform(0, 1, (6, 8, 3)) ** 3  # camera RGB before white balance
    colours[0, 0] = 1  # clipped
    colours[0, 1] = 0
    colours[0, 2] = 0.4 * np.array([0.5, 1, 0.625])  # grey
    side = 16
    light = colours.repeat(side, 0).repeat(side, 1)
    mosaic = light[..., 1].copy()
    mosaic[0::2, 0::2] = light[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = light[1::2, 1::2, 2]
    mosaic = np.rint(512 + mosaic * (16383 - 512)).astype(np.uint16)
    path = tiny_dng(mosaic, white=16383, neutral=(0.5, 1, 0.625), color_matrix=COLOR_MATRIX)
    with rawpy.imread(str(path)) as raw:
        theirs = raw.postprocess(
            demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR,
            use_camera_wb=True,
            no_auto_bright=True,
            adjust_maximum_thr=0,
            output_bps=bits,
        )

    frame = read_raw(path)
    black, white = frame.black_level[0], frame.white_level
    balanced = (torch.from_numpy(frame.mosaic.astype(np.float32)) - black) / (white - black)
    gains = torch.tensor(frame.white_balance)
    balanced[0::2, 0::2] *= gains[0]
    balanced[1::2, 1::2] *= gains[2]
    with torch.inference_mode():
        camera_rgb = Demosaic()(balanced[None, None].clamp(0, 1))[0]
    ours = render_strip(camera_rgb, frame.camera_to_srgb, bits=bits)
    centres = (slice(side // 2, None, side), slice(side // 2, None, side))
    assert len(np.unique(ours[centres])) > 50
    difference = ours[centres].astype(int) - theirs[centres].astype(int)
    assert np.abs(difference).max() <= off_by
    assert (ours[centres][0, 0] == 2**bits - 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_pillows(orientation, dtype):
    picture = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(dtype)
    tagged = Image.fromarray(picture.astype(np.uint8))
    tagged.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged))
    upright = orient(picture, orientation)
    assert upright.dtype == dtype
    assert upright.shape[:2] == upright_size(6, 10, orientation)
    np.testing.assert_array_equal(upright, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_fill_the_upright_picture(orientation):
    picture = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    upright = np.zeros((*upright_size(7, 5, orientation), 3), np.uint8)
    for first, last in ((4, 7), (0, 1), (1, 4)):
        place_strip(upright, picture[first:last], first, orientation)
    np.testing.assert_array_equal(upright, orient(picture, orientation))


def demosaic(mosaic: np.ndarray) -> np.ndarray:
    """(3, H, W)"""
    return Demosaic()(torch.from_numpy(mosaic)[None, None])[0].numpy()


def test_demosaic_keeps_flat_colours_up_to_the_border():
    colour = np.array([0.3, 1.7, -0.2], np.float32)
    mosaic = np.full((8, 12), colour[1])
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = colour[0], colour[2]
    expected = np.broadcast_to(colour[:, None, None], (3, 8, 12))
    np.testing.assert_allclose(demosaic(mosaic), expected, atol=1e-6)


def test_demosaic_of_a_ramp_is_the_ramp():
    rows, columns = np.mgrid[:10, :14].astype(np.float32)
    ramp = 0.01 * rows - 0.03 * columns + 0.5
    inside = demosaic(ramp)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(inside, np.broadcast_to(ramp[1:-1, 1:-1], (3, 8, 12)), atol=1e-6)


def test_demosaic_is_the_textbook_loop():
    mosaic = np.random.default_rng(2).normal(size=(8, 10)).astype(np.float32)
    m = np.pad(mosaic, 1, mode="reflect")  # numpy's "reflect" does not repeat the border
    expected = np.empty((3, 8, 10))
    for y, x in np.ndindex(8, 10):
        v, u = y + 1, x + 1
        here = m[v, u]
        beside, above = (m[v, u - 1] + m[v, u + 1]) / 2, (m[v - 1, u] + m[v + 1, u]) / 2
        corners = (m[v - 1, u - 1] + m[v - 1, u + 1] + m[v + 1, u - 1] + m[v + 1, u + 1]) / 4
        cross = (beside + above) / 2
        expected[:, y, x] = {
            (0, 0): (here, cross, corners),  # red
            (0, 1): (beside, here, above),  # green between reds
            (1, 0): (above, here, beside),  # green between blues
            (1, 1): (corners, cross, here),  # blue
        }[y % 2, x % 2]
    np.testing.assert_allclose(demosaic(mosaic), expected, atol=1e-6)
