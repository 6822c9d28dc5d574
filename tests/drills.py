"""Break things on purpose, and say what happened.

    python -m tests.drills                 # all; or name some of them

Each drill runs the real page or command line. The full disks are small file systems in memory,
which takes root's rights; without them those drills are left out. Exit code 1 when one ends badly.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from llpack.batch import LEFTOVER
from llpack.housekeeping import files_in
from tests.load import REPOSITORY, Server, restore
from tests.tiny_demo import write_dark

LARGE = (2848, 4256)
PATIENCE_S = 600
HALF_AN_UPLOAD = (
    b"POST /gradio_api/upload HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.dng"\r\n\r\n'
)


class Failed(Exception):
    """The drill ended in a way that is not promised."""


def demand(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Failed(otherwise)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("drills", nargs="*", help="default: all")
    bad = 0
    for name in parser.parse_args().drills or DRILLS:
        with tempfile.TemporaryDirectory(prefix="llpack-drill-") as folder:
            try:
                said = DRILLS[name](Path(folder))
            except Failed as failure:
                bad += 1
                said = f"FAILED: {failure}"
        print(f"{name}: {said}", flush=True)
    return int(bad > 0)


# --- the page -------------------------------------------------------------------------------------


@contextlib.contextmanager
def page(folder: Path, **environment: str) -> Iterator[tuple[Server, Client]]:
    """The page with its temporary files in `folder`, and a visitor."""
    server = Server(folder, TMPDIR=str(folder), **environment)
    client = Client(
        server.url, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": PATIENCE_S}
    )
    try:
        yield server, client
    finally:
        client.close()
        server.stop()


def outcome(client: Client, path: Path) -> str:
    """ "a picture", or the message."""
    try:
        restore(client, path)
    except AppError as error:
        message = str(error)
    except httpx.HTTPStatusError as error:
        message = error.response.text
    else:
        return "a picture"
    demand("Traceback" not in message and len(message) < 400, f"not a sentence: {message}")
    return f'"{message}"'


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> float:
    started = time.monotonic()
    while not condition():
        demand(time.monotonic() - started < seconds, f"{what} took more than {seconds:.0f} s")
        time.sleep(0.005)
    return time.monotonic() - started


def killed_decoder(folder: Path) -> str:
    with page(folder) as (server, client):
        path, other = write_dark(folder / "a.dng", size=LARGE), write_dark(folder / "b.dng")
        right = restore(client, other)
        said: list[str] = []
        visit = threading.Thread(target=lambda: said.append(outcome(client, path)))
        visit.start()
        (pid,) = server.children()
        given = Path(f"/proc/{pid}/cwd/in")
        until(lambda: any(given.iterdir()), "handing the file to the decoder")
        os.kill(pid, signal.SIGKILL)
        visit.join()
        demand("the decoder failed on it" in said[0], f"the visitor got {said[0]}")
        again = Client(server.url, verbose=False)
        demand(restore(again, other) == right, "the next visitor got another picture")
        demand(outcome(client, path) == "a picture", "the file is not restored later")
        again.close()
    return f"the visitor got {said[0]}; the next file and a second try gave pictures"


def interrupted_uploads(folder: Path) -> str:
    with page(folder) as (server, client):
        path = write_dark(folder / "a.dng")
        right, before = restore(client, path), files_in(folder)
        address = urlsplit(server.url)
        connections = [socket.create_connection((address.hostname, address.port)) for _ in range(20)]
        for connection in connections:
            connection.sendall(HALF_AN_UPLOAD + bytes(400_000))
        until(lambda: len(files_in(folder) - before) == 20, "20 half uploads")
        demand(restore(client, path) == right, "another picture while uploads hang")
        for connection in connections[1:]:
            connection.close()
        gone = until(lambda: len(files_in(folder) - before) <= 3, "removing 19 half uploads")
        connections[0].settimeout(PATIENCE_S)
        started = time.monotonic()
        answer = connections[0].recv(10_000).decode()
        while "send it again" not in answer and (more := connections[0].recv(10_000)):
            answer += more.decode()
        stalled = time.monotonic() - started
        connections[0].close()
        demand("408" in answer and "Nothing came for" in answer, f"the slow one got {answer}")
        demand(restore(client, path) == right, "another picture afterwards")
    return (
        f"meanwhile others got their pictures; 19 that hung up left nothing after {gone:.1f} s; "
        f"one that stalled was ended after {stalled:.0f} s (HTTP 408)"
    )


def hub_away(folder: Path) -> str:
    parts = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {"nobody listens": 9, "no answer": silent.getsockname()[1]}
        for words, port in ports.items():
            place = folder / str(port)
            place.mkdir()
            started = time.monotonic()
            with page(
                place, LLPACK_WEIGHTS="someone/night", HF_ENDPOINT=f"http://127.0.0.1:{port}",
                HF_HOME=str(place),
            ) as (server, client):  # fmt: skip
                text = httpx.get(f"{server.url}/config").text
                seconds = time.monotonic() - started
                demand("The embedded weights are used." in text, "the page has no note")
                picture = outcome(client, write_dark(place / "a.dng"))
                demand(picture == "a picture", picture)
            parts.append(f"{words}: the page with its note after {seconds:.1f} s")
    return "; ".join(parts) + "; pictures with the embedded weights"


# --- full disks -----------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    size = f"size={megabytes * 1000:.0f}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves `free` bytes on the disk."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - free)
    return ballast


def full_temporary_disk(folder: Path) -> str:
    with small_disk(folder, 900) as disk, page(disk) as (server, client):
        small, large = write_dark(folder / "a.dng"), write_dark(folder / "b.dng", size=LARGE)
        right = restore(client, small)
        ballast = fill(disk, 400_000_000)
        nearly = outcome(client, small)
        demand("disk is full" in nearly, f"with 400 MB left: {nearly}")
        ballast.unlink()
        said = filled_while_uploading(server, client, disk, large)
        demand("a picture" not in said, "a picture on a full disk")
        demand(restore(client, small) == right, "another picture when there is space again")
        demand(outcome(client, large) == "a picture", "no picture when there is space again")
        demand("Traceback" not in "".join(server.lines), "".join(server.lines))
    return f"400 MB left: {nearly}; none left: {said}; with space again, both gave pictures"


def filled_while_uploading(server: Server, client: Client, disk: Path, path: Path) -> str:
    """Upload while there is space, restore when there is none."""
    with open(path, "rb") as file:
        url = f"{server.url}/gradio_api/upload"
        (uploaded,) = httpx.post(url, files={"files": file}, timeout=PATIENCE_S).json()
    ballast = fill(disk, 0)
    try:
        file = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
        call = f"{server.url}/gradio_api/call/restore"
        event = httpx.post(call, json={"data": [file, 100, "jpg"]}).json()["event_id"]
        return httpx.get(f"{call}/{event}", timeout=PATIENCE_S).text.partition("data: ")[2].strip()
    finally:
        ballast.unlink()


def full_disk_of_a_batch(folder: Path) -> str:
    raws = folder / "raws"
    raws.mkdir()
    for number in range(4):
        write_dark(raws / f"{number}.dng", seed=number, size=(512, 768))
    with small_disk(folder, 20) as disk:
        ballast = fill(disk, 400_000)
        code, said = batch(raws, disk / "out")
        lines = [line for line in said.splitlines() if "could not be written" in line]
        made = names(disk / "out")
        demand(code == 2 and 0 < len(lines) < 4, f"exit code {code}: {said}")
        demand(len(made) == 4 - len(lines), f"left on the disk: {made}")
        ballast.unlink()
        before = {name: (disk / "out" / name).stat().st_mtime_ns for name in made}
        code, again = batch(raws, disk / "out")
        demand(code == 0 and f"{len(made)} already there" in again, again)
        demand(names(disk / "out") == [f"{n}.jpg" for n in range(4)], "not all pictures")
        same = {name: (disk / "out" / name).stat().st_mtime_ns for name in made}
        demand(before == same, "it did again what was there")
    message = lines[0].replace(str(folder), "")
    return f'{len(made)} of 4 pictures, then "{message}"; repeated with space: only the missing ones'


# --- the command line -----------------------------------------------------------------------------


def batch(raws: Path, output: Path) -> tuple[int, str]:
    done = subprocess.run(
        command(raws, output), cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    demand("Traceback" not in done.stdout, done.stdout)
    return done.returncode, done.stdout


def command(raws: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "llpack", "restore", str(raws), "-o", str(output),
            "--amplification", "100"]  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path), float) for path in folder.iterdir()}


def difference(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    """In levels of 255: each run chooses the precision that is the fastest at that moment."""
    if some.keys() != others.keys():
        return 255.0
    return max(np.abs(picture - others[name]).mean() for name, picture in some.items())


def outlive(folder: Path) -> None:
    """Unfinished files are older than those of a run that may still be at work."""
    for path in folder.glob(".*.part"):
        os.utime(path, (0, 0))


def stopped_batch(folder: Path) -> str:
    raws = folder / "raws"
    raws.mkdir()
    for number in range(6):
        write_dark(raws / f"{number}.dng", seed=number, size=(1024, 1536))
    demand(batch(raws, folder / "right")[0] == 0, "the undisturbed run")
    right = pictures(folder / "right")
    parts = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        output = folder / number.name
        running = subprocess.Popen(
            command(raws, output), cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        until(lambda output=output: (output / "0.jpg").exists(), "the first picture")
        running.send_signal(number)
        said = running.communicate()[0]
        made = names(output)
        demand("Traceback" not in said, said)
        if number == signal.SIGKILL:  # which leaves nobody to tidy up
            made = [name for name in made if not LEFTOVER.fullmatch(name)]
        demand(set(made) <= set(right), f"{number.name} left {made}")
        outlive(output)
        code, again = batch(raws, output)
        demand(code == 0 and f"{len(made)} already there" in again, again)
        levels = difference(pictures(output), right)
        demand(levels < 2, f"pictures of another kind after {number.name}: {levels:.2f} levels")
        last = said.strip().splitlines()[-1].replace(str(folder), "")
        parts.append(
            f'{number.name} after {len(made)} of 6, exit code {running.returncode}, last words "{last}"'
        )
    return "; ".join(parts) + "; repeated: the missing ones, all 6 as of an undisturbed run"


DRILLS: dict[str, Callable[[Path], str]] = {
    function.__name__: function
    for function in (killed_decoder, interrupted_uploads, hub_away, stopped_batch)
}
if hasattr(os, "geteuid") and os.geteuid() == 0:
    DRILLS |= {function.__name__: function for function in (full_temporary_disk, full_disk_of_a_batch)}


if __name__ == "__main__":
    sys.exit(main())
