"""From a RawFrame to a picture: amplify, network, render, in strips, with the time of each stage.

No float image of the whole frame ever exists: strips of the mosaic are amplified, restored and
rendered one after the other, and each is written straight to its place in the upright picture.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from llpack.amplifier import AMPLIFICATION_RANGE, amplify
from llpack.banding import row_offsets
from llpack.canvas import Canvas, empty_picture
from llpack.errors import LlpackError
from llpack.inference import (
    DRAW_HALO,
    LOOK_HALO,
    TAKE_HALO,
    WIDEN_HALO,
    Features,
)
from llpack.machine import keep_freed_memory, peak_memory_mib, usable_cpus
from llpack.memory_layout import pixels_last
from llpack.packing import PACK, STRIDE, pad_to_stride
from llpack.precision import fastest_inference, inference_in
from llpack.raw import RawFrame
from llpack.rendering import Demosaic, place_strip, render_strip
from llpack.softening import soften
from llpack.strips import LatestRows, cut, with_halo
from llpack.weights import Weights, load_weights

# Positions of the 1/16 grid in one strip, its halo included. All threads share a strip of `look`, which
# repeats many rows on either side and is as tall as memory allows (a whole frame of 12 MP), and one of
# `widen`, which repeats fewer and has four times the positions. `take` and `draw` repeat hardly any,
# and each thread has a strip of its own. What is drawn goes on in bands, of which few wait at a time on
# the way to the finished picture.
LOOK_POSITIONS = 48_000
WIDEN_POSITIONS = 26_000
TAKE_POSITIONS = 4_000
BAND_POSITIONS = 1_600
PLAIN_ROWS = 512  # of the mosaic, in one strip of the plain picture; even


@dataclass
class Stages:
    """Seconds of each stage, in the order in which they first ran."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def add_concurrent(self, wall_seconds: float, parts: list["Stages"]) -> None:
        """Time that several threads spent at once: wall time, split as the threads' own clocks."""
        busy = sum(part.total for part in parts)
        for part in parts:
            for name, seconds in part.seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + wall_seconds * seconds / busy


@dataclass(frozen=True)
class Restored:
    """A restored picture and how it came about.

    picture : (H, W, 3), upright, sRGB; uint8, or uint16 when 16 bits were asked for
    amplification : the factor used
    amplification_source : "estimated", "chosen" or "exposure ratio"
    """

    picture: np.ndarray
    amplification: float
    amplification_source: str
    weights: Weights
    stages: Stages
    threads: int
    precision: str
    megapixels: float
    peak_memory_mib: float

    @property
    def megapixels_per_second(self) -> float:
        return self.megapixels / self.stages.total

    def table(self) -> list[tuple[str, str]]:
        """The runtime readout, as (label, value) rows for people."""
        rows = [(name, f"{seconds:.3f} s") for name, seconds in self.stages.seconds.items()]
        return [
            *rows,
            ("total", f"{self.stages.total:.3f} s"),
            ("speed", f"{self.megapixels_per_second:.1f} MP/s ({self.megapixels:.1f} MP)"),
            ("amplification", f"x{self.amplification:.4g} ({self.amplification_source})"),
            ("computed with", f"{self.threads} threads, {self.precision}"),
            ("peak memory", f"{self.peak_memory_mib:.0f} MiB"),
            ("weights", f"{self.weights.name}, {self.weights.source}"),
            ("sha256", self.weights.sha256[:16]),
        ]


