"""The finished picture of a frame as it grows, strip by strip, from what the network drew."""

import threading

import numpy as np
import torch

from llpack.area_light import AreaLight, doubt, picture_averages
from llpack.packing import STRIDE
from llpack.raw import RawFrame
from llpack.rendering import place_strip, render_packed, to_codes, unpack_codes, upright_size


class Canvas:
    """One frame's picture, (H, W, 3), upright, uint8 or uint16. Any threads may paint at once.

    grid : rows and columns of the frame's 1/16 grid
    convention : of the weights. With "camera" the network draws camera RGB, square-root-encoded, whose
        large areas are brought to the mosaic's light. With "srgb", the authors' weights, it draws
        the display's colours itself, which are left as they are.
    """

    def __init__(
        self,
        frame: RawFrame,
        amplification: float,
        grid: tuple[int, int],
        bits: int,
        convention: str,
    ):
        self._frame, self._bits = frame, bits
        self.picture = empty_picture(frame, bits)
        self._areas = None
        if convention == "camera":
            self._areas = AreaLight(*grid, doubt(frame, amplification))
        self._waiting: list[tuple[int, int, torch.Tensor]] = []
        self._lock = threading.Lock()

    def measure(self, first: int, last: int, mosaic: torch.Tensor) -> None:
        """Note the light of some rows' mosaic, (1, 1, h, W), before any is drawn near them."""
        if self._areas is not None:
            self._areas.measure(first, last, mosaic)

    def paint(self, first: int, last: int, drawn: torch.Tensor) -> None:
        """What the network drew of rows `first` to `last` of the grid, (h/p, W/p, p, p, 3);
        overwritten.

        It waits for `finish_one` until the rows around it have been drawn, too.
        """
        if self._areas is None:
            # Truncated, as in the authors' evaluation.
            codes = to_codes(drawn.clamp_(0, 1).mul_(2**self._bits - 1), self._bits)
            self._place(first, last, unpack_codes(codes))
            return
        # One row of the grid after the other: it stays in the cache.
        rows = drawn.split(STRIDE // drawn.shape[2])
        averages = [picture_averages(light.clamp_(0, 1).square_()) for light in rows]
        self._areas.draw(first, last, torch.cat(averages, 1))
        with self._lock:
            self._waiting.append((first, last, drawn))

    def finish_one(self) -> bool:
        """Bring some of the waiting rows into the picture; False when none are ready."""
        with self._lock:
            waiting = enumerate(self._waiting)
            ready = next((i for i, rows in waiting if self._areas.known(*rows[:2])), None)
            if ready is None:
                return False
            first, last, light = self._waiting.pop(ready)
        correction = self._areas.correction(first, last, light.shape[2])
        to_srgb = self._frame.camera_to_srgb
        self._place(first, last, render_packed(light, to_srgb, correction, bits=self._bits))
        return True

    def _place(self, first: int, last: int, codes: np.ndarray) -> None:
        frame = self._frame
        height = min(last * STRIDE, frame.height) - first * STRIDE
        codes = codes[:height, : frame.width]
        place_strip(self.picture, codes, first * STRIDE, frame.orientation)


def empty_picture(frame: RawFrame, bits: int) -> np.ndarray:
    """(H, W, 3) of the frame's upright size, to be filled in."""
    height, width = upright_size(frame.height, frame.width, frame.orientation)
    return np.empty((height, width, 3), np.uint8 if bits == 8 else np.uint16)
