"""What files say about themselves, whatever container it is in and however damaged it is."""

import math
import struct
import time

import pytest
from conftest import dark_mosaic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llpack.dng import write_dng
from llpack.metadata import MAX_TEXT, Exif, clean_date, clean_number, clean_text, read_exif

EXPOSED = Exif(
    make="Canon",
    model="Canon EOS R",
    lens="RF 35mm",
    exposure_time=1 / 8,
    f_number=1.8,
    iso=6400,
    focal_length=35,
    taken="2025:06:07 08:09:10",
)


def tiff_bytes(tmp_path, exif=EXPOSED) -> bytes:
    path = tmp_path / "source.dng"
    write_dng(
        path, dark_mosaic(64, 64), black_level=(512,) * 4, white_level=4095,
        as_shot_neutral=(1, 1, 1), color_matrix=[[1, 0, 0], [0, 1, 0], [0, 0, 1]], exif=exif,
    )  # fmt: skip
    return path.read_bytes()


def exif_jpeg(tiff: bytes) -> bytes:
    app1 = b"Exif\0\0" + tiff[:4000]  # the directories are at the beginning
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + b"\xff\xdb\0\x04\0\0"


def in_container(kind: str, tiff: bytes) -> bytes:
    if kind == "TIFF":
        return tiff
    if kind == "JPEG":
        return exif_jpeg(tiff)
    if kind == "RAF":  # 84: offset of the embedded JPEG
        head = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + struct.pack(">II", 148, 4000)
        return head.ljust(148, b"\0") + exif_jpeg(tiff)
    if kind == "CR3":
        boxes = struct.pack(">I", 24) + b"ftypcrx " + b"\0\0\0\1crx isom"
        for name in (b"CMT1", b"CMT2"):
            boxes += struct.pack(">I", len(tiff) + 8) + name + tiff
        return boxes
    assert kind == "MRW"
    return b"\0MRM\0\0\xff\xff\0TTW" + struct.pack(">I", len(tiff)) + tiff


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "RAF", "CR3", "MRW"])
def test_every_container_gives_the_same_values(tmp_path, kind):
    path = tmp_path / "file.raw"
    path.write_bytes(in_container(kind, tiff_bytes(tmp_path)))
    assert read_exif(path) == EXPOSED


def test_real_files(shared_data):
    truncated = read_exif(shared_data / "raw_odd" / "filetype_truncated.cr3")
    assert truncated.camera == "Canon EOS R"
    assert truncated.lens == "EF24-105mm f/4L IS USM"
    assert truncated.exposure == "1/125 s, f/4, ISO 100, 105 mm"
    crw = read_exif(shared_data / "raw" / "canon_powershot_s40_box.crw")
    assert crw.camera == "Canon PowerShot S40"
    arw = read_exif(shared_data / "raw_odd" / "exifpy_sony_a7iii_header_only.arw")
    # This file was taken with a lens without contacts: f/0, 0 mm and an empty lens name.
    assert (arw.camera, arw.lens, arw.f_number, arw.focal_length) == (
        "SONY ILCE-7M3", None, None, None,
    )  # fmt: skip


def test_iso_above_16_bits_is_read_from_the_longer_tag(tmp_path):
    path = tmp_path / "file.dng"
    path.write_bytes(tiff_bytes(tmp_path, Exif(iso=409600)))
    assert read_exif(path).iso == 409600


@pytest.mark.parametrize(
    "make, model, camera",
    [
        ("NIKON CORPORATION", "NIKON D500", "NIKON D500"),
        ("SONY", "ILCE-7SM2", "SONY ILCE-7SM2"),
        ("Eastman Kodak Company", "Kodak DC120", "Kodak DC120"),
        (None, "X100", "X100"),
        ("FUJIFILM", None, "FUJIFILM"),
        (None, None, "unknown camera"),
    ],
)
def test_camera_name(make, model, camera):
    assert Exif(make=make, model=model).camera == camera


@pytest.mark.parametrize(
    "exif, words",
    [
        (Exif(exposure_time=0.1, f_number=2.8, iso=3200, focal_length=50),
         "1/10 s, f/2.8, ISO 3200, 50 mm"),
        (Exif(exposure_time=2.5), "2.5 s"),
        (Exif(exposure_time=1 / 8000, iso=100), "1/8000 s, ISO 100"),
        (Exif(), ""),
    ],
)  # fmt: skip
def test_exposure_in_words(exif, words):
    assert exif.exposure == words


def test_text_is_one_printable_line_of_limited_length():
    assert clean_text("  Canon\n EOS\x1b[31m\u202e R\0garbage ") == "Canon EOS [31m R"
    assert clean_text(b"Canon\0\xff") == "Canon"
    assert len(clean_text("x" * 10**6)) == MAX_TEXT
    assert clean_text("\0\0") is clean_text(" ") is clean_text(7) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, 1e30, "many", None, [1]])
@pytest.mark.parametrize("field", ["exposure_time", "f_number", "iso", "focal_length"])
def test_impossible_numbers_are_dropped(field, value):
    assert clean_number(field, value) is None


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "2024-01-01 00:00:00", "soon", ""])
def test_impossible_dates_are_dropped(text):
    assert clean_date(text) is None


def test_missing_foreign_and_empty_files_give_no_values(tmp_path):
    empty = tmp_path / "empty.dng"
    empty.touch()
    text = tmp_path / "text.dng"
    text.write_text("not a picture")
    for path in (tmp_path / "missing.dng", tmp_path, empty, text):
        assert read_exif(path) == Exif()


def test_a_directory_that_claims_billions_of_values_ends_soon(tmp_path):
    # 65535 entries of 999 values each, all read from the same place.
    entry = struct.pack("<HHII", 0x9000, 3, 999, 8)
    path = tmp_path / "bomb.dng"
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", 65535) + entry * 65535)
    start = time.perf_counter()
    assert read_exif(path) == Exif()
    assert time.perf_counter() - start < 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["TIFF", "JPEG", "RAF", "CR3", "MRW"]),
    damage=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), max_size=12),
    length=st.integers(0, 3000),
)
def test_damage_never_raises(tmp_path, kind, damage, length):
    data = bytearray(in_container(kind, tiff_bytes(tmp_path))[:length])
    for at, value in damage:
        if at < len(data):
            data[at] = value
    path = tmp_path / "damaged.raw"
    path.write_bytes(data)
    exif = read_exif(path)
    assert all(len(text) <= MAX_TEXT for text in (exif.make, exif.model, exif.lens) if text)
