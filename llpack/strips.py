"""How a frame is cut into strips, each some rows of the 1/16 grid that are computed together."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Strip:
    """Rows `first` to `last` of the 1/16 grid, which need rows `top` to `bottom` to be computed."""

    first: int
    last: int
    top: int
    bottom: int

    @property
    def own(self) -> slice:
        """Its own rows among those from `top` on."""
        return slice(self.first - self.top, self.last - self.top)


def cut(
    rows: tuple[int, int], grid: tuple[int, int], positions: int, halo: int, threads: int = 1
) -> list[Strip]:
    """Even strips of some rows, of about `positions` positions each, their halo included.

    grid : rows and columns of the frame's 1/16 grid
    threads : that share the strips, as many for each
    """
    first, last = rows
    height, columns = grid
    tallest = max(2 * halo, 4, positions // columns - 2 * halo)
    if last - first <= positions // columns:
        tallest = last - first  # a whole frame has no halo
    count = -(-(last - first) // tallest)
    if last - first >= 4 * threads:
        count = -(-count // threads) * threads
    edges = [first + (last - first) * i // count for i in range(count + 1)]
    return [
        Strip(a, b, *with_halo(a, b, height, halo)) for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]


def with_halo(first: int, last: int, height: int, halo: int) -> tuple[int, int]:
    """First and last row with `halo` more on either side, as far as there are any."""
    return max(0, first - halo), min(height, last + halo)


class LatestRows:
    """Rows of the 1/16 grid, (1, C, rows, columns), as they come; the oldest can be forgotten."""

    def __init__(self):
        self._first, self._kept = 0, None

    @property
    def last(self) -> int:
        return self._first + (0 if self._kept is None else self._kept.shape[2])

    def append(self, rows: torch.Tensor) -> None:
        self.room(rows.shape[1:], rows.dtype).copy_(rows)

    def room(self, shape: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
        """(1, C, rows, columns) of new rows, (C, rows, columns) in size, to be filled in."""
        channels, rows, columns = shape
        old = 0 if self._kept is None else self._kept.shape[2]
        size = 1, channels, old + rows, columns
        longer = torch.empty(size, dtype=dtype, memory_format=torch.channels_last)
        if old:
            longer[:, :, :old] = self._kept
        self._kept = longer
        return longer[:, :, old:]

    def forget(self, before: int) -> None:
        """Free all rows before row number `before`."""
        if before > self._first and self._kept is not None:
            self._kept = self._kept[:, :, before - self._first :].clone()
            self._first = before

    def __getitem__(self, rows: slice) -> torch.Tensor:
        return self._kept[:, :, rows.start - self._first : rows.stop - self._first]
