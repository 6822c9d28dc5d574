"""In which arithmetic the network runs on this machine: the fastest whose picture is right.

Measured, not looked up: a processor that lists bfloat16 instructions may still run them slower than
float32 (avx512_bf16 without AMX can take twice the time), and 8-bit integers without VNNI may be both
slow and wrong.
"""

import time
from collections.abc import Iterator

import torch

from llpack.errors import LlpackError
from llpack.inference import Inference
from llpack.quantised import QuantisedInference
from llpack.weights import Weights

PRECISIONS = ("int8", "bfloat16", "float32")
_PATCH_SIDE = 256  # of the test patch: enough work to time, a moment at start
_TIMED_ROUNDS = 5
# Mean difference from float32's picture up to which another is right. The embedded weights differ by
# 0.25 / 255 in bfloat16 and 0.31 / 255 in 8-bit integers, but by 1.1 / 255 in these on processors
# before VNNI, where sums of two products are cut to 16 bits.
_TOLERANCE = 0.6 / 255


@torch.inference_mode()
def fastest_inference(weights: Weights) -> Inference:
    """The fastest of all that this machine and these weights allow, if its picture is right."""
    patch, threads = _test_patch(), torch.get_num_threads()
    torch.set_num_threads(1)  # for `_seconds`
    try:
        exact = Inference(weights.network)
        picture, right = exact(patch), [exact]
        for other in _alternatives(weights):
            if (other(patch).float() - picture).abs().mean() <= _TOLERANCE:
                right.append(other)
        # In turns: what slows the machine for a moment must not strike one of them alone.
        seconds = [[_seconds(one, patch) for one in right] for _ in range(_TIMED_ROUNDS)]
        best = [min(times) for times in zip(*seconds, strict=True)]
        return right[best.index(min(best))]
    finally:
        torch.set_num_threads(threads)


def inference_in(precision: str, weights: Weights) -> Inference:
    """The network in one of PRECISIONS, fast or not; LlpackError where that is not possible."""
    if precision == "float32":
        return Inference(weights.network)
    for other in _alternatives(weights):
        if other.name == precision:
            return other
    raise LlpackError(
        f"The weights '{weights.name}' cannot run in {precision} on this machine: "
        "choose float32, or leave the choice to llpack."
    )


def _alternatives(weights: Weights) -> Iterator[Inference]:
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        yield Inference(weights.network, torch.bfloat16)
    if weights.ranges is not None:
        try:
            quantised = QuantisedInference(weights.network, weights.ranges)
            quantised(torch.zeros(1, 1, 64, 64))
        except (RuntimeError, AttributeError):  # PyTorch without oneDNN's operators
            return
        yield quantised


def _test_patch() -> torch.Tensor:
    """(1, 1, S, S): an amplified mosaic with shadows, highlights and noise."""
    noise = torch.randn(1, 1, _PATCH_SIDE, _PATCH_SIDE, generator=torch.Generator().manual_seed(0))
    return torch.linspace(0, 1, _PATCH_SIDE) ** 2 + 0.05 * noise


def _seconds(inference: Inference, patch: torch.Tensor) -> float:
    """Processor time of this thread: at a start others compute as well, and the clock on the wall
    would measure them."""
    started = time.thread_time()
    inference(patch)
    return time.thread_time() - started
