"""Whatever a file does to the decoding process, its sender gets a sentence and the next is served."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOR_MATRIX, REPOSITORY, dark_mosaic

from llpack import isolation
from llpack.dng import write_dng
from llpack.errors import LimitExceeded, LlpackError, UnreadableRaw
from llpack.isolation import Decoder, read_raw_isolated
from llpack.raw import RawFrame, read_raw

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        decoder.start()
        yield decoder


@pytest.fixture
def fake_child(tmp_path, monkeypatch):
    """A function that puts a script in the place of the decoding process."""

    def use(on_request: str) -> None:
        script = tmp_path / "child.py"
        script.write_text(
            "import json, os, sys, time\n"
            "print(json.dumps({'ready': True}), flush=True)\n"
            f"for line in sys.stdin:\n    {on_request}\n    sys.stdout.flush()\n"
        )
        monkeypatch.setattr(isolation, "CHILD_COMMAND", (sys.executable, str(script)))

    return use


def assert_same(frame: RawFrame, expected: RawFrame) -> None:
    np.testing.assert_array_equal(frame.mosaic, expected.mosaic)
    np.testing.assert_array_equal(frame.camera_to_srgb, expected.camera_to_srgb)
    assert (frame.mosaic.dtype, frame.camera_to_srgb.dtype) == (np.uint16, np.float32)
    rest = ("black_level", "white_level", "white_balance", "orientation", "cfa", "exif", "notes")
    assert [getattr(frame, name) for name in rest] == [getattr(expected, name) for name in rest]


def wait_for_end(pid: int) -> None:
    """Until the process is gone, or dead with a parent that has not asked for its status yet."""
    status = Path(f"/proc/{pid}/status")
    for _ in range(300):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.01)
    raise AssertionError("it is still alive")


# --- what it is for -------------------------------------------------------------------------------


@pytest.mark.parametrize("cfa", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_the_frame_is_the_one_that_is_read_in_process(decoder, tiny_dng, cfa):
    path = tiny_dng(dark_mosaic(97, 131), name="été 夜.dng", cfa=cfa, neutral=None, orientation=6)
    assert_same(decoder.read(path), read_raw(path))


def test_real_files_come_back_unchanged(decoder, shared_data):
    for path in sorted((shared_data / "raw").iterdir()):
        assert_same(decoder.read(path), read_raw(path))


def test_refusals_have_the_same_class_and_words(decoder, tiny_dng, tmp_path, shared_data):
    text = tmp_path / "a.nef"
    text.write_text("just some text, long enough to be read")
    paths = [tiny_dng(cfa=None), text, tmp_path / "missing.dng", tmp_path]
    for path in paths + sorted((shared_data / "raw_odd").iterdir()):
        try:
            expected = read_raw(path)
        except LlpackError as refusal:
            with pytest.raises(type(refusal)) as caught:
                decoder.read(path)
            assert str(caught.value) == str(refusal)
        else:
            assert_same(decoder.read(path), expected)


@linux
def test_a_name_that_is_not_utf_8(decoder, tiny_dng):
    path = tiny_dng()
    old = path.rename(path.with_name(os.fsdecode(b"caf\xe9.dng")))
    assert_same(decoder.read(old), read_raw(old.rename(path)))


def test_the_shared_decoder_keeps_its_child(tiny_dng):
    memory_mb = isolation.MEMORY_MB - 1  # a decoder of its own: no other test's file counts here
    path = tiny_dng()
    assert_same(read_raw_isolated(path, memory_mb=memory_mb), read_raw(path))
    pid = isolation._shared_decoder(memory_mb).pid
    read_raw_isolated(path, timeout_s=5, memory_mb=memory_mb)
    assert isolation._shared_decoder(memory_mb).pid == pid


def test_four_threads_each_get_their_own_file(decoder, tiny_dng):
    paths = [tiny_dng(dark_mosaic(64 + 2 * seed, 128, seed), name=f"{seed}.dng") for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        for path, frame in zip(paths, threads.map(decoder.read, paths), strict=True):
            assert_same(frame, read_raw(path))


def test_nothing_is_left_behind(tiny_dng, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tiny_dng()
    before = path.read_bytes()
    with Decoder(files_per_child=2) as decoder:
        pids = []
        for _ in range(4):
            decoder.start()
            pids.append(decoder.pid)
            decoder.read(path)
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert list(tmp_path.iterdir()) == [path]
    assert (path.read_bytes(), path.stat().st_nlink) == (before, 1)


@linux
def test_a_killed_server_leaves_no_child_and_its_folder_is_removed(tiny_dng, tmp_path, monkeypatch):
    code = (
        "import os, signal, sys\n"
        "from llpack.isolation import read_raw_isolated, _shared_decoder, MEMORY_MB\n"
        "read_raw_isolated(sys.argv[1])\n"
        "print(_shared_decoder(MEMORY_MB).pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_dng())], cwd=REPOSITORY, capture_output=True,
        env=os.environ | {"TMPDIR": str(tmp_path)}, timeout=20, check=False,
    )  # fmt: skip
    wait_for_end(int(done.stdout))
    assert len(list(tmp_path.glob("llpack-decoder-*"))) == 1
    isolation._remove_folders_of_dead_servers()
    assert list(tmp_path.glob("llpack-decoder-*")) == []


# --- limits before any work -----------------------------------------------------------------------


def test_large_files_are_refused_before_the_child_is_started(tmp_path):
    path = tmp_path / "large.dng"
    with open(path, "wb") as file:
        file.write(b"II*\0")
        file.truncate(251_000_000)  # sparse: takes no space
    with Decoder() as decoder, pytest.raises(LimitExceeded, match=r"251 MB; at most 250 MB"):
        decoder.read(path)
    assert decoder.pid is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_hang_the_server(tmp_path):
    os.mkfifo(tmp_path / "pipe.dng")
    with Decoder() as decoder, pytest.raises(UnreadableRaw, match="not a plain file"):
        decoder.read(tmp_path / "pipe.dng")


# --- crash, hang, memory --------------------------------------------------------------------------


@linux
def test_a_child_that_is_killed_while_decoding_is_an_error_of_that_file_only(decoder, tiny_dng):
    path, expected = tiny_dng(), read_raw(tiny_dng())
    decoder.start()
    pid = decoder.pid
    os.kill(pid, signal.SIGSTOP)  # so that the request is certainly not answered yet
    threading.Timer(0.1, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(UnreadableRaw, match="tiny.dng could not be read: the decoder failed") as c:
        decoder.read(path)
    assert "SIGKILL" in str(c.value.__cause__)
    assert_same(decoder.read(path), expected)


@linux
def test_a_child_that_died_while_idle_costs_nobody_anything(decoder, tiny_dng):
    decoder.start()
    pid = decoder.pid
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    assert_same(decoder.read(tiny_dng()), read_raw(tiny_dng()))
    assert decoder.pid != pid


@linux
def test_a_child_that_hangs_is_killed_in_time(decoder, tiny_dng):
    decoder.start()
    pid = decoder.pid
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"0\.3 seconds are the limit"):
        decoder.read(tiny_dng(), timeout_s=0.3)
    assert time.monotonic() - started < 3
    assert not os.path.exists(f"/proc/{pid}")
    assert_same(decoder.read(tiny_dng()), read_raw(tiny_dng()))


@linux
def test_a_compression_bomb_meets_the_memory_limit(tmp_path, tiny_dng):
    bomb = tmp_path / "bomb.dng"
    write_dng(
        bomb, np.zeros((7000, 10000), np.uint16), black_level=[0] * 4, white_level=4095,
        as_shot_neutral=(1, 1, 1), color_matrix=COLOR_MATRIX,
    )  # fmt: skip
    assert bomb.stat().st_size < 12e6
    with Decoder(memory_mb=200) as decoder:
        with pytest.raises(LimitExceeded, match="memory"):
            decoder.read(bomb)
        assert_same(decoder.read(tiny_dng()), read_raw(tiny_dng()))


def test_a_decoder_that_does_not_start_is_said(monkeypatch, tiny_dng):
    command = isolation.CHILD_COMMAND
    with Decoder() as decoder:
        for broken in [(sys.executable, "-c", "0"), ("/no/such/program",)]:
            monkeypatch.setattr(isolation, "CHILD_COMMAND", broken)
            with pytest.raises(LlpackError, match="decoder"):
                decoder.read(tiny_dng())
        monkeypatch.setattr(isolation, "CHILD_COMMAND", command)
        assert decoder.read(tiny_dng()).cfa == "RGGB"


# --- what the child can reach ---------------------------------------------------------------------


@linux
def test_the_child_has_no_secrets_and_no_torch(tiny_dng, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "also secret")
    with Decoder() as decoder:
        decoder.read(tiny_dng())
        variables = Path(f"/proc/{decoder.pid}/environ").read_text().split("\0")
        assert "torch" not in Path(f"/proc/{decoder.pid}/maps").read_text()
    names = {variable.partition("=")[0] for variable in variables} - {""}
    assert names <= {
        "PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX",
    }  # fmt: skip


@linux
def test_the_child_is_limited(decoder):
    import resource

    decoder.start()
    limits = [
        resource.prlimit(decoder.pid, kind)
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)
    ]
    assert limits == [(2048 << 20,) * 2, (240_000_000,) * 2, (0, 0)]
    status = Path(f"/proc/{decoder.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status


# --- answers of a child that was taken over -------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "print('not JSON')",
        "print('[' * 30000)",
        "print('{}')",
        "print(json.dumps({'refusal': 'SystemExit', 'message': 'x'}))",
        "sys.stdout.write('x' * 1000000)",
        "print('{}'); print('{}')",
        "sys.exit(3)",
        "os.close(1)",
        "os.remove('out/pixels'); os.symlink('/etc/passwd', 'out/pixels'); print('{}')",
    ],
)
def test_foreign_answers_are_refused(fake_child, tiny_dng, monkeypatch, answer):
    command = isolation.CHILD_COMMAND
    fake_child(answer)
    with Decoder() as decoder:
        decoder.start()
        monkeypatch.setattr(isolation, "CHILD_COMMAND", command)
        with pytest.raises(UnreadableRaw, match="the decoder failed"):
            decoder.read(tiny_dng(), timeout_s=5)
        assert_same(decoder.read(tiny_dng()), read_raw(tiny_dng()))


@linux
def test_grandchildren_that_hold_the_pipe_do_not_hold_the_server(fake_child, tiny_dng):
    fake_child("os.fork() or (os.setsid(), time.sleep(4), os._exit(0)); time.sleep(30)")
    started = time.monotonic()
    with Decoder() as decoder, pytest.raises(LimitExceeded):
        decoder.read(tiny_dng(), timeout_s=0.2)
    assert time.monotonic() - started < 3.5
