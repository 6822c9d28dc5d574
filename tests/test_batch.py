"""Which files a command restores, under which names, and that nothing is lost or overwritten."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_weights import write_folder

from llpack.batch import find_raws, plan, restore_all
from llpack.errors import LlpackError, MissingWeights, UnreadableRaw
from llpack.metadata import read_exif


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    return str(write_folder(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def restore(weights):
    """`restore_all` with everything that a test does not care about."""

    def run(inputs, output, **options) -> int:
        defaults = {"amplification": 20.0, "format": None, "overwrite": False, "weights": weights}
        return restore_all(list(inputs), output, **defaults | options)

    return run


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def broken(folder: Path, name="broken.dng") -> Path:
    path = folder / name
    path.write_bytes(b"II*\0 and then nothing")
    return path


def test_one_file_to_one_name(tiny_dng, tmp_path, restore, capsys):
    target = tmp_path / "new" / "folder" / "night.jpg"
    assert restore([tiny_dng(orientation=6)], target) == 0
    with Image.open(target) as picture:
        assert picture.size == (96, 128)  # upright
        assert picture.getexif().get(274, 1) == 1
    assert read_exif(target).camera == "Acme One"
    said = capsys.readouterr().out
    for words in (str(target), "x20 (chosen)", "MP/s"):
        assert words in said


def test_a_folder_to_a_folder(tiny_dng, tmp_path, restore):
    source = tiny_dng(name="a.dng").parent
    tiny_dng(name="B.DNG")
    (source / "notes.txt").write_text("not asked for")
    (source / "._a.dng").write_bytes(b"what a Mac leaves on a card")
    (source / "sub.dng").mkdir()
    output = tmp_path / "out"
    assert restore([source], output) == 0
    assert names_in(output) == ["B.jpg", "a.jpg"]


@pytest.mark.parametrize(("format", "dtype"), [("jpg", "uint8"), ("png", "uint8"), ("tiff", "uint16")])
def test_formats(tiny_dng, tmp_path, restore, format, dtype):
    output = tmp_path / "out"
    assert restore([tiny_dng()], output, format=format) == 0
    target = output / f"tiny.{format}"
    pixels = tifffile.imread(target) if format == "tiff" else np.asarray(Image.open(target))
    assert (str(pixels.dtype), pixels.shape) == (dtype, (96, 128, 3))
    if format == "tiff":
        assert (pixels % 257).any()  # not 8 bits stretched


@pytest.mark.parametrize(
    ("name", "magic"), [("n.png", b"\x89PNG"), ("n.tif", b"II*\0"), ("n.TIFF", b"II*\0"),
                        ("n.JPEG", b"\xff\xd8")],
)  # fmt: skip
def test_the_ending_decides_the_format(tiny_dng, tmp_path, restore, name, magic):
    assert restore([tiny_dng()], tmp_path / name) == 0
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_what_is_there_is_left_alone(tiny_dng, tmp_path, restore, capsys):
    raw, target = tiny_dng(), tmp_path / "night.jpg"
    target.write_text("precious")
    assert restore([raw], target) == 0
    assert target.read_text() == "precious"
    assert "1 already there, left alone (--overwrite replaces them)" in capsys.readouterr().out
    assert restore([raw], target, overwrite=True) == 0
    assert target.read_bytes().startswith(b"\xff\xd8")


def test_a_repeated_run_does_what_is_missing(tiny_dng, tmp_path, restore, capsys):
    raws = [tiny_dng(name=f"{letter}.dng") for letter in "abc"]
    output = tmp_path / "out"
    assert restore(raws, output) == 0
    (output / "b.jpg").unlink()
    before = {name: (output / name).stat().st_mtime_ns for name in ("a.jpg", "c.jpg")}
    capsys.readouterr()
    assert restore(raws, output) == 0
    assert names_in(output) == ["a.jpg", "b.jpg", "c.jpg"]
    assert {name: (output / name).stat().st_mtime_ns for name in before} == before
    said = capsys.readouterr().out
    assert "2 already there" in said
    assert "b.jpg: x20" in said


def test_one_bad_file_does_not_stop_the_rest(tiny_dng, tmp_path, restore, capsys):
    bad = broken(tmp_path)
    output = tmp_path / "out"
    assert restore([tiny_dng(name="a.dng"), bad, tiny_dng(name="c.dng")], output) == 2
    assert names_in(output) == ["a.jpg", "c.jpg"]
    said = capsys.readouterr().out
    assert f"{bad}: " in said
    assert "1 of 3 files could not be restored." in said
    assert "Traceback" not in said


def test_a_file_where_the_folder_should_be(tiny_dng, tmp_path, restore):
    in_the_way = tmp_path / "a_file"
    in_the_way.write_text("precious")
    with pytest.raises(LlpackError, match="a_file is a file: name a folder"):
        restore([tiny_dng()], in_the_way)
    assert in_the_way.read_text() == "precious"


def test_an_impossible_amplification(tiny_dng, tmp_path, restore, capsys):
    assert restore([tiny_dng()], tmp_path / "n.jpg", amplification=5000.0) == 2
    assert "from 1 to 1000" in capsys.readouterr().out
    assert not (tmp_path / "n.jpg").exists()


def test_an_estimated_amplification(tiny_dng, tmp_path, restore, capsys):
    assert restore([tiny_dng()], tmp_path / "n.jpg", amplification=None) == 0
    assert "(estimated)" in capsys.readouterr().out


def test_weights_that_are_missing_are_said_before_any_file(tiny_dng, tmp_path, restore):
    with pytest.raises(MissingWeights, match="/no/weights"):
        restore([tiny_dng()], tmp_path / "n.jpg", weights="/no/weights")


def test_what_was_odd_in_a_file_is_said(tiny_dng, tmp_path, restore, capsys):
    assert restore([tiny_dng(neutral=None)], tmp_path / "n.jpg") == 0
    assert "no valid white balance" in capsys.readouterr().out


def test_a_file_that_was_named_twice_is_restored_once(tiny_dng):
    raw = tiny_dng()
    assert find_raws([raw, raw.parent, raw]) == [raw]


def test_named_files_need_no_known_ending(tmp_path):
    path = broken(tmp_path, "night.unknown")
    assert find_raws([path]) == [path]


def test_nothing_to_restore(tmp_path):
    with pytest.raises(UnreadableRaw, match=f"No RAW files in {tmp_path}"):
        find_raws([tmp_path])
    with pytest.raises(UnreadableRaw, match="nowhere.dng does not exist"):
        find_raws([tmp_path / "nowhere.dng"])


def planned(sources, output="out", format=None) -> list[str]:
    return [str(target) for _, target, _ in plan([Path(s) for s in sources], Path(output), format)]


def test_names_tell_apart_what_would_be_the_same():
    assert planned(["a/x.dng", "a/y.dng"]) == ["out/x.jpg", "out/y.jpg"]
    assert planned(["x.dng", "x.arw"]) == ["out/x.dng.jpg", "out/x.arw.jpg"]
    assert planned(["a/x.dng", "b/x.dng"]) == ["out/x.dng.jpg", "out/x.dng-2.jpg"]
    assert planned(["a/x.dng", "b/X.DNG"]) == ["out/x.dng.jpg", "out/X.DNG-2.jpg"]
    assert planned(["a/x.dng", "b/x.dng", "c/x.dng-2.arw"])[2] == "out/x.dng-2-2.jpg"


name_parts = st.sampled_from(["x", "X", "x.dng", "x.dng-2", "x-2", "y"])
paths = st.builds(
    "{}/{}.{}".format, st.sampled_from("abc"), name_parts, st.sampled_from(["dng", "DNG", "arw"])
)


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(paths, min_size=1, max_size=8, unique=True))
def test_two_files_never_get_the_same_name(sources):
    targets = planned(sources)
    assert len({target.lower() for target in targets}) == len(sources)


def test_names_that_contradict(tmp_path):
    with pytest.raises(LlpackError, match="n.png does not end in .tiff"):
        plan([Path("a.dng")], tmp_path / "n.png", "tiff")
    with pytest.raises(LlpackError, match="n.jpg can hold one picture, not 2"):
        plan([Path("a.dng"), Path("b.dng")], tmp_path / "n.jpg", None)


def test_a_folder_may_be_called_like_a_picture(tmp_path):
    folder = tmp_path / "holiday.jpg"
    folder.mkdir()
    assert planned(["a.dng", "b.dng"], folder) == [f"{folder}/a.jpg", f"{folder}/b.jpg"]


def test_another_kind_of_picture_is_no_folder(tiny_dng, tmp_path, restore):
    with pytest.raises(LlpackError, match="out.webp cannot be written: choose jpg, png or tiff"):
        restore([tiny_dng()], tmp_path / "out.webp")
    assert not (tmp_path / "out.webp").exists()


def test_the_weights_are_named(tiny_dng, tmp_path, restore, capsys):
    assert restore([tiny_dng()], tmp_path / "out") == 0
    assert "Weights: llpack-test, folder " in capsys.readouterr().out
