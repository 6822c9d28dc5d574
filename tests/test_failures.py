"""Full disks and killed runs: a sentence, nothing half done, and a second try that works.

`tests/drills.py` does the same with real disks and servers.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from tiny_weights import write_folder

from llpack import batch, files, isolation
from llpack.batch import restore_all
from llpack.errors import LimitExceeded, LlpackError, OutputError
from llpack.isolation import Decoder
from tests.tiny_demo import tiny_darkroom, write_dark

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    return str(write_folder(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def restorer(weights):
    return batch.load_restorer(weights, "float32")


@pytest.fixture
def restore(restorer, monkeypatch):
    monkeypatch.setattr(batch, "load_restorer", lambda weights, precision: restorer)

    def run(inputs, output) -> int:
        options = {"amplification": 20.0, "format": None, "overwrite": False, "weights": None}
        return restore_all(inputs, output, **options)

    return run


# --- the command line ---


def test_a_disk_that_fills_up_names_the_file_and_the_second_run_does_the_rest(
    tiny_dng, tmp_path, restore, monkeypatch, capsys
):
    raws, output = [tiny_dng(name=f"{letter}.dng") for letter in "abc"], tmp_path / "out"
    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", lambda a, b: full() if b.name == "b.jpg" else replace(a, b))
        assert restore(raws, output) == 2
    said = capsys.readouterr().out
    assert f"{raws[1]}: {output / 'b.jpg'} could not be written: No space left on device." in said
    assert names_in(output) == ["a.jpg", "c.jpg"]
    assert restore(raws, output) == 0
    assert "2 already there" in capsys.readouterr().out
    assert names_in(output) == ["a.jpg", "b.jpg", "c.jpg"]


def test_what_a_killed_run_left_is_removed_but_nothing_else(tiny_dng, tmp_path, restore):
    output = tmp_path / "out"
    output.mkdir()
    kept = [".0123abcd.part", ".mine.part", "0123abcd.part", ".0123abcd.part.txt"]
    for name in [".deadbeef.part", *kept]:
        (output / name).write_text("half")
        if name != kept[0]:  # perhaps of a run that is at work now
            os.utime(output / name, (time.time() - 61,) * 2)
    assert restore([tiny_dng()], output) == 0
    assert names_in(output) == sorted([*kept, "tiny.jpg"])


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_so(tmp_path, weights, number):
    for index in range(200):
        (tmp_path / f"{index:03}.dng").symlink_to(write_dark(tmp_path / "dark.raw"))
    output = tmp_path / "out"
    command = [sys.executable, "-m", "llpack", "restore", str(tmp_path), "-o", str(output)]
    # Background jobs of a shell ignore Ctrl-C, and these tests may be one; children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [*command, "--weights", weights, "--amplification", "20"], cwd=REPOSITORY, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not (output / "000.jpg").exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(number)
    said, complained = running.communicate(timeout=60)
    assert (running.returncode, complained) == (2, "")
    assert said.endswith("Stopped. Finished files are complete; run the same command to go on.\n")
    assert not [name for name in names_in(output) if not name.endswith(".jpg")]


# --- the page ---


def test_no_space_for_the_picture_is_a_sentence_without_a_folder(tmp_path, monkeypatch):
    darkroom, path = tiny_darkroom(tmp_path), write_dark(tmp_path / "dark.dng")
    for owner, name in ((files.os, "replace"), (Path, "mkdir")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(OutputError, match="no place for the picture: No space left") as caught:
                darkroom.picture(path, 20.0, format="jpg")
        assert str(tmp_path) not in str(caught.value) and str(darkroom.folder) not in str(caught.value)
    assert darkroom.picture(path, 20.0, format="jpg")[0].exists()


# --- the decoder ---


def test_no_space_to_hand_a_file_over(tiny_dng, monkeypatch):
    with Decoder() as decoder:
        with monkeypatch.context() as patch:
            patch.setattr(isolation, "_link_or_copy", full)
            with pytest.raises(LlpackError, match="tiny.dng could not be handed .* No space left"):
                decoder.read(tiny_dng())
        assert decoder.read(tiny_dng()).cfa == "RGGB"


@linux
def test_no_space_for_the_pixels_is_not_the_files_fault(tiny_dng):
    import resource

    with Decoder() as decoder:
        decoder.start()
        resource.prlimit(decoder.pid, resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(LimitExceeded, match="no space to decode tiny.dng"):
            decoder.read(tiny_dng())
        assert decoder.read(tiny_dng()).cfa == "RGGB"
