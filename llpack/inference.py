"""The network as it runs on a CPU: same weights, same results as `network`, less memory traffic.

Three changes to the computation, none to the function: the four heads are one grouped convolution,
a layer of a dense block adds up a convolution of each layer before it instead of one of all of them
side by side, and the picture stays packed, in the memory order of the last convolution, until it has
been rendered to bytes. The work is cut into four steps, so that a frame can be restored in strips,
each as tall as suits it: `take` packs the mosaic, `look` is the body of the network at 1/16 of the
resolution, where nearly all of the receptive field is, `widen` goes to 1/8, and `draw` from there to
the picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F

from llpack.memory_layout import (
    channels_first,
    detail_layers,
    fill_detail_input,
    last_layer,
    packed_planes,
    pixels_last,
    split_blocks,
    with_zeros_outside,
)
from llpack.network import (
    DENSE_LAYERS,
    DETAIL_PACK,
    GROWTH,
    DenseBlock,
    DetailNet,
    LLPackNet,
    compress,
)
from llpack.packing import PACK, STRIDE

# Rows of the 1/16 grid that each step needs beyond its own on either side to be exact: one for each
# 3x3 convolution at that scale; in `widen` six at H/8, two of which make a row of the grid. In `draw`
# the nearest pixels of the next block must be exact, too, for `softening`: they see one more row
# at H/8 in the last layer, and three at H/4 in the detail path, both within a row of the grid.
TAKE_HALO = 1
LOOK_HALO = 3 * DENSE_LAYERS
WIDEN_HALO = DENSE_LAYERS // 2
DRAW_HALO = 1

_ROWS = 16  # of the mosaic, at once: they stay in the cache from one step to the next


class Inference:
    """LLPackNet or DetailNet, folded and laid out for speed, in float32 or bfloat16.

    `precision` is the type of its own tensors, `name` what most of the arithmetic is done in.
    """

    def __init__(self, network: LLPackNet, precision: torch.dtype = torch.float32):
        self.precision = precision
        self.name = str(precision).removeprefix("torch.")
        # `network.activate`, with a place to write to
        sigmoid = network.output == "sigmoid"
        self._activate = torch.sigmoid if sigmoid else partial(torch.clamp_min, min=0)
        heads = (network.RDBr, network.RDBg1, network.RDBg2, network.RDBb)
        weight, bias = (
            torch.cat([getattr(head, name) for head in heads]) for name in ("weight", "bias")
        )
        self._heads = _Convolution(self, [weight], bias, padding=(0, 1), groups=4, relu=True)
        self._squeeze = _Convolution(self, [network.before_identity.weight])
        self._after = [_Convolution(self, [part]) for part in network.after_rdb.weight.chunk(3, 1)]
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

    def take(self, mosaic: torch.Tensor, own: slice) -> torch.Tensor:
        """(1, 1, h, W) amplified mosaic, h and W multiples of 16 -> its rows `own` of the 1/16 grid,
        (1, 64, rows, W/16); the row before and the row after are seen, too."""
        packed = packed_planes(mosaic.to(self.precision), own.start - 1, own.stop + 1)
        return self._squeeze(self._heads(packed))

    def look(self, low: torch.Tensor) -> torch.Tensor:
        """The network's body: (1, 64, h/16, W/16) from `take`, to the same shape."""
        x, fused = low, low.clone()
        for block, after in zip(self._blocks, self._after, strict=True):
            x = block.fuse(block.dense(x), x)
            after(x, onto=fused)  # the authors' `after_rdb`, block by block
        return fused

    def widen(self, low: torch.Tensor) -> "Features":
        """(1, 64, h/16, W/16) from `look` -> what `draw` draws from."""
        x = F.pixel_shuffle(low, 2).contiguous(memory_format=torch.channels_last)
        dense = self._last_block.dense(x)
        guide = None if self._detail is None else self._detail.guide(dense)
        return Features(guide, self._last_block.fuse(dense, x))

    @property
    def texture_type(self) -> torch.dtype | None:
        """Type of what `texture` gives; None where there is no detail path, which alone needs it."""
        return None if self._detail is None else self._detail.texture_type

    def texture(self, mosaic: torch.Tensor, into: torch.Tensor) -> None:
        """Write the mosaic (1, 1, h, W) as the detail path sees it, (h, W)."""
        for rows, seen in zip(mosaic[0, 0].split(_ROWS), into.split(_ROWS), strict=True):
            self._detail.texture(rows, seen)

    def draw(
        self, features: "Features", texture: torch.Tensor | None, rows: int
    ) -> Iterator[torch.Tensor]:
        """The picture of a strip, still packed, in bands of `rows` rows of the 1/16 grid from top to
        bottom: float32 (h/p, W/p, p, p, 3), encoded as the network gives it.

        features, texture : the strip's rows of `widen` and of `texture`. p is 8, or 4 with the detail
        path; axes are block row, block column, row and column in the block, colour.
        """
        coarse = self._last.seen(features.fused)
        height = features.fused.shape[2]
        for first in range(0, height, 2 * rows):
            last = min(first + 2 * rows, height)
            packed = pixels_last(self._last(coarse, first, last))
            if self._detail is None:
                yield self._activate(packed, out=packed).float().unflatten(2, (PACK, PACK, 3))
                continue
            # Both meet at H/4: the colours of one pixel lie side by side in either.
            cells = 3 * DETAIL_PACK**2
            picture = packed.new_empty(2 * packed.shape[0], 2 * packed.shape[1], cells)
            blocks = split_blocks(picture)
            self._activate(packed.view(blocks.shape), out=blocks)
            onto = channels_first(picture)
            self._detail(texture, features.guide, 2 * first, 2 * last, onto)
            yield picture.float().unflatten(2, (DETAIL_PACK, DETAIL_PACK, 3))

    def __call__(self, mosaic: torch.Tensor) -> torch.Tensor:
        """A whole mosaic at once, both sides multiples of 16: (1, 3, H, W)."""
        low = self.take(mosaic, slice(0, mosaic.shape[2] // STRIDE))
        features, texture = self.widen(self.look(low)), None
        if self.texture_type is not None:
            texture = torch.empty(mosaic.shape[2:], dtype=self.texture_type)
            self.texture(mosaic, texture)
        [packed] = self.draw(features, texture, mosaic.shape[2] // STRIDE)
        return packed.permute(4, 0, 2, 1, 3).reshape(1, 3, *mosaic.shape[2:])


@dataclass(frozen=True)
class Features:
    """What `widen` found at H/8: the 16 channels fused from the last dense block, and the 64 that it
    tells the detail path, where there is one."""

    guide: torch.Tensor | None
    fused: torch.Tensor

    def rows(self, first: int, last: int) -> "Features":
        """A strip of them; rows of the 1/16 grid."""
        strip = slice(2 * first, 2 * last)
        guide = None if self.guide is None else self.guide[:, :, strip]
        return Features(guide, self.fused[:, :, strip])


def _convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    onto: torch.Tensor | None,
    padding: tuple[int, int],
    groups: int,
    relu: bool,
) -> torch.Tensor:
    """A convolution of (1, C, h, w) in channels_last, added to `onto` in place where that is given,
    then a ReLU of the sum: all at once by oneDNN, called as PyTorch's compiler calls it."""
    if not torch.backends.mkldnn.is_available():  # as in PyTorch for some processors
        result = F.conv2d(x, weight, bias, padding=padding, groups=groups)
        result = result if onto is None else onto.add_(result)
        return result.relu_() if relu else result
    shape = list(padding), [1, 1], [1, 1], groups  # padding, stride, dilation
    if onto is None:
        attribute = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *shape, attribute, [], "")
    attribute = "relu" if relu else None
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        onto, x, weight, bias, *shape, "add", 1.0, attribute, [], None
    )


