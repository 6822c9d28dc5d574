"""A small stand-in for a frame, for the live preview while a slider moves."""

import dataclasses

import numpy as np

from llpack.banding import row_offsets
from llpack.packing import CFA_PERIOD
from llpack.raw import MIN_SIDE, RawFrame

PREVIEW_PIXELS = 500_000  # nearly as wide as the page shows a picture


def reduced(frame: RawFrame, pixels: int = PREVIEW_PIXELS) -> RawFrame:
    """The frame at about `pixels` or less: sites of one colour averaged, so the CFA stays an RGGB.

    Averages keep their fractions: black and white level grow with the values as far as 16 bits go.
    Row noise is taken off, because of averages it can no longer be told from the scene. A frame that is
    small already comes back as it is.
    """
    factor = int(np.ceil((frame.mosaic.size / pixels) ** 0.5))
    factor = min(factor, min(frame.mosaic.shape) // MIN_SIDE)
    if factor < 2:
        return frame
    scale = max(1.0, np.floor(65535 / frame.white_level))
    rows, columns = (side // (CFA_PERIOD * factor) for side in frame.mosaic.shape)
    mosaic = np.empty((rows * CFA_PERIOD, columns * CFA_PERIOD), np.uint16)
    offsets = row_offsets(frame)
    for top in range(CFA_PERIOD):
        for left in range(CFA_PERIOD):
            plane = frame.mosaic[top::CFA_PERIOD, left::CFA_PERIOD]
            plane = plane[: rows * factor, : columns * factor]
            # Whole rows first: long contiguous additions, ten times faster than small blocks.
            sums = plane.reshape(rows, factor, -1).sum(1, dtype=np.uint32)
            means = sums.reshape(rows, columns, factor).sum(2) / factor**2
            too_high = offsets[top::CFA_PERIOD][: rows * factor].reshape(rows, factor, 1).mean(1)
            values = (means - too_high) * scale + 0.5
            mosaic[top::CFA_PERIOD, left::CFA_PERIOD] = values.clip(0, 65535)
    return dataclasses.replace(
        frame,
        mosaic=mosaic,
        black_level=tuple(black * scale for black in frame.black_level),
        white_level=frame.white_level * scale,
    )
