"""What can go wrong, in words for people: what happened, to which file, what to do.

The command line prints these messages as they are, the page shows them (escaped), so every message
must be a complete sentence that a photographer understands.
"""


class LlpackError(Exception):
    """Anything llpack refuses or cannot do; its text is meant to be shown to the user."""


class UnreadableRaw(LlpackError):
    """The file is not a RAW file that can be decoded: damaged, truncated, empty or of another type."""


class UnsupportedSensor(LlpackError):
    """The file decodes, but does not hold a Bayer mosaic (X-Trans, monochrome, linear, Foveon, ...)."""


class LimitExceeded(LlpackError):
    """The file is larger, or takes longer, than this installation allows."""


class MissingWeights(LlpackError):
    """Weights were asked for that are not to be had (no such file, repository or revision)."""


class WeightsMismatch(LlpackError):
    """A weights file was found, but it is damaged or does not fit the network."""


class OutputError(LlpackError):
    """A result could not be written: it exists already, or the disk is full or not writable."""


class PublishingFailed(LlpackError):
    """The Hub did not take what was to be published, or a Space did not start."""
