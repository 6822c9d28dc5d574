"""Training of the network, resumable to the step.

Recipe: loss between pictures as displayed (L1, structural similarity, colour difference, borders);
both pictures that `DetailNet` gives, the paper's and the detailed one, are trained at once, so that
one run yields both networks. AdamW, cosine schedule, weight norm while training only, exponential
moving average of the weights, larger patches in the last part.
"""

import functools
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.data import DataLoader

from llpack.amplifier_training import train_amplifier
from llpack.errors import LlpackError
from llpack.losses import picture_loss
from llpack.network import DetailNet
from llpack.patches import SyntheticBatches, training_photos
from llpack.quantised import activation_ranges
from llpack.weights import AMPLIFIER_PREFIX, RANGES_PREFIX, load_weights, save_weights

# torch.compile calls the C++ compiler that CXX names, by default g++.
HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None

RANGE_BATCHES = 24  # on which the ranges for 8-bit integers are measured


@dataclass(frozen=True)
class Recipe:
    """photos, pairs: folders of clean photos and of See-in-the-Dark; either may be left empty."""

    photos: str
    steps: int = 30000
    batch: int = 8
    patch: int = 256  # mosaic pixels a side
    late_patch: int = 384  # in the last `late_part` of the steps, as many pixels a batch as before
    late_part: float = 0.25
    learning_rate: float = 1e-3
    last_learning_rate: float = 1e-6
    warm_up: int = 300
    similarity: float = 0.4  # weight of 1 - SSIM beside L1
    colour: float = 2.0  # weight of the colour difference beside L1
    borders: float = 1.0  # weight of the steps between blocks of pixels
    paper: float = 0.5  # weight of the paper's own picture beside the detailed one
    ema: float = 0.999
    seed: int = 0
    pairs: str = ""
    pair_share: float = 0.5  # of the patches, where there are photos too

    def size_at(self, step: int) -> tuple[int, int]:
        """Patch size and number of patches at a step."""
        if step < (1 - self.late_part) * self.steps:
            return self.patch, self.batch
        return self.late_patch, max(1, round(self.batch * (self.patch / self.late_patch) ** 2))

    def learning_rate_at(self, step: int) -> float:
        warm = min(1, (step + 1) / self.warm_up)
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1, step / self.steps))
        span = self.learning_rate - self.last_learning_rate
        return warm * (self.last_learning_rate + span * cosine)


class Trainer:
    """One training run in a folder: `last.pt` to resume from, `log.jsonl`, `recipe.json`.

    compiled: fuse the loss's many small steps over large pictures, which needs a C++ compiler.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, device: str = "cpu", *, compiled: bool = HAS_COMPILER
    ):
        self.recipe, self.folder, self.device = recipe, Path(folder), device
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
        torch.manual_seed(recipe.seed)
        self.network = DetailNet().to(device)
        start_without_grid(self.network)
        normalise_weights(self.network)
        self.average = [p.detach().clone() for p in self.network.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=0.0
        )
        self.loss = torch.compile(picture_loss) if compiled else picture_loss
        self.step = 0
        self.seconds = 0.0
        if (self.folder / "last.pt").exists():
            self._resume()

    @functools.cached_property
    def batches(self) -> SyntheticBatches:
        return training_batches(self.recipe)

    def run(self, save_every: int = 250, log_every: int = 50) -> None:
        recipe = self.recipe
        remaining = range(self.step, recipe.steps)
        loader = DataLoader(
            self.batches,
            batch_size=None,
            sampler=remaining,
            num_workers=1,
            prefetch_factor=6,
        )
        started, sums, patches = time.monotonic(), [0.0, 0.0], 0
        for batch in _without_worker_traceback(loader):
            losses = self.train_step(*(part.to(self.device) for part in batch))
            sums = [total + loss for total, loss in zip(sums, losses, strict=True)]
            patches += len(batch[0])
            self.step += 1
            if self.step % log_every == 0 or self.step == recipe.steps:
                seconds = time.monotonic() - started
                self.seconds += seconds
                self._log(
                    detail=sums[0] / log_every,
                    paper=sums[1] / log_every,
                    patches_per_second=patches / seconds,
                )
                started, sums, patches = time.monotonic(), [0.0, 0.0], 0
            if self.step % save_every == 0 or self.step == recipe.steps:
                self._save()

    def train_step(self, mosaic, picture, camera_to_srgb) -> tuple[float, float]:
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.learning_rate_at(self.step)
        truth = picture.float() / 255
        weights = recipe.similarity, recipe.colour, recipe.borders
        plain, detailed = self.network.both(mosaic)
        detail = self.loss(detailed, camera_to_srgb, truth, *weights)
        # The paper's own picture is there all along; a quarter of the batch says enough about it.
        some = slice(max(1, len(mosaic) // 4))
        paper = self.loss(plain[some], camera_to_srgb[some], truth[some], *weights)
        self.optimiser.zero_grad(set_to_none=True)
        (detail + recipe.paper * paper).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        # Early averages forget the random start quickly (decay grows with the step).
        keep = min(recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.network.parameters()), 1 - keep)
        return detail.item(), paper.item()

    def averaged_weights(self) -> dict[str, torch.Tensor]:
        """The moving average with weight norm folded in: what is shipped and evaluated."""
        network = DetailNet()
        normalise_weights(network)
        with torch.no_grad():
            for parameter, average in zip(network.parameters(), self.average, strict=True):
                parameter.copy_(average)
        for module in network.modules():
            if parametrize.is_parametrized(module):
                parametrize.remove_parametrizations(module, "weight")
        return {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}

    def _log(self, **values: float) -> None:
        record = {"step": self.step, "seconds": self.seconds, **values}
        line = json.dumps({key: round(value, 5) for key, value in record.items()})
        print(line, flush=True)
        with open(self.folder / "log.jsonl", "a") as log:
            log.write(line + "\n")

    def _save(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
        }
        temporary = self.folder / "last.pt.new"
        torch.save(state, temporary)
        temporary.replace(self.folder / "last.pt")  # an interrupted save never costs the run

    def _resume(self) -> None:
        state = torch.load(self.folder / "last.pt", map_location=self.device, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = [average.to(self.device) for average in state["average"]]


def training_batches(recipe: Recipe) -> SyntheticBatches:
    """What a recipe trains on. Raises LlpackError when its folders have nothing for it."""
    if not (recipe.photos or recipe.pairs):
        raise LlpackError("Nothing to train on: give a folder of photos, one of pairs, or both.")
    photos = training_photos(Path(recipe.photos)) if recipe.photos else []
    how = photos, recipe.size_at, recipe.steps, recipe.seed
    if not recipe.pairs:
        return SyntheticBatches(*how)
    from llpack.pairs import MixedBatches, training_pairs  # which need scikit-image as scores do

    return MixedBatches(training_pairs(Path(recipe.pairs)), recipe.pair_share, *how)


def _without_worker_traceback(loader: DataLoader) -> Iterator:
    """Its batches; an error for people arrives as such, its message the last line of a worker's."""
    try:
        yield from loader
    except LlpackError as error:
        raise LlpackError(str(error).strip().splitlines()[-1].partition(": ")[2]) from None


