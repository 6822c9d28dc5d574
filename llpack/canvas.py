"""The finished picture of a frame as it grows, strip by strip, from what the network drew."""

import itertools
import threading

import numpy as np
import torch

from llpack.area_light import AreaLight, doubt
from llpack.packing import STRIDE
from llpack.raw import RawFrame
from llpack.rendering import place_strip, render_packed, unpack_codes, upright_size
from llpack.strips import Strip

_TYPES = {8: torch.uint8, 16: torch.uint16}  # of a picture's codes


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
        """What the network drew of a strip, (h/p, W/p, p, p, 3) within 0..1; overwritten.

        It comes into the picture when the strips around it have been drawn, too.
        """
        if self._areas is None:
            codes = drawn.mul_(2**self._bits - 1)  # truncated, as in the authors' evaluation
            self._place(strip, unpack_codes(codes.to(_TYPES[self._bits])))
            return
        light = drawn.square_()
        self._areas.draw(strip.first, strip.last, light)
        with self._lock:
            self._waiting.append((strip, light))
            known = [self._areas.known(one.first, one.last) for one, _ in self._waiting]
            ready = list(itertools.compress(self._waiting, known))
            self._waiting = list(itertools.compress(self._waiting, (not one for one in known)))
        for strip, light in ready:
            added = self._areas.correction(strip.first, strip.last, light.shape[2])
            to_srgb = self._frame.camera_to_srgb
            self._place(strip, render_packed(light, to_srgb, added=added, bits=self._bits))

    def _place(self, strip: Strip, codes: np.ndarray) -> None:
        frame = self._frame
        height = min(strip.last * STRIDE, frame.height) - strip.first * STRIDE
        codes = codes[:height, : frame.width]
        place_strip(self.picture, codes, strip.first * STRIDE, frame.orientation)


def empty_picture(frame: RawFrame, bits: int) -> np.ndarray:
    """(H, W, 3) of the frame's upright size, to be filled in."""
    height, width = upright_size(frame.height, frame.width, frame.orientation)
    return np.empty((height, width, 3), np.uint8 if bits == 8 else np.uint16)
