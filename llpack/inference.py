"""The network as it runs on a CPU: same weights, same results as `network`, less memory traffic.

Three changes to the computation, none to the function: the four heads are one grouped convolution,
a dense block writes each layer into one buffer instead of concatenating six times, and the picture
stays packed, in the memory order of the last convolution, until it has been rendered to bytes. The
work is cut into two halves, so that a frame can be restored in strips: `look` at 1/16 of the
resolution, where nearly all of the receptive field is, and `draw` from there to the picture.
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
from llpack.packing import CFA_PERIOD, PACK, pack

# Rows of the 1/16 grid that each half needs beyond its own on either side to be exact: one for each
# 3x3 convolution at that scale. `draw` has six or seven at H/8, two of which make a row of the grid,
# and the detail path's three at H/4 follow on six: less than four rows in all either way. One more
# is for `soften_borders`, which looks at the next block.
LOOK_HALO = 1 + 3 * DENSE_LAYERS
DRAW_HALO = 5

# Steps between blocks up to this height (of 1, as the network encodes) may be the network's own.
_BORDER_STEP = 0.04


class Inference:
    """LLPackNet or DetailNet, folded and laid out for speed, in float32 or bfloat16."""

    def __init__(self, network: LLPackNet, precision: torch.dtype = torch.float32):
        self.precision = precision
        self.activate = network.activate
        heads = (network.RDBr, network.RDBg1, network.RDBg2, network.RDBb)
        self._heads = self._laid_out(torch.cat([head.weight for head in heads]))
        self._heads_bias = self._laid_out(torch.cat([head.bias for head in heads]))
        self._squeeze = self._as_matrix(network.before_identity.weight)
        self._blocks = [_Dense(block, self) for block in (network.RDB1, network.RDB2, network.RDB3)]
        self._after = self._as_matrix(network.after_rdb.weight).chunk(len(self._blocks))
        self._last_block = _Dense(network.final[1], self)
        detailed = isinstance(network, DetailNet)
        order = _phase_order() if detailed else slice(None)
        self._last = self._laid_out(network.final[2].weight[order])
        self._last_bias = self._laid_out(network.final[2].bias[order])
        self._detail = _Detail(network, self) if detailed else None

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().to(self.precision)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _as_matrix(self, weight: torch.Tensor) -> torch.Tensor:
        """(C, D) of the weight (D, C, 1, 1) of a 1x1 convolution, see `_pointwise`."""
        return weight.detach()[:, :, 0, 0].T.to(self.precision).contiguous()

    def look(self, mosaic: torch.Tensor) -> torch.Tensor:
        """(1, 1, h, W) amplified mosaic -> (1, 64, h/16, W/16); h and W multiples of 16."""
        planes = pack(pack(mosaic.to(self.precision), CFA_PERIOD), PACK)  # (1, 256, h/16, W/16)
        planes = planes.contiguous(memory_format=torch.channels_last)
        seen = F.conv2d(planes, self._heads, self._heads_bias, padding=1, groups=4).relu_()
        low = _pointwise(seen, self._squeeze)
        x, fused = _channels_first(low), low
        for block, after in zip(self._blocks, self._after, strict=True):
            x = block.fuse(block.dense(x), x)
            fused = _pointwise(x, after, fused)  # the authors' `after_rdb`, block by block
        return _channels_first(fused)

    def draw(self, low: torch.Tensor, mosaic: torch.Tensor) -> torch.Tensor:
        """The picture of a strip, still packed: (h/p, W/p, p, p, 3), encoded as the network gives it.

        low, mosaic : `look`'s rows and the mosaic's rows of the strip. p is 8, or 4 with the detail
        path; axes are block row, block column, row and column in the block, colour.
        """
        x = F.pixel_shuffle(low, 2).contiguous(memory_format=torch.channels_last)
        features = self._last_block.dense(x)
        fused = self._last_block.fuse(features, x)
        packed = self.activate(F.conv2d(fused, self._last, self._last_bias, padding=1))
        if self._detail is None:
            return _pixels_last(packed).unflatten(2, (PACK, PACK, 3))
        # Both corrections meet at H/4: the colours of one pixel lie side by side in either.
        picture = _shuffled_blocks(_pixels_last(packed))  # (h/4, W/4, 48)
        picture += self._detail.correction(mosaic.to(self.precision), features)
        return picture.unflatten(2, (DETAIL_PACK, DETAIL_PACK, 3))

    def __call__(self, mosaic: torch.Tensor) -> torch.Tensor:
        """A whole mosaic at once, both sides multiples of 16: (1, 3, H, W)."""
        packed = self.draw(self.look(mosaic), mosaic)
        return packed.permute(4, 0, 2, 1, 3).reshape(1, 3, *mosaic.shape[2:])


def _pixels_last(x: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) in channels_last memory -> (h, w, C), the same memory."""
    return x[0].permute(1, 2, 0)


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    """The way back: (h, w, C) -> (1, C, h, w), the same memory."""
    return x.permute(2, 0, 1)[None]


