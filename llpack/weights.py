"""Where the network's weights come from, and reading them strictly.

One place decides (`load_weights`): an explicit path, a repository of the Hub, or the weights that
come with the package. One function reads (`read_folder`): only safetensors, with the SHA-256, the
names, the shapes and the types that are expected, or an error that says what is wrong.

A weights folder holds `model.safetensors` and `config.json`:

    format        1
    architecture  "detail" (DetailNet) or "paper" (LLPackNet)
    convention    "camera" or "srgb", see `Weights`
    output        "sigmoid" or "relu", see LLPackNet
    amplifier     whether the file holds one, with names `amplifier.*`
    name          a short name for people
    sha256        of model.safetensors
    training      what is known about the training, for people

Tensors named `ranges.*`, all of them or none, let the network run in 8-bit integers (`quantised`).
"""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from llpack import hub
from llpack.amplifier import Amplifier
from llpack.checkpoints import AMPLIFIER_PREFIX, AffineAmplifier, Converted, read_checkpoint
from llpack.errors import MissingWeights, WeightsMismatch
from llpack.hub import CONFIG, TENSORS
from llpack.metadata import clean_text
from llpack.network import DetailNet, LLPackNet, ranged_layers

EMBEDDED = Path(__file__).parent / "embedded"
VARIABLE = "LLPACK_WEIGHTS"
DEADLINE_S = 8.0
FORMAT = 1
MAX_BYTES = 64 << 20  # the networks have 5 MB: anything this large is something else
MAX_NAME = 100  # characters

_AMPLIFIERS = {"camera": Amplifier, "srgb": AffineAmplifier}
RANGES_PREFIX = "ranges."
_DETAIL_ONLY = ("guide.", "detail.", f"{RANGES_PREFIX}detail.")
_CHECKPOINT_SUFFIXES = (".pt", ".pth")
_CONFIG_VALUES = {
    "format": (FORMAT,),
    "architecture": ("detail", "paper"),
    "convention": tuple(_AMPLIFIERS),
    "output": ("sigmoid", "relu"),
    "amplifier": (True, False),
}


class _Damaged(WeightsMismatch):
    """The file's SHA-256 is not the one that its config states."""


@dataclass(frozen=True)
class Weights:
    """A network ready to use (eval mode, plain weights) and what there is to know about it.

    convention: "camera" takes an amplified and white-balanced mosaic and gives sqrt-encoded camera
    RGB; "srgb", the authors', takes one without white balance and gives display sRGB.
    """

    network: LLPackNet
    amplifier: nn.Module | None  # has `estimate(frame)`; None: the amplification must be given
    convention: str
    name: str
    source: str  # for people: "embedded", "folder NAME", "owner/name@commit", also with " (cached)"
    sha256: str  # of the file that the weights were read from
    notes: tuple[str, ...] = ()  # sentences for people, such as why other weights were not used
    ranges: dict[str, torch.Tensor] | None = None  # of `quantised.activation_ranges`, if stored


def load_weights(spec: str | None = None, *, deadline_s: float = DEADLINE_S) -> Weights:
    """The weights that `spec` names; by default what LLPACK_WEIGHTS names, else the embedded.

    spec: "embedded"; "paper", the embedded weights without the detail path; a weights folder, a
    .safetensors file with its config.json beside it, or an authors' checkpoint; or "owner/name" or
    "owner/name@revision" on the Hub, which is given `deadline_s` to answer. If the Hub's weights
    cannot be had or do not fit, the embedded ones are used and `notes` says why.

    Raises
    ------
    MissingWeights : a path that does not exist
    WeightsMismatch : a file that is damaged or does not fit the network
    """
    spec = spec or os.environ.get(VARIABLE) or "embedded"
    if spec in ("embedded", "paper"):
        return read_folder(EMBEDDED, "embedded", paper=spec == "paper")
    path = Path(os.path.expanduser(spec.replace("\0", "?")))  # which expanduser refuses
    if os.path.exists(path):  # unlike Path.exists, says no to names that no file can have
        return _from_path(path)
    name = hub.parse_name(spec)
    if name is None or path.suffix in (".safetensors", *_CHECKPOINT_SUFFIXES):
        raise MissingWeights(
            f"There are no weights at {spec}: give a weights folder, a .safetensors file, an "
            "authors' checkpoint, or owner/name for a repository on the Hub."
        )
    return _from_hub(*name, deadline_s)


