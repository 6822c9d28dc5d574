"""Start the web page: `python app.py`.

Sets up what has to be there before Gradio is imported, and gets the network ready meanwhile. The page
itself is in `llpack.layout`, what it does in `llpack.page`, the endpoints in `llpack.web_api`.
"""

import contextlib
import inspect
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:  # ZeroGPU's package; it wants to come before torch
    import spaces
except ImportError:
    spaces = None

from llpack.errors import LlpackError
from llpack.housekeeping import KEEP_SECONDS, files_in, fresh_folder, start_sweeping

HUB_DEADLINE_S = 3.0  # so that the page opens within ten seconds when the Hub hangs

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # the page talks to nobody else
os.environ["GRADIO_TEMP_DIR"] = str(fresh_folder(os.environ.get("GRADIO_TEMP_DIR")))
FOLDER = Path(os.environ["GRADIO_TEMP_DIR"])

if spaces is not None:

    @spaces.GPU
    def never_called():
        """Free accounts get ZeroGPU hardware, which refuses to start an app without a function for
        the GPU. Everything here runs on the processor."""


@contextlib.contextmanager
def without_stubs():
    """Import Gradio in two thirds of the time: it parses its own sources at every start, only to
    write type stubs beside them. Classes without a file it leaves alone, so none has one for now."""
    getfile = inspect.getfile

    def no_file(thing):
        if type(thing).__name__ == "ComponentMeta":
            raise OSError
        return getfile(thing)

    inspect.getfile = no_file
    try:
        yield
    finally:
        inspect.getfile = getfile


def ready_darkroom():
    """The weights, ready to work; Gradio is imported while the Hub is waited for."""
    from llpack.darkroom import Darkroom
    from llpack.engine import Restorer
    from llpack.weights import load_weights

    weights = load_weights(deadline_s=HUB_DEADLINE_S)
    print(f"Weights: {weights.name}, {weights.source}, sha256 {weights.sha256}")
    for note in weights.notes:
        print(f"Note: {note}")
    return Darkroom(Restorer(weights), FOLDER / "pictures")


def main() -> None:
    # Without this, a stopped container would leave its visitors' files until the next start.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    import llpack.weights  # noqa: F401 - all that is imported before the Hub is asked

    preparing = ThreadPoolExecutor(1).submit(ready_darkroom)
    with without_stubs():
        from llpack.layout import build, launch

    try:
        darkroom = preparing.result()
    except LlpackError as error:
        sys.exit(f"llpack: {error}")
    demo = build(darkroom)
    start_sweeping(FOLDER, files_in(FOLDER), lambda: darkroom.forget(KEEP_SECONDS))
    launch(demo)


if __name__ == "__main__":
    main()
