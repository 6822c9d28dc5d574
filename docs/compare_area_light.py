"""What `llpack.area_light` gives: held-out photos made dark, restored without it and with it.

python docs/compare_area_light.py PHOTOS -o area_light.json

The scenes are those of `python -m llpack evaluate PHOTOS` (synthetic darkness, fixed seeds, true
ratio, the embedded weights).
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from unittest import mock

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from llpack.area_light import AreaLight  # noqa: E402
from llpack.engine import load_restorer  # noqa: E402
from llpack.metrics import eight_bits, score  # noqa: E402
from llpack.scenes import photo_scenes, scored_photos  # noqa: E402

RATIOS = (100, 250)
CORRECTION = AreaLight.correction
MEASURES = ("psnr", "ssim", "ciede2000")


def nothing(self: AreaLight, first: int, last: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In the place of `AreaLight.correction`."""
    factors, added = CORRECTION(self, first, last, side)
    return torch.ones_like(factors), torch.zeros_like(added)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()

    restorer = load_restorer("embedded")
    scores: dict[tuple, list] = {}
    for path in scored_photos(options.photos):
        for scene in photo_scenes(path, ratios=RATIOS):
            for name, correction in (("without", nothing), ("with", CORRECTION)):
                with mock.patch.object(AreaLight, "correction", correction):
                    restored = restorer.restore(scene.frame, scene.ratio, bits=16)
                found = score(eight_bits(restored.picture), scene.truth)
                scores.setdefault((scene.camera, scene.ratio, name), []).append(found)
    rows = []
    print("| camera | ratio | area light | PSNR | SSIM | CIEDE2000 |\n|---|---|---|---|---|---|")
    for (camera, ratio, name), found in scores.items():
        means = {m: statistics.fmean(getattr(one, m) for one in found) for m in MEASURES}
        rows.append({"camera": camera, "ratio": ratio, "area light": name, **means})
        values = f"{means['psnr']:.2f} | {means['ssim']:.4f} | {means['ciede2000']:.2f}"
        print(f"| {camera} | x{ratio} | {name} | {values} |")
    weights = {"weights": restorer.weights.sha256, "precision": restorer.precision}
    options.output.write_text(json.dumps({**weights, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
