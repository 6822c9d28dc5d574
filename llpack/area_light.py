"""Light and colour of large areas: as the sensor measured them.

In the dark the network leaves out what it cannot tell from noise, and draws the colours that its
training photos had; shadows above all turn out too grey. But noise averages out: over an area a
hundred pixels wide the mosaic itself knows brightness and colour. So the picture's averages over such
areas are brought to the mosaic's, as far as these can be trusted; detail stays the network's.

Half of what an area lacks is added to all of its pixels, half comes by a factor. The factor alone gives
a grey shadow no hue that it has nothing of, the sum alone tints the black beside a coloured thing.

Everything is in linear, white-balanced camera RGB, on the 1/16 grid: (3, rows, columns) are averages
of the red, green and blue sites of 16x16 blocks.
"""

import functools
import threading

import numpy as np
import torch
from torch.nn import functional as F

from llpack.banding import pixel_noise
from llpack.packing import CFA_PERIOD, STRIDE
from llpack.raw import RawFrame
from llpack.sensor_noise import FULL_SCALE

# Blocks on either side over which light is averaged, with falling weights: a standard deviation of two
# blocks, 32 pixels. With 2 or 6 blocks scores are hardly different.
SMOOTHING = 4
REACH = SMOOTHING + 1  # rows of the grid on either side that a row's correction depends on
_WEIGHTS = 1.0 + SMOOTHING - torch.arange(-SMOOTHING, SMOOTHING + 1).abs()
_WEIGHTS /= _WEIGHTS.sum()

# A measured average is in doubt by twice its noise, and by what black levels are off as files state
# them (ELD measured 0 to 5 DN of 14 bits). Both numbers were chosen on seven photos never trained on,
# three of which are not scored either.
_NOISE_SHARE = 2.0
_BLACK_DOUBT = 0.4 / FULL_SCALE
_DARKEST = 0.002  # light below which the network's colour is not multiplied much
_FACTORS = 0.4, 4.0  # never beyond these


def doubt(frame: RawFrame, amplification: float) -> torch.Tensor:
    """(3,): by how much an area's measured red, green and blue may be wrong, after amplification."""
    full_scale = frame.white_level - min(frame.black_level)
    red, green1, green2, blue = pixel_noise(frame) / full_scale
    pixels = np.array([red, np.hypot(green1, green2) / 2, blue])
    blocks = (_WEIGHTS**2).sum().item()  # both ways: the variance of a weighted sum
    noise = _NOISE_SHARE * pixels * blocks / (STRIDE / CFA_PERIOD)
    gains = amplification * np.asarray(frame.white_balance)
    return torch.from_numpy(gains * np.hypot(noise, _BLACK_DOUBT)).float()


class AreaLight:
    """Light of one frame by areas, as its strips are measured and drawn, by any threads."""

    def __init__(self, rows: int, columns: int, doubt: torch.Tensor):
        self._down, self._across = _smoothing(rows), _smoothing(columns).T
        # Red, green and blue as measured, and as drawn, both averaged across already.
        self._light = torch.zeros(6, rows, columns + 2)
        self._is_drawn = bytearray(rows)
        self._doubt = doubt
        self._lock = threading.Lock()

    def measure(self, first: int, last: int, mosaic: torch.Tensor) -> None:
        """Note the light of some rows' mosaic, (1, 1, h, W)."""
        # The picture ends at 1, so nothing above is missing.
        self._light[:3, first:last] = _mosaic_averages(mosaic).clamp_(max=1) @ self._across

    def draw(self, first: int, last: int, averages: torch.Tensor) -> None:
        """Note what the network made of some rows: `picture_averages`, within 0..1."""
        averages = averages @ self._across
        with self._lock:
            self._light[3:, first:last] = averages
            self._is_drawn[first:last] = b"\1" * (last - first)

    def known(self, first: int, last: int) -> bool:
        """Whether everything has been drawn that the correction of these rows depends on."""
        with self._lock:
            return all(self._is_drawn[max(0, first - REACH) : last + REACH])

    def correction(self, first: int, last: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Factor of the light of each block of p x p pixels, and light to add to it after that: two of
        (h/p, W/p, 3); p is `side`."""
        near = slice(max(0, first - REACH), last + REACH)
        measured, drawn = (self._down[first : last + 2, near] @ self._light[:, near]).split(3)
        missing = measured - drawn
        # Wiener's rule: what is small beside the doubt is left out.
        power = missing**2
        half = 0.5 * missing * power / (power + self._doubt.view(3, 1, 1) ** 2 + 1e-12)
        factors = ((drawn + half + _DARKEST) / (drawn + _DARKEST)).clamp_(*_FACTORS)
        blocks = STRIDE // side
        both = torch.cat([factors, half])[None]
        fine = F.interpolate(both, scale_factor=blocks, mode="bilinear")[0]
        return fine[:, blocks:-blocks, blocks:-blocks].permute(1, 2, 0).split(3, dim=2)


def _smoothing(length: int) -> torch.Tensor:
    """(length + 2, length): averages around each position and one more at either end, as a matrix.

    Beyond the frame its outermost blocks go on.
    """
    matrix = torch.zeros(length + 2, length)
    centres = torch.arange(-1, length + 1)
    for distance, weight in enumerate(_WEIGHTS, -SMOOTHING):
        matrix[torch.arange(length + 2), (centres + distance).clamp(0, length - 1)] += weight
    return matrix


def _mosaic_averages(mosaic: torch.Tensor) -> torch.Tensor:
    """(3, rows, columns) of a mosaic (1, 1, h, W)."""
    rows, columns = mosaic.shape[2] // STRIDE, mosaic.shape[3] // STRIDE
    cells = STRIDE // CFA_PERIOD
    # Whole rows first: long contiguous additions.
    sums = mosaic.view(rows, cells, CFA_PERIOD, -1).sum(1)
    sums = sums.view(rows, CFA_PERIOD, columns, cells, CFA_PERIOD).sum(3)  # one for each CFA site
    red, blue = sums[:, 0, :, 0], sums[:, 1, :, 1]
    green = (sums[:, 0, :, 1] + sums[:, 1, :, 0]) / 2
    return torch.stack([red, green, blue]) / cells**2


def picture_averages(light: torch.Tensor) -> torch.Tensor:
    """(3, rows, columns) of a picture (h/p, W/p, p, p, 3)."""
    height, width, factor = light.shape[:3]
    blocks = STRIDE // factor
    averages = light.view(height * width // blocks, -1) @ _colour_sites(factor)
    return averages.view(height // blocks, blocks, -1, 3).sum(1).permute(2, 0, 1)


@functools.cache
def _colour_sites(factor: int) -> torch.Tensor:
    """(STRIDE * p * 3, 3): averages the pixels of one row of blocks within a 16x16 block where the
    mosaic has the same colour. The row's share of the block's averages, to be summed up."""
    blocks = STRIDE // factor
    sites = torch.zeros(blocks, factor, factor, 3, 3)
    sites[:, 0::2, 0::2, 0, 0] = 4
    sites[:, 0::2, 1::2, 1, 1] = sites[:, 1::2, 0::2, 1, 1] = 2
    sites[:, 1::2, 1::2, 2, 2] = 4
    return sites.view(-1, 3) / STRIDE**2