class Restorer:
    """The network, ready to restore frames; one object serves any number of them, one at a time.

    precision : one of `precision.PRECISIONS`; by default the fastest whose picture is right
    """

    def __init__(self, weights: Weights, precision: str | None = None):
        self.weights = weights
        self.threads = usable_cpus()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="draw")
        keep_freed_memory()
        torch.set_num_threads(self.threads)
        self._inference = inference_in(precision, weights) if precision else fastest_inference(weights)

    @property
    def precision(self) -> str:
        return self._inference.name

    def estimate(self, frame: RawFrame) -> float:
        """The amplification that the histogram network chooses for a frame."""
        if self.weights.amplifier is None:
            raise LlpackError(
                f"The weights '{self.weights.name}' cannot estimate an amplification: "
                "give a number from 1 to 1000."
            )
        return self.weights.amplifier.estimate(frame)

    def restore(
        self,
        frame: RawFrame,
        amplification: float | None = None,
        *,
        bits: int = 8,
        source: str = "chosen",
        stages: Stages | None = None,
    ) -> Restored:
        """Restore a frame; `amplification` None estimates it.

        stages : clock to go on with, when reading the file has been timed already.
        Raises LlpackError for an amplification outside 1..1000.
        """
        stages = Stages() if stages is None else stages
        if amplification is None:
            with stages("amplify"):
                amplification, source = self.estimate(frame), "estimated"
        amplification = checked_amplification(amplification)
        with torch.inference_mode():
            picture = self._picture(frame, amplification, bits, stages)
        return Restored(
            picture=picture,
            amplification=amplification,
            amplification_source=source,
            weights=self.weights,
            stages=stages,
            threads=self.threads,
            precision=self.precision,
            megapixels=frame.megapixels,
            peak_memory_mib=peak_memory_mib(),
        )

    def _picture(self, frame, amplification, bits, stages) -> np.ndarray:
        torch.set_num_threads(self.threads)
        with stages("amplify"):
            light = _Light(frame, amplification, self.weights.convention, self._pool.map)
            canvas = Canvas(frame, amplification, light.grid, bits, light.convention)
        low, textures, seen, drawn = LatestRows(), LatestRows(), LatestRows(), 0
        for strip in cut((0, light.rows), light.grid, LOOK_POSITIONS, LOOK_HALO):
            self._take(light, canvas, low, textures, strip.bottom, stages)
            with stages("network"):
                seen.append(self._inference.look(low[strip.top : strip.bottom])[:, :, strip.own])
            low.forget(strip.last - LOOK_HALO)
            finished = strip.last == light.rows
            ready = strip.last if finished else strip.last - WIDEN_HALO - DRAW_HALO
            self._draw(light, canvas, (drawn, ready), seen, textures, stages)
            seen.forget(ready - WIDEN_HALO - DRAW_HALO)
            textures.forget(ready - DRAW_HALO)
            drawn = ready
        self._in_threads([partial(self._finish, canvas)] * self.threads, stages)
        return canvas.picture

    def _take(self, light, canvas, low, textures, last, stages) -> None:
        """What is taken from the mosaic's rows up to `last`, after the others in `low`, `textures`."""
        top, dtype, texture = low.last, self._inference.texture_type, None
        taken = low.room((PACK**2, last - top, light.columns), self._inference.precision)
        if dtype is not None:
            texture = _pixel_rows(textures.room((STRIDE**2, last - top, light.columns), dtype))
        strips = cut((top, last), light.grid, TAKE_POSITIONS, TAKE_HALO, self.threads)
        take = partial(self._take_strip, light, canvas, taken, texture, top)
        self._in_threads([partial(take, strip) for strip in strips], stages)

    def _draw(self, light, canvas, rows, seen, textures, stages) -> None:
        """Some rows of the picture, of what `look` has seen of them and of the rows around."""
        for strip in cut(rows, light.grid, WIDEN_POSITIONS, WIDEN_HALO + DRAW_HALO):
            with stages("network"):
                features = self._inference.widen(seen[strip.top : strip.bottom])
            # One strip for each thread.
            drawn = cut((strip.first, strip.last), light.grid, WIDEN_POSITIONS, DRAW_HALO, self.threads)
            draw = partial(self._draw_strip, light, canvas, features, textures, strip.top)
            # A thread that has no strip left finishes what others have drawn.
            finish = [partial(self._finish, canvas)] * self.threads
            self._in_threads([partial(draw, one) for one in drawn] + finish, stages)
            del features, draw  # before the next ones are made

    def _in_threads(self, jobs, stages) -> None:
        """job(stages) for all jobs, one thread for each."""

        def alone(job) -> Stages:
            torch.set_num_threads(1)  # for this thread
            own = Stages()
            with torch.inference_mode():
                job(own)
            return own

        started = time.perf_counter()
        parts = list(self._pool.map(alone, jobs))
        stages.add_concurrent(time.perf_counter() - started, parts)

    def _take_strip(self, light, canvas, low, texture, top, strip, stages) -> None:
        """One strip to its place in `low` and `texture`, which begin at row `top` of the grid."""
        with stages("amplify"):
            mosaic = light.strip(strip.top, strip.bottom)
        own = slice(strip.first - top, strip.last - top)
        with stages("network"):
            low[:, :, own] = self._inference.take(mosaic, strip.own)
            mosaic = mosaic[:, :, _pixels(strip.own)]
            if texture is not None:
                self._inference.texture(mosaic, texture[_pixels(own)])
        with stages("render"):
            canvas.measure(strip.first, strip.last, mosaic)

    def _draw_strip(self, light, canvas, features: Features, textures, top, strip, stages) -> None:
        """One strip onto the canvas; `features` begin at row `top` of the grid."""
        features, texture = features.rows(strip.top - top, strip.bottom - top), None
        if self._inference.texture_type is not None:
            texture = _pixel_rows(textures[strip.top : strip.bottom])
        height = max(1, BAND_POSITIONS // light.columns)
        bands = self._inference.draw(features, texture, height)
        above = None  # the band before, whose last pixels the next one may still change
        for row in range(strip.top, strip.bottom, height):
            with stages("network"):
                band = next(bands)
            with stages("render"):
                if light.convention == "camera":  # the authors' weights are left as they are
                    soften(band, above)
                self._paint(canvas, strip, row - height, above)
            above = band
        with stages("render"):
            self._paint(canvas, strip, row, above)

    def _paint(self, canvas, strip, top, band) -> None:
        """The strip's own rows of a band, or of none, that begins at row `top` of the grid."""
        if band is None:
            return
        blocks = STRIDE // band.shape[2]  # block rows behind one row of the 1/16 grid
        first, last = max(top, strip.first), min(top + len(band) // blocks, strip.last)
        if first < last:  # not all halo
            canvas.paint(first, last, band[(first - top) * blocks : (last - top) * blocks])
            canvas.finish_one()  # most often an earlier one

    def _finish(self, canvas, stages) -> None:
        with stages("render"):
            while canvas.finish_one():
                pass


def _pixels(rows: slice) -> slice:
    """Rows of the mosaic behind some rows of the 1/16 grid."""
    return slice(rows.start * STRIDE, rows.stop * STRIDE)


def _pixel_rows(x: torch.Tensor) -> torch.Tensor:
    """Values of single pixels kept as (1, 256, rows, columns) -> (16 * rows, 16 * columns), the same
    memory, in which they lie as in the mosaic."""
    rows, columns = x.shape[2:]
    return pixels_last(x).view(rows * STRIDE, columns * STRIDE)


class _Light:
    """The amplified mosaic of a frame, by rows of the 1/16 grid, for the weights' convention."""

    def __init__(self, frame: RawFrame, amplification: float, convention: str, each: Callable):
        self.frame, self._amplification = frame, amplification
        self.convention = convention
        self.rows, self.columns = -(-frame.height // STRIDE), -(-frame.width // STRIDE)
        if convention == "srgb":  # the authors' input, see `amplify`
            self._options = {"balanced": False, "value_range": (0.0, math.inf)}
        else:
            self._options = {"row_offsets": row_offsets(frame, each)}

    @property
    def grid(self) -> tuple[int, int]:
        return self.rows, self.columns

    def strip(self, top: int, bottom: int) -> torch.Tensor:
        """(1, 1, h, W) with h and W multiples of 16."""
        rows = slice(top * STRIDE, min(bottom * STRIDE, self.frame.height))
        return pad_to_stride(amplify(self.frame, self._amplification, rows, **self._options))


def load_restorer(weights: str | None = None, precision: str | None = None) -> Restorer:
    """A Restorer with the given weights: a path, "owner/name" on the Hub, "paper", or the default."""
    return Restorer(load_weights(weights), precision)


def plain_picture(frame: RawFrame, amplification: float, *, bits: int = 8) -> np.ndarray:
    """The honest 'before': the same amplification, white balance, colours and curve, but a bilinear
    demosaic in the network's place. Upright, (H, W, 3)."""
    amplification = checked_amplification(amplification)
    picture = empty_picture(frame, bits)
    demosaic = Demosaic()
    with torch.inference_mode():
        for first in range(0, frame.height, PLAIN_ROWS):
            last = min(first + PLAIN_ROWS, frame.height)
            top, bottom = with_halo(first, last, frame.height, 2)
            drawn = demosaic(amplify(frame, amplification, slice(top, bottom)))
            drawn = drawn[0, :, first - top : last - top]
            strip = render_strip(drawn, frame.camera_to_srgb, bits=bits)
            place_strip(picture, strip, first, frame.orientation)
    return picture


def checked_amplification(amplification: float) -> float:
    """The amplification as a float; raises LlpackError when it is not from 1 to 1000."""
    low, high = AMPLIFICATION_RANGE
    if not low <= amplification <= high:
        raise LlpackError(
            f"An amplification of {amplification:g} is not possible: "
            f"give a number from {low:g} to {high:g}, or let it be estimated."
        )
    return float(amplification)
