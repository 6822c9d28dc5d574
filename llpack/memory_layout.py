"""How the engine lays out tensors and weights in memory, so that little has to be moved.

Colours of a pixel lie side by side, and a packed picture keeps the memory order of the convolution that
made it until it is rendered to bytes. Nothing here computes anything.
"""

import torch

from llpack.network import DETAIL_PACK, DetailNet, LLPackNet
from llpack.packing import CFA_PERIOD, PACK, STRIDE

# A number as wide as four of so many bytes.
_FOUR = {1: torch.int32, 2: torch.int64, 4: torch.complex128}


def pixels_last(x: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) in channels_last memory -> (h, w, C), the same memory."""
    return x[0].permute(1, 2, 0)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """The way back: (h, w, C) -> (1, C, h, w), the same memory."""
    return x.permute(2, 0, 1)[None]


def packed_planes(mosaic: torch.Tensor, top: int, bottom: int) -> torch.Tensor:
    """`pack` of every plane of the CFA, (1, 1, h, W) -> (1, 256, bottom - top, W/16) in channels_last
    memory, in one copy: rows `top` to `bottom` of the 1/16 grid, zeros outside of the mosaic."""
    rows, columns = mosaic.shape[2] // STRIDE, mosaic.shape[3] // STRIDE
    planes = mosaic.new_empty(bottom - top, columns, CFA_PERIOD, CFA_PERIOD, PACK, PACK)
    first, last = max(top, 0), min(bottom, rows)
    pixels = mosaic.view(rows, PACK, CFA_PERIOD, columns, PACK, CFA_PERIOD)[first:last]
    planes[first - top : last - top] = pixels.permute(0, 3, 2, 5, 1, 4)
    return with_zeros_outside(channels_first(planes.flatten(2)), top, rows)


def with_zeros_outside(x: torch.Tensor, first: int, height: int) -> torch.Tensor:
    """(1, C, h, w), rows of a picture from row `first` on. Those that lie outside of its `height` rows
    become zeros, in place: what a 3x3 convolution sees there."""
    x[:, :, : max(0, -first)] = 0
    x[:, :, height - first :] = 0
    return x


def split_blocks(x: torch.Tensor) -> torch.Tensor:
    """(2 * h, 2 * w, C) -> (h, w, 2, 2, C), the same memory: a pixel shuffle undone, whose runs of C
    values stay together."""
    return x.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).transpose(1, 2)


def _in_fours(x: torch.Tensor) -> torch.Tensor:
    """(..., 4 * n) -> (..., n), the same memory: what is only moved moves faster four at a time."""
    return x.view(_FOUR[x.element_size()])


def fill_detail_input(x: torch.Tensor, texture: torch.Tensor, guide: torch.Tensor, first: int) -> None:
    """Write what the detail path sees at H/4: its share of the guide (1, 64, h/8, W/8) and its 16
    pixels of the mosaic, (h, W).

    x : (rows, W/4, 32), from row `first` on, which is even; what lies outside of the mosaic is left
    """
    top, bottom = max(first, 0), min(first + x.shape[0], texture.shape[0] // DETAIL_PACK)
    x = _in_fours(x)[top - first : bottom - first]
    blocks = split_blocks(x[..., :DETAIL_PACK])
    blocks.copy_(_in_fours(pixels_last(guide[:, :, top // 2 : bottom // 2])).view(blocks.shape))
    pixels = _in_fours(texture[DETAIL_PACK * top : DETAIL_PACK * bottom])
    x[..., DETAIL_PACK:] = pixels.view(x.shape[0], DETAIL_PACK, x.shape[1]).transpose(1, 2)


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
