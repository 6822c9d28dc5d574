"""The network as it runs on a CPU: same weights, same results as `network`, less memory traffic.

Three changes to the computation, none to the function: the four heads are one grouped convolution,
a dense block writes each layer into one buffer instead of concatenating six times, and the picture
stays packed, in the memory order of the last convolution, until it has been rendered to bytes. The
work is cut into four steps, so that a frame can be restored in strips, each as tall as suits it:
`take` packs the mosaic, `look` is the body of the network at 1/16 of the resolution, where nearly all
of the receptive field is, `widen` goes to 1/8, and `draw` from there to the picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

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
from llpack.packing import CFA_PERIOD, PACK, STRIDE
from llpack.strips import with_halo

# Rows of the 1/16 grid that each step needs beyond its own on either side to be exact: one for each
# 3x3 convolution at that scale; in `widen` six at H/8, two of which make a row of the grid. In `draw`
# the nearest pixels of the next block must be exact, too, for `softened`: they see one more row
# at H/8 in the last layer, and three at H/4 in the detail path, both within a row of the grid.
TAKE_HALO = 1
LOOK_HALO = 3 * DENSE_LAYERS
WIDEN_HALO = DENSE_LAYERS // 2
DRAW_HALO = 1

# A convolution first copies the channels of a dense block that it sees. Copies larger than this would
# be mapped anew every time, see `machine.keep_freed_memory`.
_LARGEST_COPY = 30 * 2**20  # bytes


class Inference:
    """LLPackNet or DetailNet, folded and laid out for speed, in float32 or bfloat16.

    `precision` is the type of its own tensors, `name` what most of the arithmetic is done in.
    """

    def __init__(self, network: LLPackNet, precision: torch.dtype = torch.float32):
        self.precision = precision
        self.name = str(precision).removeprefix("torch.")
        # `network.activate`, in place
        self._activate = torch.sigmoid_ if network.output == "sigmoid" else torch.relu_
        heads = (network.RDBr, network.RDBg1, network.RDBg2, network.RDBb)
        self._heads = self._laid_out(torch.cat([head.weight for head in heads]))
        self._heads_bias = self._laid_out(torch.cat([head.bias for head in heads]))
        self._squeeze = self._as_matrix(network.before_identity.weight)
        self._after = self._as_matrix(network.after_rdb.weight).chunk(3)
        self._prepare(network)

    def _prepare(self, network: LLPackNet) -> None:
        """Lay out all convolutions after the first two."""
        self._blocks = [_Dense(block, self) for block in (network.RDB1, network.RDB2, network.RDB3)]
        self._last_block = _Dense(network.final[1], self)
        self._last = _Last(network, self)
        self._detail = _Detail(network, self) if isinstance(network, DetailNet) else None

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().to(self.precision)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _as_matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """(C, D) of the weight (D, C, 1, 1) of a 1x1 convolution, see `_pointwise`."""
        return weight.detach()[:, :, 0, 0].T.to(self.precision).contiguous()

    def take(self, mosaic: torch.Tensor) -> torch.Tensor:
        """(1, 1, h, W) amplified mosaic -> (1, 64, h/16, W/16); h and W multiples of 16."""
        planes = _packed_planes(mosaic.to(self.precision))
        seen = F.conv2d(planes, self._heads, self._heads_bias, padding=1, groups=4).relu_()
        return channels_first(_pointwise(seen, self._squeeze))

    def look(self, low: torch.Tensor) -> torch.Tensor:
        """The network's body: (1, 64, h/16, W/16) from `take`, to the same shape."""
        x, fused = low, pixels_last(low)
        for block, after in zip(self._blocks, self._after, strict=True):
            x = block.fuse(block.dense(x), x)
            fused = _pointwise(x, after, fused)  # the authors' `after_rdb`, block by block
        return channels_first(fused)

    def widen(self, low: torch.Tensor) -> "Features":
        """(1, 64, h/16, W/16) from `look` -> what `draw` draws from."""
        x = F.pixel_shuffle(low, 2).contiguous(memory_format=torch.channels_last)
        dense = self._last_block.dense(x)
        return Features(self._last_block.visible(dense), self._last_block.fuse(dense, x))

    @property
    def texture_type(self) -> torch.dtype | None:
        """Type of what `texture` gives; None where there is no detail path, which alone needs it."""
        return None if self._detail is None else self._detail.texture_type

    def texture(self, mosaic: torch.Tensor, into: torch.Tensor) -> None:
        """Write the mosaic (1, 1, h, W) as the detail path sees it, (h, W)."""
        self._detail.texture(mosaic[0, 0], into)

    def draw(
        self, features: "Features", texture: torch.Tensor | None, rows: int
    ) -> Iterator[torch.Tensor]:
        """The picture of a strip, still packed, in bands of `rows` rows of the 1/16 grid from top to
        bottom: float32 (h/p, W/p, p, p, 3), encoded as the network gives it.

        features, texture : the strip's rows of `widen` and of `texture`. p is 8, or 4 with the detail
        path; axes are block row, block column, row and column in the block, colour.
        """
        coarse = self._last.seen(features.fused)
        fine = None if self._detail is None else self._detail.seen(texture, features.dense)
        height = features.fused.shape[2]
        for first in range(0, height, 2 * rows):
            last = min(first + 2 * rows, height)
            packed = self._activate(self._last(coarse, first, last))
            if self._detail is None:
                yield pixels_last(packed).float().unflatten(2, (PACK, PACK, 3))
                continue
            # Both meet at H/4: the colours of one pixel lie side by side in either.
            picture = self._detail(fine, 2 * first, 2 * last)
            blocks = split_blocks(picture)
            blocks += pixels_last(packed).view(blocks.shape)
            yield picture.float().unflatten(2, (DETAIL_PACK, DETAIL_PACK, 3))

    def __call__(self, mosaic: torch.Tensor) -> torch.Tensor:
        """A whole mosaic at once, both sides multiples of 16: (1, 3, H, W)."""
        features, texture = self.widen(self.look(self.take(mosaic))), None
        if self.texture_type is not None:
            texture = torch.empty(mosaic.shape[2:], dtype=self.texture_type)
            self.texture(mosaic, texture)
        [packed] = self.draw(features, texture, mosaic.shape[2] // STRIDE)
        return packed.permute(4, 0, 2, 1, 3).reshape(1, 3, *mosaic.shape[2:])


@dataclass(frozen=True)
class Features:
    """What `widen` found at H/8: all features of the last dense block, and the 16 fused from them."""

    dense: torch.Tensor
    fused: torch.Tensor

    def rows(self, first: int, last: int) -> "Features":
        """A strip of them; rows of the 1/16 grid."""
        strip = slice(2 * first, 2 * last)
        return Features(self.dense[:, :, strip], self.fused[:, :, strip])


def pixels_last(x: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) in channels_last memory -> (h, w, C), the same memory."""
    return x[0].permute(1, 2, 0)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """The way back: (h, w, C) -> (1, C, h, w), the same memory."""
    return x.permute(2, 0, 1)[None]


def _pointwise(
    x: torch.Tensor, weight: torch.Tensor, added: torch.Tensor | None = None
) -> torch.Tensor:
    """A 1x1 convolution of (1, C, h, w) in channels_last, weight (C, D), as the matrix product that
    it is: (h, w, D). PyTorch's own way takes twice the time here. `added` is (h, w, D) or (D,)."""
    pixels = pixels_last(x)
    flat = pixels.flatten(0, 1)
    if added is None:
        product = flat @ weight
    else:
        product = torch.addmm(added.flatten(0, -2) if added.ndim > 1 else added, flat, weight)
    return product.view(*pixels.shape[:2], -1)


def _packed_planes(mosaic: torch.Tensor) -> torch.Tensor:
    """`pack` of every plane of the CFA, (1, 1, h, W) -> (1, 256, h/16, W/16) in channels_last memory,
    in one copy."""
    rows, columns = mosaic.shape[2] // STRIDE, mosaic.shape[3] // STRIDE
    pixels = mosaic.view(rows, PACK, CFA_PERIOD, columns, PACK, CFA_PERIOD)
    return channels_first(pixels.permute(0, 3, 2, 5, 1, 4).reshape(rows, columns, -1))


def with_neighbours(x: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Some rows of (1, C, h, w) and one more on either side, for a 3x3 convolution; zeros beyond x."""
    top, bottom = with_halo(first, last, x.shape[2], 1)
    rows, missing = x[:, :, top:bottom], (top - (first - 1), last + 1 - bottom)
    return F.pad(rows, (0, 0, *missing)) if any(missing) else rows


def split_blocks(x: torch.Tensor) -> torch.Tensor:
    """(2 * h, 2 * w, C) -> (h, w, 2, 2, C), the same memory: a pixel shuffle undone, whose runs of C
    values stay together."""
    return x.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).transpose(1, 2)


def last_layer(network: LLPackNet) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the layer before UnPack, its rows in the order that `draw` wants.

    UnPack's own order (row, column, colour) is already that of pixels side by side. Only where the
    detail path follows at H/4 do the 2x2 phases of a block come first: see `split_blocks`.
    """
    weight, bias = network.final[2].weight, network.final[2].bias
    if not isinstance(network, DetailNet):
        return weight, bias
    coarse = PACK // DETAIL_PACK
    rows = torch.arange(3 * PACK**2).reshape(coarse, DETAIL_PACK, coarse, DETAIL_PACK, 3)
    order = rows.permute(0, 2, 1, 3, 4).reshape(-1)
    return weight[order], bias[order]


def detail_layers(network: DetailNet) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of the guide, its phases first, and of the detail path's three convolutions,
    the last with the colours of a pixel side by side."""
    coarse, cells = PACK // DETAIL_PACK, DETAIL_PACK**2
    phases = torch.arange(coarse**2 * cells).reshape(cells, coarse**2).T.reshape(-1)
    colours = torch.arange(3 * cells).reshape(3, cells).T.reshape(-1)
    first, second, last = (x for x in network.detail if isinstance(x, torch.nn.Conv2d))
    return [
        (network.guide.weight[phases], network.guide.bias[phases]),
        (first.weight, first.bias),
        (second.weight, second.bias),
        (last.weight[colours], last.bias[colours]),
    ]


class _Convolution:
    """A 3x3 convolution of (1, C, h, w)."""

    def __init__(self, owner: Inference, weight: torch.Tensor, bias: torch.Tensor, padding=1):
        self._weight, self._bias = owner._laid_out(weight), owner._laid_out(bias)
        self._padding = padding

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self._weight, self._bias, padding=self._padding)


class _Last:
    """The layer before UnPack."""

    def __init__(self, network: LLPackNet, owner: Inference):
        self._convolution = _Convolution(owner, *last_layer(network), padding=(0, 1))

    def __call__(self, seen: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """(1, 192, last - first, W/8) of some rows of `seen`."""
        return self._convolution(with_neighbours(seen, first, last))

    def seen(self, fused: torch.Tensor) -> torch.Tensor:
        """What it sees of the 16 channels at H/8."""
        return fused


class _Dense:
    """A dense block with one buffer for all its features."""

    def __init__(self, block: DenseBlock, owner: Inference):
        self._layers = [owner._laid_out(layer.conv.weight) for layer in block.dense_layers]
        self._fuse = owner._as_matrix(block.conv_1x1.weight)

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        channels, height, width = x.shape[1:]
        shape = (1, channels + GROWTH * DENSE_LAYERS, height + 2, width)
        padded = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        padded[:, :, 0 :: height + 1] = 0
        features = padded[:, :, 1:-1]
        features[:, :channels] = x
        for weight in self._layers:
            rows = max(1, _LARGEST_COPY // (width * channels * x.element_size()))
            for first in range(0, height, rows):
                last = min(first + rows, height)
                grown = F.conv2d(padded[:, :channels, first : last + 2], weight, padding=(0, 1))
                into = features[:, channels : channels + GROWTH, first:last]
                torch.clamp_min(grown, 0, out=into)
            channels += GROWTH
        return features

    def fuse(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return channels_first(_pointwise(features, self._fuse, pixels_last(x)))

    def visible(self, features: torch.Tensor) -> torch.Tensor:
        return features


class _Detail:
    """The detail path, with colours side by side and without the copies of shuffles."""

    def __init__(self, network: DetailNet, owner: Inference):
        guide, *layers, last = detail_layers(network)
        self._guide = owner._as_matrix(guide[0])
        self._guide_bias = owner._laid_out(guide[1])
        self._layers = [_Convolution(owner, *layer) for layer in layers]
        self._last = _Convolution(owner, *last, padding=(0, 1))

    def __call__(self, seen: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """(last - first, W/4, 48): what is added, block row and column, then colour."""
        return pixels_last(self._last(with_neighbours(seen, first, last)))

    @property
    def texture_type(self) -> torch.dtype:
        return self._guide.dtype

    def texture(self, mosaic: torch.Tensor, into: torch.Tensor) -> None:
        into.copy_(compress(mosaic))

    def seen(self, texture: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """What the last convolution sees: (1, 32, h/4, W/4)."""
        guide = _pointwise(features, self._guide, self._guide_bias)
        cells = DETAIL_PACK**2
        height, width = (side // DETAIL_PACK for side in texture.shape)
        x = torch.empty(height, width, 2 * cells, dtype=guide.dtype)
        blocks = split_blocks(x[..., :cells])
        blocks.copy_(guide.view(blocks.shape))
        pixels = texture.view(height, DETAIL_PACK, width, DETAIL_PACK).transpose(1, 2)
        x[..., cells:].unflatten(2, (DETAIL_PACK, DETAIL_PACK)).copy_(pixels)
        x = channels_first(x)
        for layer in self._layers:
            x = layer(x).relu_()
        return x
