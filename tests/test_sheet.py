"""The contact sheet's places and choices."""

import numpy as np
import pytest

from llpack import sheet


def row(quality: float) -> sheet.SheetRow:
    crop = np.full((sheet.CROP, sheet.CROP, 3), int(quality), np.uint8)
    return sheet.SheetRow(f"{quality} dB", quality, {"ours": crop, "truth": crop})


def test_crops_show_the_place_with_the_most_detail():
    picture = np.full((600, 700, 3), 90, np.uint8)
    picture[330:560, 410:640] = np.random.default_rng(0).integers(0, 255, (230, 230, 3))
    top, left = sheet.most_detailed(picture)
    assert 304 <= top <= 330 and 384 <= left <= 410
    cut = sheet.cut("label", 20.0, {"truth": picture}, picture)
    np.testing.assert_array_equal(
        cut.crops["truth"], picture[top : top + sheet.CROP, left : left + sheet.CROP]
    )


@pytest.mark.parametrize("shape", [(64, 66, 3), (sheet.CROP, 300, 3), (257, 64, 3)])
def test_small_pictures_are_shown_whole(shape):
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    cut = sheet.cut("label", 20.0, {"truth": picture}, picture)
    assert cut.crops["truth"].shape == (min(shape[0], 256), min(shape[1], 256), 3)


def test_rows_go_from_the_worst_to_the_best():
    rows = [row(quality) for quality in (25, 18, 30, 21, 27)]
    assert [r.quality for r in sheet.spread(rows, 3)] == [18, 25, 30]
    assert [r.quality for r in sheet.spread(rows[:2], 6)] == [18, 25]


def test_each_column_and_row_has_its_place():
    drawn = sheet.draw([row(40), row(200)])
    colours = [(drawn == value).all(2).sum() for value in (40, 200)]
    assert all(count >= 2 * sheet.CROP**2 for count in colours)
    with pytest.raises(ValueError, match="at least one row"):
        sheet.draw([])
