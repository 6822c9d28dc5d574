"""What an evaluation looks at: dark frames whose true picture is known.

Two sources: a folder in the layout of the See-in-the-Dark dataset (Chen et al., CVPR 2018), with
the list of test images of LLPackNet's authors; and any folder of photos, which are made dark here.
"""

import dataclasses
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rawpy
from PIL import Image

from llpack.errors import LlpackError, UnreadableRaw
from llpack.metrics import eight_bits
from llpack.patches import HELD_OUT, PHOTO_SUFFIXES
from llpack.raw import RawFrame, read_raw
from llpack.sensor_noise import FULL_SCALE
from llpack.synthetic import (
    BLACK_LEVEL,
    COLOURS,
    darken,
    mosaic_of,
    open_photo,
    scene_light,
    write_dark,
)

# The levels of the authors' evaluation, whatever the file states; the ratios refer to them.
SID_BLACK_LEVEL, SID_WHITE_LEVEL = 512.0, 16383.0
SID_MAX_RATIO = 300.0
# Short and long exposure do not show the same view; the "restricted" mean leaves them out.
SID_MISALIGNED = frozenset({"10034", "10045", "10172"})
SID_TEST_IMAGES, SID_RESTRICTED_IMAGES = 93, 88  # of the complete dataset
_SID_NAME = re.compile(r"(\d{5})_\d\d_(\d+(?:\.\d+)?)s")
_SID_SUFFIXES = {".arw", ".dng"}

# Cameras for photos, each at the ISO where it counts about 3 DN for a photo-electron: equally dark.
PHOTO_CAMERAS = (("Sony A7S II", 3200), ("Nikon D850", 800), ("Canon EOS 5D Mark IV", 1600))
PHOTO_RATIOS = (100, 250, 300)
PHOTO_LONG_SIDE = 1024


@dataclass(frozen=True, eq=False)
class Scene:
    """A dark frame and its truth.

    set : what its numbers belong to: "See-in-the-Dark" or "synthetic"
    camera : with its ISO, for people
    truth : LibRaw's picture of the bright exposure, (H, W, 3) uint8
    amplified : LibRaw's picture of the dark frame, with `ratio` as its brightness
    restricted : whether the scene counts in the restricted mean
    """

    name: str
    set: str
    camera: str
    ratio: float
    frame: RawFrame
    truth: np.ndarray
    amplified: np.ndarray
    restricted: bool = True


@dataclass(frozen=True)
class SidPair:
    """A short exposure, and the long one of the same scene."""

    scene: str
    short: Path
    long: Path
    ratio: float

    @property
    def restricted(self) -> bool:
        return self.scene not in SID_MISALIGNED

    def load(self) -> Scene:
        """Decode both files. Raises UnreadableRaw or UnsupportedSensor."""
        frame = self.dark_frame()
        return Scene(
            name=self.short.stem,
            set="See-in-the-Dark",
            camera=frame.exif.camera,
            ratio=self.ratio,
            frame=frame,
            truth=libraw_picture(self.long),
            amplified=libraw_picture(self.short, brightness=self.ratio),
            restricted=self.restricted,
        )

    def dark_frame(self) -> RawFrame:
        """The short exposure with the authors' levels. Raises UnreadableRaw or UnsupportedSensor."""
        return dataclasses.replace(
            read_raw(self.short),
            black_level=(SID_BLACK_LEVEL,) * 4,
            white_level=SID_WHITE_LEVEL,
        )


def sid_root(folder: Path) -> Path | None:
    """The folder that holds `short` and `long`: `folder` or its `Sony`; None for other folders."""
    for root in (Path(folder) / "Sony", Path(folder)):
        if (root / "short").is_dir() and (root / "long").is_dir():
            return root
    return None


def sid_test_pairs(root: Path) -> list[SidPair]:
    """The authors' test list by its rule: every `short/1*_00_*`, with the first file in `long` that
    has the same scene number; the ratio is that of the exposure times in the names, at most 300.

    Raises LlpackError for names without an exposure time, and when a long exposure is missing.
    """
    pairs = _sid_pairs(root, "1*_00_*")
    if not pairs:
        raise LlpackError(f"{root / 'short'} has no test images (names such as 10003_00_0.1s.ARW).")
    return pairs


def sid_training_pairs(root: Path) -> list[SidPair]:
    """Every short exposure of the training scenes, whose numbers begin with 0 (test scenes begin
    with 1, validation with 2), with the long one as `sid_test_pairs` chooses it.

    Raises LlpackError as `sid_test_pairs` does.
    """
    pairs = _sid_pairs(root, "0*")
    if not pairs:
        raise LlpackError(f"{root / 'short'} has no training images (names such as 00001_00_0.1s.ARW).")
    return pairs


