"""Makes the README's picture: each example dark, amplified and restored, from left to right.

python docs/make_pictures.py
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from llpack.engine import load_restorer, plain_picture  # noqa: E402
from llpack.raw import read_raw  # noqa: E402

HEIGHT = 420
WHOLE = {"dogs.dng": (0.0, 0.0, 1.0, 1.0), "dandelions.dng": (0.0, 0.0, 0.45, 1.0)}


def cut(picture: np.ndarray, part: tuple[float, float, float, float]) -> Image.Image:
    """A part of a picture (left, top, right, bottom as shares), resized to the common height."""
    height, width = picture.shape[:2]
    left, top, right, bottom = part
    image = Image.fromarray(picture).crop(
        (int(left * width), int(top * height), int(right * width), int(bottom * height))
    )
    return image.resize((HEIGHT * image.width // image.height, HEIGHT), Image.Resampling.LANCZOS)


def main() -> None:
    restorer = load_restorer()
    images = []
    for name, part in WHOLE.items():
        frame = read_raw(ROOT / "examples" / name)
        restored = restorer.restore(frame)
        plain = plain_picture(frame, restored.amplification)
        images += [cut(plain_picture(frame, 1.0), part), cut(plain, part)]
        images.append(cut(restored.picture, part))
    sheet = Image.new("RGB", (sum(i.width for i in images) + 4 * (len(images) - 1), HEIGHT), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + 4
    sheet.save(ROOT / "docs" / "before_after.jpg", quality=88)


if __name__ == "__main__":
    main()
