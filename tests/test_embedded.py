"""The weights that come with the package make good pictures of real and of synthetic files."""

import numpy as np
import pytest
import rawpy
from conftest import REPOSITORY
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from llpack import sheet
from llpack.engine import load_restorer, plain_picture
from llpack.packing import PACK
from llpack.raw import read_raw
from llpack.weights import EMBEDDED

REAL = (
    "blackmagic_outdoor.dng",
    "canon_powershot_g2_colorchecker.crw",
    "canon_powershot_s40_box.crw",
)


@pytest.fixture(scope="module")
def restorer():
    return load_restorer("embedded")


def lab(picture: np.ndarray) -> np.ndarray:
    """Lab colours of 4x4 averages: colour, not noise or sharpness."""
    height, width = (side // 4 for side in picture.shape[:2])
    cut = picture[: 4 * height, : 4 * width].reshape(height, 4, width, 4, 3)
    return rgb2lab(cut.mean((1, 3)) / 255)


@pytest.mark.parametrize("name", REAL)
def test_a_normal_exposure_looks_as_libraw_renders_it(shared_data, restorer, name):
    path = shared_data / "raw" / name
    with rawpy.imread(str(path)) as raw:
        # LibRaw would otherwise raise the brightness of frames that it thinks too dark.
        truth = raw.postprocess(use_camera_wb=True, no_auto_bright=True, adjust_maximum_thr=0)
    picture = restorer.restore(read_raw(path), 1.0).picture
    assert picture.shape == truth.shape
    assert np.median(deltaE_ciede2000(lab(picture), lab(truth))) < 2.5


@pytest.mark.parametrize("name", ["dandelions.dng", "room.dng", "dogs.dng"])
def test_examples_come_back_bright_clean_and_without_a_grid(restorer, name):
    frame = read_raw(REPOSITORY / "examples" / name)
    restored = restorer.restore(frame)
    plain = plain_picture(frame, restored.amplification)
    picture = restored.picture.astype(np.float32)
    assert 30 < picture.mean() < 200
    # Fine noise, by differences of neighbours, falls; the picture as a whole stays what it was.
    assert np.abs(np.diff(picture, axis=1)).mean() < 0.5 * np.abs(np.diff(plain * 1.0, axis=1)).mean()
    coarse = [x[: x.shape[0] // 64 * 64, : x.shape[1] // 64 * 64] for x in (picture, plain * 1.0)]
    coarse = [x.reshape(x.shape[0] // 64, 64, -1, 64, 3).mean((1, 3)) for x in coarse]
    assert np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.95
    assert grid_share(picture) < 1.5


def test_the_cards_crops_are_there_and_small():
    card = (EMBEDDED / "README.md").read_text()
    assert "](crops.jpg)" in card
    assert (EMBEDDED / "crops.jpg").stat().st_size < 400_000
    crops = Image.open(EMBEDDED / "crops.jpg")
    assert crops.width > 3 * sheet.CROP  # in a row: as shot, amplified, restored; at 100 %


def grid_share(picture: np.ndarray) -> float:
    """How much larger the steps between blocks are than those inside them, on either axis.

    The picture is put together from blocks of 4 and 8 pixels; 1 means that no grid is seen.
    """
    shares = []
    for axis in (0, 1):
        steps = np.abs(np.diff(picture, axis=axis)).mean((1 - axis, 2))
        phases = np.array([steps[phase::PACK].mean() for phase in range(PACK)])
        shares.append(phases.max() / phases.mean())
    return max(shares)
