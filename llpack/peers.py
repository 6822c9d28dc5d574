"""What llpack is measured against, written by us from its published description.

Only time and memory are measured on these: the U-Net has random weights.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from llpack.network import LLPackNet
from llpack.packing import CFA_PERIOD


class SeeInTheDarkNet(nn.Module):
    """The U-Net of Chen et al., "Learning to See in the Dark", CVPR 2018, section 4: the mosaic packed
    2x (4 channels), five scales of two 3x3 convolutions with 32 to 512 channels and leaky ReLU,
    max pooling down, transposed convolutions up, 12 channels shuffled to RGB. 7.76 M parameters.

    (B, 1, H, W) -> (B, 3, H, W); H and W multiples of 32.
    """

    WIDTHS = (32, 64, 128, 256, 512)

    def __init__(self):
        super().__init__()
        inputs = (4, *self.WIDTHS[:-1])
        self.down = nn.ModuleList(
            _two_convolutions(a, b) for a, b in zip(inputs, self.WIDTHS, strict=True)
        )
        pairs = list(zip(self.WIDTHS[:-1], self.WIDTHS[1:], strict=True))[::-1]
        self.widen = nn.ModuleList(
            nn.ConvTranspose2d(low, high, 2, stride=2, bias=False) for high, low in pairs
        )
        self.up = nn.ModuleList(_two_convolutions(2 * high, high) for high, _ in pairs)
        self.last = nn.Conv2d(self.WIDTHS[0], 3 * CFA_PERIOD**2, 1)

    def forward(self, mosaic: torch.Tensor) -> torch.Tensor:
        x, skipped = F.pixel_unshuffle(mosaic, CFA_PERIOD), []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            skipped.append(x)
        for widen, block, skip in zip(self.widen, self.up, skipped[-2::-1], strict=True):
            x = block(torch.cat([widen(x), skip], 1))
        return F.pixel_shuffle(self.last(x), CFA_PERIOD)


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.2),
    )


@torch.no_grad()
def plain_pipeline(network: LLPackNet, source: Path, target: Path, amplification: float) -> None:
    """The authors' way from a file to a JPEG, step by step on whole frames: rawpy, a float32 mosaic,
    the float32 network as it is, clip, uint8 by truncation, Pillow's default JPEG."""
    import rawpy
    from PIL import Image

    with rawpy.imread(str(source)) as raw:
        mosaic = raw.raw_image_visible.astype(np.float32)
        black, white = raw.black_level_per_channel[0], raw.white_level
    mosaic = np.maximum(mosaic - black, 0) / (white - black) * amplification
    picture = network(torch.from_numpy(mosaic)[None, None])
    array = np.clip(picture[0].permute(1, 2, 0).numpy(), 0, 1)
    Image.fromarray((array * 255).astype(np.uint8)).save(target)