def normalise_weights(network: nn.Module) -> None:
    """Weight norm on every convolution, as the authors' network of 2022 has it."""
    for module in network.modules():
        # Zero weights have no direction to normalise: the detail path's last layer starts at zero.
        if isinstance(module, nn.Conv2d) and module.weight.abs().sum() > 0:
            parametrizations.weight_norm(module)


def start_without_grid(network: DetailNet) -> None:
    """The last layers begin with the same weights for each phase of a block, so no 8x8 grid is
    there to be unlearnt (after Aitken et al. 2017, "checkerboard artifact free")."""
    with torch.no_grad():
        last = network.final[2]
        colours = last.weight[:3].clone()
        last.weight.copy_(colours.repeat(last.out_channels // 3, 1, 1, 1))
        last.bias.zero_()


def train(recipe: Recipe, folder: Path, name: str) -> Path:
    """Run a recipe to its end, train the amplifier, and write the weights to ship.

    Returns the folder with model.safetensors and config.json. An interrupted run goes on where its
    last checkpoint was when it is started again with the same folder.
    """
    trainer = Trainer(recipe, folder)
    trainer.run()
    if recipe.photos:
        amplifier = train_amplifier(Path(recipe.photos))
    else:  # it looks at whole scenes of any brightness, which pairs are too few and too alike for
        amplifier = load_weights("embedded").amplifier
    last = range(max(0, recipe.steps - RANGE_BATCHES), recipe.steps)
    return export(trainer, amplifier, name, [trainer.batches[step][0] for step in last])


def export(trainer: Trainer, amplifier: nn.Module, name: str, mosaics: Iterable[torch.Tensor]) -> Path:
    """Write a run's averaged weights, an amplifier, and the ranges of the values that the network
    has on `mosaics` (see `quantised`) as a weights folder inside the run's."""
    network = DetailNet()
    tensors = trainer.averaged_weights()
    network.load_state_dict(tensors)
    ranges = activation_ranges(network, mosaics)
    tensors |= {RANGES_PREFIX + layer: limits for layer, limits in ranges.items()}
    tensors |= {AMPLIFIER_PREFIX + key: value for key, value in amplifier.state_dict().items()}
    recipe = asdict(trainer.recipe)
    sources = {
        "synthetic dark RAW from photographs, calibrated sensor noise": recipe.pop("photos"),
        "real pairs of See-in-the-Dark": recipe.pop("pairs"),
    }
    target = trainer.folder / "weights"
    save_weights(
        target,
        tensors,
        {
            "format": 1,
            "name": name,
            "architecture": "detail",
            "convention": "camera",
            "output": "sigmoid",
            "amplifier": True,
            "training": {
                "data": "; ".join(words for words, folder in sources.items() if folder),
                "steps": trainer.step,
                "hours": round(trainer.seconds / 3600, 2),
                "recipe": recipe,
            },
        },
    )
    return target
