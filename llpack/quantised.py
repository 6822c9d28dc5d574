"""The network in 8-bit integers: four times as fast where the processor has VNNI or AMX.

Nearly all multiply-adds, every convolution after the first two, run on whole numbers: values as codes
0..255, weights as -127..127, sums exact in 32 bits. Each channel has a scale of its own, from the
range of its values on training patches, which comes with the weights (`ranges.*`); the scales cost
nothing, as they are folded into the weights on either side. What is added up over many layers stays in
float32. The picture differs from float32's by less than rounding to 8 bits does at the end.

PyTorch's own operators for quantised graphs on CPUs are used (oneDNN); they are called as its
compiler calls them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from llpack.inference import Inference
from llpack.memory_layout import (
    channels_first,
    detail_layers,
    fill_detail_input,
    last_layer,
    pixels_last,
    with_zeros_outside,
)
from llpack.network import (
    COMPRESSION,
    DETAIL_PACK,
    GROWTH,
    DenseBlock,
    DetailNet,
    LLPackNet,
    ranged_layers,
)

_TOP = 255  # the largest code of a value
_WEIGHT_TOP = 127


@torch.inference_mode()
def activation_ranges(network: LLPackNet, mosaics: Iterable[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Smallest and largest value of every channel, (2, C), that each of `ranged_layers` sees.

    mosaics : batches (B, 1, H, W) as the network sees them
    """
    ranges: dict[str, torch.Tensor] = {}

    def widen(name: str, values: torch.Tensor) -> None:
        low, high = values.amin((0, 2, 3)), values.amax((0, 2, 3))
        if name in ranges:
            low, high = ranges[name][0].minimum(low), ranges[name][1].maximum(high)
        ranges[name] = torch.stack([low, high])

    hooks = [
        network.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: widen(name, inputs[0])
        )
        for name in ranged_layers(network)
    ]
    try:
        for mosaic in mosaics:
            network(mosaic)
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


@dataclass(frozen=True)
class _Codes:
    """How the values of some channels are written as codes: value = (code - zero) * step."""

    step: torch.Tensor  # (C,) float32
    zero: torch.Tensor  # (C,) float32, whole numbers

    @classmethod
    def of_range(cls, limits: torch.Tensor) -> "_Codes":
        low, high = limits[0].clamp(max=0), limits[1].clamp(min=0)  # 0 has a code of its own
        step = ((high - low) / _TOP).clamp(min=1e-8)
        return cls(step, (-low / step).round())

    def __getitem__(self, channels: slice) -> "_Codes":
        return _Codes(self.step[channels], self.zero[channels])

    def encode(self, values: torch.Tensor) -> torch.Tensor:
        """(..., C) float32 -> codes; what is out of range is cut."""
        # The half makes a rounding of the truncation to whole numbers. By way of 16 bits it takes a
        # third of the time.
        return torch.addcmul(self.zero + 0.5, values, 1 / self.step).clamp_(0, _TOP).short().byte()

    def framed(self, height: int, width: int) -> torch.Tensor:
        """(height + 2, width + 2, C) zeros, as codes: a convolution's padding, to be filled in."""
        return self.zero.byte().expand(height + 2, width + 2, -1).contiguous()


