"""Amplification: the factor that brings a dark mosaic to normal brightness, and how to choose it.

The paper's way: a histogram of the mosaic with 63 bins, finer towards black, and a small network
that reads the factor off it (Lamba et al., BMVC 2020, section 3.3). Ours predicts the logarithm of
the factor, which errs in stops as photographers count, and has a ReLU between its two layers.
"""

import numpy as np
import torch
from torch import nn

from llpack.raw import RawFrame

# After amplification and white balance, values outside this range are cut: at 2 everything is white
# whatever the noise says, and at -1 nothing but noise is left.
VALUE_RANGE = (-1.0, 2.0)

AMPLIFICATION_RANGE = (1.0, 1000.0)

BINS = 63
# The authors' edges (train.py of 2020): 64 of them from 0 to 1, the first bin 6 DN of 14 bit wide.
EDGES = (2.0 ** np.linspace(0, 8, BINS + 1) - 1) / 255
_HIDDEN = 128
_SAMPLED_CELLS = 400_000  # CFA cells that a histogram looks at; more change no bin visibly


def histogram(frame: RawFrame) -> np.ndarray:
    """(63,) float32: the share of the mosaic's values in each bin, before any amplification.

    Values are (mosaic - black) / (white - black), cut to 0..1; large mosaics are sampled on a
    regular grid of CFA cells.
    """
    step = max(1, int((frame.mosaic.size / 4 / _SAMPLED_CELLS) ** 0.5))
    shares = np.zeros(BINS, np.float32)
    for position, black in enumerate(frame.black_level):
        plane = frame.mosaic[position // 2 :: 2 * step, position % 2 :: 2 * step]
        values = (plane.astype(np.float32) - black) / (frame.white_level - black)
        shares += bin_shares(values) / 4
    return shares


def bin_shares(values: np.ndarray) -> np.ndarray:
    """(63,) float32: the share of `values` (any shape, in units of the full scale) in each bin."""
    # The inverse of EDGES is a logarithm; one is quicker than a search through 64 edges.
    place = np.log2(np.clip(values, 0, 1) * 255 + 1) * (BINS / 8)
    counts = np.bincount(np.minimum(place.astype(np.int32), BINS - 1).ravel(), minlength=BINS)
    return (counts / values.size).astype(np.float32)


class Amplifier(nn.Module):
    """(B, 63) histograms -> (B,) logarithm to base 2 of the amplification.

    Sees the square roots of the shares, so that a few bright lamps still count.
    """

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(BINS, _HIDDEN)
        self.stops = nn.Linear(_HIDDEN, 1)

    def forward(self, shares: torch.Tensor) -> torch.Tensor:
        return self.stops(torch.relu(self.hidden(shares.sqrt())))[:, 0]

    @torch.inference_mode()
    def estimate(self, frame: RawFrame) -> float:
        """Amplification for a frame, within 1..1000."""
        shares = torch.from_numpy(histogram(frame))[None]
        return float(np.clip(2.0 ** self(shares).item(), *AMPLIFICATION_RANGE))


def amplify(
    frame: RawFrame,
    amplification: float,
    rows: slice,
    *,
    row_offsets: np.ndarray | None = None,
    balanced: bool = True,
    value_range: tuple[float, float] = VALUE_RANGE,
) -> torch.Tensor:
    """(1, 1, h, W) float32: some rows of the mosaic, amplified and white-balanced.

    Black becomes 0, a clipped sensor at amplification 1 at least 1; values below black stay
    negative. `rows` starts on an even row; `row_offsets` (H,) in DN, see `banding`, is taken off
    first. The authors' own weights want the mosaic not `balanced` and cut at black, but open above.
    """
    red, green, blue = frame.white_balance if balanced else (1.0, 1.0, 1.0)
    gains = (red, green, green, blue)
    scales = [
        amplification * gain / (frame.white_level - black)
        for gain, black in zip(gains, frame.black_level, strict=True)
    ]
    offsets = [-black * scale for black, scale in zip(frame.black_level, scales, strict=True)]
    mosaic = torch.from_numpy(frame.mosaic[rows]).to(torch.float32)
    if row_offsets is not None:
        mosaic -= torch.from_numpy(row_offsets[rows])[:, None]
    for parity in (0, 1):
        cells = slice(2 * parity, 2 * parity + 2)  # positions of this row in a CFA cell
        scale = torch.tensor(scales[cells]).repeat(frame.width // 2)
        offset = torch.tensor(offsets[cells]).repeat(frame.width // 2)
        kind = mosaic[parity::2]
        torch.addcmul(offset, kind, scale, out=kind)
    return mosaic.clamp_(*value_range)[None, None]
