"""Restore extremely dark RAW photographs on a CPU with LLPackNet.

In a program::

    import llpack
    frame = llpack.read_raw("night.arw")
    restored = llpack.load_restorer().restore(frame)
    llpack.write_picture("night.jpg", restored.picture, frame.exif, format="jpg")
"""

import warnings

from llpack.errors import LlpackError
from llpack.raw import RawFrame, read_raw

__version__ = "0.1.0"
__all__ = ["LlpackError", "RawFrame", "load_restorer", "read_raw", "write_picture"]


def load_restorer(weights: str | None = None, precision: str | None = None):
    """A `Restorer` with the given weights: a path, "owner/name" on the Hub, "paper", or the default.

    precision: "int8", "bfloat16" or "float32"; by default the fastest whose picture is right here.
    When other weights are used than were asked for, a warning says why. Torch is imported here and
    not before, so that reading files stays light.
    """
    from llpack.engine import Restorer
    from llpack.weights import load_weights

    loaded = load_weights(weights)
    for note in loaded.notes:
        warnings.warn(note, stacklevel=2)
    return Restorer(loaded, precision)


def write_picture(path, picture, exif, *, format: str) -> None:
    """Write a restored picture as "jpg", "png" or "tiff"; see `files.write_picture`."""
    from llpack.files import write_picture

    write_picture(path, picture, exif, format=format)
