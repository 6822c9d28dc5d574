"""The two endpoints for programs and agents: `/restore` and `/inspect`.

Their docstrings are what visitors read at "Use via API" and what agents read through MCP.
"""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
from gradio_client.utils import is_http_url_like

from llpack.darkroom import Darkroom
from llpack.engine import Restored
from llpack.errors import LlpackError
from llpack.isolation import MAX_FILE_MB
from llpack.raw import RawFrame

FORMATS = ("jpg", "tiff")
FACTOR_LABEL = "amplification, 1 to 1000; 0 estimates it"
NOT_FETCHED = "Web addresses are not fetched: upload the file itself."


class Upload(gr.File):
    """A file input that takes uploads only.

    Gradio would fetch a web address for the caller: of any size, and in the server's name. Here an
    address is taken only when it is that of an upload to this server, and read from its folder.
    """

    is_template = True  # looks and acts like its parent in the browser

    async def async_move_resource_to_block_cache(self, url_or_file_path):
        path = url_or_file_path
        if path is not None and is_http_url_like(str(path)):
            path = Path(unquote(str(path).partition("/gradio_api/file=")[2])).resolve()
            if not path.is_relative_to(Path(self.GRADIO_CACHE).resolve()) or not path.is_file():
                raise gr.Error(NOT_FETCHED, print_exception=False)
        return await super().async_move_resource_to_block_cache(path)


class WebApi:
    """The endpoints over one darkroom."""

    def __init__(self, darkroom: Darkroom):
        self.darkroom = darkroom

    def restore(
        self, file: str, amplification: float = 0, format: str = "jpg"
    ) -> tuple[str, dict[str, Any]]:
        """Restore an extremely dark RAW photograph to a normally bright, clean picture.

        Args:
            file: The camera's RAW file (.ARW, .CR3, .NEF, .DNG, ...) with a Bayer sensor.
            amplification: Factor from 1 to 1000 by which the picture is brightened; 0 estimates it.
            format: "jpg", or "tiff" for 16 bits per colour.

        Returns:
            The picture, and a report: the amplification and where it came from, the seconds of each
            stage, megapixels per second, the weights, and notes on the file.
        """
        try:
            _demand(file)
            factor = None if amplification == 0 else amplification
            path, restored = self.darkroom.picture(file, factor, format=format)
            return str(path), report(restored, self.darkroom.open(file))
        except LlpackError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def inspect(self, file: str) -> dict[str, Any]:
        """Tell what a RAW photograph is: camera, exposure, size, levels, white balance.

        Args:
            file: The camera's RAW file (.ARW, .CR3, .NEF, .DNG, ...).

        Returns:
            What was read from the file, and the amplification that would be chosen for it.
        """
        try:
            _demand(file)
            return contents(self.darkroom.open(file), self.darkroom.estimate(file))
        except LlpackError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def expose(self, **lane) -> None:
        """Add the endpoints to the page that is being built; nothing of them is seen there.

        lane : options of the events, such as which queue they wait in
        """
        options = {"visible": False}
        for function, inputs, outputs in (
            (
                self.restore,
                [
                    _upload(),
                    gr.Number(0, label=FACTOR_LABEL, minimum=0, maximum=1000, **options),
                    gr.Dropdown(list(FORMATS), value="jpg", label="format", **options),
                ],
                [gr.File(label="picture", **options), gr.JSON(label="report", **options)],
            ),
            (self.inspect, [_upload()], [gr.JSON(label="contents", **options)]),
        ):
            gr.Button(**options).click(function, inputs, outputs, api_name=function.__name__, **lane)


def report(restored: Restored, frame: RawFrame) -> dict[str, Any]:
    """How a picture came about, for JSON."""
    weights = restored.weights
    return {
        "amplification": round(restored.amplification, 3),
        "amplification_source": restored.amplification_source,
        "seconds": {name: round(value, 4) for name, value in restored.stages.seconds.items()},
        "total_seconds": round(restored.stages.total, 4),
        "megapixels": round(restored.megapixels, 3),
        "megapixels_per_second": round(restored.megapixels_per_second, 3),
        "threads": restored.threads,
        "precision": restored.precision,
        "peak_memory_mib": round(restored.peak_memory_mib),
        "weights": {"name": weights.name, "source": weights.source, "sha256": weights.sha256},
        "notes": [*frame.notes, *weights.notes],
    }


def contents(frame: RawFrame, estimate: float | None) -> dict[str, Any]:
    """What was read from a file, for JSON."""
    return {
        "camera": frame.exif.camera,
        "lens": frame.exif.lens,
        "exposure_time": frame.exif.exposure_time,
        "f_number": frame.exif.f_number,
        "iso": frame.exif.iso,
        "focal_length": frame.exif.focal_length,
        "taken": frame.exif.taken,
        "width": frame.width,
        "height": frame.height,
        "cfa": frame.cfa,
        "black_level": list(frame.black_level),
        "white_level": frame.white_level,
        "white_balance": [round(gain, 4) for gain in frame.white_balance],
        "orientation": frame.orientation,
        "estimated_amplification": None if estimate is None else round(estimate, 3),
        "notes": list(frame.notes),
    }


def _upload() -> Upload:
    return Upload(label=f"file (RAW, at most {MAX_FILE_MB} MB)", visible=False)


def _demand(file: str | None) -> None:
    if not file or not Path(file).is_file():
        raise LlpackError("No file was given: upload a RAW file.")
