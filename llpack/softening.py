"""Soft borders between the blocks of 8x8 pixels that the network draws.

Each block is drawn from features of its own, and noise makes these differ a little from block to
block: a grid that can be seen in smooth areas. Low steps between neighbouring blocks become ramps; a
step that is high is the picture's and stays.
"""

import functools

import torch

from llpack.packing import PACK

# Steps between blocks up to this height (of 1, as the network encodes) may be the network's own.
_BORDER_STEP = 0.04
# What the two pixels before a border and the two behind it get of a low step.
_SHARES = 1 / 8, 3 / 8, -3 / 8, -1 / 8


def soften(band: torch.Tensor, above: torch.Tensor | None) -> None:
    """Soften, in place, the borders within a band of a packed picture and the one to the band `above`,
    softened before it, if there is any: (h/p, W/p, p, p, 3) each, see `Inference.draw`."""
    _soften_columns(band)
    blocks = PACK // band.shape[2]
    _soften_rows(band[blocks - 1 : -1 : blocks], band[blocks::blocks])
    if above is not None:
        _soften_rows(above[-1:], band[:1])


def _soften_rows(above: torch.Tensor, below: torch.Tensor) -> None:
    """Blocks and those that lie below them."""
    _ramp(above[:, :, -2], above[:, :, -1], below[:, :, 0], below[:, :, 1])


def _soften_columns(band: torch.Tensor) -> None:
    side = band.shape[2]
    if side == PACK:
        left, right = band[:, :-1], band[:, 1:]
        _ramp(left[..., -2, :], left[..., -1, :], right[..., 0, :], right[..., 1, :])
        return
    # The halves of blocks on both sides of a border are neighbours in memory, too: to pick their pixels
    # by matrix products takes a third of the time. In the paper's network they are not.
    pick, spread = _products(side)
    halves = band.view(-1, 3 * side**2)
    pairs = halves[1:-1].view(-1, 2 * halves.shape[1])
    step = _low(pairs @ pick)
    borders = band.shape[1] // 2
    step[borders - 1 :: borders] = 0  # from the end of a row to the start of the next
    pairs.addmm_(step, spread)


def _ramp(
    far: torch.Tensor, near: torch.Tensor, next_near: torch.Tensor, next_far: torch.Tensor
) -> None:
    """Make a ramp of the step between `near` and `next_near`, two pixels wide on either side."""
    step = _low(next_near - near)
    for pixels, share in zip((far, near, next_near, next_far), _SHARES, strict=True):
        pixels.add_(step, alpha=share)


def _low(step: torch.Tensor) -> torch.Tensor:
    """The part of steps that is taken away, in place: all of the lowest, nothing of high ones."""
    return step.mul_((1 - step.abs() / _BORDER_STEP).clamp_(min=0))


@functools.cache
def _products(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`_ramp` across columns for two neighbouring blocks of side x side pixels as matrices: the steps
    (values of both blocks, steps) of every row and colour, and what is added for them (steps, values).
    """
    columns = 2 * side  # across both blocks
    pick, spread = torch.zeros(columns), torch.zeros(columns)
    pick[side - 1], pick[side] = -1, 1
    spread[side - 2 : side + 2] = torch.tensor(_SHARES)

    def for_all(weights: torch.Tensor) -> torch.Tensor:
        every = torch.eye(3 * side).view(side, 3, side, 3)  # row and colour
        both = torch.einsum("bx,rcsd->brxcsd", weights.view(2, side), every)
        return both.reshape(-1, 3 * side)

    return for_all(pick), for_all(spread).T.contiguous()
