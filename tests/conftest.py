"""Shared fixtures: the folder of real files, and tiny DNG files written by an independent library."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

LINEAR_RAW = 34892
REPOSITORY = Path(__file__).resolve().parent.parent
COLOR_MATRIX = ((0.66, -0.19, -0.05), (-0.46, 1.23, 0.26), (-0.06, 0.14, 0.65))  # XYZ -> camera


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real RAW files and photographs; tests that need it skip without it."""
    folder = Path(os.environ.get("LLPACK_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real files at {folder} (set LLPACK_SHARED_DATA)")
    return folder


@pytest.fixture
def tiny_dng(tmp_path):
    """A function that writes a small DNG with tifffile and returns its path; see `write`."""

    def write(
        mosaic: np.ndarray | None = None,
        *,
        name: str = "tiny.dng",
        cfa: str | None = "RGGB",
        black=512,
        white=4095,
        neutral=(0.5, 1.0, 0.625),
        color_matrix=COLOR_MATRIX,
        orientation=1,
        active_area=None,
        make="Acme",
        model="Acme One",
        extra=(),
    ) -> Path:
        """cfa: letters of a square pattern, None for a file without a mosaic ("linear raw").
        neutral, color_matrix, black: None leaves the tag out. active_area: top, left, bottom,
        right. extra: more tags as tifffile takes them."""
        if mosaic is None:
            mosaic = dark_mosaic(96, 128)
        tags = [
            (50706, "B", 4, (1, 4, 0, 0)),
            (50708, "s", 0, f"{make} {model}"),
            (50717, "I", 1, white),
            (271, "s", 0, make),
            (272, "s", 0, model),
            (274, "H", 1, orientation),
            *extra,
        ]
        if cfa is not None:
            side = int(len(cfa) ** 0.5)
            tags += [
                (33421, "H", 2, (side, side)),
                (33422, "B", len(cfa), bytes("RGBCMYW".index(color) for color in cfa)),
            ]
            if set(cfa) - set("RGB"):
                tags.append((50710, "B", 4, bytes((0, 1, 2, 6))))
        if np.ndim(black):
            tags += [(50713, "H", 2, (2, 2)), (50714, "H", 4, tuple(black))]
        elif black is not None:
            tags.append((50714, "H", 1, black))
        if neutral is not None:
            tags.append((50728, "2I", len(neutral), _rationals(neutral)))
        if color_matrix is not None:
            flat = np.ravel(color_matrix)
            tags += [(50721, "2i", len(flat), _rationals(flat)), (50778, "H", 1, 21)]
        if active_area is not None:
            tags.append((50829, "I", 4, tuple(active_area)))
        path = tmp_path / name
        tifffile.imwrite(
            path,
            mosaic,
            photometric=("rgb" if mosaic.ndim == 3 else "minisblack") if cfa is None else "cfa",
            metadata=None,
            extratags=[(*tag, True) for tag in tags],
        )
        if cfa is None:  # tifffile does not write linear raw with a single sample
            with tifffile.TiffFile(path, mode="r+b") as tiff:
                tiff.pages[0].tags["PhotometricInterpretation"].overwrite(LINEAR_RAW)
        return path

    return write


def dark_mosaic(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint16 values of a dark frame: all different from pixel to pixel, none clipped."""
    return np.random.default_rng(seed).integers(500, 900, (height, width), dtype=np.uint16)


def _rationals(values) -> tuple[int, ...]:
    return tuple(part for value in values for part in (round(value * 10000), 10000))
