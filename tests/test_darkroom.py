"""Frames decoded once, pictures in files, the live preview's small frame."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from llpack import darkroom as darkroom_module
from llpack.darkroom import Darkroom, factor_text
from llpack.engine import Restorer
from llpack.errors import LlpackError
from llpack.weights import load_weights
from tests.tiny_weights import write_folder


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    return Restorer(load_weights(str(write_folder(tmp_path_factory.mktemp("weights")))))


@pytest.fixture
def darkroom(restorer, tmp_path):
    return Darkroom(restorer, tmp_path / "pictures")


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that were decoded."""
    names, original = [], darkroom_module.read_raw_isolated
    monkeypatch.setattr(
        darkroom_module,
        "read_raw_isolated",
        lambda path: names.append(path.name) or original(path),
    )
    return names


def test_a_file_is_decoded_once_for_everything(darkroom, tiny_dng, reads):
    path = tiny_dng()
    darkroom.open(path)
    darkroom.estimate(path)
    first = darkroom.develop(path, 50)
    second = darkroom.develop(path, 60)
    darkroom.preview(path, 70)
    darkroom.before(path, 70, untouched=True)
    assert reads == ["tiny.dng"]
    assert "read" in first.restored.stages.seconds  # shown once, with the first picture
    assert "read" not in second.restored.stages.seconds


def test_only_the_last_frames_are_kept(darkroom, tiny_dng, reads):
    paths = [tiny_dng(name=f"{n}.dng") for n in range(darkroom_module.KEPT_FRAMES + 1)]
    for path in paths:
        darkroom.open(path)
    darkroom.open(paths[-1])
    assert reads.count(paths[-1].name) == 1
    darkroom.open(paths[0])
    assert reads.count(paths[0].name) == 2


def test_frames_that_nobody_asks_for_are_forgotten(darkroom, tiny_dng, reads):
    path = tiny_dng()
    darkroom.open(path)
    darkroom.forget(unused_seconds=60)
    darkroom.open(path)
    assert len(reads) == 1
    darkroom.forget(unused_seconds=-1)
    darkroom.open(path)
    assert len(reads) == 2


def test_before_and_after_have_the_same_upright_size(darkroom, tiny_dng):
    pair = darkroom.develop(tiny_dng(orientation=6), 100)
    sizes = {Image.open(path).size for path in (pair.before, pair.after)}
    assert sizes == {(96, 128)}  # the sensor's 128 x 96, turned
    assert pair.before.parent != pair.after.parent


def test_the_untouched_file_is_darker_than_the_amplified_one(darkroom, tiny_dng):
    path = tiny_dng()
    dark, bright = (
        np.asarray(Image.open(darkroom.before(path, 8, untouched=untouched))).mean()
        for untouched in (True, False)
    )
    assert dark < bright / 2


def test_the_source_of_the_amplification_is_told(darkroom, tiny_dng):
    path = tiny_dng()
    assert darkroom.develop(path, None).restored.amplification_source == "estimated"
    assert darkroom.develop(path, 5).restored.amplification_source == "chosen"
    given = darkroom.develop(path, darkroom.estimate(path), source="estimated")
    assert given.restored.amplification_source == "estimated"


def test_a_tiff_has_sixteen_bits_and_the_exif(darkroom, tiny_dng):
    path, restored = darkroom.picture(tiny_dng(), 100, format="tiff")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].dtype == np.uint16
        assert tiff.pages[0].tags["Make"].value == "Acme"
        assert np.array_equal(tiff.asarray(), restored.picture)
    assert path.name == "tiny_llpack_x100.tiff"


def test_weights_without_an_amplifier_estimate_nothing(tiny_dng, tmp_path):
    weights = load_weights(str(write_folder(tmp_path / "w")))
    object.__setattr__(weights, "amplifier", None)
    darkroom = Darkroom(Restorer(weights), tmp_path / "pictures")
    assert darkroom.estimate(tiny_dng()) is None
    with pytest.raises(LlpackError, match="give a number"):
        darkroom.develop(tiny_dng(), None)


@pytest.mark.parametrize(
    ("factor", "text"), [(1, "1"), (1.257, "1.26"), (99.9, "100"), (226.4, "226"), (1000, "1000")]
)
def test_factors_are_written_with_three_digits(factor, text):
    assert factor_text(factor) == text
