"""Pictures of print for training, since few photographs show small letters.

Random strings of letters and digits, no words, in fonts other than the one in which `legibility`
prints its pages: what is learnt is how strokes look, not the test.
"""

import functools
import string
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# They come with matplotlib.
_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSerif",
    "STIXGeneral",
    "STIXGeneralItalic",
)
_LETTERS = list(4 * string.ascii_lowercase + string.ascii_uppercase + string.digits)
_SIZES = (10, 44)  # font size in pixels, smallest and largest


def print_patch(size: int, rng: np.random.Generator) -> np.ndarray:
    """A square of a printed page, (size, size, 3) uint8: slightly turned, blurred and unevenly lit."""
    text_size = round(float(np.exp(rng.uniform(*np.log(_SIZES)))))
    font = _font(_FONTS[rng.integers(len(_FONTS))], text_size)
    canvas = size * 5 // 4  # room to turn the page
    coverage = Image.new("L", (canvas, canvas))
    pen = ImageDraw.Draw(coverage)
    for top in range(0, canvas, round(text_size * rng.uniform(1.2, 1.7))):
        words = ("".join(rng.choice(_LETTERS, rng.integers(2, 10))) for _ in range(canvas // 8))
        line = " ".join(words)[: 3 * canvas // text_size]
        pen.text((-rng.uniform(0, text_size), top), line, 255, font)
    coverage = coverage.rotate(rng.normal(0, 2), Image.Resampling.BICUBIC)
    coverage = coverage.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1)))
    start = (canvas - size) // 2
    ink = np.asarray(coverage, np.float32)[start : start + size, start : start + size, None] / 255
    pale, dark = rng.uniform(120, 245), rng.uniform(0, 90)
    first, second = (level * rng.uniform(0.85, 1, 3) for level in (pale, dark))
    if rng.random() < 0.2:  # light letters on dark ground
        first, second = second, first
    light = np.linspace(1, rng.uniform(0.6, 1), size)[None, :, None]
    return np.rint((first + ink * (second - first)) * light).astype(np.uint8)


@functools.cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", f"{name}.ttf"), size)
