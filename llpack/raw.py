"""Any camera's Bayer RAW file -> RawFrame: the mosaic as the sensor gave it, and what it means.

Nothing is specific to one camera: levels, white balance and colour come from the file or from
LibRaw's knowledge of the camera, each is checked, and what had to be replaced is noted.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llpack import refusals
from llpack.calibration import (
    grey_world_gains,
    matrix_from_file,
    matrix_from_xyz,
    white_balance_gains,
)
from llpack.errors import LlpackError
from llpack.metadata import Exif, clean_date, clean_number, clean_text, read_exif

MIN_SIDE = 64  # pixels, the smallest mosaic the network takes
# Endings by which a folder is searched and an upload is offered; what decides is the content.
RAW_SUFFIXES = tuple(
    ".arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf "
    ".pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)

# LibRaw's flip (bit 0 mirrors left-right, bit 1 top-bottom, bit 2 swaps rows and columns) -> EXIF.
_EXIF_ORIENTATION = {0: 1, 1: 2, 3: 3, 2: 4, 4: 5, 6: 6, 7: 7, 5: 8}


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A Bayer mosaic with everything that is needed to make a picture of it.

    Attributes
    ----------
    mosaic : uint16, shape = (H, W), H and W even, in RGGB phase, visible area only; DN as in the
        file, black level included
    black_level : DN at the CFA positions R, G1, G2, B (raster order of the 2x2 cell)
    white_level : DN where the sensor clips
    white_balance : gains for R, G, B; the smallest is 1.0
    camera_to_srgb : float32, shape = (3, 3); linear white-balanced camera RGB -> linear sRGB, rows
        sum to 1
    orientation : EXIF orientation 1..8 with which the sensor picture must be shown
    cfa : the CFA of the file's visible area, e.g. "GBRG" (the mosaic is shifted to RGGB)
    exif : what is carried over to results
    notes : sentences on what was missing or odd in the file and what is used instead
    """

    mosaic: np.ndarray
    black_level: tuple[float, float, float, float]
    white_level: float
    white_balance: tuple[float, float, float]
    camera_to_srgb: np.ndarray
    orientation: int
    cfa: str
    exif: Exif
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        return self.mosaic.shape[0]

    @property
    def width(self) -> int:
        return self.mosaic.shape[1]

    @property
    def megapixels(self) -> float:
        return self.height * self.width / 1e6

    def summary(self) -> list[tuple[str, str]]:
        """What was read, as (label, value) rows for people."""
        blacks = self.black_level if len(set(self.black_level)) > 1 else self.black_level[:1]
        red, green, blue = self.white_balance
        rows = [
            ("Camera", self.exif.camera),
            ("Lens", self.exif.lens),
            ("Exposure", self.exif.exposure),
            ("Taken", self.exif.taken),
            ("Size", f"{self.width} x {self.height} ({self.megapixels:.1f} MP)"),
            ("CFA", self.cfa),
            ("Black level", ", ".join(f"{black:g}" for black in blacks)),
            ("White level", f"{self.white_level:g}"),
            ("White balance", f"R {red:.2f}, G {green:.2f}, B {blue:.2f}"),
            ("Orientation", _ORIENTATION_WORDS[self.orientation]),
        ]
        rows += [("Note", note) for note in self.notes]
        return [(label, value) for label, value in rows if value]


_ORIENTATION_WORDS = {
    1: "upright",
    2: "mirrored",
    3: "upside down",
    4: "mirrored, upside down",
    5: "mirrored, on its side",
    6: "on its side, turn clockwise",
    7: "mirrored, on its side",
    8: "on its side, turn anticlockwise",
}


def read_raw(path: str | Path) -> RawFrame:
    """Decode a RAW file in this process.

    Raises
    ------
    UnreadableRaw : not a RAW file, damaged, or a compression that LibRaw does not decode
    UnsupportedSensor : decodes, but is not a Bayer mosaic
    LimitExceeded : more than MAX_MEGAPIXELS
    """
    path = Path(path)
    refusals.refuse_other_files(path)
    exif = read_exif(path)
    import rawpy  # its C++ library is loaded only when a file is read

    raw = None
    try:
        with rawpy.imread(str(path)) as raw:
            refusals.refuse_geometry(raw.sizes, path.name)  # from the header, nothing decoded yet
            return _frame(raw, exif, path.name)
    except LlpackError:
        raise
    except (
        rawpy.LibRawError,
        rawpy.NotSupportedError,
        OSError,
        RuntimeError,
        ValueError,
        MemoryError,
    ) as error:
        refusal = refusals.undecodable(error, path.name, exif, opened=raw is not None)
        raise refusal from error


def _frame(raw, exif: Exif, name: str) -> RawFrame:
    phase = _bayer_phase(raw, name)
    mosaic, cells = _rggb_mosaic(raw.raw_image_visible, phase)
    if min(mosaic.shape) < MIN_SIDE:
        raise refusals.no_picture(name, f"it is smaller than {MIN_SIDE} x {MIN_SIDE} pixels")
    if mosaic.min() == mosaic.max():
        raise refusals.no_picture(name, "all its pixels have the same value")

    notes: list[str] = []
    black_level, white_level = _levels(raw, mosaic, cells, notes)
    colors = raw.color_desc.decode("ascii")
    return RawFrame(
        mosaic=mosaic,
        black_level=black_level,
        white_level=white_level,
        white_balance=_white_balance(raw, mosaic, black_level, white_level, notes),
        camera_to_srgb=_camera_to_srgb(raw, notes),
        orientation=_EXIF_ORIENTATION.get(raw.sizes.flip, 1),
        cfa="".join(colors[index] for index in phase.flat),
        exif=_with_libraw(exif, raw),
        notes=tuple(notes),
    )