def _pointwise(
    x: torch.Tensor, weight: torch.Tensor, added: torch.Tensor | None = None
) -> torch.Tensor:
    """A 1x1 convolution of (1, C, h, w) in channels_last, weight (C, D), as the matrix product that
    it is: (h, w, D). PyTorch's own way takes twice the time here. `added` is (h, w, D) or (D,)."""
    pixels = _pixels_last(x)
    flat = pixels.flatten(0, 1)
    if added is None:
        product = flat @ weight
    else:
        product = torch.addmm(added.flatten(0, -2) if added.ndim > 1 else added, flat, weight)
    return product.view(*pixels.shape[:2], -1)


def _shuffled_blocks(x: torch.Tensor) -> torch.Tensor:
    """(h, w, 4 * C) -> (2 * h, 2 * w, C): a pixel shuffle whose runs of C values stay together."""
    height, width, channels = x.shape
    blocks = x.view(height, width, 2, 2, channels // 4).transpose(1, 2)
    return blocks.reshape(2 * height, 2 * width, channels // 4)


def _phase_order() -> torch.Tensor:
    """Rows of the last layer with the 2x2 phases of a block at H/4 first: see `_shuffled_blocks`.

    UnPack's own order (row, column, colour) is already that of pixels side by side, so LLPackNet
    alone needs no reordering at all.
    """
    coarse = PACK // DETAIL_PACK
    channels = torch.arange(3 * PACK**2).reshape(coarse, DETAIL_PACK, coarse, DETAIL_PACK, 3)
    return channels.permute(0, 2, 1, 3, 4).reshape(-1)


def soften_borders(packed: torch.Tensor) -> None:
    """Turn low steps between neighbouring blocks of 8x8 pixels into ramps, in place.

    Each block is drawn from features of its own, and noise makes these differ a little from block to
    block: a grid that can be seen in smooth areas. A step that is high is the picture's and stays.

    packed : (h/p, W/p, p, p, 3), see `draw`
    """
    blocks, side = PACK // packed.shape[2], packed.shape[2]
    for axis in (0, 1):
        along = packed.transpose(0, axis)
        before, after = along[blocks - 1 : -1 : blocks], along[blocks::blocks]
        inner = 2 + axis
        near, far = before.select(inner, side - 1), before.select(inner, side - 2)
        next_near, next_far = after.select(inner, 0), after.select(inner, 1)
        step = next_near - near
        step.mul_((1 - step.abs() / _BORDER_STEP).clamp_(min=0))
        for pixels, share in ((near, 3), (far, 1), (next_near, -3), (next_far, -1)):
            pixels.add_(step, alpha=share / 8)


class _Dense:
    """A dense block with one buffer for all its features, kept from strip to strip.

    Each thread has its own, since threads draw different strips at the same time.
    """

    def __init__(self, block: DenseBlock, owner: Inference):
        self._layers = [owner._laid_out(layer.conv.weight) for layer in block.dense_layers]
        self._fuse = owner._as_matrix(block.conv_1x1.weight)
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
            torch.clamp_min(grown, 0, out=features[:, channels : channels + GROWTH])
            channels += GROWTH
        return features

    def fuse(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return _channels_first(_pointwise(features, self._fuse, _pixels_last(x)))


class _Detail:
    """The detail path, with colours side by side and without the copies of shuffles."""

    def __init__(self, network: DetailNet, owner: Inference):
        coarse, cells = PACK // DETAIL_PACK, DETAIL_PACK**2
        phases = torch.arange(coarse**2 * cells).reshape(cells, coarse**2).T.reshape(-1)
        self._guide = owner._as_matrix(network.guide.weight[phases])
        self._guide_bias = owner._laid_out(network.guide.bias[phases])
        layers = [layer for layer in network.detail if isinstance(layer, torch.nn.Conv2d)]
        self._layers = [(owner._laid_out(x.weight), owner._laid_out(x.bias)) for x in layers[:-1]]
        colours_last = torch.arange(3 * cells).reshape(3, cells).T.reshape(-1)
        self._last = owner._laid_out(layers[-1].weight[colours_last])
        self._last_bias = owner._laid_out(layers[-1].bias[colours_last])

    def correction(self, mosaic: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(h/4, W/4, 48): what `mosaic` (1, 1, h, W) adds, block row and column, then colour."""
        guide = _shuffled_blocks(_pointwise(features, self._guide, self._guide_bias))
        height, width, cells = guide.shape
        x = torch.empty(height, width, 2 * cells, dtype=guide.dtype)
        x[..., :cells] = guide
        seen = compress(mosaic).view(height, DETAIL_PACK, width, DETAIL_PACK)
        x[..., cells:].unflatten(2, (DETAIL_PACK, DETAIL_PACK)).copy_(seen.transpose(1, 2))
        x = _channels_first(x)
        for weight, bias in self._layers:
            x = F.conv2d(x, weight, bias, padding=1).relu_()
        return _pixels_last(F.conv2d(x, self._last, self._last_bias, padding=1))


def strip_bounds(height: int, rows: int) -> list[tuple[int, int]]:
    """Even cuts of `height` (in rows of the 1/16 grid) into strips of at most `rows`."""
    count = -(-height // rows)
    edges = [height * i // count for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def with_halo(first: int, last: int, height: int, halo: int) -> tuple[int, int]:
    return max(0, first - halo), min(height, last + halo)
