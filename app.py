"""Start the web page: `python app.py`.

Sets up what has to be there before Gradio is imported, and asks for the weights meanwhile. The page
itself is in `llpack.layout`, what it does in `llpack.page`, the endpoints in `llpack.web_api`.
"""

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

HUB_DEADLINE_S = 4.0  # so that the page opens within ten seconds when the Hub hangs

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # the page talks to nobody else
os.environ["GRADIO_TEMP_DIR"] = str(fresh_folder(os.environ.get("GRADIO_TEMP_DIR")))
FOLDER = Path(os.environ["GRADIO_TEMP_DIR"])

if spaces is not None:

    @spaces.GPU
    def never_called():
        """Free accounts get ZeroGPU hardware, which refuses to start an app without a function for
        the GPU. Everything here runs on the processor."""


def load():
    """The weights; Gradio is imported while the Hub is waited for."""
    from llpack.weights import load_weights

    return load_weights(deadline_s=HUB_DEADLINE_S)


def main() -> None:
    # Without this, a stopped container would leave its visitors' files until the next start.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    loading = ThreadPoolExecutor(1).submit(load)
    from llpack.darkroom import Darkroom
    from llpack.engine import Restorer
    from llpack.layout import build, launch

    try:
        weights = loading.result()
    except LlpackError as error:
        sys.exit(f"llpack: {error}")
    print(f"Weights: {weights.name}, {weights.source}, sha256 {weights.sha256}")
    for note in weights.notes:
        print(f"Note: {note}")
    darkroom = Darkroom(Restorer(weights), FOLDER / "pictures")
    demo = build(darkroom)
    start_sweeping(FOLDER, files_in(FOLDER), lambda: darkroom.forget(KEEP_SECONDS))
    launch(demo)


if __name__ == "__main__":
    main()
