"""Read strangers' RAW files in a child process that may crash, hang or be taken over.

LibRaw is a large C++ library that parses binary files, and has known faults. Here it runs where it
can reach neither the server's memory nor its secrets, and can be killed. See SECURITY.md.
"""

import atexit
import contextlib
import functools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

from llpack import refusals
from llpack.decoder_process import IN, OUT, PIXELS
from llpack.errors import LimitExceeded, LlpackError, UnreadableRaw, UnsupportedSensor
from llpack.handover import MAX_HEADER_BYTES, MAX_PIXEL_BYTES, BadAnswer, received_frame
from llpack.raw import RawFrame

MAX_FILE_MB = 250  # of 1e6 bytes, as people's file managers count
TIMEOUT_S = 20.0
START_TIMEOUT_S = 60.0  # the child starts in 0.3 s, on a busy machine in a few
MEMORY_MB = 2048  # address space of the child; LibRaw's own limit for one picture is the same
FILES_PER_CHILD = 20
THREADS = 2  # of LibRaw
FOLDER_PREFIX = "llpack-decoder-"  # in the system's temporary folder; the server's pid follows

CHILD_COMMAND = (sys.executable, "-m", "llpack.decoder_process")
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
_TRY_INSTEAD = (
    "Copy it from the camera's card again, or convert it with Adobe DNG Converter and use the DNG."
)


class DecoderStopped(Exception):
    """How the child failed, for logs: it is the cause of the error that the user sees."""


def read_raw_isolated(
    path: str | Path, *, timeout_s: float = TIMEOUT_S, memory_mb: int = MEMORY_MB
) -> RawFrame:
    """`llpack.raw.read_raw` in a child process that all callers share; see `Decoder.read`."""
    return _shared_decoder(memory_mb).read(path, timeout_s=timeout_s)


@functools.cache
def _shared_decoder(memory_mb: int) -> "Decoder":
    _remove_folders_of_dead_servers()
    decoder = Decoder(memory_mb=memory_mb)
    atexit.register(decoder.close)
    return decoder


def _remove_folders_of_dead_servers() -> None:
    """What a server that was killed could not remove itself."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        pid = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if os.name == "posix" and pid.isdecimal():
            try:
                os.kill(int(pid), 0)  # only asks
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except (OSError, OverflowError):
                continue  # another user's


class Decoder:
    """A warm child process that decodes one file at a time; usable from several threads.

    The child is replaced after ``files_per_child`` files and after anything but a frame or a
    refusal. Its successor is started at once, so that the next file finds it warm.
    """

    def __init__(self, *, memory_mb: int = MEMORY_MB, files_per_child: int = FILES_PER_CHILD) -> None:
        self._memory_mb = memory_mb
        self._files_per_child = files_per_child
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process number of the child that takes the next file."""
        return self._child.process.pid if self._child else None

    def start(self) -> None:
        """Start the child, so that the first file does not wait for it."""
        with self._lock:
            self._living_child()

    def close(self) -> None:
        with self._lock:
            self._stop()

    def read(self, path: str | Path, *, timeout_s: float = TIMEOUT_S) -> RawFrame:
        """Decode a RAW file.

        Raises
        ------
        UnreadableRaw : not a RAW file, damaged, not decodable, or the decoder crashed on it
        UnsupportedSensor : decodes, but is not a Bayer mosaic
        LimitExceeded : too many bytes or pixels, or more time or memory than allowed
        LlpackError : the decoder cannot be started
        """
        path = Path(path)
        _refuse_before_work(path)
        with self._lock:
            try:
                return self._read(path, timeout_s)
            except OSError as error:
                raise LlpackError(
                    f"{path.name} could not be handed to the decoder: {error.strerror or error}. "
                    "Free some disk space or memory and try again."
                ) from error

    def _read(self, path: Path, timeout_s: float) -> RawFrame:
        child = self._living_child()
        try:
            frame = child.decode(path, timeout_s)
        except (DecoderStopped, BadAnswer) as error:
            self._renew()
            raise UnreadableRaw(
                f"{path.name} could not be read: the decoder failed on it. {_TRY_INSTEAD}"
            ) from error
        except TimeoutError as error:
            self._renew()
            raise LimitExceeded(
                f"{path.name} takes too long to decode: {timeout_s:g} seconds are the limit. "
                f"It may be damaged. {_TRY_INSTEAD}"
            ) from error
        except (UnreadableRaw, UnsupportedSensor):
            self._count_file(child)
            raise
        except Exception:  # out of memory or disk: its state is not known
            self._renew()
            raise
        except BaseException:  # interrupted by Ctrl-C: no successor is needed
            self._stop()
            raise
        self._count_file(child)
        return frame

    def _living_child(self) -> "_Child":
        """The child, started or replaced if need be, when it is ready."""
        if self._child is None or self._child.process.poll() is not None:
            self._stop()
            self._child = _Child(self._memory_mb)
        try:
            self._child.wait_until_ready()
        except (DecoderStopped, TimeoutError) as error:
            self._stop()
            raise LlpackError("The RAW decoder could not be started. Try again in a minute.") from error
        return self._child

    def _count_file(self, child: "_Child") -> None:
        child.files += 1
        if child.files >= self._files_per_child:
            self._renew()

    def _renew(self) -> None:
        """Replace the child; if that is not possible now, the next file tries again."""
        self._stop()
        with contextlib.suppress(OSError):
            self._child = _Child(self._memory_mb)

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.stop()


