"""What the page needs between two clicks: frames that are decoded once, pictures in files.

Frames are kept by the path of their upload, a few at a time. Pictures are written to a folder of
our own, each under an unguessable name; `housekeeping` sweeps them away when they are old.
"""

import functools
import time
import uuid
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from llpack.engine import Restored, Restorer, Stages, plain_picture
from llpack.errors import OutputError
from llpack.files import FORMATS, write_picture
from llpack.isolation import read_raw_isolated
from llpack.preview import reduced
from llpack.raw import RawFrame

KEPT_FRAMES = 3  # 24 MB each at 12 MP


def factor_text(factor: float) -> str:
    """A factor with three digits: 1.26, 22.6, 226, 1000."""
    return f"{factor:.0f}" if factor >= 99.5 else f"{factor:.3g}"


@dataclass
class _Kept:
    frame: RawFrame
    seconds_to_read: float | None  # None once they have been shown
    small: RawFrame | None = None
    estimate: float | None = None
    used: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Pair:
    """Before and after as JPEG files of the same size, and how the after came about."""

    before: Path
    after: Path
    restored: Restored


def _one_at_a_time(method):
    """Run a method in the darkroom's own thread.

    The web server calls from up to 40 threads, and each that ever computes keeps helper threads and
    scratch memory of its own: several hundred MB after some visitors.
    """

    @functools.wraps(method)
    def submitted(self, *arguments, **options):
        return self._worker.submit(method, self, *arguments, **options).result()

    return submitted


class Darkroom:
    """Opens uploads and develops them; safe to call from several threads, one works at a time.

    Every method that takes a path raises LlpackError for a file that cannot be restored.
    """

    def __init__(self, restorer: Restorer, folder: Path):
        self.restorer, self.folder = restorer, Path(folder)
        self._kept: OrderedDict[Path, _Kept] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="darkroom")
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self.folder.mkdir(parents=True, exist_ok=True)

    @_one_at_a_time
    def open(self, path: Path) -> RawFrame:
        """The frame of a file, decoded now or before."""
        return self._keep(Path(path)).frame

    @_one_at_a_time
    def estimate(self, path: Path) -> float | None:
        """The estimated amplification of a file; None when the weights cannot estimate one."""
        kept = self._keep(Path(path))
        if kept.estimate is None and self.restorer.weights.amplifier is not None:
            kept.estimate = self.restorer.estimate(kept.frame)
        return kept.estimate

    @_one_at_a_time
    def develop(
        self,
        path: Path,
        amplification: float | None,
        *,
        source: str = "chosen",
        untouched: bool = False,
    ) -> Pair:
        """Restore a file; `untouched`: before is the dark frame as it is, not the amplified one."""
        frame, restored = self._restored(Path(path), amplification, source, 8)
        encoding = self._encoder.submit(self._encode, frame, restored, path, "jpg")
        before = self._before(frame, path, restored, untouched)
        return Pair(before, encoding.result(), restored)

    @_one_at_a_time
    def picture(
        self, path: Path, amplification: float | None, *, source: str = "chosen", format: str
    ) -> tuple[Path, Restored]:
        """Only the restored picture, as a file of `format` (see `files.FORMATS`)."""
        frame, restored = self._restored(Path(path), amplification, source, FORMATS[format])
        return self._encode(frame, restored, path, format), restored

    @_one_at_a_time
    def preview(
        self, path: Path, amplification: float, *, source: str = "chosen", untouched: bool = False
    ) -> Pair:
        """The same pair at a few hundred thousand pixels, quick enough to follow a slider."""
        kept = self._keep(Path(path))
        if kept.small is None:
            kept.small = reduced(kept.frame)
        restored = self.restorer.restore(kept.small, amplification, source=source)
        after = self._write(restored.picture, kept.small, path, amplification)
        return Pair(self._before(kept.small, path, restored, untouched), after, restored)

    @_one_at_a_time
    def before(self, path: Path, amplification: float, *, untouched: bool) -> Path:
        """Only the left side, when just that is to change."""
        frame = self._keep(Path(path)).frame
        return self._plain(frame, path, 1.0 if untouched else amplification)

    @_one_at_a_time
    def forget(self, unused_seconds: float) -> None:
        """Drop the frames that nobody has asked for in this time."""
        for path, kept in list(self._kept.items()):
            if time.monotonic() - kept.used > unused_seconds:
                del self._kept[path]

    def _keep(self, path: Path) -> _Kept:
        if path not in self._kept:
            started = time.perf_counter()
            frame = read_raw_isolated(path)
            self._kept[path] = _Kept(frame, time.perf_counter() - started)
            while len(self._kept) > KEPT_FRAMES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        self._kept[path].used = time.monotonic()
        return self._kept[path]

    def _restored(
        self, path: Path, amplification: float | None, source: str, bits: int
    ) -> tuple[RawFrame, Restored]:
        kept = self._keep(path)
        stages = Stages()
        if kept.seconds_to_read is not None:
            stages.seconds["read"], kept.seconds_to_read = kept.seconds_to_read, None
        restored = self.restorer.restore(
            kept.frame, amplification, bits=bits, source=source, stages=stages
        )
        return kept.frame, restored

    def _encode(self, frame: RawFrame, restored: Restored, path: Path, format: str) -> Path:
        with restored.stages("encode"):
            return self._write(restored.picture, frame, path, restored.amplification, format)

    def _before(self, frame: RawFrame, path: Path, restored: Restored, untouched: bool) -> Path:
        return self._plain(frame, path, 1.0 if untouched else restored.amplification)

    def _plain(self, frame: RawFrame, path: Path, factor: float) -> Path:
        target = self._target(path, factor, "jpg", "plain")
        return _save(target, plain_picture(frame, factor), frame, format="jpg", for_screen=True)

    def _write(
        self,
        picture: np.ndarray,
        frame: RawFrame,
        path: Path,
        amplification: float,
        format: str = "jpg",
    ) -> Path:
        target = self._target(path, amplification, format, "llpack")
        return _save(target, picture, frame, format=format)

    def _target(self, path: Path, amplification: float, format: str, name: str) -> Path:
        name = f"{Path(path).stem}_{name}_x{factor_text(amplification)}.{format}"
        return self.folder / uuid.uuid4().hex / name


def _save(target: Path, picture: np.ndarray, frame: RawFrame, **options) -> Path:
    """Write a picture into a folder of its own; errors do not name the server's folders."""
    try:
        target.parent.mkdir()
        write_picture(target, picture, frame.exif, **options)
    except (OSError, OutputError) as error:
        reason = getattr(error.__cause__ or error, "strerror", None) or "it could not be written"
        raise OutputError(
            f"There is no place for the picture: {reason}. Try again in an hour."
        ) from error
    return target
