"""The network as it runs on a CPU: same weights, same results as `network`, less memory traffic.

Three changes to the computation, none to the function: the four heads are one grouped convolution,
a dense block writes each layer into one buffer instead of concatenating six times, and UnPack's
reordering is folded into the rows of the last layer. The work is cut into two halves, so that a
frame can be restored in strips: `look` at 1/16 of the resolution, where nearly all of the receptive
field is, and `draw` from there to the picture.
"""

import threading

import torch
from torch.nn import functional as F

from llpack.network import (
    DENSE_LAYERS,
    DETAIL_PACK,
    GROWTH,
    DenseBlock,
    DetailNet,
    LLPackNet,
    compress,
)
from llpack.packing import CFA_PERIOD, PACK, pack, unpack_order

# Rows of the 1/16 grid that each half needs beyond its own on either side to be exact: one for every
# 3x3 convolution at that scale. `draw` has seven at H/8 (four rows of the grid) and, with the detail
# path, three at H/4 on top, which see less than one row more.
LOOK_HALO = 1 + 3 * DENSE_LAYERS
DRAW_HALO = 5


class Inference:
    """LLPackNet or DetailNet, folded and laid out for speed, in float32 or bfloat16."""

    def __init__(self, network: LLPackNet, precision: torch.dtype = torch.float32):
        self.precision = precision
        self.activate = network.activate
        heads = (network.RDBr, network.RDBg1, network.RDBg2, network.RDBb)
        self._heads = self._laid_out(torch.cat([head.weight for head in heads]))
        self._heads_bias = self._laid_out(torch.cat([head.bias for head in heads]))
        self._squeeze = self._laid_out(network.before_identity.weight)
        self._blocks = [_Dense(block, self) for block in (network.RDB1, network.RDB2, network.RDB3)]
        self._after = self._laid_out(network.after_rdb.weight)
        self._last_block = _Dense(network.final[1], self)
        detailed = isinstance(network, DetailNet)
        order = _two_step_order() if detailed else unpack_order()
        self._last = self._laid_out(network.final[2].weight[order])
        self._last_bias = self._laid_out(network.final[2].bias[order])
        self._detail = _Detail(network, self) if detailed else None

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().to(self.precision)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def look(self, mosaic: torch.Tensor) -> torch.Tensor:
        """(1, 1, h, W) amplified mosaic -> (1, 64, h/16, W/16); h and W multiples of 16."""
        planes = pack(pack(mosaic.to(self.precision), CFA_PERIOD), PACK)  # (1, 256, h/16, W/16)
        planes = planes.contiguous(memory_format=torch.channels_last)
        low = F.conv2d(planes, self._heads, self._heads_bias, padding=1, groups=4).relu_()
        low = F.conv2d(low, self._squeeze)
        outputs, x = [], low
        for block in self._blocks:
            x = block.fuse(block.dense(x), x)
            outputs.append(x)
        return F.conv2d(torch.cat(outputs, 1), self._after).add_(low)

    def draw(self, low: torch.Tensor, mosaic: torch.Tensor) -> torch.Tensor:
        """The picture of a strip, (1, 3, h, W) in 0..1: `look`'s rows and the mosaic's rows."""
        x = F.pixel_shuffle(low, 2).contiguous(memory_format=torch.channels_last)
        features = self._last_block.dense(x)
        fused = self._last_block.fuse(features, x)
        packed = F.conv2d(fused, self._last, self._last_bias, padding=1)
        if self._detail is None:
            return F.pixel_shuffle(self.activate(packed), PACK)
        # Both corrections meet at H/4, where adding them costs no reshuffling of its own.
        picture = F.pixel_shuffle(self.activate(packed), PACK // DETAIL_PACK)
        picture = self._detail.add_to(picture, mosaic.to(self.precision), features)
        return F.pixel_shuffle(picture, DETAIL_PACK)

    def __call__(self, mosaic: torch.Tensor) -> torch.Tensor:
        """A whole mosaic at once; both sides multiples of 16."""
        return self.draw(self.look(mosaic), mosaic)


def _two_step_order() -> torch.Tensor:
    """Rows of the last layer in the order that shuffling 2x and then 4x turns into UnPack."""
    coarse = PACK // DETAIL_PACK
    channels = torch.arange(3 * PACK**2).reshape(coarse, DETAIL_PACK, coarse, DETAIL_PACK, 3)
    return channels.permute(4, 1, 3, 0, 2).reshape(-1)


class _Dense:
    """A dense block with one buffer for all its features, kept from strip to strip.

    Each thread has its own, since threads draw different strips at the same time.
    """

    def __init__(self, block: DenseBlock, owner: Inference):
        self._layers = [owner._laid_out(layer.conv.weight) for layer in block.dense_layers]
        self._fuse = owner._laid_out(block.conv_1x1.weight)
        self._kept = threading.local()

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        shape = (1, channels + GROWTH * DENSE_LAYERS, *x.shape[2:])
        features = getattr(self._kept, "buffer", None)
        if features is None or features.shape != shape:
            features = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
            self._kept.buffer = features
        features[:, :channels] = x
        for weight in self._layers:
            grown = F.conv2d(features[:, :channels], weight, padding=1)
            torch.relu_(grown)
            features[:, channels : channels + GROWTH] = grown
            channels += GROWTH
        return features

    def fuse(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(features, self._fuse).add_(x)


class _Detail:
    """The detail path; the last layer's rows are reordered so that colours lie side by side."""

    def __init__(self, network: DetailNet, owner: Inference):
        self._guide = owner._laid_out(network.guide.weight)
        self._guide_bias = owner._laid_out(network.guide.bias)
        self._layers = [
            (owner._laid_out(layer.weight), owner._laid_out(layer.bias))
            for layer in network.detail
            if isinstance(layer, torch.nn.Conv2d)
        ]

    def add_to(self, picture, mosaic, features) -> torch.Tensor:
        """Adds the detail of `mosaic` to `picture` (1, 48, h/4, W/4), colour first."""
        guide = F.pixel_shuffle(F.conv2d(features, self._guide, self._guide_bias), 2)
        x = torch.cat([guide, pack(compress(mosaic), DETAIL_PACK)], 1)
        x = x.contiguous(memory_format=torch.channels_last)
        for weight, bias in self._layers[:-1]:
            x = F.conv2d(x, weight, bias, padding=1).relu_()
        weight, bias = self._layers[-1]
        return F.conv2d(x, weight, bias, padding=1).add_(picture)


def strip_bounds(height: int, rows: int) -> list[tuple[int, int]]:
    """Even cuts of `height` (in rows of the 1/16 grid) into strips of at most `rows`."""
    count = -(-height // rows)
    edges = [height * i // count for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def with_halo(first: int, last: int, height: int, halo: int) -> tuple[int, int]:
    return max(0, first - halo), min(height, last + halo)
