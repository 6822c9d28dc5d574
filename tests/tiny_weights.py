"""Random weights folders for tests: the right shapes, worthless pictures."""

from pathlib import Path

import torch

from llpack.amplifier import Amplifier
from llpack.network import DetailNet, LLPackNet
from llpack.weights import save_weights

CONFIG = {
    "format": 1,
    "architecture": "detail",
    "convention": "camera",
    "output": "sigmoid",
    "name": "llpack-test",
    "amplifier": True,
    "training": {"photos": "none, drawn at random"},
}


def random_tensors(architecture: str = "detail", seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = DetailNet() if architecture == "detail" else LLPackNet()
    amplifier = {f"amplifier.{key}": value for key, value in Amplifier().state_dict().items()}
    return network.state_dict() | amplifier


def write_folder(folder: Path, seed: int = 0, **changes) -> Path:
    """A valid weights folder; `changes` go into its config."""
    config = CONFIG | changes
    save_weights(folder, random_tensors(config["architecture"], seed), config)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
