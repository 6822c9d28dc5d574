"""Which design wins with equal training: trains each on the same batches, scores held-out photos.

python docs/compare_designs.py PHOTOS -o designs.json

Each design is trained by the package's own `Trainer` for the same few steps, with the same batches
and the same loss, then scored on held-out photos made dark (A7S II at ISO 3200, true ratio). The
result of a design is written as soon as it is known; the same command goes on where it stopped, to
the step. Scored is the network alone, without what the engine does to its picture afterwards.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from llpack import network, training  # noqa: E402
from llpack.amplifier import amplify  # noqa: E402
from llpack.banding import row_offsets  # noqa: E402
from llpack.metrics import score  # noqa: E402
from llpack.network import DETAIL_PACK, DETAIL_WIDTH, DetailNet, LLPackNet  # noqa: E402
from llpack.packing import pack  # noqa: E402
from llpack.rendering import orient, render_strip  # noqa: E402
from llpack.scenes import photo_scenes, scored_photos  # noqa: E402
from llpack.training import Recipe, Trainer  # noqa: E402

CAMERA, RATIOS = ("Sony A7S II", 3200), (100, 250)
SIZE = (2848, 4256)  # for which multiply-adds are counted


class PaperNet(LLPackNet):
    """The paper's network, trained on its own."""

    def both(self, mosaic: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        picture = self(mosaic)
        return picture, picture


class UnguidedNet(DetailNet):
    """A detail path that sees the mosaic alone, not what the dense blocks know."""

    def __init__(self):
        super().__init__()
        del self.guide
        self.detail[0] = torch.nn.Conv2d(DETAIL_PACK**2, DETAIL_WIDTH, 3, padding=1)

    def correction(self, mosaic: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return self.detail(pack(network.compress(mosaic), DETAIL_PACK))


# Name -> class, and the constants of `network` that it is built with.
DESIGNS: dict[str, tuple[Callable[[], LLPackNet], dict[str, int]]] = {
    "paper": (PaperNet, {}),
    "detail": (DetailNet, {}),
    "detail, no guide": (UnguidedNet, {}),
    "detail, twice as wide": (DetailNet, {"DETAIL_WIDTH": 64}),
    "detail, three times larger": (DetailNet, {"GROWTH": 72}),
}


@contextmanager
def design(name: str) -> Iterator[Callable[[], LLPackNet]]:
    """Within, `training` trains this design, and networks are built as it wants them."""
    build, constants = DESIGNS[name]
    in_network = mock.patch.dict(vars(network), constants)
    with in_network, mock.patch.object(training, "DetailNet", build):
        yield build


def try_design(name: str, recipe: Recipe, folder: Path, photos: list[Path]) -> dict:
    """Train one design and score it; everything that the table says about it."""
    if name == "paper":
        recipe = replace(recipe, paper=0.0)  # it has no second picture
    with design(name) as build:
        trainer = Trainer(recipe, folder / name.replace(", ", "-").replace(" ", "-"))
        trainer.run(save_every=50)
        trained = build().eval().requires_grad_(False)
        trained.load_state_dict(trainer.averaged_weights())
    return {
        "steps": recipe.steps,
        "patches a step": recipe.batch,
        "training seconds": round(trainer.seconds),
        "parameters": sum(p.numel() for p in trained.parameters()),
        "GMAC": round(network.multiply_adds(trained, *SIZE) / 1e9, 1),
        "photos": [path.stem for path in photos],
        "scores": {f"x{ratio}": scores_at(ratio, trained, photos) for ratio in RATIOS},
    }


@torch.inference_mode()
def scores_at(ratio: int, trained: LLPackNet, photos: list[Path]) -> dict[str, float]:
    """Means over the photos at one ratio."""
    scores = []
    for path in photos:
        (scene,) = photo_scenes(path, cameras=(CAMERA,), ratios=(ratio,))
        frame = scene.frame
        light = amplify(frame, ratio, slice(None), row_offsets=row_offsets(frame))
        encoded = trained(light)[0].clamp(0, 1)
        picture = render_strip(encoded**2, frame.camera_to_srgb)
        scores.append(score(orient(picture, frame.orientation), scene.truth))
    return {
        name: round(statistics.fmean(getattr(one, name) for one in scores), 4)
        for name in ("psnr", "ssim", "ciede2000")
    }


def table(results: dict[str, dict]) -> str:
    """Markdown, one line a design."""
    columns = ["design", "parameters", "GMAC"]
    columns += [f"{measure} x{r}" for r in RATIOS for measure in ("PSNR", "SSIM", "CIEDE2000")]
    lines = [columns, ["---"] * len(columns)]
    for name, result in results.items():
        line = [name, f"{result['parameters']:,}", f"{result['GMAC']:.1f}"]
        for scores in result["scores"].values():
            line += [f"{scores['psnr']:.2f}", f"{scores['ssim']:.4f}", f"{scores['ciede2000']:.2f}"]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON, gone on with")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=4, help="patches of 256x256 a step")
    parser.add_argument("--held-out", type=int, default=6, help="photos to score")
    options = parser.parse_args()

    held_out = scored_photos(options.photos)
    photos = held_out[:: -(-len(held_out) // options.held_out)]
    recipe = Recipe(
        str(options.photos),
        options.steps,
        options.batch,
        late_part=0.0,
        warm_up=50,
        similarity=0.3,
        colour=0.5,
    )
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for name in DESIGNS:
        if name not in results:
            print(f"{name}:", flush=True)
            results[name] = try_design(name, recipe, options.output.with_suffix(""), photos)
            options.output.write_text(json.dumps(results, indent=1))
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
