"""Whatever is not a Bayer RAW file ends in a sentence that says what it is and what to do."""

import numpy as np
import pytest
import tifffile
from conftest import dark_mosaic
from PIL import Image

from llpack import refusals
from llpack.errors import LimitExceeded, LlpackError, UnreadableRaw, UnsupportedSensor
from llpack.raw import RawFrame, read_raw

XTRANS = "GBGGRGRGRBGBGBGGRGGRGGBGBGBRGRGRGGBG"


def refusal(path) -> LlpackError:
    with pytest.raises(LlpackError) as caught:
        read_raw(path)
    message = str(caught.value)
    assert path.name in message
    assert str(path.parent) not in message
    assert "b'" not in message
    return caught.value


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"cfa": XTRANS}, "X-Trans is not supported yet"),
        ({"cfa": None}, "monochrome"),
        ({"cfa": None, "mosaic": np.zeros((96, 128, 3), np.uint16)}, "linear DNG"),
        ({"cfa": "CMYG"}, "colour filters are"),
        ({"cfa": "RGBW"}, "colour filters are"),
        ({"cfa": "RRGGRRGGGGBBGGBB"}, "colour filters are"),
        ({"extra": [(50718, "2I", 2, (2, 1, 1, 1))]}, "not square"),
    ],
)
def test_other_sensors_are_refused_by_name(tiny_dng, options, reason):
    error = refusal(tiny_dng(**options))
    assert isinstance(error, UnsupportedSensor)
    assert reason in str(error)


@pytest.mark.parametrize(
    "mosaic, reason",
    [
        (np.zeros((96, 128), np.uint16), "same value"),
        (np.full((96, 128), 512, np.uint16), "same value"),
        (dark_mosaic(62, 128), "smaller than 64 x 64"),
    ],
)
def test_pictures_without_content_are_refused(tiny_dng, mosaic, reason):
    error = refusal(tiny_dng(mosaic))
    assert isinstance(error, UnreadableRaw)
    assert reason in str(error)


@pytest.mark.parametrize(
    "name, start, reason",
    [
        ("a.heic", b"\0\0\0\x18ftypheic", "a HEIC picture"),
        ("a.avif", b"\0\0\0\x18ftypavif", "an AVIF picture"),
        ("a.mp4", b"\0\0\0\x18ftypisom", "a video"),
        ("a.webp", b"RIFF\0\0\0\0WEBP", "a WebP picture"),
        ("a.xmp", b"<?xpacket begin", "a sidecar file"),
        ("a.zip", b"PK\x03\x04", "a ZIP archive"),
        ("a.arw", b"", "empty"),
        ("a.nef", b"just some text, long enough to be read", "not a RAW file"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, start, reason):
    path = tmp_path / name
    path.write_bytes(start)
    error = refusal(path)
    assert isinstance(error, UnreadableRaw)
    assert reason in str(error)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("suffix", [".tif", ".dng"])
def test_pictures_are_refused_whatever_their_suffix(tmp_path, kind, suffix):
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(dark_mosaic(96, 128).astype(np.uint8)).save(path, format=kind)
    message = str(refusal(path))
    assert (kind in message) or (kind == "TIFF" and suffix == ".dng")
    assert "not a RAW file" in message


def test_missing_files_and_folders_are_refused(tmp_path):
    assert "could not be opened" in str(refusal(tmp_path / "missing.dng"))
    assert "could not be opened" in str(refusal(tmp_path))


def test_a_file_that_ends_early_is_called_incomplete(tiny_dng):
    path = tiny_dng()
    path.write_bytes(path.read_bytes()[:-4000])
    assert "incomplete" in str(refusal(path))


def test_too_many_pixels_are_refused_before_decoding(tiny_dng, monkeypatch):
    monkeypatch.setattr(refusals, "MAX_MEGAPIXELS", 0.01)
    assert isinstance(refusal(tiny_dng()), LimitExceeded)


def test_a_header_that_claims_a_huge_picture_is_refused(tiny_dng):
    path = tiny_dng()
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[tag].overwrite(60000)
    assert isinstance(refusal(path), LimitExceeded)


ODD = {
    "adobe_pgtm2_u8_200px.dng": "linear DNG",
    "dc_gopro_hero7_8508.gpr": "GoPro",
    "dc_kodak_dc120_p003908.kdc": "not square",
    "exifpy_sony_a7iii_header_only.arw": "incomplete",
    "filetype_128byte.nef": "damaged",
    "filetype_sony_zve10_truncated.arw": "incomplete",
    "filetype_truncated.cr3": "incomplete",
    "kde_kodak_c330_yrgb.raw": "several colour values",
    "magick_dsc8695_linear.dng": "linear DNG",
    "mex_issue247_1.nef": "a JPEG picture",
}


def test_every_odd_file_ends_in_a_sentence_or_a_sane_frame(shared_data):
    for path in sorted((shared_data / "raw_odd").iterdir()):
        if path.name in ODD:
            assert ODD[path.name] in str(refusal(path)), path.name
        else:
            assert_sane(read_raw(path))


def assert_sane(frame: RawFrame) -> None:
    assert min(frame.mosaic.shape) >= 64
    assert frame.mosaic.shape[0] % 2 == frame.mosaic.shape[1] % 2 == 0
    assert 0 <= min(frame.black_level) <= max(frame.black_level) < frame.white_level <= 65535
    assert min(frame.white_balance) == 1 and max(frame.white_balance) <= 32
    assert np.isfinite(frame.camera_to_srgb).all()
    assert frame.orientation in range(1, 9)
