"""From camera RGB to a picture: matrix, display curve, orientation; and a plain demosaic.

The display curve is the one LibRaw applies by default, so that our pictures are comparable with its
own: BT.709's shape, with constants solved so that toe and power law meet without a kink.
"""

import numpy as np
import torch
import torch.nn.functional as F

from llpack.packing import CFA_PERIOD, split_cfa

BT709_POWER = 1 / 2.222  # rawpy's default gamma=(2.222, 4.5)
BT709_TOE_SLOPE = 4.5


def _toe_end(power: float, slope: float) -> float:
    """Linear value up to which the curve is a straight line.

    There (1 + offset) * x**power - offset has both the value and the slope of the line
    slope * x: offset = slope * x * (1 / power - 1), and slope / power = (1 + offset) * x**(power -
    1). LibRaw (src/utils/curves.cpp, gamma_curve, from dcraw) bisects the same equations for the
    line's end on the display side, its g[2]; here are its g[3] (the toe) and g[4] (the offset).
    """
    low, high = 0.0, 0.1
    for _ in range(60):
        middle = (low + high) / 2
        offset = slope * middle * (1 / power - 1)
        if (1 + offset) * middle ** (power - 1) > slope / power:
            low = middle
        else:
            high = middle
    return high


BT709_TOE = _toe_end(BT709_POWER, BT709_TOE_SLOPE)  # 0.018050, linear
BT709_OFFSET = BT709_TOE_SLOPE * BT709_TOE * (1 / BT709_POWER - 1)  # 0.099258
_TOE_CODE = BT709_TOE_SLOPE * BT709_TOE  # 0.081226, display value at the end of the toe

_CODE_TYPES = {8: torch.uint8, 16: torch.uint16}  # bits -> type of a picture's codes

# Pixels rendered at once: their float32 RGB stays in the cache from the matrix to the rounding.
_BLOCK_PIXELS = 1 << 17

# EXIF orientation -> how the sensor's picture becomes upright: its rows reversed, its columns
# reversed, and then both exchanged (Exif 2.3, tag 274).
_UPRIGHT = {
    1: (False, False, False),
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}


def bt709_curve(linear):
    """Linear light 0..1 -> display value 0..1, numpy array or torch tensor (differentiable).

    Not clipped: the toe goes on below 0, the power law above 1.
    """
    bright = (1 + BT709_OFFSET) * linear.clip(min=BT709_TOE) ** BT709_POWER
    return bright + BT709_TOE_SLOPE * linear.clip(max=BT709_TOE) - (BT709_OFFSET + _TOE_CODE)


def bt709_linear(display):
    """Inverse of `bt709_curve`."""
    bright = ((display.clip(min=_TOE_CODE) + BT709_OFFSET) / (1 + BT709_OFFSET)) ** (1 / BT709_POWER)
    return bright + display.clip(max=_TOE_CODE) / BT709_TOE_SLOPE - BT709_TOE


