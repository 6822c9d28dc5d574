"""Visitors on loopback: many at once, with good, broken and abandoned files.

    python -m tests.load            # 8 visitors, 100 requests; starts the page itself
    python -m tests.load --soak     # one visitor, 300 good files

Every good request must get the picture that a single visitor gets; afterwards the server must answer
and its memory, open files and temporary files must be back where they were. A soak also wants the
memory of its last third no higher than that of the third before. Exit code 1 when not.
"""

import argparse
import hashlib
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from llpack.housekeeping import files_in

REPOSITORY = Path(__file__).resolve().parent.parent
START_S, REQUEST_S = 600, 600
AMPLIFICATION = 100.0  # the same for all, so that pictures can be compared
SIZES = ((128, 192), (512, 768), (1024, 1536), (2848, 4256))
SHARES = (4, 3, 2, 1)  # how often each size is sent
GROWTH_MIB, MOST_MIB, SOAK_GROWTH_MIB = 150, 3072, 30
MORE_FILES = 10  # a few may come and go
ABANDONED_BYTES = 400_000
KEEP_S, SWEEP_S = 60, 5
PROGRAM = f"""
from llpack import housekeeping
housekeeping.KEEP_SECONDS, housekeeping.SWEEP_SECONDS = {KEEP_S}, {SWEEP_S}
import app
app.main()
"""


