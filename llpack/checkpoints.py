"""The authors' own checkpoints, of 2020 and of 2022, turned into LLPackNet's plain weights.

Both are `torch.save({"model": ..., "optimizer": ...})` of github.com/MohitLamba94/LLPackNet and
github.com/CV-IP/LLPackNet (MIT licence). That of 2022 has weight norm on every convolution, a
sigmoid at the end and no amplifier; that of 2020 has plain weights, a ReLU and an amplifier.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from llpack.amplifier import AMPLIFICATION_RANGE, BINS, histogram
from llpack.errors import WeightsMismatch
from llpack.raw import RawFrame

AMPLIFIER_PREFIX = "amplifier."
_GAIN, _DIRECTION = "weight_g", "weight_v"
# torch >= 2 calls the two parts of a normalised weight by number.
_NUMBERED = {
    "parametrizations.weight.original0": _GAIN,
    "parametrizations.weight.original1": _DIRECTION,
}
# In 2022 every convolution is the first item of a Sequential.
_WRAPPED = re.compile(
    r"((?:^|\.)(?:RDB\w+|before_identity|after_rdb|conv|conv_1x1|final\.2))\.0\.(\w+)$"
)


@dataclass(frozen=True)
class Converted:
    """What a checkpoint holds, with LLPackNet's names (and `amplifier.*` of `AffineAmplifier`)."""

    tensors: dict[str, torch.Tensor]
    output: str  # "relu" or "sigmoid", see LLPackNet
    amplifier: bool
    notes: tuple[str, ...]
    sha256: str = ""  # of the checkpoint's file


class AffineAmplifier(nn.Module):
    """The authors' amplifier: (B, 63) histogram shares -> (B,) amplification.

    Their two linear layers have nothing in between, so they are one; what is not positive becomes
    1e-4. Unlike `amplifier.Amplifier` it sees the shares as they are and gives no logarithm.
    """

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(BINS, 1)

    def forward(self, shares: torch.Tensor) -> torch.Tensor:
        return nn.functional.threshold(self.linear(shares)[:, 0], 0, 1e-4)

    @torch.inference_mode()
    def estimate(self, frame: RawFrame) -> float:
        """Amplification for a frame, within 1..1000."""
        shares = torch.from_numpy(histogram(frame))[None]
        return float(np.clip(self(shares).item(), *AMPLIFICATION_RANGE))


def read_checkpoint(path: Path) -> Converted:
    """An authors' checkpoint from a file; only tensors are unpickled, never code.

    Raises
    ------
    WeightsMismatch : not a checkpoint, or one of a different network
    """
    if "pixelshuffle" in path.name.lower():
        raise WeightsMismatch(
            f"{path} is the authors' ablation with a pixel shuffle in place of UnPack: a different "
            "network with the same names. Use their checkpoint with UnPack."
        )
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler stumbles over
        raise WeightsMismatch(
            f"{path} cannot be read as a PyTorch checkpoint: it is damaged or holds more than tensors."
        ) from error
    return plain_state_dict(checkpoint, str(path), digest)


def plain_state_dict(checkpoint: dict, name: str = "the checkpoint", sha256: str = "") -> Converted:
    """An authors' checkpoint as plain weights; whether they fit the network is not checked here.

    `name` and `sha256` are those of the file, for messages and for the record.
    """
    state = checkpoint
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(map(torch.is_tensor, state.values())):
        raise WeightsMismatch(f"{name} holds no weights of a network.")
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    amplifier = {key: state.pop(key) for key in list(state) if key.startswith(AMPLIFIER_PREFIX)}
    for numbered, plain in _NUMBERED.items():
        state = {key.replace(numbered, plain): tensor for key, tensor in state.items()}
    normalised = any(key.endswith(_GAIN) for key in state)
    tensors = {_WRAPPED.sub(r"\1.\2", key): tensor for key, tensor in _fold(state, name).items()}
    amplifier, notes = _amplifier(amplifier, name)
    tensors = {key: tensor.float().contiguous() for key, tensor in (tensors | amplifier).items()}
    output = "sigmoid" if normalised else "relu"
    return Converted(tensors, output, bool(amplifier), notes, sha256)


def _fold(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Weight norm undone: direction / |direction| * gain for each output channel."""
    folded = {}
    for key, tensor in state.items():
        if key.endswith(_DIRECTION):
            gain = state.get(key.removesuffix(_DIRECTION) + _GAIN)
            if gain is None or tensor.ndim != 4 or gain.shape != (len(tensor), 1, 1, 1):
                raise WeightsMismatch(f"{name}: the gain of {key} is missing or has a wrong shape.")
            length = torch.linalg.vector_norm(tensor, dim=(1, 2, 3), keepdim=True)
            folded[key.removesuffix(_DIRECTION) + "weight"] = tensor * (gain / length)
        elif not key.endswith(_GAIN):
            folded[key] = tensor
    return folded


def _amplifier(
    state: dict[str, torch.Tensor], name: str
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """AffineAmplifier's weights from the authors' two layers, and what had to be left out."""
    if not state:
        return {}, ()
    if any("conv_pre" in key for key in state):
        note = "The checkpoint's amplifier, of the authors' ablation, is not used."
        return {}, (note,)
    layers = [f"{AMPLIFIER_PREFIX}conv_post.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")]
    shapes = [tuple(state[key].shape) if key in state else None for key in layers]
    if len(state) != 4 or shapes != [(128, BINS), (128,), (1, 128), (1,)]:
        raise WeightsMismatch(f"{name}: its amplifier is not one of the authors'.")
    first, first_bias, second, second_bias = (state[key].double() for key in layers)
    return {
        f"{AMPLIFIER_PREFIX}linear.weight": second @ first,
        f"{AMPLIFIER_PREFIX}linear.bias": second @ first_bias + second_bias,
    }, ()
