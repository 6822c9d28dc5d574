"""Training patches: dark mosaics with the pictures they should become, made as fast as they are used.

Synthetic patches come from clean photographs (`synthetic`); everything that the engine does to a
mosaic before the network is done here in the same way, negative values included.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from llpack.amplifier import VALUE_RANGE
from llpack.errors import LlpackError
from llpack.print_patches import print_patch
from llpack.rendering import bt709_curve
from llpack.sensor_noise import CAMERAS, FULL_SCALE, SensorNoise, a7s2, any_camera
from llpack.synthetic import COLOURS, LINEAR_OF_CODE, digitise, mosaic_of, open_photo

# Photos that no training may see; they are what `evaluate` scores and what `examples/` shows.
HELD_OUT = frozenset(
    """azure_dubai conc_shoes conc_sunset exifpy_hdr-iphone-hdr-no exifpy_xiaomi-mi-9t-keyerror
    gcp_handwritten lom16_life-by-aitzol-berasategi mex_apple-iphone-5 mex_canon-powershot-g2
    mex_canon-powershot-s90 mex_kodak-pixpro-az521 mex_minolta-dimage-a1 mex_motorola-xt1068-moto-g
    mex_olympus-e-10 mex_oppo-r7-plus mex_panasonic-fx7 plasma_bythewater plasma_colorfulcups
    pop_jad-limcaco-183877 pop_sean-afnan-244576 dandelions room dogs""".split()
)
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}

MAX_RATIO = 350
# Below this many photo-electrons at white nothing can be restored, and nothing is learnt.
MIN_ELECTRONS_AT_WHITE = 4
PRINT_SHARE = 0.04  # of all patches show print instead of a photo

_codes = np.arange(256) / 255
# The same photo with its contrast curve taken back (inverse smoothstep, Brooks et al. 2019): real
# scenes are flatter than the pictures that photographers publish.
_FLAT = LINEAR_OF_CODE[np.rint(255 * (0.5 - np.sin(np.arcsin(1 - 2 * _codes) / 3))).astype(int)]
_CURVE_STEPS = 4096
# Display codes for light on a square-root scale, where equal steps look about equal.
_CODE_OF_ROOT = np.rint(255 * bt709_curve((np.arange(_CURVE_STEPS + 1) / _CURVE_STEPS) ** 2))


@dataclass(frozen=True)
class Patch:
    """mosaic: (1, S, S) float32 as the network sees it; picture: (3, S, S) uint8 as it should be
    displayed; camera_to_srgb: (3, 3) float32, with which the network's output is rendered."""

    mosaic: np.ndarray
    picture: np.ndarray
    camera_to_srgb: np.ndarray


def training_photos(folder: Path) -> list[np.ndarray]:
    """All photos of a folder that are not held out, (H, W, 3) uint8 each."""
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
    photos = [open_photo(path) for path in paths if path.stem not in HELD_OUT]
    if not photos:
        raise LlpackError(f"No photos to train on in {folder}: it needs JPEG, PNG or TIFF files.")
    return photos


class SyntheticBatches(Dataset):
    """Batch number n, always the same for the same seed, so that a run resumes to the step.

    `size_at(n)` gives the patch size and the number of patches of batch n.
    """

    def __init__(self, photos, size_at, steps: int, seed: int):
        self.photos, self.size_at, self.steps, self.seed = photos, size_at, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, step))
        size, count = self.size_at(step)
        patches = [self.patch(step, size, rng) for _ in range(count)]
        return (
            torch.from_numpy(np.stack([p.mosaic for p in patches])),
            torch.from_numpy(np.stack([p.picture for p in patches])),
            torch.from_numpy(np.stack([p.camera_to_srgb for p in patches])),
        )

    def patch(self, step: int, size: int, rng: np.random.Generator) -> Patch:
        """One patch of batch number `step`."""
        return dark_patch(self._clean_patch(size, rng), rng)

    def _clean_patch(self, size: int, rng: np.random.Generator) -> np.ndarray:
        if rng.random() < PRINT_SHARE:
            return print_patch(size, rng)
        return _crop(self.photos, size, rng)


