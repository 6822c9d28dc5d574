"""Result files open elsewhere with the right colours, metadata and bits, or are not there at all."""

import io
import json
import resource
import shutil
import subprocess
from dataclasses import asdict, replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin

from llpack.errors import OutputError
from llpack.files import FORMATS, write_picture
from llpack.metadata import Exif, read_exif

EXIF = Exif(
    make="SONY",
    model="ILCE-7SM2",
    lens="Voigtländer 40mm F1.2",
    exposure_time=1 / 250,
    f_number=1.2,
    iso=3200,
    focal_length=40.0,
    taken="2024:02:29 23:59:58",
    artist="Ada Lovelace",
    copyright="© Ada",
)
ORIENTATION, SOFTWARE = 274, 305


def picture_of(format: str, height: int = 40, width: int = 62) -> np.ndarray:
    """Noise over a ramp, with as many bits as the format takes."""
    top = 2 ** FORMATS[format] - 1
    noise = np.random.default_rng(0).uniform(0, 0.3, (height, width, 3))
    light = noise + np.linspace(0, 0.7, width)[:, None]
    return np.rint(light * top).astype(np.uint8 if top == 255 else np.uint16)


def write(tmp_path, format, *, exif=EXIF, picture=None):
    path = tmp_path / f"result.{format}"
    picture = picture_of(format) if picture is None else picture
    write_picture(path, picture, exif, format=format)
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_opens_upright_as_srgb_with_our_name(tmp_path, format):
    path = write(tmp_path, format)
    with Image.open(path) as image:
        assert image.size == (62, 40)
        assert image.getexif()[ORIENTATION] == 1
        assert image.getexif()[SOFTWARE] == "llpack"
        profile = ImageCms.getOpenProfile(io.BytesIO(image.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(profile)


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_survive(tmp_path, format):
    assert read_exif(write(tmp_path, format)) == EXIF


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_invented_where_the_raw_said_nothing(tmp_path, format):
    assert read_exif(write(tmp_path, format, exif=Exif())) == Exif()


def test_iso_beyond_16_bits_is_kept(tmp_path):
    exif = replace(EXIF, iso=409600.0)
    assert read_exif(write(tmp_path, "jpg", exif=exif)).iso == 409600


def exiftool(*arguments) -> str:
    return subprocess.run(["exiftool", *arguments], capture_output=True, check=True).stdout.decode()


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("format", FORMATS)
def test_exiftool_reads_it_without_complaint(tmp_path, format):
    path = write(tmp_path, format)
    path = write(tmp_path, format)
    complaints = exiftool("-api", "Validate=1", "-a", "-s3", "-warning", "-error", path)
    # Exif demands tags for the sake of readers of 1998; nothing else may be wrong.
    assert all(line.startswith("Missing required") for line in complaints.splitlines())
    (tags,) = json.loads(exiftool("-json", "-n", path))
    read = {
        "make": tags["Make"],
        "model": tags["Model"],
        "lens": tags["LensModel"],
        "exposure_time": tags["ExposureTime"],
        "f_number": tags["FNumber"],
        "iso": tags["ISO"],
        "focal_length": tags["FocalLength"],
        "taken": tags["DateTimeOriginal"],
        "artist": tags["Artist"],
        "copyright": tags["Copyright"],
    }
    assert read == asdict(EXIF)


def test_jpeg_has_full_colour_resolution_and_quality_92(tmp_path):
    with Image.open(write(tmp_path, "jpg")) as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4
        # The IJG scales the standard tables (ITU T.81, K.1 and K.2) by 200 - 2 * quality percent.
        luminance, chrominance = image.quantization[0], image.quantization[1]
    assert (luminance[0], luminance[-1]) == ((16 * 16 + 50) // 100, (99 * 16 + 50) // 100)
    assert (chrominance[0], chrominance[-1]) == ((17 * 16 + 50) // 100, (99 * 16 + 50) // 100)


def test_jpeg_is_the_picture(tmp_path):
    smooth = np.rint(np.linspace((10, 60, 200), (240, 180, 20), 200)).astype(np.uint8)
    smooth = np.broadcast_to(smooth, (40, 200, 3))
    with Image.open(write(tmp_path, "jpg", picture=smooth)) as image:
        assert np.abs(np.asarray(image).astype(int) - smooth).max() <= 6


def test_png_is_exact(tmp_path):
    with Image.open(write(tmp_path, "png")) as image:
        np.testing.assert_array_equal(np.asarray(image), picture_of("png"))


def test_tiff_has_16_bits_and_is_exact(tmp_path):
    path = write(tmp_path, "tiff")
    read = tifffile.imread(path)
    assert read.dtype == np.uint16
    assert len(np.unique(read)) > 2000
    np.testing.assert_array_equal(read, picture_of("tiff"))
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric.name == "RGB"


def test_tiff_of_an_8_bit_picture_has_8_bits(tmp_path):
    path = write(tmp_path, "tiff", picture=picture_of("png"))
    np.testing.assert_array_equal(tifffile.imread(path), picture_of("png"))
    with Image.open(path) as image:  # Pillow reads no 16-bit colour
        np.testing.assert_array_equal(np.asarray(image), picture_of("png"))


def test_a_view_of_an_array_is_written_as_it_looks(tmp_path):
    turned = np.rot90(picture_of("tiff"))[:, ::2]
    np.testing.assert_array_equal(tifffile.imread(write(tmp_path, "tiff", picture=turned)), turned)


@pytest.mark.parametrize("format", ["jpg", "png"])
def test_16_bits_are_not_silently_cut(tmp_path, format):
    with pytest.raises(ValueError, match="uint16"):
        write(tmp_path, format, picture=picture_of("tiff"))


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="webp"):
        write_picture(tmp_path / "a.webp", picture_of("jpg"), EXIF, format="webp")


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, format):
    path = tmp_path / f"result.{format}"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # writing fails half way
    try:
        with pytest.raises(OutputError, match=rf"result\.{format}.*File too large"):
            write(tmp_path, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_folder_that_takes_no_files_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "taken.jpg").mkdir()
    for target in ("missing/a.jpg", "file/a.jpg", "taken.jpg"):
        with pytest.raises(OutputError, match=target):
            write_picture(tmp_path / target, picture_of("jpg"), EXIF, format="jpg")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "taken.jpg"]


def test_an_existing_file_is_replaced(tmp_path):
    (tmp_path / "result.jpg").write_bytes(b"old")
    with Image.open(write(tmp_path, "jpg")) as image:
        image.load()
    assert [file.name for file in tmp_path.iterdir()] == ["result.jpg"]


def test_a_picture_for_the_screen_is_smaller_and_hardly_different(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(100, 140, (64, 96, 3)).astype(np.uint8)
    sizes = []
    for for_screen in (False, True):
        path = tmp_path / f"{for_screen}.jpg"
        write_picture(path, picture, Exif(), format="jpg", for_screen=for_screen)
        with Image.open(path) as read:
            assert read.size == (96, 64)
            assert abs(np.asarray(read, float).mean() - picture.mean()) < 1
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
