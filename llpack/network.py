"""LLPackNet, and the detail path that this package adds to it.

`LLPackNet` is the authors' network of 2022 (Lamba, Balaji, Mitra, BMVC 2020; layer by layer the same
as their released code, MIT licence), with plain convolutions: their weight norm is folded into the
weights of a checkpoint (see `weights`) and exists only while training (see `training`).

`DetailNet` is LLPackNet plus a detail path of our own. LLPackNet squeezes the 256 pixels behind one
low-resolution position into 64 numbers, so fine texture is gone before the first dense block. The
detail path looks at the mosaic once more, packed only 4x, guided by the dense features, and adds what
is missing. Everything of LLPackNet keeps its name, so its weights are a subset of DetailNet's.

Letters: B batch, H and W height and width of the mosaic. Channel counts are the authors'.
"""

import torch
from torch import nn
from torch.nn import functional as F

from llpack.packing import CFA_PERIOD, PACK, pack, pad_to_stride, split_cfa, unpack

GROWTH = 32  # channels that each layer of a dense block adds
DENSE_LAYERS = 6
DETAIL_PACK = 4
DETAIL_WIDTH = 32
COMPRESSION = 0.02  # below about this much light `compress` is linear


def _conv3(inputs: int, outputs: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class _DenseLayer(nn.Module):
    def __init__(self, inputs: int):
        super().__init__()
        self.conv = _conv3(inputs, GROWTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, F.relu(self.conv(x))], 1)


class DenseBlock(nn.Module):
    """The authors' residual dense block ("RDB"): six layers that each see all before them."""

    def __init__(self, channels: int):
        super().__init__()
        widths = [channels + i * GROWTH for i in range(DENSE_LAYERS)]
        self.dense_layers = nn.ModuleList(_DenseLayer(width) for width in widths)
        self.conv_1x1 = nn.Conv2d(channels + DENSE_LAYERS * GROWTH, channels, 1, bias=False)

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) -> (B, channels + 192, h, w), all features side by side."""
        for layer in self.dense_layers:
            x = layer(x)
        return x

    def fuse(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.conv_1x1(features) + x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fuse(self.dense(x), x)


class LLPackNet(nn.Module):
    """The paper's network: (B, 1, H, W) amplified RGGB mosaic -> (B, 3, H, W) picture in 0..1.

    H and W are even and at least 64; other sizes than multiples of 16 are padded and cropped inside.
    `output` is "sigmoid" (2022, and our own weights) or "relu" (the authors' checkpoints of 2020).
    Module names are the authors' of 2020, so that their checkpoints load by name.
    """

    def __init__(self, output: str = "sigmoid"):
        super().__init__()
        self.output = output
        plane = PACK**2
        self.RDBr, self.RDBg1, self.RDBg2, self.RDBb = (
            _conv3(plane, plane, bias=True) for _ in range(4)
        )
        self.before_identity = nn.Conv2d(4 * plane, plane, 1, bias=False)
        self.RDB1, self.RDB2, self.RDB3 = (DenseBlock(plane) for _ in range(3))
        self.after_rdb = nn.Conv2d(3 * plane, plane, 1, bias=False)
        self.final = nn.Sequential(
            nn.PixelShuffle(2),  # H/16 -> H/8
            DenseBlock(plane // 4),
            _conv3(plane // 4, 3 * PACK**2, bias=True),
        )

    def forward(self, mosaic: torch.Tensor) -> torch.Tensor:
        height, width = mosaic.shape[-2:]
        _, _, packed_picture = self.trunk(pad_to_stride(mosaic))
        return unpack(self.activate(packed_picture))[..., :height, :width]

    def trunk(self, mosaic: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Everything up to UnPack and the output non-linearity.

        Returns the dense features (B, 208, H/8, W/8), the 16 channels fused from them and the
        packed picture (B, 192, H/8, W/8).
        """
        low = self.before_identity(self.heads(mosaic))  # (B, 64, H/16, W/16)
        first = self.RDB1(low)
        second = self.RDB2(first)
        third = self.RDB3(second)
        low = self.after_rdb(torch.cat([first, second, third], 1)) + low
        x = self.final[0](low)  # (B, 16, H/8, W/8)
        features = self.final[1].dense(x)  # (B, 208, H/8, W/8)
        fused = self.final[1].fuse(features, x)
        return features, fused, self.final[2](fused)

    def heads(self, mosaic: torch.Tensor) -> torch.Tensor:
        """One convolution for each colour plane, side by side: (B, 256, H/16, W/16)."""
        planes = split_cfa(mosaic).split(1, 1)
        convs = (self.RDBr, self.RDBg1, self.RDBg2, self.RDBb)
        return torch.cat(
            [F.relu(conv(pack(plane))) for conv, plane in zip(convs, planes, strict=True)], 1
        )

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x) if self.output == "sigmoid" else F.relu(x)


