"""Contact sheet: the same place in several pictures of a scene, side by side at 100 %."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter

CROP = 256  # pixels a side
_GAP, _LINE, _FONT_SIZE = 6, 22, 14
_PAPER, _INK = (24, 24, 24), (235, 235, 235)


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One line of the sheet. crops: column -> (CROP, CROP, 3) uint8 at most; quality: its PSNR, not
    a number without a truth to tell it by."""

    label: str
    quality: float
    crops: dict[str, np.ndarray]


def cut(label: str, quality: float, pictures: dict[str, np.ndarray], truth: np.ndarray) -> SheetRow:
    """The square of each picture where the truth has the most detail. All have the same size."""
    return SheetRow(label, quality, crops_at(most_detailed(truth), pictures))


def crops_at(place: tuple[int, int], pictures: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The square of each picture with its top and left at `place`."""
    top, left = place
    window = np.s_[top : top + CROP, left : left + CROP]
    return {name: picture[window].copy() for name, picture in pictures.items()}


def most_detailed(picture: np.ndarray) -> tuple[int, int]:
    """Top and left of the CROP square with the largest mean difference between neighbours."""
    grey = picture.mean(2)
    edges = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    size = [min(CROP, side) for side in grey.shape]
    means = uniform_filter(edges, size, mode="constant")
    # Only windows that lie inside; the filter names a window by its middle.
    middles = [
        slice(part // 2, side - part + part // 2 + 1)
        for part, side in zip(size, grey.shape, strict=True)
    ]
    inside = means[middles[0], middles[1]]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return int(top), int(left)


def spread(rows: Sequence[SheetRow], count: int) -> list[SheetRow]:
    """`count` of the rows from the worst to the best, equally far apart in rank; both included."""
    ranked = sorted(rows, key=lambda row: row.quality)
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return [ranked[round(place)] for place in places]


def draw(rows: Sequence[SheetRow]) -> np.ndarray:
    """The sheet, (H, W, 3) uint8: a heading over each column, a label under each row.

    All rows have the columns of the first. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row")
    columns = list(rows[0].crops)
    width = _GAP + len(columns) * (CROP + _GAP)
    sheet = Image.new("RGB", (width, _LINE + len(rows) * (CROP + _LINE + _GAP)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for index, name in enumerate(columns):
        pen.text((_GAP + index * (CROP + _GAP), 3), name, _INK, font)
    for line, row in enumerate(rows):
        top = _LINE + line * (CROP + _LINE + _GAP)
        for index, name in enumerate(columns):
            crop = Image.fromarray(row.crops[name])
            sheet.paste(crop, (_GAP + index * (CROP + _GAP), top))
        pen.text((_GAP, top + CROP + 3), row.label, _INK, font)
    return np.asarray(sheet)
