"""What the page does when something is clicked: plain methods that tests call without a browser.

`app.py` lays the page out and wires these handlers to it. Everything that comes from a file (its
name, its EXIF) is escaped here, because strangers choose it.
"""

import html
import math
from pathlib import Path

import gradio as gr

from llpack.amplifier import AMPLIFICATION_RANGE
from llpack.darkroom import Darkroom, factor_text
from llpack.errors import LlpackError

STEP = 0.05  # stops; what the slider can stand on
MOST_STOPS = 10  # x1024, cut to the largest amplification
WITHOUT_ESTIMATE = 100.0  # where the slider starts when the weights cannot estimate
AMPLIFIED, UNTOUCHED = "Amplified, without the network", "The dark file as it is"

NO_FILE = "Upload a RAW file first."
GONE = "This picture has been deleted by now. Press Restore to make it again."


def to_stops(factor: float) -> float:
    """The slider's position for a factor."""
    return round(round(math.log2(factor) / STEP) * STEP, 2)


def table(title: str, rows: list[tuple[str, str]]) -> str:
    body = "".join(
        f"<tr><th scope='row'>{html.escape(label)}</th><td>{html.escape(value)}</td></tr>"
        for label, value in rows
    )
    return f"<table class='llpack-table'><caption>{html.escape(title)}</caption>{body}</table>"


def describe(factor: float, source: str) -> str:
    return f"<output class='llpack-factor'><b>x {factor_text(factor)}</b>, {source}</output>"


def caption(factor: float, left: str, note: str = "") -> str:
    amplified = f"amplified x {factor_text(factor)}, without the network"
    shown = "the dark file as it is" if left == UNTOUCHED else amplified
    text = f"Left: {shown}. Right: restored by the network, x {factor_text(factor)}. {note}"
    return f"<p class='llpack-caption' role='status'>{text}</p>"


def polite(error: LlpackError) -> gr.Error:
    """The error as a message on the page, which shows HTML."""
    return gr.Error(html.escape(str(error)), duration=20, print_exception=False, title="Sorry")


class Page:
    """The handlers; results come in the order of `app.py`'s lists of components."""

    def __init__(self, darkroom: Darkroom):
        self.darkroom = darkroom

    def notes(self) -> str:
        """Why other weights are used than were asked for, if so."""
        notes = self.darkroom.restorer.weights.notes
        return "".join(f"<p class='llpack-note'>{html.escape(note)}</p>" for note in notes)

    def clear(self):
        """Nothing of the last file stays on the page: what was read, then as `clear_result`."""
        return "", *self.clear_result()

    def clear_result(self):
        """Picture, caption, factor, runtime, both downloads, and the file of the right side."""
        no_file = gr.update(value=None, interactive=False)
        return None, "", "", "", no_file, gr.update(interactive=False), None

    def open(self, path: str | None):
        """A new file: what was read, and the estimated amplification for slider and text."""
        if not path:
            return gr.skip()
        try:
            frame = self.darkroom.open(path)
            stops = self._start(path)
            return table("Read from the file", frame.summary()), stops, self._factor(path, stops)
        except LlpackError as error:
            raise polite(error) from None

    def restore_opened(self, path: str | None, stops: float, left: str):
        """What follows `open`; nothing when the file was taken away."""
        return self.restore(path, stops, left) if path else self.clear_result()

    def restore(self, path: str | None, stops: float, left: str):
        """The whole frame, in the order of `clear_result`."""
        _demand(path)
        try:
            factor, source = self._choice(path, stops)
            pair = self.darkroom.develop(path, factor, source=source, untouched=left == UNTOUCHED)
        except LlpackError as error:
            raise polite(error) from None
        after = str(pair.after)
        return (
            (str(pair.before), after),
            caption(factor, left),
            describe(factor, source),
            table("Runtime", pair.restored.table()),
            gr.update(value=after, interactive=True),
            gr.update(interactive=True),
            after,
        )

    def auto(self, path: str | None):
        """Slider and text back to the estimated amplification."""
        _demand(path)
        try:
            if self.darkroom.estimate(path) is None:
                raise LlpackError("These weights cannot estimate: choose an amplification.")
            stops = self._start(path)
            return stops, self._factor(path, stops)
        except LlpackError as error:
            raise polite(error) from None

    def preview(self, path: str | None, stops: float, left: str):
        """While the slider moves: a small pair that looks like the large one to come."""
        if not path:
            return gr.skip(), gr.skip(), describe(_factor_at(stops), "chosen")
        try:
            factor, source = self._choice(path, stops)
            pair = self.darkroom.preview(path, factor, source=source, untouched=left == UNTOUCHED)
        except LlpackError as error:
            raise polite(error) from None
        shown = caption(factor, left, "Preview.")
        return (str(pair.before), str(pair.after)), shown, describe(factor, source)

    def swap_left(self, path: str | None, stops: float, left: str, after: str | None):
        """Another left side beside the same right side."""
        if not path or not after:
            return gr.skip()
        if not Path(after).exists():
            raise gr.Error(GONE, print_exception=False)
        try:
            factor, _ = self._choice(path, stops)
            before = self.darkroom.before(path, factor, untouched=left == UNTOUCHED)
        except LlpackError as error:
            raise polite(error) from None
        return (str(before), after), caption(factor, left)

    def tiff(self, path: str | None, stops: float) -> str:
        """The 16-bit TIFF, made now."""
        _demand(path)
        try:
            factor, source = self._choice(path, stops)
            return str(self.darkroom.picture(path, factor, source=source, format="tiff")[0])
        except LlpackError as error:
            raise polite(error) from None

    def _start(self, path: str) -> float:
        return to_stops(self.darkroom.estimate(path) or WITHOUT_ESTIMATE)

    def _choice(self, path: str, stops: float) -> tuple[float, str]:
        """Amplification and where it comes from: a slider that was not moved means the estimate."""
        estimate = self.darkroom.estimate(path)
        if estimate is not None and abs(stops - to_stops(estimate)) < STEP / 2:
            return estimate, "estimated"
        return _factor_at(stops), "chosen"

    def _factor(self, path: str, stops: float) -> str:
        return describe(*self._choice(path, stops))


def _factor_at(stops: float) -> float:
    return min(2.0**stops, AMPLIFICATION_RANGE[1])


def _demand(path: str | None) -> None:
    if not path:
        raise gr.Error(NO_FILE, print_exception=False)