def _crop(photos: list[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a random photo in one of its eight orientations."""
    photo = photos[rng.integers(len(photos))]
    size_in_photo = min(size, *(side // 2 * 2 for side in photo.shape[:2]))
    top, left = (rng.integers(side - size_in_photo + 1) for side in photo.shape[:2])
    crop = photo[top : top + size_in_photo, left : left + size_in_photo]
    if size_in_photo < size:
        missing = size - size_in_photo
        crop = np.pad(crop, ((0, missing), (0, missing), (0, 0)), mode="symmetric")
    crop = np.rot90(crop, rng.integers(4))
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def dark_patch(photo: np.ndarray, rng: np.random.Generator) -> Patch:
    """One dark exposure of a photo by a random camera, at a random ratio and brightness.

    The amplification is the ratio, or up to half a stop off: what the network gives back is as
    bright as its input was made, so that a wrong estimate does no harm.
    """
    camera_to_srgb = random_colour(rng)
    white_balance = random_white_balance(rng)
    brightness = np.exp(rng.uniform(np.log(0.2), np.log(1.8))) if rng.random() < 0.5 else 1.0
    linear = (_FLAT if rng.random() < 0.4 else LINEAR_OF_CODE)[photo]
    if rng.random() < 0.5:
        linear = np.clip(linear @ random_tint(rng).T, 0, 1)
    to_camera = np.linalg.inv(camera_to_srgb) * np.float32(brightness)
    light = np.maximum(linear @ to_camera.T, 0)

    ratio, noise = random_exposure(rng)
    jitter = random_jitter(rng)
    dn = digitise(mosaic_of(light, white_balance), ratio, noise, rng)
    if rng.random() < 0.15:  # some cameras cut at the black level before they write the file
        dn = np.maximum(dn, 0)
    amplified = dn * np.float32(ratio * jitter / FULL_SCALE)
    amplified[0::2, 0::2] *= white_balance[0]
    amplified[0::2, 1::2] *= white_balance[1]
    amplified[1::2, 0::2] *= white_balance[1]
    amplified[1::2, 1::2] *= white_balance[2]

    shown = np.clip(np.minimum(light * np.float32(jitter), 1) @ camera_to_srgb.T, 0, 1)
    codes = _CODE_OF_ROOT.astype(np.uint8)[np.rint(np.sqrt(shown) * _CURVE_STEPS).astype(np.int32)]
    return Patch(
        mosaic=np.clip(amplified, *VALUE_RANGE)[None],
        picture=np.ascontiguousarray(codes.transpose(2, 0, 1)),
        camera_to_srgb=camera_to_srgb,
    )


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """camera -> sRGB of a camera somewhere between the known ones (convex mix, as Brooks et al.)."""
    known = np.stack([colour.to_srgb for colour in COLOURS.values()])
    weights = rng.dirichlet(np.full(len(known), 0.5)).astype(np.float32)
    return np.tensordot(weights, known, 1)


def random_tint(rng: np.random.Generator) -> np.ndarray:
    """Linear RGB -> RGB with other hues and saturation; grey stays. From some hundred photos alone the
    network learns which colours to expect, and draws those where it sees none."""
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.3 else rng.normal(0, 0.3)
    grey = np.full((3, 3), 1 / 3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    turned = np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * across
    return (grey + rng.uniform(0.5, 1.6) * turned).astype(np.float32)


def random_exposure(rng: np.random.Generator) -> tuple[float, SensorNoise]:
    """Exposure ratio, 1 to 350, and a noise with which something of the picture survives."""
    while True:
        ratio = float(np.exp(rng.uniform(0, np.log(MAX_RATIO)))) if rng.random() < 0.92 else 1.0
        noise = random_noise(rng)
        if FULL_SCALE / (ratio * noise.gain) >= MIN_ELECTRONS_AT_WHITE:
            return ratio, noise


def random_jitter(rng: np.random.Generator) -> float:
    """By how much an amplification is off: half of the time not at all, else by half a stop at most."""
    return float(np.exp(rng.uniform(np.log(0.7), np.log(1.4)))) if rng.random() < 0.5 else 1.0


def random_noise(rng: np.random.Generator) -> SensorNoise:
    kind = rng.random()
    iso = float(np.exp(rng.uniform(np.log(100), np.log(25600))))
    if kind < 0.6:
        return a7s2(iso, rng)
    if kind < 0.8:
        cameras = list(CAMERAS.values())
        return cameras[rng.integers(len(cameras))].at_iso(min(iso, 6400), rng)
    return any_camera(rng)


def random_white_balance(rng: np.random.Generator) -> tuple[float, float, float]:
    """Gains between shade and tungsten light; green is the strongest channel, as on real sensors."""
    return float(rng.uniform(1.2, 2.7)), 1.0, float(rng.uniform(1.1, 2.6))
