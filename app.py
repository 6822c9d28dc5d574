"""The web page: upload a dark RAW file, see it restored, compare, take it home.

Layout and wiring only; the work is done by `llpack.darkroom`. Run it with `python app.py`.
"""

import html
import math
import os
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # the page talks to nobody else

import gradio as gr

from llpack.amplifier import AMPLIFICATION_RANGE
from llpack.darkroom import Darkroom
from llpack.engine import load_restorer
from llpack.errors import LlpackError
from llpack.isolation import MAX_FILE_MB
from llpack.raw import RAW_SUFFIXES

EXAMPLES = {
    "Dandelions at dusk, 1/250 of the light": "dandelions.dng",
    "A room, camera held upright, 1/100": "room.dng",
    "Two dogs, 1/200": "dogs.dng",
}
EXAMPLES_FOLDER = Path(__file__).parent / "examples"
FIRST_EXAMPLE = "dogs.dng"  # the smallest: restored at the start, which also warms everything up

AMPLIFIED, UNTOUCHED = "Amplified, without the network", "The dark file as it is"
# One lane for everything that computes: two at once on two cores would only be slower.
HEAVY = {"concurrency_id": "processor", "concurrency_limit": 1}
PRIVATE = {"api_visibility": "private"}
MAX_WAITING = 20

CSS = """
.llpack-table table {width: 100%; border-collapse: collapse; font-size: 0.9rem}
.llpack-table td {padding: 0.15rem 0.5rem; border-bottom: 1px solid var(--border-color-primary);
  overflow-wrap: anywhere}
.llpack-table td:first-child {white-space: nowrap; color: var(--body-text-color-subdued)}
.llpack-factor {font-size: 1.4rem; font-variant-numeric: tabular-nums}
"""
INTRODUCTION = """# llpack: see in the dark, on a CPU
Upload a RAW photograph that is far too dark. LLPackNet (Lamba, Balaji, Mitra, BMVC 2020) and a
detail path of our own restore it here, on a processor, without a GPU.
Files are deleted after an hour; nothing is kept or sent elsewhere."""
FACTOR = "<span class='llpack-factor'>x {:.3g}</span>"
# The 16-bit file exists only after the click, so the second click is the page's own.
PRESS_TIFF = "() => setTimeout(() => document.querySelector('#tiff-file').click(), 300)"


def rows(table: list[tuple[str, str]]) -> str:
    """An HTML table; everything in it is escaped, since file names and EXIF come from strangers."""
    body = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{html.escape(value)}</td></tr>"
        for label, value in table
    )
    return f"<div class='llpack-table'><table>{body}</table></div>"


def polite(error: LlpackError) -> gr.Error:
    return gr.Error(html.escape(str(error)), duration=None, print_exception=False, title="Sorry")


class Page:
    """The handlers, as plain methods that tests call without a browser."""

    def __init__(self, darkroom: Darkroom):
        self.darkroom = darkroom

    def open(self, path: str | None):
        """A new file: what was read, the estimated amplification, and nothing of the last one."""
        if not path:
            return gr.skip()
        try:
            frame = self.darkroom.open(path)
            factor = self.darkroom.restorer.estimate(frame)
        except LlpackError as error:
            raise polite(error) from None
        stops = math.log2(factor)
        return rows(frame.summary()), stops, FACTOR.format(2**stops), ""

    def restore(self, path: str | None, stops: float, left: str):
        """The whole frame: slider pair, runtime table, JPEG download."""
        if not path:
            raise gr.Error("Upload a RAW file first.", print_exception=False)
        try:
            pair = self.darkroom.develop(path, 2**stops, untouched=left == UNTOUCHED)
        except LlpackError as error:
            raise polite(error) from None
        after = str(pair.after)
        return (str(pair.before), after), rows(pair.restored.table()), after

    def estimate(self, path: str | None):
        """Back to the estimated amplification."""
        if not path:
            raise gr.Error("Upload a RAW file first.", print_exception=False)
        return self.open(path)[1:3]

    def preview(self, path: str | None, stops: float, left: str):
        """While the slider moves: a small picture that looks like the large one to come."""
        if not path:
            return gr.skip(), FACTOR.format(2**stops)
        try:
            pair = self.darkroom.preview(path, 2**stops, untouched=left == UNTOUCHED)
        except LlpackError as error:
            raise polite(error) from None
        return (str(pair.before), str(pair.after)), FACTOR.format(2**stops)

    def tiff(self, path: str | None, stops: float):
        """The 16-bit TIFF, made now."""
        if not path:
            raise gr.Error("Upload a RAW file first.", print_exception=False)
        try:
            return str(self.darkroom.export_tiff(path, 2**stops))
        except LlpackError as error:
            raise polite(error) from None


