"""A dark RAW frame from any photograph: the light's path run backwards, then noise.

photo -> linear light -> the camera's own RGB (inverse of its matrix) -> undo its white balance ->
mosaic -> a fraction of the light -> calibrated noise -> digital numbers. What a restoration should
give back is then known exactly. Following Brooks et al., "Unprocessing", CVPR 2019, section 3.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from llpack.colour import camera_to_srgb
from llpack.dng import write_dng
from llpack.errors import LlpackError, UnreadableRaw
from llpack.metadata import Exif
from llpack.raw import RawFrame
from llpack.rendering import bt709_linear
from llpack.sensor_noise import CAMERAS, FULL_SCALE, SensorNoise, a7s2

# Anticlockwise quarter turns from the upright scene to the sensor, for each EXIF orientation.
_QUARTER_TURNS = {1: 0, 3: 2, 6: 1, 8: 3}

BLACK_LEVEL, WHITE_LEVEL = 512, 512 + FULL_SCALE

# What each code of an 8-bit photo is in linear light.
LINEAR_OF_CODE = bt709_linear(np.arange(256) / 255).astype(np.float32)


@dataclass(frozen=True)
class CameraColour:
    """How a sensor sees colour: XYZ (D65) -> camera RGB, and its daylight white balance (R, G, B).

    Matrices: Adobe's, as published in DNG files and carried by dcraw and LibRaw (10000ths).
    """

    xyz_to_camera: tuple[tuple[int, int, int], ...]
    white_balance: tuple[float, float, float]

    @property
    def matrix(self) -> np.ndarray:
        return np.array(self.xyz_to_camera) / 10000

    @property
    def to_srgb(self) -> np.ndarray:
        return camera_to_srgb(self.matrix)


COLOURS = {
    "Sony A7S II": CameraColour(
        ((5838, -1430, -246), (-3497, 11477, 2297), (-748, 1885, 5778)), (2.35, 1.0, 1.62)
    ),
    "Nikon D850": CameraColour(
        ((10405, -3755, -1270), (-5461, 13787, 1793), (-1040, 2015, 6785)), (1.87, 1.0, 1.36)
    ),
    "Canon EOS 5D Mark IV": CameraColour(
        ((6446, -366, -864), (-4436, 12204, 2513), (-952, 2496, 6348)), (1.97, 1.0, 1.53)
    ),
    "Canon EOS 70D": CameraColour(
        ((7034, -804, -1014), (-4420, 12564, 2058), (-851, 1994, 5758)), (2.13, 1.0, 1.55)
    ),
    "Canon EOS 700D": CameraColour(
        ((6602, -841, -939), (-4472, 12458, 2247), (-975, 2039, 6148)), (2.06, 1.0, 1.61)
    ),
}


def scene_light(photo: np.ndarray, to_srgb: np.ndarray, exposure: float = 1.0) -> np.ndarray:
    """White-balanced linear camera RGB (H, W, 3) float32 of an 8-bit photo; 1 is a clipped white.

    The photo is read as a BT.709 picture, the curve with which results are rendered. Colours that
    the camera could not have recorded (negative light) become 0. `exposure` scales the light.
    """
    to_camera = np.linalg.inv(to_srgb).astype(np.float32) * np.float32(exposure)
    return np.maximum(LINEAR_OF_CODE[photo] @ to_camera.T, 0)


def mosaic_of(light: np.ndarray, white_balance: tuple[float, float, float]) -> np.ndarray:
    """(H, W) RGGB mosaic in units of the sensor's full scale, not clipped: see `digitise`."""
    height, width = light.shape[:2]
    red, green, blue = (np.float32(1 / gain) for gain in white_balance)
    mosaic = np.empty((height, width), np.float32)
    mosaic[0::2, 0::2] = light[0::2, 0::2, 0] * red
    mosaic[0::2, 1::2] = light[0::2, 1::2, 1] * green
    mosaic[1::2, 0::2] = light[1::2, 0::2, 1] * green
    mosaic[1::2, 1::2] = light[1::2, 1::2, 2] * blue
    return mosaic