def render_strip(camera_rgb: torch.Tensor, camera_to_srgb: np.ndarray, *, bits: int = 8) -> np.ndarray:
    """Picture (h, w, 3) of linear white-balanced camera RGB: uint8 for 8 bits, uint16 for 16.

    Camera RGB is clipped to 0..1 before the matrix, whose rows sum to 1: clipped highlights end
    white. 8-bit codes are rounded where LibRaw truncates.

    Parameters
    ----------
    camera_rgb : float32, shape = (3, h, w); left as it is
    camera_to_srgb : shape = (3, 3)
    """
    # 2848x4256 in strips of 256 rows on two idle cores: 0.08 s. Tried in its place: the curve as a
    # table indexed by the square root (index_select), 2.5 times as long in all; torch.pow, 0.04 s
    # more; no blocks: the matrix alone takes five times as long on 1024 rows at once.
    height, width = camera_rgb.shape[1:]
    matrix = _curve_scale(bits) * torch.as_tensor(camera_to_srgb, dtype=torch.float32)
    picture = torch.empty(height, width, 3, dtype=_CODE_TYPES[bits])
    rows = max(1, _BLOCK_PIXELS // width)
    for first in range(0, height, rows):
        clipped = camera_rgb[:, first : first + rows].clamp(0, 1).flatten(1)  # (3, pixels)
        values = matrix @ clipped
        codes = _display_codes(values, torch.empty_like(values), bits)
        torch.stack(codes.unbind(), dim=1, out=picture[first : first + rows].view(-1, 3))
    return picture.numpy()


def render_packed(
    light: torch.Tensor,
    camera_to_srgb: np.ndarray,
    correction: tuple[torch.Tensor, torch.Tensor],
    *,
    bits: int = 8,
) -> np.ndarray:
    """Picture (h, w, 3) of linear white-balanced camera RGB that is still packed.

    Same formulas as `render_strip`, but the pixels are moved to their places as finished bytes, not
    as floats.

    Parameters
    ----------
    light : float32, within 0..1, shape = (h/p, w/p, p, p, 3), contiguous
    correction : factor of the light of each block of p x p pixels, and light to add then, each of
        shape (h/p, w/p, 3)
    """
    matrix = _curve_scale(bits) * torch.as_tensor(camera_to_srgb, dtype=torch.float32).T
    codes = torch.empty(light.shape, dtype=_CODE_TYPES[bits])
    factor = light.shape[2]
    # Products with matrices as small as 3x3 are slow: whole rows of a block have theirs in one, and
    # the same values for all pixels of a block are a product, too.
    row_matrix = torch.block_diag(*[matrix] * factor)
    every_pixel = torch.eye(3).repeat(1, factor**2)
    blocks, code_blocks = light.flatten(0, 1).flatten(1), codes.flatten(0, 1).flatten(1)
    factors, added = (values.flatten(0, 1) for values in correction)
    count = _BLOCK_PIXELS // factor**2
    # The same memory for every part: on one thread a tenth of the time less than with new one.
    rooms = torch.empty(3, min(count, len(blocks)), blocks.shape[1])
    for first in range(0, len(blocks), count):
        some = slice(first, first + count)
        block, srgb, toe = (room[: len(blocks[some])] for room in rooms)
        torch.mm(factors[some], every_pixel, out=block).mul_(blocks[some])
        block.addmm_(added[some], every_pixel).clamp_(0, 1)
        torch.mm(block.view(-1, 3 * factor), row_matrix, out=srgb.view(-1, 3 * factor))
        code_blocks[some] = _display_codes(srgb, toe, bits)
    return unpack_codes(codes)


def unpack_codes(codes: torch.Tensor) -> np.ndarray:
    """UnPack of finished pixels: (h/p, w/p, p, p, 3) uint8 or uint16 -> (h, w, 3)."""
    rows, columns, factor = codes.shape[:3]
    # A block's row of pixels as whole words: 12 bytes or more move at once.
    words = codes.view(rows, columns, factor, 3 * factor).view(torch.int32)
    picture = words.transpose(1, 2).contiguous()  # (h/p, p, w/p, words)
    return picture.view(codes.dtype).view(rows * factor, columns * factor, 3).numpy()


def to_codes(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Values from 0 to under 2**bits, cut to whole numbers: uint8 or uint16."""
    if bits == 8:
        values = values.short()  # on the way to bytes: a third of the time
    return values.to(_CODE_TYPES[bits])


def _curve_scale(bits: int) -> float:
    """Scale of light whose power law gives codes, so that `_display_codes` needs no factor."""
    return ((2**bits - 1) * (1 + BT709_OFFSET)) ** (1 / BT709_POWER)


def _display_codes(light: torch.Tensor, toe: torch.Tensor, bits: int) -> torch.Tensor:
    """(2**bits - 1) * bt709_curve(light clipped to 0..1), rounded.

    `light` comes multiplied by `_curve_scale`; it and `toe`, of the same shape, are overwritten. The
    power as exp(power * log): half of the time of pow.
    """
    top, scale = 2**bits - 1, _curve_scale(bits)
    torch.clamp(light, 0, scale * BT709_TOE, out=toe)
    light.clamp_(scale * BT709_TOE, scale).log_().mul_(BT709_POWER).exp_()
    light.add_(toe, alpha=top * BT709_TOE_SLOPE / scale)
    return to_codes(light.add_(0.5 - top * (BT709_OFFSET + _TOE_CODE)), bits)


def upright_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Height and width of a height x width sensor picture when it is shown upright."""
    return (width, height) if _UPRIGHT[orientation][2] else (height, width)


def place_strip(destination: np.ndarray, strip: np.ndarray, first_row: int, orientation: int) -> None:
    """Write rows of the sensor's picture, from `first_row` on, to their place in the upright one.

    destination : (H, W, 3), upright (see `upright_size`), C-contiguous, of the strip's type
    strip : (h, w, 3), in the sensor's order
    """
    rows_reversed, columns_reversed, transposed = _UPRIGHT[orientation]
    # torch, because numpy moves pixels of three values one by one: 0.04 s instead of 0.17 s for a
    # frame of 12 MP on its side. As int16, because torch has few operations for uint16.
    storage = {np.dtype(np.uint8): np.uint8, np.dtype(np.uint16): np.int16}[strip.dtype]
    target = torch.from_numpy(destination.view(storage))
    source = torch.from_numpy(strip.view(storage))
    if transposed:
        target = target.transpose(0, 1)
    if rows_reversed:
        first_row = target.shape[0] - first_row - strip.shape[0]
    axes = [axis for axis, flip in enumerate((rows_reversed, columns_reversed)) if flip]
    target[first_row : first_row + strip.shape[0]] = source.flip(axes) if axes else source


def orient(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The upright copy of a whole picture (H, W, 3) in the sensor's order."""
    height, width = upright_size(*picture.shape[:2], orientation)
    upright = np.empty((height, width, 3), picture.dtype)
    place_strip(upright, picture, 0, orientation)
    return upright


class Demosaic(torch.nn.Module):
    """Bilinear demosaic of an RGGB mosaic, (B, 1, H, W) -> (B, 3, H, W), for plain amplification.

    A missing colour is the mean of its nearest samples. Linear, nothing is clipped; at the borders
    the mosaic is mirrored about its outermost rows and columns. H and W must be even.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", _bilinear_kernel(), persistent=False)

    def forward(self, mosaic: torch.Tensor) -> torch.Tensor:
        # Repeating the outermost CFA cell mirrors the mosaic: the row beyond row 0 is row 1.
        cells = F.pad(split_cfa(mosaic), (1, 1, 1, 1), mode="replicate")  # (B, 4, H/2 + 2, W/2 + 2)
        return F.pixel_shuffle(F.conv2d(cells, self.kernel), CFA_PERIOD)  # (B, 3, H, W)


def _bilinear_kernel() -> torch.Tensor:
    """(12, 4, 3, 3): the planes R, G1, G2, B around a CFA cell -> RGB at the cell's four sites.

    Output channels in the order of a pixel shuffle: colour, row in the cell, column in the cell.
    """
    cfa = ((0, 1), (1, 2))  # colour of each site: 0 red, 1 green, 2 blue
    kernel = torch.zeros(3, CFA_PERIOD, CFA_PERIOD, 2 * CFA_PERIOD, 3, 3)
    near = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    for colour, row, column in np.ndindex(3, CFA_PERIOD, CFA_PERIOD):
        samples: dict[int, list[tuple[int, int]]] = {}  # squared distance -> sites of this colour
        for down, right in near:
            if cfa[(row + down) % CFA_PERIOD][(column + right) % CFA_PERIOD] == colour:
                site = (row + down, column + right)
                samples.setdefault(down**2 + right**2, []).append(site)
        nearest = samples[min(samples)]
        for y, x in nearest:
            plane = y % CFA_PERIOD * CFA_PERIOD + x % CFA_PERIOD
            tap = (y // CFA_PERIOD + 1, x // CFA_PERIOD + 1)
            kernel[colour, row, column, plane][tap] = 1 / len(nearest)
    return kernel.reshape(12, 4, 3, 3)