class _Convolution:
    """A convolution of codes, (1, C, h, w) uint8 in channels_last; padding is with code 0.

    Gives codes where `into` says how to write them, else float32.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        codes: _Codes,
        into: _Codes | None = None,
        *,
        relu: bool = False,
        padding: tuple[int, int] = (0, 0),
    ):
        weight = weight.detach() * codes.step[:, None, None]
        scale = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / _WEIGHT_TOP
        whole = (weight / scale[:, None, None, None]).round()
        # Codes stand for values with an offset; what it adds is the same everywhere.
        added = -scale * (whole * codes.zero[:, None, None]).sum((1, 2, 3))
        if bias is not None:
            added += bias.detach()
        if into is not None:
            scale, added = scale / into.step, added / into.step + into.zero
        self._scale, self._added = scale, added
        self._zero = torch.zeros(len(scale), dtype=torch.int64)
        self._type = torch.float32 if into is None else torch.uint8
        self._relu = "relu" if relu else "none"
        self._shape = [1, 1], list(padding), [1, 1], 1  # stride, padding, dilation, groups
        self._weight = torch.ops.onednn.qconv_prepack(
            whole.to(torch.int8), scale, 1.0, 0, *self._shape, None
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        weight = self._weight, self._scale, self._zero, self._added
        result = 1.0, 0, self._type, self._relu, [], ""
        return torch.ops.onednn.qconv_pointwise(x, 1.0, 0, *weight, *self._shape, *result)


class QuantisedInference(Inference):
    """`Inference` in 8-bit integers after the first two layers, which see the mosaic itself.

    ranges : of `activation_ranges`, for this network
    Raises RuntimeError, AttributeError or NotImplementedError where PyTorch has no such operators.
    """

    def __init__(self, network: LLPackNet, ranges: dict[str, torch.Tensor]):
        self._ranges = ranges
        super().__init__(network)
        self.name = "int8"

    def _prepare(self, network: LLPackNet) -> None:
        *self._blocks, self._last_block = (
            _Dense(network.get_submodule(block), self._ranges[f"{block}.conv_1x1"])
            for block in ("RDB1", "RDB2", "RDB3", "final.1")
        )
        self._last = _Last(network, self._ranges["final.2"])
        self._detail = _Detail(network, self._ranges) if isinstance(network, DetailNet) else None


class _Dense:
    """A dense block of codes in one buffer, framed by zeros."""

    def __init__(self, block: DenseBlock, limits: torch.Tensor):
        codes = self._codes = _Codes.of_range(limits)
        self._layers = []
        for layer in block.dense_layers:
            seen = layer.conv.in_channels
            grown = codes[seen : seen + GROWTH]
            convolution = _Convolution(layer.conv.weight, None, codes[:seen], grown, relu=True)
            self._layers.append((seen, convolution))
        self._fuse = _Convolution(block.conv_1x1.weight, None, codes)

    def dense(self, x: torch.Tensor) -> torch.Tensor:
        """Float values in, codes of all features out, framed: (1, C, h + 2, w + 2)."""
        pixels = pixels_last(x)
        height, width, channels = pixels.shape
        features = self._codes.framed(height, width)
        inner = features[1:-1, 1:-1]
        inner[..., :channels] = self._codes[:channels].encode(pixels)
        framed = channels_first(features)
        for seen, convolution in self._layers:
            inner[..., seen : seen + GROWTH] = pixels_last(convolution(framed[:, :seen]))
        return framed

    def fuse(self, framed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        # The frame goes along: cheaper than to cut it off before.
        return self._fuse(framed)[..., 1:-1, 1:-1] + x


class _Last:
    """The layer before UnPack, from float values to float values."""

    def __init__(self, network: LLPackNet, limits: torch.Tensor):
        self._codes = _Codes.of_range(limits)
        self._convolution = _Convolution(*last_layer(network), self._codes)

    def __call__(self, seen: torch.Tensor, first: int, last: int) -> torch.Tensor:
        return self._convolution(seen[:, :, first : last + 2])

    def seen(self, fused: torch.Tensor) -> torch.Tensor:
        """Its codes, framed."""
        pixels = pixels_last(fused)
        framed = self._codes.framed(*pixels.shape[:2])
        framed[1:-1, 1:-1] = self._codes.encode(pixels)
        return channels_first(framed)


class _Detail:
    """The detail path: the guide's codes and the mosaic's side by side, and three convolutions."""

    texture_type = torch.uint8

    def __init__(self, network: DetailNet, ranges: dict[str, torch.Tensor]):
        limits, cells = ranges["detail.0"].clone(), DETAIL_PACK**2
        # All pixels of a block get the widest range, so that a mosaic is encoded in one go.
        limits[0, cells:], limits[1, cells:] = limits[0, cells:].min(), limits[1, cells:].max()
        self._inputs = _Codes.of_range(limits)
        features, *grown = (
            _Codes.of_range(ranges[name]) for name in ("final.1.conv_1x1", "detail.2", "detail.4")
        )
        guide, *layers = detail_layers(network)
        phases = len(guide[1]) // cells
        step, zero = (part[:cells].repeat(phases) for part in (self._inputs.step, self._inputs.zero))
        self._guide = _Convolution(*guide, features, _Codes(step, zero))
        self._first, self._second, self._third = (
            _Convolution(*layer, seen, into, relu=into is not None, padding=padding)
            for layer, seen, into, padding in zip(
                layers, (self._inputs, *grown), (*grown, None), ((0, 0), (0, 1), (0, 1)), strict=True
            )
        )

    def __call__(
        self, texture: torch.Tensor, guide: torch.Tensor, first: int, last: int, onto: torch.Tensor
    ) -> None:
        height, width = (side // DETAIL_PACK for side in texture.shape)
        codes = self._inputs.framed(last - first + 6, width)
        fill_detail_input(codes[:, 1:-1], texture, guide, first - 4)
        x = channels_first(codes[1:-1])
        # Zeros outside are code 0: no channel has values below after a ReLU.
        x = with_zeros_outside(self._first(x), first - 2, height)
        x = with_zeros_outside(self._second(x), first - 1, height)
        onto += self._third(x)

    def guide(self, framed: torch.Tensor) -> torch.Tensor:
        guide = self._guide(framed)[..., 1:-1, 1:-1]
        return guide.contiguous(memory_format=torch.channels_last)

    def texture(self, mosaic: torch.Tensor, into: torch.Tensor) -> None:
        """Write the codes of `compress(mosaic)`."""
        step, zero = self._inputs.step[-1].item(), self._inputs.zero[-1].item()
        # x * rsqrt(step^2 * (|x| + c)) is compress(x) / step.
        values = mosaic.abs().add_(COMPRESSION).mul_(step**2).rsqrt_().mul_(mosaic)
        into.copy_(values.add_(zero + 0.5).clamp_(0, _TOP).short())