def _sid_pairs(root: Path, pattern: str) -> list[SidPair]:
    """The short exposures whose names match, in their order, each with its long one."""
    longs: dict[str, Path] = {}
    for path in _sid_files(root / "long", "*_00_*"):
        longs.setdefault(_sid_name(path)[0], path)
    pairs = []
    for short in _sid_files(root / "short", pattern):
        scene, seconds = _sid_name(short)
        if scene not in longs:
            raise LlpackError(f"{root / 'long'} has no exposure of scene {scene} ({short.name}).")
        ratio = min(_sid_name(longs[scene])[1] / seconds, SID_MAX_RATIO)
        pairs.append(SidPair(scene, short, longs[scene], ratio))
    return pairs


def _sid_files(folder: Path, pattern: str) -> list[Path]:
    return sorted(p for p in folder.glob(pattern) if p.suffix.lower() in _SID_SUFFIXES)


def _sid_name(path: Path) -> tuple[str, float]:
    """Scene number and exposure time in seconds: ("10003", 0.04) of 10003_00_0.04s.ARW."""
    match = _SID_NAME.fullmatch(path.stem)
    if match is None or not float(match[2]) > 0:
        raise LlpackError(f"{path.name} does not state scene and exposure as 10003_00_0.04s does.")
    return match[1], float(match[2])


def scored_photos(folder: Path, only_held_out: bool = True) -> list[Path]:
    """The photos of a folder to be scored: those that training never sees, when it has any of them
    and `only_held_out`; else all. Raises LlpackError when there are none."""
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise LlpackError(
            f"{folder} has neither photos (JPEG, PNG, TIFF) nor See-in-the-Dark's Sony/short and "
            "Sony/long."
        )
    held_out = [path for path in files if path.stem in HELD_OUT]
    return held_out if held_out and only_held_out else files


def photo_scenes(
    path: Path,
    *,
    long_side: int | None = PHOTO_LONG_SIDE,
    cameras: Sequence[tuple[str, float]] = PHOTO_CAMERAS,
    ratios: Sequence[float] = PHOTO_RATIOS,
) -> Iterator[Scene]:
    """One photo, made smaller if it is larger, taken by each camera at each ratio.

    The noise depends only on the photo's name, the camera and the ratio. `cameras` are pairs of a
    name and an ISO. Raises UnreadableRaw for a file that is no photo.
    """
    photo = shrink(open_photo(path), long_side)
    for camera, iso in cameras:
        truth = None
        for ratio in ratios:
            seed = zlib.crc32(f"{path.stem} {camera} {ratio:g}".encode())
            frame = darken(photo, camera=camera, iso=iso, ratio=ratio, seed=seed)
            if truth is None:
                truth = libraw_picture_of(bright_frame(photo, frame, camera), camera)
            yield Scene(
                name=path.stem,
                set="synthetic",
                camera=f"{camera} at ISO {iso:g}",
                ratio=ratio,
                frame=frame,
                truth=truth,
                amplified=libraw_picture_of(frame, camera, brightness=ratio),
            )


def shrink(photo: np.ndarray, long_side: int | None) -> np.ndarray:
    """The photo with even sides, the longer one at most `long_side` (None: as it is)."""
    scale = min(1.0, (long_side or max(photo.shape)) / max(photo.shape[:2]))
    height, width = (max(64, int(side * scale) // 2 * 2) for side in photo.shape[:2])
    if (height, width) == photo.shape[:2]:
        return photo
    resized = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def bright_frame(photo: np.ndarray, dark: RawFrame, camera: str) -> RawFrame:
    """What the camera of `dark` takes of the same scene with all its light, and without noise."""
    colour = COLOURS[camera]
    mosaic = mosaic_of(scene_light(photo, colour.to_srgb), colour.white_balance)
    codes = np.rint(mosaic * FULL_SCALE + BLACK_LEVEL).astype(np.uint16)
    return dataclasses.replace(dark, mosaic=codes)


def libraw_picture_of(frame: RawFrame, camera: str, *, brightness: float = 1.0) -> np.ndarray:
    """LibRaw's rendering of a synthetic frame, by way of a DNG file; uint8, see `libraw_picture`.

    The white level counts as it is stated: LibRaw would otherwise lower it to the brightest pixel
    of some frames, and show them up to a third too bright.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dng"
        write_dark(path, frame, camera, compress=False)
        return libraw_picture(path, brightness=brightness, adjust_maximum_thr=0.0)


def libraw_picture(path: Path, *, brightness: float = 1.0, **settings) -> np.ndarray:
    """LibRaw's rendering as SID's ground truth is made: the camera's white balance, no automatic
    brightness, 16 bits; then uint8 by truncation. (H, W, 3), upright.

    brightness : factor on the light, LibRaw's plain amplification
    settings : other arguments of rawpy's `postprocess`
    """
    try:
        with rawpy.imread(str(path)) as raw:
            picture = raw.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_bps=16,
                bright=brightness,
                **settings,
            )
    except (rawpy.LibRawError, rawpy.NotSupportedError, OSError, RuntimeError) as error:
        raise UnreadableRaw(
            f"LibRaw cannot render {Path(path).name}: it is damaged or of an unknown format."
        ) from error
    return eight_bits(picture)
