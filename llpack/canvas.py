"""The finished picture of a frame as it grows, strip by strip, from what the network drew."""

import threading

import numpy as np
import torch

from llpack.area_light import AreaLight, doubt
from llpack.packing import STRIDE
from llpack.raw import RawFrame
from llpack.rendering import CODE_TYPES, place_strip, render_packed, unpack_codes, upright_size
from llpack.strips import Strip


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
        self._waiting: list[tuple[Strip, torch.Tensor]] = []
        self._lock = threading.Lock()

    def measure(self, strip: Strip, mosaic: torch.Tensor) -> None:
        """Note the light of a strip, (1, 1, h, W) with its halo, before any is drawn near it."""
        if self._areas is not None:
            own = slice(strip.own.start * STRIDE, strip.own.stop * STRIDE)
            self._areas.measure(strip.first, strip.last, mosaic[:, :, own])

    def paint(self, strip: Strip, drawn: torch.Tensor) -> None:
        """What the network drew of a strip, (h/p, W/p, p, p, 3); overwritten.

        It waits for `finish_one` until the strips around it have been drawn, too.
        """
        if self._areas is None:
            # Truncated, as in the authors' evaluation.
            codes = drawn.clamp_(0, 1).mul_(2**self._bits - 1).to(CODE_TYPES[self._bits])
            self._place(strip, unpack_codes(codes))
            return
        for row, light in enumerate(drawn.split(STRIDE // drawn.shape[2]), strip.first):
            # One row of the grid after the other: it stays in the cache.
            self._areas.draw(row, row + 1, light.clamp_(0, 1).square_())
        with self._lock:
            self._waiting.append((strip, drawn))

    def finish_one(self) -> bool:
        """Bring one of the waiting strips into the picture; False when none is ready."""
        with self._lock:
            waiting = enumerate(self._waiting)
            ready = [i for i, (one, _) in waiting if self._areas.known(one.first, one.last)]
            if not ready:
                return False
            strip, light = self._waiting.pop(ready[0])
        correction = self._areas.correction(strip.first, strip.last, light.shape[2])
        to_srgb = self._frame.camera_to_srgb
        self._place(strip, render_packed(light, to_srgb, correction, bits=self._bits))
        return True

    def _place(self, strip: Strip, codes: np.ndarray) -> None:
        frame = self._frame
        height = min(strip.last * STRIDE, frame.height) - strip.first * STRIDE
        codes = codes[:height, : frame.width]
        place_strip(self.picture, codes, strip.first * STRIDE, frame.orientation)


def empty_picture(frame: RawFrame, bits: int) -> np.ndarray:
    """(H, W, 3) of the frame's upright size, to be filled in."""
    height, width = upright_size(frame.height, frame.width, frame.orientation)
    return np.empty((height, width, 3), np.uint8 if bits == 8 else np.uint16)