class DetailNet(LLPackNet):
    """LLPackNet and a detail path at a quarter of the resolution: same input, same output.

    The dense features of the last block say what lies where (192 + 16 channels, one 1x1
    convolution); the mosaic, packed 4x and roughly as the eye weighs it, says what exactly. Three
    convolutions turn both into a correction of every pixel, zero before training.
    """

    def __init__(self):
        super().__init__("sigmoid")
        cells = DETAIL_PACK**2
        features = PACK**2 // 4 + DENSE_LAYERS * GROWTH
        self.guide = nn.Conv2d(features, cells * (PACK // DETAIL_PACK) ** 2, 1)
        self.detail = nn.Sequential(
            _conv3(2 * cells, DETAIL_WIDTH, bias=True),
            nn.ReLU(),
            _conv3(DETAIL_WIDTH, DETAIL_WIDTH, bias=True),
            nn.ReLU(),
            _conv3(DETAIL_WIDTH, 3 * cells, bias=True),
        )
        nn.init.zeros_(self.detail[-1].weight)
        nn.init.zeros_(self.detail[-1].bias)

    def forward(self, mosaic: torch.Tensor) -> torch.Tensor:
        return self.both(mosaic)[1]

    def both(self, mosaic: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """LLPackNet's own picture and the one with the detail added (unclipped), for training."""
        height, width = mosaic.shape[-2:]
        mosaic = pad_to_stride(mosaic)
        features, _, packed_picture = self.trunk(mosaic)
        plain = unpack(self.activate(packed_picture))
        picture = plain + F.pixel_shuffle(self.correction(mosaic, features), DETAIL_PACK)
        return plain[..., :height, :width], picture[..., :height, :width]

    def correction(self, mosaic: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, 48, H/4, W/4): what the detail path adds, packed 4x, colour first."""
        guide = F.pixel_shuffle(self.guide(features), PACK // DETAIL_PACK)  # (B, 16, H/4, W/4)
        seen = pack(compress(mosaic), DETAIL_PACK)  # (B, 16, H/4, W/4)
        return self.detail(torch.cat([guide, seen], 1))


def ranged_layers(network: LLPackNet) -> dict[str, int]:
    """Names and input channels of the convolutions whose inputs become codes in 8-bit integers
    (see `quantised`): a dense block's last one sees all that the others do.
    """
    names = [f"{block}.conv_1x1" for block in ("RDB1", "RDB2", "RDB3", "final.1")] + ["final.2"]
    if isinstance(network, DetailNet):
        names += ["detail.0", "detail.2", "detail.4"]
    return {name: network.get_submodule(name).in_channels for name in names}


def compress(mosaic: torch.Tensor) -> torch.Tensor:
    """Signed, smooth stand-in for a square root: light roughly as the eye weighs it.

    Close to sqrt(x) where there is light and linear around zero, where a square root would blow up
    the noise; negative values stay negative, so that noise still averages out.
    """
    return mosaic * torch.rsqrt(mosaic.abs() + COMPRESSION)


def multiply_adds(network: LLPackNet, height: int, width: int) -> int:
    """Multiply-adds of all convolutions for one mosaic of `height` x `width` (no additions, no ReLU).

    Sizes are rounded up to the stride, as the network pads them.
    """
    total = 0
    padded = pad_to_stride(torch.empty(1, 1, height, width, device="meta"))
    pixels = padded.shape[-2] * padded.shape[-1]
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            total += module.weight.numel() * pixels // _pixels_per_position(name)
    return total


def _pixels_per_position(name: str) -> int:
    """Mosaic pixels behind one output position of the convolution `name`."""
    if name.startswith("detail."):
        return DETAIL_PACK**2
    if name.startswith(("final.", "guide")):
        return PACK**2
    return (CFA_PERIOD * PACK) ** 2
