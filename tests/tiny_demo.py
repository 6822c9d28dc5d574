"""The real page with tiny weights and tiny examples, served on loopback."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

import app
from llpack import layout  # after app, which sets Gradio's folder
from llpack.darkroom import Darkroom
from llpack.dng import write_dng
from llpack.engine import Restorer
from llpack.metadata import Exif
from llpack.weights import load_weights
from tests.conftest import COLOR_MATRIX
from tests.tiny_weights import write_folder


def write_dark(path: Path, seed: int = 0, size=(128, 192), orientation: int = 1, **exif) -> Path:
    """A dark DNG of blotches; `exif`: fields of `Exif`."""
    height, width = size
    random = np.random.default_rng(seed)
    blotches = np.kron(random.random((height // 16, width // 16)), np.ones((16, 16)))
    mosaic = 512 + 60 * blotches + random.normal(0, 4, size)
    write_dng(
        path,
        mosaic.round().astype(np.uint16),
        black_level=(512,) * 4,
        white_level=16383,
        as_shot_neutral=(0.5, 1.0, 0.6),
        color_matrix=np.array(COLOR_MATRIX),
        orientation=orientation,
        exif=Exif(make="Acme", model="One", iso=3200.0, exposure_time=0.1, **exif),
    )
    return path


def tiny_darkroom(folder: Path, **config) -> Darkroom:
    weights = load_weights(str(write_folder(folder / "weights", **config)))
    return Darkroom(Restorer(weights), app.FOLDER / f"pictures-{folder.name}")


@contextlib.contextmanager
def served(folder: Path, darkroom: Darkroom | None = None, **options):
    """The page with two tiny examples, at `url`; `options` of Gradio's launch."""
    examples = folder / "examples"
    examples.mkdir()
    write_dark(examples / "first.dng")
    write_dark(examples / "second.dng", seed=1, size=(192, 128))
    darkroom = darkroom or tiny_darkroom(folder)
    changes = {
        "EXAMPLES_FOLDER": examples,
        "EXAMPLES": {"The first": "first.dng", "The second": "second.dng"},
        "FIRST_EXAMPLE": "first.dng",
    }
    with mock.patch.multiple(layout, **changes):
        demo = layout.build(darkroom)
    _, url, _ = layout.launch(
        demo, prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **options
    )
    try:
        yield SimpleNamespace(url=url.rstrip("/"), demo=demo, darkroom=darkroom, examples=examples)
    finally:
        demo.close()
