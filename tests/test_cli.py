"""The command line as people type it: what it does, prints and returns."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from conftest import REPOSITORY
from PIL import Image
from tiny_weights import write_folder

from llpack.cli import main
from llpack.precision import PRECISIONS
from llpack.raw import read_raw


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    return str(write_folder(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def photo(tmp_path):
    rows, columns = np.mgrid[:80, :112]
    pixels = np.stack([2 * rows, 2 * columns, 255 - 2 * columns], -1).clip(0, 255)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def run(capsys):
    """Runs a command line and returns (exit code, stdout, stderr)."""

    def command(*words) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as exit:  # argparse's own refusals
            code = exit.code
        return code, *capsys.readouterr()

    return command


def darken(photo, output, *more) -> tuple:
    return ("darken", photo, "-o", output, "--ratio", 100, "--iso", 3200, *more)


def test_from_a_photo_to_a_dark_raw_to_a_picture(photo, tmp_path, weights, run):
    raw, picture = tmp_path / "dark.dng", tmp_path / "restored.tiff"
    code, said, _ = run(*darken(photo, raw, "--orientation", 6))
    assert code == 0
    assert f"{raw}: 80 x 112" in said
    assert "x1/100 of the light" in said

    code, said, _ = run("inspect", raw)
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in said.splitlines() if " level" not in line)
    assert facts["Camera"] == "Sony A7S II"
    assert "ISO 3200" in facts["Exposure"]
    assert facts["Size"].startswith("80 x 112")
    assert facts["CFA"] == "RGGB"
    assert facts["Orientation"] == "on its side, turn clockwise"
    assert "Black level     512" in said
    assert "White level     16383" in said

    code, said, _ = run("restore", raw, "-o", picture, "--amplification", 100, "--weights", weights)
    assert code == 0
    assert "x100 (chosen)" in said
    pixels = tifffile.imread(picture)
    assert (pixels.shape, pixels.dtype) == ((80, 112, 3), np.uint16)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_precision_can_be_chosen(precision, photo, tmp_path, run):
    raw, picture = tmp_path / "dark.dng", tmp_path / "restored.png"
    run(*darken(photo, raw))
    code, said, refused = run("restore", raw, "-o", picture, "--precision", precision)
    if code:  # not on this machine
        assert precision != "float32"
        assert f"cannot run in {precision} on this machine" in refused and not picture.exists()
    else:
        assert f"; in {precision}" in said and picture.exists()


def test_an_unknown_precision_is_refused(photo, tmp_path, run):
    code, _, refused = run("restore", photo, "-o", tmp_path / "x.png", "--precision", "float16")
    assert code == 2
    assert all(name in refused for name in PRECISIONS)


def test_restore_a_folder_with_a_bad_file(photo, tmp_path, weights, run):
    folder = tmp_path / "raws"
    folder.mkdir()
    for name in ("a.dng", "c.dng"):
        run(*darken(photo, folder / name))
    (folder / "b.dng").write_bytes(b"no picture")
    options = ("-o", tmp_path / "out", "--format", "png", "--weights", weights)
    code, said, complained = run("restore", folder, *options)
    assert code == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert "b.dng" in said
    assert "1 of 3 files" in said
    assert "Traceback" not in said + complained

    (folder / "b.dng").unlink()
    code, said, _ = run("restore", folder, *options)
    assert code == 0
    assert "2 already there" in said
    code, said, _ = run("restore", folder, *options, "--overwrite")
    assert code == 0
    assert said.count("(estimated)") == 2


@pytest.mark.parametrize("amplification", ["bright", "", "1e"])
def test_an_amplification_that_is_no_number(amplification, run):
    code, _, complained = run("restore", "a.dng", "-o", "b.jpg", "--amplification", amplification)
    assert code == 2
    assert "neither 'auto' nor a number" in complained


@pytest.mark.parametrize("amplification", ["0", "0.5", "1001", "nan", "inf"])
def test_an_amplification_out_of_range(amplification, photo, tmp_path, weights, run):
    raw, target = tmp_path / "dark.dng", tmp_path / "b.jpg"
    run(*darken(photo, raw))
    chosen = ("--amplification", amplification, "--weights", weights)
    code, said, complained = run("restore", raw, "-o", target, *chosen)
    assert code == 2
    assert "from 1 to 1000" in said + complained
    assert not target.exists()


def test_auto_is_the_default(photo, tmp_path, weights, run):
    raw = tmp_path / "dark.dng"
    run(*darken(photo, raw))
    factors = []
    for name, chosen in (("a.jpg", ()), ("b.jpg", ("--amplification", "auto"))):
        code, said, _ = run("restore", raw, "-o", tmp_path / name, *chosen, "--weights", weights)
        assert code == 0
        factors.append(said.splitlines()[-1].split(": ")[1].split(",")[0])
    assert factors[0] == factors[1]
    assert "(estimated)" in factors[0]


def test_darken_does_not_overwrite_by_mistake(photo, tmp_path, run):
    target = tmp_path / "dark.dng"
    target.write_text("precious")
    code, _, complained = run(*darken(photo, target))
    assert code == 2
    assert complained == f"llpack: {target} exists already; --overwrite replaces it.\n"
    assert target.read_text() == "precious"
    assert run(*darken(photo, target, "--overwrite"))[0] == 0
    assert read_raw(target).width == 112


def test_darken_by_seed_camera_and_size(photo, tmp_path, run):
    mosaics = []
    for name, seed in (("a.dng", 1), ("b.dng", 1), ("c.dng", 2)):
        options = ("--seed", seed, "--camera", "Nikon D850", "--size", "96x64")
        assert run(*darken(photo, tmp_path / name, *options))[0] == 0
        mosaics.append(read_raw(tmp_path / name).mosaic)
    assert mosaics[0].shape == (64, 96)
    np.testing.assert_array_equal(mosaics[0], mosaics[1])
    assert not np.array_equal(mosaics[0], mosaics[2])
    assert read_raw(tmp_path / "a.dng").exif.camera == "Nikon D850"


@pytest.mark.parametrize("size", ["96", "96x", "97x64", "62x64", "-96x64", "axb"])
def test_sizes_that_no_frame_has(size, photo, run):
    code, _, complained = run(*darken(photo, "dark.dng", f"--size={size}"))
    assert code == 2
    assert "size" in complained


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--ratio", "0.1"), "would brighten"),
        (("--iso", "10"), "ISO 10 is outside"),
        (("--camera", "Acme"), "No noise is known for camera 'Acme'"),
    ],
)
def test_what_darken_refuses(more, message, photo, tmp_path, run):
    code, _, complained = run(*darken(photo, tmp_path / "dark.dng", *more))
    assert code == 2
    assert message in complained
    assert complained.count("\n") == 1
    assert not (tmp_path / "dark.dng").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "{missing}"),
        ("inspect", "{text}"),
        ("inspect", "{folder}"),
        ("restore", "{missing}", "-o", "{folder}"),
        ("restore", "{folder}", "-o", "{folder}"),
        ("restore", "{text}", "-o", "{folder}/n.jpg", "--format", "png"),
        ("darken", "{text}", "-o", "{folder}/n.dng", "--ratio", "10", "--iso", "800"),
        ("darken", "{missing}", "-o", "{folder}/n.dng", "--ratio", "10", "--iso", "800"),
        ("darken", "{photo}", "-o", "{missing}/n.dng", "--ratio", "10", "--iso", "800"),
        ("train", "{folder}", "-o", "{folder}/run"),
        ("train", "{missing}", "-o", "{folder}/run"),
        ("train", "-o", "{folder}/run"),
        ("train", "--pairs", "{missing}", "-o", "{folder}/run"),
    ],
)
def test_refusals_are_one_sentence_without_a_traceback(words, photo, tmp_path, run):
    folder, text = tmp_path / "empty", tmp_path / "text.arw"
    folder.mkdir()
    text.write_text("no picture at all")
    places = {"missing": tmp_path / "missing", "text": text, "folder": folder, "photo": photo}
    code, said, complained = run(*(word.format(**places) for word in words))
    assert code == 2
    assert complained.startswith("llpack: ")
    assert complained.count("\n") == 1
    assert "Traceback" not in said + complained
    assert "Errno" not in complained

    command, *more = (word.format(**places) for word in words)
    for line in (("--traceback", command, *more), (command, *more, "--traceback")):
        code, _, complained = run(*line)
        assert code == 2
        assert "Traceback" in complained
        assert complained.splitlines()[-1].startswith("llpack: ")


def test_push_has_one_source(photo, run):
    code, _, complained = run("push", "me/x", "--from", photo, "--from-checkpoint", photo)
    assert code == 2
    assert "not allowed with" in complained


def test_push_of_weights_that_are_not_there(tmp_path, run):
    for option in ("--from", "--from-checkpoint"):
        code, _, complained = run("push", "me/x", option, tmp_path / "none")
        assert code == 2
        assert "There is nothing at" in complained


def test_interrupted(monkeypatch, photo, tmp_path, run):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("llpack.synthetic.open_photo", interrupted)
    code, said, _ = run(*darken(photo, tmp_path / "dark.dng"))
    assert code == 2
    assert said.startswith("Stopped.")


def test_help_is_instant():
    """No torch, rawpy or page before a command needs them."""
    code = (
        "import sys\n"
        "from llpack.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as exit:\n    assert exit.code == 0\n"
        "heavy = {'torch', 'rawpy', 'gradio', 'huggingface_hub', 'imagecodecs'}\n"
        "print('loaded:', *heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for command in ("restore", "inspect", "darken", "train", "--traceback"):
        assert command in done.stdout
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "llpack", "inspect", "/no/such.dng"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("llpack: ")
    assert done.stdout == ""
