"""Pack and UnPack: the paper's way between the full mosaic and 1/16 of its resolution.

Pack moves every `factor` x `factor` block of a plane into the channels of one low-resolution pixel,
and UnPack moves a low-resolution pixel with 3 * factor**2 channels back to a block of RGB pixels
(Lamba, Balaji, Mitra, BMVC 2020, section 3.1). Nothing is computed, so nothing is lost; all
convolutions happen between the two, where a frame is small.

Letters used in shapes: B batch, C channels, H and W height and width of the full mosaic.
"""

import torch
import torch.nn.functional as F

CFA_PERIOD = 2  # an RGGB mosaic repeats every two rows and columns
PACK = 8  # the paper's factor for each colour plane
STRIDE = CFA_PERIOD * PACK  # rows and columns of the mosaic behind one low-resolution pixel


def pack(planes: torch.Tensor, factor: int = PACK) -> torch.Tensor:
    """(B, C, H, W) -> (B, C * factor**2, H / factor, W / factor).

    Channel order: plane, then row in the block, then column. H and W must be multiples of `factor`.
    """
    return F.pixel_unshuffle(planes, factor)


def unpack(packed: torch.Tensor, factor: int = PACK) -> torch.Tensor:
    """(B, 3 * factor**2, h, w) -> (B, 3, h * factor, w * factor).

    Channel order: row in the block, then column, then colour (the paper's UnPack), for any batch.
    """
    return F.pixel_shuffle(packed[:, unpack_order(factor)], factor)


def unpack_order(factor: int = PACK) -> torch.Tensor:
    """Permutation of channels that turns UnPack into a plain pixel shuffle."""
    return torch.arange(3 * factor**2).reshape(factor**2, 3).T.reshape(-1)


def split_cfa(mosaic: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W) RGGB mosaic -> (B, 4, H/2, W/2) planes R, G1, G2, B."""
    return F.pixel_unshuffle(mosaic, CFA_PERIOD)


def pad_to_stride(mosaic: torch.Tensor, stride: int = STRIDE) -> torch.Tensor:
    """Extend the bottom and right edge of an RGGB mosaic to multiples of `stride`.

    Mirrored about the last CFA cell, so that the padding keeps the CFA's phase: reflection without
    repeating the edge row would put red on blue. H and W must be even; the undo is a crop.
    """
    height, width = mosaic.shape[-2:]
    down, right = -height % stride, -width % stride
    if not (down or right):
        return mosaic
    cells = F.pixel_unshuffle(mosaic, CFA_PERIOD)  # (B, 4, H/2, W/2)
    mode = "reflect" if min(cells.shape[-2:]) >= stride // CFA_PERIOD else "replicate"
    cells = F.pad(cells, (0, right // CFA_PERIOD, 0, down // CFA_PERIOD), mode=mode)
    return F.pixel_shuffle(cells, CFA_PERIOD)
