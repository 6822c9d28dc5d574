"""Why a file cannot be restored, in a photographer's words: what it is and what to do instead."""

from pathlib import Path

from llpack.errors import LimitExceeded, LlpackError, UnreadableRaw, UnsupportedSensor
from llpack.metadata import Exif

MAX_MEGAPIXELS = 120

_UPLOAD_RAW = "Upload the camera's RAW file (.ARW, .CR3, .NEF, .DNG, ...)."
_COPY_AGAIN = "Copy it from the camera's card again."
_CONVERT = "Convert it with Adobe DNG Converter and use the DNG."

# First bytes -> what the file is. RAW files never start like this.
_SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"<?xp", "a sidecar file with settings"),
    (b"<x:x", "a sidecar file with settings"),
)
_ISO_MEDIA_BRANDS = {
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"mif1": "a HEIC picture",
    b"msf1": "a HEIC picture",
    b"avif": "an AVIF picture",
}
CANON_CR3_BRAND = b"crx "
_OUT_OF_MEMORY = ("LibRawUnsufficientMemoryError", "LibRawMemPoolOverflowError")


def refuse_other_files(path: Path) -> None:
    """Raise UnreadableRaw for a missing or empty file, and for one that is plainly not a RAW."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UnreadableRaw(
            f"{path.name} could not be opened: {error.strerror or error}. Check the path."
        ) from error
    if not head:
        raise UnreadableRaw(f"{path.name} is empty (0 bytes). {_COPY_AGAIN}")
    if kind := _kind_of_file(head):
        raise UnreadableRaw(f"{path.name} is {kind}, not a RAW file. {_UPLOAD_RAW}")


def _kind_of_file(head: bytes) -> str | None:
    if head[4:8] == b"ftyp" and head[8:12] != CANON_CR3_BRAND:
        return _ISO_MEDIA_BRANDS.get(head[8:12], "a video")
    if head.startswith(b"RIFF"):
        return "a WebP picture" if head[8:12] == b"WEBP" else "a video or sound"
    return next((kind for start, kind in _SIGNATURES if head.startswith(start)), None)


def refuse_geometry(sizes, name: str) -> None:
    """Raise for a size or layout that cannot be restored; ``sizes`` are rawpy's ImageSizes."""
    megapixels = sizes.raw_width * sizes.raw_height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise LimitExceeded(
            f"{name} has {megapixels:.0f} megapixels; at most {MAX_MEGAPIXELS} are accepted. "
            "Use a file with fewer pixels."
        )
    # LibRaw gives the sensors that are turned by 45 degrees (Fujifilm SuperCCD) an upright size
    # that is larger than the data.
    if (
        sizes.top_margin + sizes.height > sizes.raw_height
        or sizes.left_margin + sizes.width > sizes.raw_width
    ):
        raise _unsupported(name, "its pixels are not arranged in upright rows (SuperCCD)")
    if abs(sizes.pixel_aspect - 1) > 0.1:
        raise _unsupported(name, f"its pixels are not square ({sizes.pixel_aspect:.2f} : 1)")


def no_mosaic(name: str, *, several_values_per_pixel: bool) -> UnsupportedSensor:
    """The refusal for a file in which a pixel has all colours, or none."""
    if not several_values_per_pixel:
        return _unsupported(name, "its sensor is monochrome")
    kinds = {
        ".dng": "it is a linear DNG: its colours are computed already",
        ".x3f": "its Foveon sensor measures all colours at every pixel",
        ".cr2": "it is an sRAW or mRAW: its colours are computed already",
    }
    reason = kinds.get(
        Path(name).suffix.lower(),
        "every pixel has several colour values already (as in small, linear or combined RAW files)",
    )
    return _unsupported(name, reason)


def odd_mosaic(name: str, pattern_shape: tuple[int, int]) -> UnsupportedSensor:
    """The refusal for colour filters that do not repeat every 2 x 2 pixels."""
    if pattern_shape == (6, 6):
        return _unsupported(name, "X-Trans is not supported yet")
    height, width = pattern_shape
    return _unsupported(name, f"its colour filters repeat only every {height} x {width} pixels")


def not_bayer(name: str, cfa: str) -> UnsupportedSensor:
    """The refusal for 2 x 2 colour filters other than red, green, green and blue."""
    return _unsupported(name, f"its colour filters are {cfa}, not red, green, green and blue")


def _unsupported(name: str, reason: str) -> UnsupportedSensor:
    return UnsupportedSensor(
        f"{name} cannot be restored: {reason}. "
        "llpack needs a Bayer mosaic with square pixels: the usual full-size RAW of most cameras."
    )


def no_picture(name: str, reason: str) -> UnreadableRaw:
    """The refusal for a file that decodes into nothing worth restoring."""
    return UnreadableRaw(f"{name} holds no usable picture: {reason}. Use another file.")


def undecodable(error: Exception, name: str, exif: Exif, *, opened: bool) -> LlpackError:
    """The refusal for an error out of rawpy; ``opened`` when LibRaw had recognised the file."""
    kind, said = type(error).__name__, _libraw_text(error)
    suffix = Path(name).suffix.lower()
    if kind == "LibRawTooBigError":
        return LimitExceeded(f"{name} is larger than LibRaw accepts. Use a smaller file.")
    if isinstance(error, MemoryError) or kind in _OUT_OF_MEMORY:
        return LimitExceeded(f"{name} needs more memory than there is. Use a smaller file.")
    recognised = opened or exif.make
    if recognised and kind in ("LibRawIOError", "LibRawDataError", "LibRawBadCropError"):
        return UnreadableRaw(
            f"{name} is damaged or incomplete: its picture data cannot be decoded. {_COPY_AGAIN}"
        )
    brand = (exif.make or "").casefold()
    if suffix == ".gpr" or (opened and brand.startswith("gopro")):
        return UnreadableRaw(f"{name} has GoPro's own compression, not decoded here. {_CONVERT}")
    if opened and brand.startswith("nikon"):
        return UnreadableRaw(
            f"{name} has a compression that is not decoded here, probably Nikon's High Efficiency. "
            f"{_CONVERT} For new pictures set the camera to lossless compression."
        )
    if suffix in (".tif", ".tiff"):
        return UnreadableRaw(f"{name} is a TIFF picture, not a RAW file. {_UPLOAD_RAW}")
    if recognised:
        return UnreadableRaw(
            f"{name}, from {exif.camera}, cannot be decoded ({said}): it is incomplete, or the "
            f"camera is newer than LibRaw. {_COPY_AGAIN} Or: {_CONVERT}"
        )
    return UnreadableRaw(f"{name} is not a RAW file, or it is damaged ({said}). {_UPLOAD_RAW}")


def _libraw_text(error: Exception) -> str:
    """LibRaw's own words: rawpy passes them on as bytes, some with a code before them."""
    said = error.args[-1] if error.args else type(error).__name__
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
