"""Training of the network, resumable to the step.

Recipe: loss between pictures as displayed (never in linear light), L1 plus structural similarity;
both pictures that `DetailNet` gives, the paper's and the detailed one, are trained at once, so that
one run yields both networks. AdamW, cosine schedule, weight norm while training only, exponential
moving average of the weights, larger patches in the last part.
"""

import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils.data import DataLoader

from llpack.amplifier_training import train_amplifier
from llpack.network import DetailNet
from llpack.packing import PACK
from llpack.patches import SyntheticBatches, training_photos
from llpack.rendering import bt709_curve
from llpack.weights import save_weights

# torch.compile calls the C++ compiler that CXX names, by default g++.
HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None


@dataclass(frozen=True)
class Recipe:
    photos: str
    steps: int = 19000
    batch: int = 8
    patch: int = 256  # mosaic pixels a side
    late_patch: int = 384  # in the last `late_part` of the steps, as many pixels a batch as before
    late_part: float = 0.25
    learning_rate: float = 1e-3
    last_learning_rate: float = 1e-6
    warm_up: int = 300
    similarity: float = 0.2  # weight of 1 - SSIM beside L1
    colour: float = 0.5  # weight of the colour difference beside L1
    borders: float = 1.0  # weight of the steps between blocks of pixels
    paper: float = 0.5  # weight of the paper's own picture beside the detailed one
    ema: float = 0.999
    seed: int = 0

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


def display(encoded: torch.Tensor, camera_to_srgb: torch.Tensor) -> torch.Tensor:
    """The network's output (B, 3, H, W) as it will be displayed: differentiable rendering.

    Same formulas as `rendering`; outside of 0..1 a tenth of the slope is left, so that a value
    that went astray finds its way back.
    """
    encoded = _leaky_unit(encoded)
    linear = torch.einsum("bij,bjhw->bihw", camera_to_srgb, encoded * encoded.abs())
    linear = _leaky_unit(linear)
    return bt709_curve(linear)


def _leaky_unit(x: torch.Tensor) -> torch.Tensor:
    return torch.lerp(x.clamp(0, 1), x, 0.1)


def structural_dissimilarity(picture: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - SSIM of the grey pictures in windows side by side, mean of full and half scale.

    Wang et al. 2004 with uniform 8x8 windows. Overlapping windows, as scores use them, cost many
    times more and train the same.
    """
    picture, truth = picture.mean(1, keepdim=True), truth.mean(1, keepdim=True)
    total = 0
    for _ in range(2):
        mean_p, mean_t = F.avg_pool2d(picture, 8), F.avg_pool2d(truth, 8)
        variance_p = F.avg_pool2d(picture**2, 8) - mean_p**2
        variance_t = F.avg_pool2d(truth**2, 8) - mean_t**2
        covariance = F.avg_pool2d(picture * truth, 8) - mean_p * mean_t
        luminance = (2 * mean_p * mean_t + 1e-4) / (mean_p**2 + mean_t**2 + 1e-4)
        structure = (2 * covariance + 9e-4) / (variance_p + variance_t + 9e-4)
        total = total + 1 - (luminance * structure).mean()
        picture, truth = F.avg_pool2d(picture, 2), F.avg_pool2d(truth, 2)
    return total / 2


def colour_difference(picture: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean colour difference of two displayed pictures in hundredths: CIE94, with CIEDE2000's
    lesser weight of lightness in deep shadows and highlights and greater one of near-neutral a*.

    L1 hardly sees a faint cast in the shadows; the eye does.
    """
    (light_p, a_p, b_p), (light_t, a_t, b_t) = _lab(picture), _lab(truth)
    chroma = (a_t**2 + b_t**2).sqrt()
    off_middle = (light_t - 50) ** 2
    lightness = (light_p - light_t) / (1 + 0.015 * off_middle * (20 + off_middle).rsqrt())
    redness = 1.3 * (a_p - a_t) / (1 + 0.045 * chroma)
    yellowness = (b_p - b_t) / (1 + 0.045 * chroma)
    # Half a unit is not seen, and keeps the root's slope finite.
    difference = (lightness**2 + redness**2 + yellowness**2 + 0.25).sqrt() - 0.5
    return difference.mean() / 100


def _lab(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CIELAB of (B, 3, H, W) display sRGB, D65; (B, H, W) each."""
    low, linear = picture / 12.92, ((picture.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    r, g, b = torch.where(picture > 0.04045, linear, low).unbind(1)
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883
    x, y, z = (
        torch.where(v > 0.008856, v.clamp(min=0.008856) ** (1 / 3), 7.787 * v + 16 / 116)
        for v in (x, y, z)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def border_steps(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences of the pixels on either side of every border between UnPack's blocks."""
    down = picture[..., PACK::PACK, :] - picture[..., PACK - 1 : -1 : PACK, :]
    right = picture[..., PACK::PACK] - picture[..., PACK - 1 : -1 : PACK]
    return down, right


def picture_loss(
    encoded: torch.Tensor,
    camera_to_srgb: torch.Tensor,
    truth: torch.Tensor,
    similarity: float,
    colour: float,
    borders: float,
) -> torch.Tensor:
    """Loss of the network's output against the picture (0..1) that it should become.

    Each block of pixels is drawn from features of its own, which noise makes differ from the
    neighbours'; plain L1 leaves faint steps between blocks, so these count once more.
    """
    picture = display(encoded, camera_to_srgb)
    steps = zip(border_steps(picture), border_steps(truth), strict=True)
    return (
        F.l1_loss(picture, truth)
        + similarity * structural_dissimilarity(picture, truth)
        + colour * colour_difference(picture, truth)
        + borders * sum(F.l1_loss(*pair) for pair in steps)
    )


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

    def run(self, save_every: int = 250, log_every: int = 50) -> None:
        recipe = self.recipe
        batches = SyntheticBatches(
            training_photos(recipe.photos), recipe.size_at, recipe.steps, recipe.seed
        )
        remaining = range(self.step, recipe.steps)
        loader = DataLoader(
            batches, batch_size=None, sampler=remaining, num_workers=1, prefetch_factor=6
        )
        started, sums, patches = time.monotonic(), [0.0, 0.0], 0
        for batch in loader:
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
    return export(trainer, train_amplifier(Path(recipe.photos)), name)


def export(trainer: Trainer, amplifier: nn.Module, name: str) -> Path:
    """Write a run's averaged weights and an amplifier as a weights folder inside the run's."""
    tensors = trainer.averaged_weights()
    tensors |= {f"amplifier.{key}": value for key, value in amplifier.state_dict().items()}
    recipe = {key: value for key, value in asdict(trainer.recipe).items() if key != "photos"}
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
                "data": "synthetic dark RAW from photographs, calibrated sensor noise",
                "steps": trainer.step,
                "hours": round(trainer.seconds / 3600, 2),
                "recipe": recipe,
            },
        },
    )
    return target