def save_weights(folder: str | Path, tensors: dict[str, torch.Tensor], config: dict) -> None:
    """Write a weights folder: model.safetensors, and config.json with the SHA-256 filled in.

    The same tensors and config give the same bytes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = safetensors.torch.save(
        {key: tensors[key].detach().cpu().contiguous() for key in sorted(tensors)}
    )
    (folder / TENSORS).write_bytes(data)
    config = {**config, "sha256": hashlib.sha256(data).hexdigest()}
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def save_checkpoint(folder: str | Path, checkpoint: str | Path) -> Weights:
    """Convert an authors' checkpoint to a weights folder; the config says where it came from."""
    checkpoint = Path(checkpoint)
    converted = read_checkpoint(checkpoint)
    weights = _from_checkpoint(checkpoint, converted)  # refuses what does not fit
    origin = {"checkpoint": checkpoint.name, "checkpoint_sha256": converted.sha256}
    save_weights(folder, converted.tensors, {**_authors_config(converted), "training": origin})
    return weights


def read_folder(
    folder: Path, source: str, *, file: str = TENSORS, paper: bool = False, label: str = ""
) -> Weights:
    """Read a weights folder strictly; `label` stands for its path in messages.

    paper: leave the detail path out, if there is one.

    Raises
    ------
    MissingWeights, WeightsMismatch : see `load_weights`
    """
    label = label or str(folder)
    config = read_config(folder / CONFIG, f"{label}/{CONFIG}")
    label = f"{label}/{file}"
    data = _read(folder / file, label)
    if (digest := hashlib.sha256(data).hexdigest()) != config["sha256"]:
        raise _Damaged(f"{label} is damaged or incomplete: its SHA-256 is not that of {CONFIG}.")
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise WeightsMismatch(f"{label} is not a safetensors file.") from error
    if paper and config["architecture"] == "detail":
        tensors = {k: v for k, v in tensors.items() if not k.startswith(_DETAIL_ONLY)}
        config = config | {"architecture": "paper", "name": "llpack-paper"}
    return _build(tensors, config, label, source, digest)


def read_config(path: Path, label: str = "") -> dict:
    """config.json of a weights folder, checked."""
    label = label or str(path)
    try:
        config = json.loads(_read(path, label))
    except (ValueError, RecursionError) as error:  # the second: a thousand brackets
        raise WeightsMismatch(f"{label} is not valid JSON.") from error
    if not isinstance(config, dict):
        raise WeightsMismatch(f"{label} is not a config of llpack.")
    for key, allowed in _CONFIG_VALUES.items():
        # By representation: in Python, True equals 1.
        if repr(config.get(key)) not in map(repr, allowed):
            raise WeightsMismatch(
                f"{label} has no usable {key}: expected {' or '.join(map(json.dumps, allowed))}. "
                "It is not a config of llpack, or one of another version."
            )
    for key in ("name", "sha256"):
        if not isinstance(config.get(key), str):
            raise WeightsMismatch(f"{label} states no {key}.")
    if not config["name"].isprintable() or not 0 < len(config["name"]) <= MAX_NAME:
        raise WeightsMismatch(f"{label}: the name is not a line of up to {MAX_NAME} characters.")
    if config["architecture"] == "detail" and config["output"] != "sigmoid":
        raise WeightsMismatch(f"{label}: the detail architecture goes with the sigmoid output.")
    return config


