"""Makes the README's picture and the model card's crops from the examples, with the embedded weights.

python docs/make_pictures.py

docs/before_after.jpg: examples dark, amplified and restored, from left to right.
llpack/embedded/crops.jpg: places of the examples at 100 %, good ones and bad ones. Without the truth:
the photographs behind the examples are not part of this repository.
"""

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from llpack import sheet  # noqa: E402
from llpack.engine import load_restorer, plain_picture  # noqa: E402
from llpack.raw import read_raw  # noqa: E402

HEIGHT = 420
# Part of the picture: left, top, right, bottom as shares.
WHOLE = {"dogs": (0.0, 0.0, 1.0, 1.0), "dandelions": (0.0, 0.0, 0.45, 1.0)}
# Example, top and left of the crop, what is to be seen there.
PLACES = (
    ("dandelions", (820, 1720), "dandelions.dng, 1/250 of the light: threads of the seeds"),
    ("room", (240, 60), "room.dng, 1/100: loudspeakers in the shade"),
    ("room", (3000, 2000), "room.dng, 1/100: the grain of a cork floor"),
    ("dogs", (560, 1440), "dogs.dng, 1/200: a bright, flat wall"),
    ("dogs", (780, 680), "dogs.dng, 1/200: a dark face with fur, the worst of these"),
)

Columns = dict[str, np.ndarray]  # name of the column -> upright picture, (H, W, 3) uint8


def columns_of(name: str, restorer) -> Columns:
    """An example as shot, plainly amplified, and restored."""
    frame = read_raw(ROOT / "examples" / f"{name}.dng")
    restored = restorer.restore(frame)
    return {
        "dark, as shot": plain_picture(frame, 1.0),
        "plainly amplified": plain_picture(frame, restored.amplification),
        "restored": restored.picture,
    }


def cut(picture: np.ndarray, part: tuple[float, float, float, float]) -> Image.Image:
    """A part of a picture, resized to the common height."""
    height, width = picture.shape[:2]
    left, top, right, bottom = part
    image = Image.fromarray(picture).crop(
        (int(left * width), int(top * height), int(right * width), int(bottom * height))
    )
    return image.resize((HEIGHT * image.width // image.height, HEIGHT), Image.Resampling.LANCZOS)


def strip(examples: dict[str, Columns]) -> Image.Image:
    """The README's picture."""
    images = [cut(p, part) for name, part in WHOLE.items() for p in examples[name].values()]
    width = sum(image.width for image in images) + 4 * (len(images) - 1)
    picture = Image.new("RGB", (width, HEIGHT), "white")
    left = 0
    for image in images:
        picture.paste(image, (left, 0))
        left += image.width + 4
    return picture


def crops(examples: dict[str, Columns]) -> Image.Image:
    """The model card's picture."""
    rows = [
        sheet.SheetRow(label, math.nan, sheet.crops_at(place, examples[name]))
        for name, place, label in PLACES
    ]
    return Image.fromarray(sheet.draw(rows))


def main() -> None:
    restorer = load_restorer("embedded")
    examples = {name: columns_of(name, restorer) for name in ("dogs", "dandelions", "room")}
    strip(examples).save(ROOT / "docs" / "before_after.jpg", quality=88)
    crops(examples).save(ROOT / "llpack" / "embedded" / "crops.jpg", quality=85)


if __name__ == "__main__":
    main()