class _Convolution:
    """A convolution of (1, C, h, w), whose channels may come in several tensors, a weight for each."""

    def __init__(
        self,
        owner: Inference,
        weights: Sequence[torch.Tensor],
        bias: torch.Tensor | None = None,
        *,
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
        relu: bool = False,
    ):
        self._weights = [owner._laid_out(weight) for weight in weights]
        self._bias = None if bias is None else owner._laid_out(bias)
        self._padding, self._groups, self._relu = padding, groups, relu

    def __call__(self, *parts: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """A new tensor, or `onto` with the result added in place."""
        bias = self._bias
        for part, weight in zip(parts, self._weights, strict=True):
            relu = self._relu and part is parts[-1]
            onto = _convolve(part, weight, bias, onto, self._padding, self._groups, relu)
            bias = None
        return onto


class _Last:
    """The layer before UnPack."""

    def __init__(self, network: LLPackNet, owner: Inference):
        weight, bias = last_layer(network)
        self._convolution = _Convolution(owner, [weight], bias, padding=(0, 1))

    def __call__(self, seen: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """(1, 192, last - first, W/8) of some rows of what it sees."""
        return self._convolution(seen[:, :, first : last + 2])

    def seen(self, fused: torch.Tensor) -> torch.Tensor:
        """What it sees of the 16 channels at H/8: a row of zeros more on either side."""
        return F.pad(fused, (0, 0, 1, 1))


class _Dense:
    """A dense block. What a layer adds stays a tensor of its own: of slices of one buffer for all of
    them oneDNN would make copies before each convolution."""

    def __init__(self, block: DenseBlock, owner: Inference):
        channels = block.conv_1x1.out_channels
        self._layers = [
            _Convolution(owner, _by_layer(layer.conv.weight, channels), padding=(1, 1), relu=True)
            for layer in block.dense_layers
        ]
        self._fuse = _Convolution(owner, _by_layer(block.conv_1x1.weight, channels))

    def dense(self, x: torch.Tensor) -> list[torch.Tensor]:
        """x and what the layers add to it."""
        features = [x]
        for layer in self._layers:
            features.append(layer(*features))
        return features

    def fuse(self, features: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return self._fuse(*features, onto=x.clone())


def _by_layer(weight: torch.Tensor, channels: int) -> list[torch.Tensor]:
    """A weight in or after a dense block of so many channels, cut into what it makes of the block's
    input and of each layer so far."""
    layers = (weight.shape[1] - channels) // GROWTH
    return list(weight.split([channels, *layers * [GROWTH]], 1))


class _Detail:
    """The detail path, with colours side by side and without the copies of shuffles."""

    def __init__(self, network: DetailNet, owner: Inference):
        guide, *layers, last = detail_layers(network)
        self._guide = _Convolution(owner, _by_layer(guide[0], PACK**2 // 4), guide[1])
        self._layers = [
            _Convolution(owner, [weight], bias, padding=(0, 1), relu=True) for weight, bias in layers
        ]
        self._last = _Convolution(owner, [last[0]], last[1], padding=(0, 1))
        self.texture_type = owner.precision

    def __call__(
        self, texture: torch.Tensor, guide: torch.Tensor, first: int, last: int, onto: torch.Tensor
    ) -> None:
        """Add the correction of some rows to their picture, (1, 48, last - first, W/4)."""
        height = texture.shape[0] // DETAIL_PACK
        x = self._seen(texture, guide, first, last)
        # Each convolution sees a row more on either side than it makes.
        for layer, more in zip(self._layers, (2, 1), strict=True):
            x = with_zeros_outside(layer(x), first - more, height)
        self._last(x, onto=onto)

    def texture(self, mosaic: torch.Tensor, into: torch.Tensor) -> None:
        into.copy_(compress(mosaic))

    def guide(self, features: list[torch.Tensor]) -> torch.Tensor:
        """What the dense features say, (1, 64, h, w)."""
        return self._guide(*features)

    def _seen(self, texture: torch.Tensor, guide: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """What the first convolution sees, (1, 32, last - first + 6, W/4)."""
        height, width = (side // DETAIL_PACK for side in texture.shape)
        x = torch.empty(last - first + 8, width, 2 * DETAIL_PACK**2, dtype=guide.dtype)
        fill_detail_input(x, texture, guide, first - 4)
        return with_zeros_outside(channels_first(x), first - 4, height)[:, :, 1:-1]