def build(darkroom: Darkroom) -> gr.Blocks:
    """The page, with the first example already restored."""
    page = Page(darkroom)
    first = str(EXAMPLES_FOLDER / FIRST_EXAMPLE)
    read, stops, factor, _ = page.open(first)
    pair, runtime, jpeg = page.restore(first, stops, AMPLIFIED)
    most = math.log2(AMPLIFICATION_RANGE[1])
    with gr.Blocks(title="llpack", delete_cache=(600, 3600), analytics_enabled=False) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                file = gr.File(value=first, label="Dark RAW file", file_types=list(RAW_SUFFIXES))
                gr.Examples(
                    [[str(EXAMPLES_FOLDER / name)] for name in EXAMPLES.values()],
                    inputs=[file],
                    example_labels=list(EXAMPLES),
                    label="Examples: real scenes, synthetic darkness",
                    api_visibility="private",
                )
                slider = gr.Slider(
                    0, most, value=stops, step=0.05, label="Amplification, in stops"
                )
                factor = gr.HTML(factor)
                with gr.Row():
                    auto = gr.Button("Auto")
                    again = gr.Button("Restore", variant="primary")
                left = gr.Radio([AMPLIFIED, UNTOUCHED], value=AMPLIFIED, label="Left side shows")
            with gr.Column(scale=3, min_width=320):
                compare = gr.ImageSlider(
                    value=pair,
                    label="Before and after (scroll to zoom)",
                    type="filepath",
                    max_height=720,
                    interactive=False,
                )
                with gr.Row():
                    show_before = gr.Button("Show before", size="sm")
                    show_half = gr.Button("Half and half", size="sm")
                    show_after = gr.Button("Show after", size="sm")
                with gr.Row():
                    jpeg = gr.DownloadButton("Download JPEG", value=jpeg)
                    make_tiff = gr.Button("Download 16-bit TIFF")
                    tiff = gr.DownloadButton("TIFF", visible="hidden", elem_id="tiff-file")
                with gr.Row():
                    runtime = gr.HTML(runtime, label="Runtime", show_label=True, container=True)
                    read = gr.HTML(read, label="Read from the file", show_label=True, container=True)

        shown = [compare, runtime, jpeg]
        settings = [file, slider, left]
        file.change(
            page.open, file, [read, slider, factor, runtime], trigger_mode="always_last",
            **HEAVY, **PRIVATE,
        ).success(page.restore, settings, shown, **HEAVY, **PRIVATE)  # fmt: skip
        slider.input(
            page.preview, settings, [compare, factor], trigger_mode="always_last",
            show_progress="hidden", **HEAVY, **PRIVATE,
        )  # fmt: skip
        slider.release(
            page.restore, settings, shown, trigger_mode="always_last", **HEAVY, **PRIVATE
        )
        again.click(page.restore, settings, shown, **HEAVY, **PRIVATE)
        left.input(page.restore, settings, shown, **HEAVY, **PRIVATE)
        auto.click(page.estimate, file, [slider, factor], **HEAVY, **PRIVATE).success(
            page.restore, settings, shown, **HEAVY, **PRIVATE
        )
        make_tiff.click(page.tiff, [file, slider], tiff, **HEAVY, **PRIVATE).success(
            None, js=PRESS_TIFF, **PRIVATE
        )
        for button, position in ((show_before, 100), (show_half, 50), (show_after, 0)):
            button.click(
                lambda position=position: gr.ImageSlider(slider_position=position),
                None, compare, queue=False, **PRIVATE,
            )  # fmt: skip
    return demo.queue(max_size=MAX_WAITING)


def main() -> None:
    folder = Path(tempfile.gettempdir()) / f"llpack-pictures-{os.getuid()}"
    demo = build(Darkroom(load_restorer(), folder))
    demo.launch(
        css=CSS,
        max_file_size=f"{MAX_FILE_MB}mb",
        footer_links=["api"],
        enable_monitoring=False,
        run_history=False,
        show_error=False,
        state_session_capacity=100,
    )


if __name__ == "__main__":
    main()
