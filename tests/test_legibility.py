"""Pages of text, and counting what is read on them."""

import os
import shutil

import numpy as np
import pytest

from llpack import legibility
from llpack.errors import LlpackError


def test_a_page_is_always_the_same_and_full_of_words():
    photo, words = legibility.page(40)
    again, same = legibility.page(40)
    np.testing.assert_array_equal(photo, again)
    assert words == same and len(words) > 40
    assert photo.shape == (768, 1024, 3) and photo.dtype == np.uint8


def test_words_count_as_often_as_they_are_printed(monkeypatch):
    monkeypatch.setattr(legibility, "_read", lambda _: "River, river! ri ver\nBRIGHT lamp river")
    assert legibility.words_found(None, ["river", "river", "bright", "stone"]) == 3


@pytest.mark.skipif(not shutil.which("tesseract"), reason="tesseract is not installed")
def test_a_bright_page_is_read_and_an_empty_one_is_not():
    photo, words = legibility.page(40)
    photo, words = photo[:200], words[: len(words) // 2]
    found = legibility.words_found(photo, words)
    assert found >= 10
    assert legibility.words_found(np.full_like(photo, 200), words) == 0


def test_missing_tesseract_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(LlpackError, match="tesseract; install it"):
        legibility.words_found(np.zeros((80, 80, 3), np.uint8), [])


def test_table_names_the_pages_synthetic():
    table = legibility.legibility_table([legibility.Reading(28, 50, 90, 88, 70, 81)])
    assert table.splitlines()[0].startswith("| synthetic page")
    assert "| 28 px | x50 | 90 | 88 | 70 | 81 |" in table
