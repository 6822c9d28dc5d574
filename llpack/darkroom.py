"""What the page needs between two clicks: frames that are decoded once, pictures in files.

Frames are kept by the path of their upload, a few at a time. Pictures are written to a folder of
our own, each under an unguessable name, and swept away when they are old.
"""

import shutil
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llpack.engine import Restored, Restorer, Stages, plain_picture
from llpack.files import write_picture
from llpack.isolation import read_raw_isolated
from llpack.preview import reduced
from llpack.raw import RawFrame

KEPT_FRAMES = 3  # 24 MB each at 12 MP
KEEP_SECONDS = 3600


@dataclass
class _Kept:
    frame: RawFrame
    seconds_to_read: float | None  # None once they have been shown
    small: RawFrame | None = None


@dataclass(frozen=True)
class Pair:
    """Before and after as JPEG files of the same size, and how the after came about."""

    before: Path
    after: Path
    restored: Restored


class Darkroom:
    """Opens uploads and develops them; safe to call from several threads, one works at a time."""

    def __init__(self, restorer: Restorer, folder: Path):
        self.restorer, self.folder = restorer, Path(folder)
        self._kept: OrderedDict[Path, _Kept] = OrderedDict()
        self._lock = threading.RLock()
        shutil.rmtree(self.folder, ignore_errors=True)  # what an earlier run left behind
        self.folder.mkdir(parents=True)

    def open(self, path: Path) -> RawFrame:
        """The frame of a file, decoded now or before. Raises LlpackError."""
        with self._lock:
            return self._keep(Path(path)).frame

    def develop(self, path: Path, amplification: float | None, *, untouched: bool = False) -> Pair:
        """Restore a file; `untouched` shows the dark frame as it is in place of the amplified one."""
        with self._lock:
            kept = self._keep(Path(path))
            stages = Stages()
            if kept.seconds_to_read is not None:
                stages.seconds["read"], kept.seconds_to_read = kept.seconds_to_read, None
            restored = self.restorer.restore(kept.frame, amplification, stages=stages)
            with stages("encode"):
                after = self._write(restored.picture, kept.frame, path, restored.amplification)
            before = self._before(kept.frame, path, restored.amplification, untouched)
            return Pair(before, after, restored)

    def preview(self, path: Path, amplification: float, *, untouched: bool = False) -> Pair:
        """The same pair at a few hundred thousand pixels, quick enough to follow a slider."""
        with self._lock:
            kept = self._keep(Path(path))
            if kept.small is None:
                kept.small = reduced(kept.frame)
            restored = self.restorer.restore(kept.small, amplification)
            after = self._write(restored.picture, kept.small, path, amplification)
            before = self._before(kept.small, path, amplification, untouched)
            return Pair(before, after, restored)

    def before(self, path: Path, amplification: float, *, untouched: bool) -> Path:
        """Only the left side, when just that is to change."""
        with self._lock:
            return self._before(self._keep(Path(path)).frame, path, amplification, untouched)

    def export_tiff(self, path: Path, amplification: float) -> Path:
        """The restored picture as a 16-bit TIFF, made on demand."""
        with self._lock:
            frame = self._keep(Path(path)).frame
            restored = self.restorer.restore(frame, amplification, bits=16)
            return self._write(restored.picture, frame, path, amplification, "tiff")

    def _keep(self, path: Path) -> _Kept:
        if path not in self._kept:
            started = time.perf_counter()
            frame = read_raw_isolated(path)
            self._kept[path] = _Kept(frame, time.perf_counter() - started)
            while len(self._kept) > KEPT_FRAMES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return self._kept[path]

    def _before(self, frame: RawFrame, path, amplification: float, untouched: bool) -> Path:
        factor = 1.0 if untouched else amplification
        return self._write(plain_picture(frame, factor), frame, path, factor, name="plain")

    def _write(
        self,
        picture: np.ndarray,
        frame: RawFrame,
        path: Path,
        amplification: float,
        format: str = "jpg",
        name: str = "llpack",
    ) -> Path:
        self._sweep()
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        target = folder / f"{Path(path).stem}_{name}_x{amplification:.3g}.{format}"
        write_picture(target, picture, frame.exif, format=format)
        return target

    def _sweep(self) -> None:
        """Remove what is older than an hour; visitors' pictures are nobody else's business."""
        oldest = time.time() - KEEP_SECONDS
        for folder in self.folder.iterdir():
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