def _refuse_before_work(path: Path) -> None:
    """Raise for what can be refused without the child: no plain file, too large, another type."""
    if path.exists() and not path.is_dir() and not path.is_file():
        raise UnreadableRaw(f"{path.name} is not a plain file. Upload the camera's RAW file.")
    refusals.refuse_other_files(path)
    megabytes = path.stat().st_size / 1e6
    if megabytes > MAX_FILE_MB:
        raise LimitExceeded(
            f"{path.name} has {megabytes:.0f} MB; at most {MAX_FILE_MB} MB are accepted. "
            "Use a smaller file, for instance with lossless compression."
        )


class _Child:
    """One process with its folder: ``in`` for the file to read, ``out`` for the pixels."""

    def __init__(self, memory_mb: int) -> None:
        self.files = 0
        self._ready = False
        prefix = f"{FOLDER_PREFIX}{os.getpid()}-"
        self._folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        try:
            (self._folder / IN).mkdir()
            (self._folder / OUT).mkdir()
            # Kept open: whatever the child does to the name, this is the file that is read.
            self._pixels = open(self._folder / OUT / PIXELS, "w+b", buffering=0)  # noqa: SIM115
            self.process = subprocess.Popen(
                [*CHILD_COMMAND, str(memory_mb), str(MAX_PIXEL_BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=_environment(self._folder),
                cwd=self._folder,
                start_new_session=True,
            )
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._listen()

    def wait_until_ready(self) -> None:
        """Raises DecoderStopped or TimeoutError."""
        if not self._ready:
            if self._answer(START_TIMEOUT_S) != b'{"ready": true}\n':
                raise DecoderStopped("it did not say that it is ready")
            self._ready = True

    def decode(self, path: Path, timeout_s: float) -> RawFrame:
        """Raises the child's refusal, DecoderStopped, BadAnswer or TimeoutError."""
        # LibRaw is given names in UTF-8; an old disk may have others.
        name = path.name.encode("utf-8", "replace").decode()
        given = self._folder / IN / name
        _link_or_copy(path, given)
        try:
            request = {"name": name, "cpu_seconds": THREADS * timeout_s}
            self._listen()
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            return received_frame(self._answer(timeout_s), self._pixels)
        except BrokenPipeError:
            raise DecoderStopped(self._how_it_ended()) from None
        finally:
            given.unlink(missing_ok=True)
            self._pixels.truncate(0)

    def _listen(self) -> None:
        """Read one answer in a thread: only so can it be waited for on every system."""
        self._listener = threading.Thread(target=self._read_answer, daemon=True)
        self._listener.start()

    def _read_answer(self) -> None:
        line = b""
        while len(line) <= MAX_HEADER_BYTES and not line.endswith(b"\n"):
            part = self.process.stdout.read(MAX_HEADER_BYTES)
            if not part:
                break
            line += part
        self._answers.put(line)

    def _answer(self, timeout_s: float) -> bytes:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None
        if not line:
            raise DecoderStopped(self._how_it_ended())
        return line

    def _how_it_ended(self) -> str:
        try:
            status = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        if status < 0:
            return f"signal {signal.Signals(-status).name}"
        return f"exit status {status}"

    def stop(self) -> None:
        """Kill the process with all that it started, and remove its folder."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (AttributeError, OSError):  # Windows; or it is gone already
            self.process.kill()
        self.process.wait()
        self._listener.join(timeout=1)
        self.process.stdin.close()
        if not self._listener.is_alive():
            self.process.stdout.close()
        self._pixels.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """All variables of the child: none of the server's secrets, the same modules."""
    here = str(Path(__file__).resolve().parent.parent)
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join([here, *filter(os.path.isabs, sys.path)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(THREADS),
        "OPENBLAS_NUM_THREADS": "1",  # no threads before the process is confined
        "MALLOC_ARENA_MAX": str(THREADS),  # each arena takes 64 MiB of address space
    }


def _link_or_copy(path: Path, target: Path) -> None:
    """Link where that is possible: at once, and the child cannot write there."""
    path = path.resolve()
    try:
        if hasattr(os, "geteuid") and path.stat().st_uid != os.geteuid():
            raise PermissionError  # without privileges the child may not read another user's file
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