def _read(path: Path, label: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsMismatch(f"{label} is far larger than llpack's networks.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingWeights(f"{label} is missing.") from error
    except OSError as error:
        raise MissingWeights(f"{label} cannot be read: {error.strerror or error}.") from error


def _from_path(path: Path) -> Weights:
    # Only the last name: visitors of the page see it, and the rest of the path is not their business.
    if path.is_dir():
        return read_folder(path, f"folder {path.resolve().name}")
    if path.suffix == ".safetensors":
        return read_folder(path.parent, f"file {path.name}", file=path.name)
    return _from_checkpoint(path, read_checkpoint(path))


def _from_checkpoint(path: Path, converted: Converted) -> Weights:
    config = _authors_config(converted)
    weights = _build(converted.tensors, config, str(path), f"file {path.name}", converted.sha256)
    return replace(weights, notes=converted.notes)


def _authors_config(converted: Converted) -> dict:
    return {
        "format": FORMAT,
        "architecture": "paper",
        "convention": "srgb",
        "output": converted.output,
        "amplifier": converted.amplifier,
        "name": "llpacknet-2022" if converted.output == "sigmoid" else "llpacknet-2020",
    }


def _from_hub(repo: str, revision: str | None, deadline_s: float) -> Weights:
    try:
        snapshot = hub.fetch(
            repo, revision, deadline_s, lambda path: read_config(path, f"{repo}/{CONFIG}")
        )
        source = f"{repo}@{snapshot.commit}{' (cached)' if snapshot.cached else ''}"
        try:
            weights = read_folder(snapshot.folder, source, label=repo)
        except _Damaged:
            hub.discard(snapshot.folder)
            raise
        return replace(weights, notes=snapshot.notes)
    except (MissingWeights, WeightsMismatch) as error:
        note = f"{error} The embedded weights are used."
        return replace(read_folder(EMBEDDED, "embedded"), notes=(note,))


def _build(
    tensors: dict[str, torch.Tensor], config: dict, label: str, source: str, sha256: str
) -> Weights:
    with torch.device("meta"):  # nothing is drawn at random only to be replaced
        detailed = config["architecture"] == "detail"
        network = DetailNet() if detailed else LLPackNet(config["output"])
        amplifier = _AMPLIFIERS[config["convention"]]() if config["amplifier"] else None
    parts = {"": network} | ({AMPLIFIER_PREFIX: amplifier} if amplifier else {})
    expected = {
        prefix + key: value
        for prefix, part in parts.items()
        for key, value in part.state_dict().items()
    }
    ranges = None
    if any(key.startswith(RANGES_PREFIX) for key in tensors):
        ranges = {name: torch.empty(2, n) for name, n in ranged_layers(network).items()}
        expected |= {RANGES_PREFIX + name: limits for name, limits in ranges.items()}
    _compare(tensors, expected, label)
    if ranges is not None:
        ranges = {name: tensors[RANGES_PREFIX + name] for name in ranges}
        if not all(limits.isfinite().all() for limits in ranges.values()):
            raise WeightsMismatch(f"{label} has ranges that are not numbers.")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise WeightsMismatch(f"{label} holds values that are not numbers.")
    for prefix, part in parts.items():
        part.load_state_dict({key: tensors[prefix + key] for key in part.state_dict()}, assign=True)
        part.eval().requires_grad_(False)
    return Weights(
        network,
        amplifier,
        config["convention"],
        config["name"],
        source,
        sha256,
        ranges=ranges,
    )


def _compare(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], label: str) -> None:
    """Raise WeightsMismatch, in one sentence, unless names, shapes and types are the same."""
    complaints = []
    for words, keys in (
        ("missing", expected.keys() - tensors.keys()),
        ("unexpected", tensors.keys() - expected.keys()),
    ):
        if keys:
            shown = ", ".join(clean_text(key) or "no name" for key in sorted(keys)[:3])
            complaints.append(f"{len(keys)} {words} ({shown}{', ...' if len(keys) > 3 else ''})")
    for key in sorted(expected.keys() & tensors.keys()):
        found, wanted = tensors[key], expected[key]
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            complaints.append(f"{key} is {_describe(found)} instead of {_describe(wanted)}")
    if complaints:
        raise WeightsMismatch(f"{label} does not fit the network: {'; '.join(complaints[:4])}.")


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