def _bayer_phase(raw, name: str) -> np.ndarray:
    """(2, 2) colour indices (0 R, 1 G, 2 B, 3 second G) of the visible area's first cell."""
    several = raw.raw_type.name == "Stack"  # decodes the file
    pattern = raw.raw_pattern
    if several or pattern is None or raw.num_colors == 1 or pattern.size == 1:
        raise refusals.no_mosaic(name, several_values_per_pixel=several)
    colors = raw.color_desc.decode("ascii", "replace")
    if pattern.shape != (2, 2):
        raise refusals.odd_mosaic(name, pattern.shape)
    # raw_pattern counts from the sensor's first pixel, and margins may be odd: ask for the pixels.
    top, left = raw.sizes.top_margin, raw.sizes.left_margin
    phase = np.array([[raw.raw_color(top + y, left + x) for x in (0, 1)] for y in (0, 1)])
    seen = "".join(colors[index : index + 1] for index in phase.flat)
    if seen not in ("RGGB", "GRBG", "GBRG", "BGGR"):
        raise refusals.not_bayer(name, seen)
    return phase


def _rggb_mosaic(visible: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """A copy that starts at a red pixel and has whole cells, and the colour index per position."""
    top, left = (int(axis[0]) for axis in np.nonzero(phase == 0))
    height, width = (visible.shape[0] - top) // 2 * 2, (visible.shape[1] - left) // 2 * 2
    mosaic = visible[top : top + height, left : left + width].copy()
    return mosaic, np.roll(phase, (-top, -left), axis=(0, 1)).ravel().tolist()


def _levels(
    raw, mosaic: np.ndarray, cells: list[int], notes: list[str]
) -> tuple[tuple[float, float, float, float], float]:
    """Black level of the four positions and the lowest DN at which a channel clips."""
    whites = [float(raw.white_level or 0)]
    # The camera's own clipping points, where they are in the range that LibRaw knows for it.
    own = raw.camera_white_level_per_channel or ()
    whites += [float(level) for level in own if 0.5 * whites[0] < level <= whites[0]]
    white = min(whites)
    blacks = [float(raw.black_level_per_channel[index]) for index in cells]
    too_low = white <= max(blacks) and white < mosaic.max()
    if too_low or not 0 < white <= 65535:
        white = float(2 ** int(mosaic.max()).bit_length() - 1)
        notes.append(f"The file's white level is not valid; {white:g} is used instead.")
    if not all(0 <= black < white for black in blacks):
        blacks = [0.0] * 4
        notes.append("The file's black level is not valid; 0 is used instead.")
    red, green1, green2, blue = blacks
    return (red, green1, green2, blue), white


def _white_balance(
    raw,
    mosaic: np.ndarray,
    black_level: tuple[float, float, float, float],
    white_level: float,
    notes: list[str],
) -> tuple[float, float, float]:
    if gains := white_balance_gains(raw.camera_whitebalance):
        return gains
    missing = "The file has no valid white balance; "
    daylight = raw.daylight_whitebalance
    # LibRaw's daylight values are all 1 when it knows nothing about the camera.
    if len(set(daylight[:3])) > 1 and (gains := white_balance_gains(daylight)):
        notes.append(missing + "daylight is used instead.")
        return gains
    if gains := grey_world_gains(mosaic, black_level, white_level):
        notes.append(missing + "the picture's average is taken as grey.")
        return gains
    notes.append(missing + "none is applied.")
    return 1.0, 1.0, 1.0


def _camera_to_srgb(raw, notes: list[str]) -> np.ndarray:
    """The file's own matrix, else LibRaw's for the camera (LibRaw's own order), else neutral."""
    matrix = matrix_from_file(raw.color_matrix)
    if matrix is None:
        matrix = matrix_from_xyz(raw.rgb_xyz_matrix)
    if matrix is None:
        notes.append("No colour matrix is known for this camera; its own colours are shown.")
        return np.eye(3, dtype=np.float32)
    return matrix


def _with_libraw(exif: Exif, raw) -> Exif:
    """Fill the gaps of ``exif`` (maker-specific containers) with what LibRaw read."""
    other = raw.other
    found = {
        "exposure_time": clean_number("exposure_time", other.shutter_speed),
        "f_number": clean_number("f_number", other.aperture),
        "iso": clean_number("iso", other.iso_speed),
        "focal_length": clean_number("focal_length", other.focal_length),
        "lens": clean_text(raw.lens.model),
        "artist": clean_text(other.artist),
    }
    if other.timestamp.year > 1970:  # LibRaw's zero time means unknown
        found["taken"] = clean_date(other.timestamp.strftime("%Y:%m:%d %H:%M:%S"))
    gaps = {field: value for field, value in found.items() if getattr(exif, field) is None}
    return dataclasses.replace(exif, **gaps)