def digitise(
    mosaic: np.ndarray, ratio: float, noise: SensorNoise, rng: np.random.Generator
) -> np.ndarray:
    """Expose a full-scale mosaic with 1/ratio of its light: whole DN above black, float32.

    Rounded and clipped as a 14-bit converter with its black level at 512 does.
    """
    dark = noise.expose(mosaic * np.float32(FULL_SCALE / ratio), rng)
    return np.clip(np.rint(dark), -BLACK_LEVEL, FULL_SCALE)


def darken(
    photo: np.ndarray,
    *,
    camera: str = "Sony A7S II",
    iso: float,
    ratio: float,
    seed: int = 0,
    orientation: int = 1,
) -> RawFrame:
    """The RAW frame that `camera` would have taken of a photo's scene with 1/ratio of the light.

    photo: (H, W, 3) uint8, upright, even sizes from 64 up. `orientation` is how the camera was held
    (EXIF 1, 3, 6 or 8). Raises LlpackError for an unknown camera, for an ISO outside 100..25600 and
    for a ratio below 1.
    """
    if camera not in COLOURS:
        raise LlpackError(f"No noise is known for camera '{camera}'; known: {', '.join(COLOURS)}.")
    if not 100 <= iso <= 25600:
        raise LlpackError(f"ISO {iso:g} is outside the calibrated range from 100 to 25600.")
    if not ratio >= 1:
        raise LlpackError(f"A ratio of {ratio:g} would brighten the photo; give 1 or more.")
    rng = np.random.default_rng(seed)
    colour = COLOURS[camera]
    # The A7S II has a calibration for each ISO, which knows its second gain; the others a line.
    noise = a7s2(iso, rng) if camera == "Sony A7S II" else CAMERAS[camera].at_iso(iso, rng)
    on_sensor = np.rot90(photo, _QUARTER_TURNS[orientation])
    light = scene_light(on_sensor, colour.to_srgb)
    dn = digitise(mosaic_of(light, colour.white_balance), ratio, noise, rng)
    make, model = camera.split(" ", 1)
    return RawFrame(
        mosaic=(dn + BLACK_LEVEL).astype(np.uint16),
        black_level=(float(BLACK_LEVEL),) * 4,
        white_level=float(WHITE_LEVEL),
        white_balance=colour.white_balance,
        camera_to_srgb=colour.to_srgb,
        orientation=orientation,
        cfa="RGGB",
        exif=Exif(make=make, model=model, iso=iso),
        notes=(f"synthetic: a photo with 1/{ratio:g} of its light and calibrated noise",),
    )


def write_dark(path: Path, frame: RawFrame, camera: str, *, compress: bool = True) -> None:
    """Write a frame that `darken` made for `camera` as a DNG. Raises OutputError."""
    write_dng(
        path,
        frame.mosaic,
        black_level=frame.black_level,
        white_level=frame.white_level,
        as_shot_neutral=[1 / gain for gain in frame.white_balance],
        color_matrix=COLOURS[camera].matrix,
        orientation=frame.orientation,
        exif=frame.exif,
        compress=compress,
    )


def open_photo(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, upright, cut to even sizes.

    Raises UnreadableRaw when the file is no picture that Pillow opens, or is under 64 pixels.
    """
    try:
        with Image.open(path) as opened:
            photo = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableRaw(
            f"{Path(path).name} could not be opened as a photo ({reason}). Give a JPEG, PNG or TIFF."
        ) from error
    if min(photo.size) < 64:
        raise UnreadableRaw(f"{Path(path).name} is smaller than 64 pixels.")
    pixels = np.asarray(photo)
    return pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]


def fit_photo(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The photo cut (about its centre) to the shape of `size` = (width, height) and resized to it."""
    fitted = ImageOps.fit(Image.fromarray(photo), size, method=Image.Resampling.LANCZOS)
    return np.asarray(fitted)
