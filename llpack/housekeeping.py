"""The server's temporary folder: one for each process, swept at the start and while it runs.

Gradio deletes the files that it knows about (its `delete_cache`). It forgets an empty file for each
upload it hands over, what an abandoned upload left, emptied folders, and all of it when killed.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

KEEP_SECONDS = 3600  # what the page tells its visitors
SWEEP_SECONDS = 600
PREFIX = "llpack-page-"  # the process number follows


def fresh_folder(base: Path | None = None) -> Path:
    """A new, empty folder for this process; what dead processes left behind is removed.

    base : where it lies, by default the system's temporary folder
    """
    base = Path(base or tempfile.gettempdir())
    for folder in base.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX)
        # In a container, a restarted server often has the number of the one before.
        if pid.isdecimal() and (int(pid) == os.getpid() or not _alive(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)
    own = base / f"{PREFIX}{os.getpid()}"
    own.mkdir(mode=0o700, parents=True)
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own.resolve()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # only asks
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    return True


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def sweep(folder: Path, keep: set[Path], older_than: float) -> None:
    """Delete files and empty folders that have not changed for `older_than` seconds."""
    limit = time.time() - older_than
    # Deepest first, so that a folder is empty when its turn comes.
    for path in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # gone already, or a folder that is not empty
            if path in keep or path.lstat().st_ctime > limit:
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def start_sweeping(folder: Path, keep: set[Path], also: Callable[[], None]) -> threading.Event:
    """Sweep every ten minutes in a thread, and call `also`, until the returned event is set.

    Files get some minutes more than promised, so that Gradio deletes what it keeps books on.
    """
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(SWEEP_SECONDS):
            sweep(folder, keep, KEEP_SECONDS + 2 * SWEEP_SECONDS)
            also()

    threading.Thread(target=run, name="housekeeping", daemon=True).start()
    return stop