class Server:
    """The page in a process and a temporary folder of its own, with shorter times to keep files."""

    def __init__(self, folder: Path, **environment: str):
        environment = (
            os.environ | {"GRADIO_TEMP_DIR": str(folder), "PYTHONUNBUFFERED": "1"} | environment
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self.url = self._url()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    def _url(self) -> str:
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:\d+", "".join(self.lines)):
                return found.group()
            time.sleep(0.2)
        raise SystemExit("The page did not start:\n" + "".join(self.lines))

    def mib(self, field: str = "VmRSS") -> float:
        """Memory of the server with its decoder, which it starts anew from time to time."""
        pids = [self.process.pid, *self.children()]
        return sum(_status_mib(pid, field) for pid in pids)

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def _status_mib(pid: int, field: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # a decoder that has just been replaced
        return 0.0
    found = re.search(rf"{field}:\s+(\d+)", status)
    return int(found.group(1)) / 1024 if found else 0.0


def good_files(folder: Path) -> list[Path]:
    from tests.tiny_demo import write_dark

    return [
        write_dark(folder / f"dark{n}.dng", seed=n, size=size, orientation=(1, 6, 8)[n % 3])
        for n, size in enumerate(SIZES)
    ]


def broken_files(folder: Path, good: Path) -> list[Path]:
    data = good.read_bytes()
    contents = {
        "cut.dng": data[: len(data) // 2],
        "empty.dng": b"",
        "noise.dng": b"II*\0" + random.Random(0).randbytes(5000),
        "picture.dng": b"\xff\xd8\xff\xe0" + bytes(1000),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def digest(picture: str) -> str:
    with Image.open(picture) as image:
        return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()


def restore(client: Client, path: Path) -> str:
    picture, _ = client.predict(handle_file(path), AMPLIFICATION, api_name="/restore")
    return digest(picture)


def abandon(url: str) -> None:
    """Begin an upload and hang up in its middle."""

    def half():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.dng"\r\n\r\n'
        yield bytes(ABANDONED_BYTES)
        raise ConnectionAbortedError

    headers = {"content-type": "multipart/form-data; boundary=b"}
    try:
        httpx.post(f"{url}/gradio_api/upload", content=half(), headers=headers)
    except (ConnectionAbortedError, httpx.HTTPError):
        pass


class Visit:
    """One request of one visitor, and what came of it.

    mix : how often good, broken and abandoned uploads come
    """

    def __init__(self, server: Server, good: dict[Path, str], broken: list[Path], downloads: Path, mix):
        self.server, self.good, self.broken = server, good, broken
        self.downloads, self.mix = downloads, mix
        self.mib: list[float] = []  # after each request

    def __call__(self, number: int) -> str:
        outcome = self._visit(random.Random(number))
        self.mib.append(self.server.mib())
        return outcome

    def _visit(self, chance: random.Random) -> str:
        kind = chance.choices(("good", "broken", "abandoned"), self.mix)[0]
        if kind == "abandoned":
            abandon(self.server.url)
            return kind
        client = Client(
            self.server.url, verbose=False, analytics_enabled=False,
            download_files=str(self.downloads), httpx_kwargs={"timeout": REQUEST_S},
        )  # fmt: skip
        try:
            if kind == "good":
                path = chance.choices(list(self.good), SHARES)[0]
                right = restore(client, path) == self.good[path]
                return "right picture" if right else "WRONG PICTURE"
            restore(client, chance.choice(self.broken))
            return "PICTURE OF A BROKEN FILE"
        except AppError as error:
            return self._of_error(kind, str(error))
        finally:
            client.close()

    @staticmethod
    def _of_error(kind: str, message: str) -> str:
        if "requests are waiting already" in message:
            return "sent away: queue full"
        polite = kind == "broken" and ".dng" in message and "Traceback" not in message
        return "polite refusal" if polite else f"FAILED: {message}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--soak", action="store_true", help="300 good files, one after the other")
    parser.add_argument("--visitors", type=int, help="at once; default: 8, of a soak 1")
    parser.add_argument("--requests", type=int, help="default: 100, of a soak 300")
    options = parser.parse_args()
    options.visitors = options.visitors or (1 if options.soak else 8)
    options.requests = options.requests or (300 if options.soak else 100)
    with tempfile.TemporaryDirectory(prefix="llpack-load-") as folder:
        folder = Path(folder)
        (folder / "server").mkdir()
        server = Server(folder / "server")
        try:
            return run(server, folder, options)
        finally:
            server.stop()


def run(server: Server, folder: Path, options) -> int:
    at_start = files_in(folder / "server")
    paths = good_files(folder)
    single = Client(server.url, verbose=False, download_files=str(folder / "downloads"))
    alone = {path: restore(single, path) for path in paths}
    broken = broken_files(folder, paths[0])
    before_mib, before_files = server.mib(), server.open_files()
    mix = (1, 0, 0) if options.soak else (7, 2, 1)
    visit = Visit(server, alone, broken, folder / "downloads", mix)
    started = time.perf_counter()
    with ThreadPoolExecutor(options.visitors) as visitors:
        outcomes = Counter(visitors.map(visit, range(options.requests)))
    seconds = time.perf_counter() - started
    still_right = all(restore(single, path) == hash_ for path, hash_ in alone.items())
    single.close()
    after_mib = server.mib()
    peak_mib = server.mib("VmHWM")
    for outcome, count in outcomes.most_common():
        print(f"{count:5}  {outcome}")
    print(f"{seconds:.1f} s, {options.requests / seconds:.2f} requests a second")
    print(f"memory: {before_mib:.0f} MiB before, {after_mib:.0f} after, {peak_mib:.0f} at most")
    growth = growth_mib(visit.mib)
    print(f"the server still gives the right pictures: {'yes' if still_right else 'NO'}")
    left = wait_for_the_sweep(folder / "server", at_start)
    after_files = server.open_files()  # by now the visitors' connections have been closed
    print(f"open files of the server: {before_files} before, {after_files} after")
    print(f"temporary files: {len(at_start)} at the start, {len(left)} more or fewer afterwards")
    for path in sorted(left):
        print(f"       {'left' if path.exists() else 'missing'}: {path.name}")
    fine = not any(outcome.split(":")[0].isupper() for outcome in outcomes) and still_right
    fine &= after_mib - before_mib < GROWTH_MIB and peak_mib < MOST_MIB and not left
    fine &= after_files - before_files < MORE_FILES
    fine &= not options.soak or growth < SOAK_GROWTH_MIB
    return 0 if fine else 1


def growth_mib(mib: list[float]) -> float:
    """By how much the last third's median is above that of the third before; prints a course."""
    tenths = [statistics.median(part) for part in np.array_split(mib, min(10, len(mib)))]
    print("        course:", ", ".join(f"{value:.0f}" for value in tenths))
    _, middle, last = (statistics.median(part) for part in np.array_split(mib, 3))
    print(f"        median of the last third less that of the second: {last - middle:+.0f} MiB")
    return last - middle


def wait_for_the_sweep(folder: Path, at_start: set[Path]) -> set[Path]:
    """Files that are still there, or that are missing, when everything old should be gone."""
    until = time.monotonic() + KEEP_S + 4 * SWEEP_S
    while (different := files_in(folder) ^ at_start) and time.monotonic() < until:
        time.sleep(1)
    return different


if __name__ == "__main__":
    sys.exit(main())
