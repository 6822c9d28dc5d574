"""Whether print can still be read: words that an OCR engine finds on dark pictures of text.

Detail that is lost shows here before it shows in PSNR. Pages are drawn here, made dark like any
photo, and read by tesseract: the bright original, the plainly amplified and the restored picture.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from llpack.engine import Restorer, plain_picture
from llpack.errors import LlpackError
from llpack.synthetic import darken

TEXT_SIZES = (16, 20, 28, 40)  # font size in pixels
RATIOS = (50, 100)
CAMERA, ISO = "Sony A7S II", 3200
_PAGE = (768, 1024)  # height and width
_MARGIN = 48
_PAPER, _INK = 215, 40  # grey of paper and print in the bright picture
_WORDS = """about above across after again alone along always among answer autumn balance beneath
between bicycle bottle bright bridge candle carpet change circle colour corner cotton country
dark daughter distance dollar double dragon during early engine evening exposure family farmer
father feather finger flower forest friend garden gentle glass golden ground hammer harbour
hidden hollow honest island jacket journey kettle kitchen ladder lantern letter library light
little market matter meadow middle minute mirror moment morning mother mountain needle nothing
number office orange orchard paper pencil people picture pillow planet pocket quiet railway
reason river sailor school season shadow silence silver simple sister spring station stone
street summer sunday table teacher thunder ticket timber travel under valley village walnut
water weather whisper window winter wonder yellow""".split()


@dataclass(frozen=True)
class Reading:
    """Words read on one page, at one text size and ratio; `printed` are all that are on it."""

    text_size: int
    ratio: float
    printed: int
    bright: int
    amplified: int
    restored: int


def measure(
    restorer: Restorer, *, text_sizes: Sequence[int] = TEXT_SIZES, ratios: Sequence[float] = RATIOS
) -> list[Reading]:
    """Read pages in every text size, dark by every ratio (synthetic; amplified by the true ratio).

    Raises LlpackError when tesseract is not installed.
    """
    readings = []
    for text_size in text_sizes:
        photo, words = page(text_size)
        bright = words_found(photo, words)
        for ratio in ratios:
            frame = darken(photo, camera=CAMERA, iso=ISO, ratio=ratio, seed=text_size)
            readings.append(
                Reading(
                    text_size=text_size,
                    ratio=ratio,
                    printed=len(words),
                    bright=bright,
                    amplified=words_found(plain_picture(frame, ratio), words),
                    restored=words_found(restorer.restore(frame, ratio).picture, words),
                )
            )
    return readings


def page(text_size: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """A photo of a printed page, (H, W, 3) uint8, and the words on it.

    Pillow's own font, so that every machine draws the same; a little blur and light that falls off
    to one side, as from a lamp.
    """
    rng = np.random.default_rng((seed, text_size))
    height, width = _PAGE
    font = ImageFont.load_default(text_size)
    sheet = Image.new("L", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    words, line_height = [], round(1.5 * text_size)
    for top in range(_MARGIN, height - _MARGIN - line_height, line_height):
        left = float(_MARGIN)
        while True:
            word = str(rng.choice(_WORDS))
            length = font.getlength(word)
            if left + length > width - _MARGIN:
                break
            pen.text((left, top), word, _INK, font)
            words.append(word)
            left += length + 0.5 * text_size
    light = np.linspace(1.0, 0.75, width)[None, :, None]
    grey = np.asarray(sheet.filter(ImageFilter.GaussianBlur(0.6)), np.float64)[:, :, None]
    return np.rint(grey * light * (1.0, 0.98, 0.93)).astype(np.uint8), words


def words_found(picture: np.ndarray, words: Sequence[str]) -> int:
    """How many of the printed words tesseract reads, each as often as it is printed."""
    read = Counter(re.findall("[a-z]+", _read(picture).lower()))
    return sum((Counter(words) & read).values())


def _read(picture: np.ndarray) -> str:
    """All text on a picture. Raises LlpackError when tesseract is missing or fails."""
    program = shutil.which("tesseract")
    if program is None:
        raise LlpackError("Legibility needs the OCR program tesseract; install it and try again.")
    png = BytesIO()
    Image.fromarray(picture).save(png, "PNG", compress_level=1)
    command = [program, "stdin", "stdout", "-l", "eng", "--psm", "6"]  # 6: one block of text
    environment = os.environ | {"OMP_THREAD_LIMIT": "1"}  # its threads only slow it down
    result = subprocess.run(command, input=png.getvalue(), capture_output=True, env=environment)
    if result.returncode:
        message = result.stderr.decode("utf-8", "replace").strip()
        raise LlpackError(f"tesseract could not read a page: {message}")
    return result.stdout.decode("utf-8", "replace")


def legibility_table(readings: Sequence[Reading]) -> str:
    """Markdown; words found of those printed."""
    head = (
        "| synthetic page, text size | ratio | words printed | bright | amplified | restored |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    )
    return head + "".join(
        f"| {r.text_size} px | x{r.ratio:g} | {r.printed} | {r.bright} | {r.amplified} "
        f"| {r.restored} |\n"
        for r in readings
    )
