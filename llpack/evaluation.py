"""Evaluation: restored pictures of dark frames against their truth, beside LibRaw's alone.

A folder in the layout of See-in-the-Dark is scored by the authors' protocol; any other folder of
photos is made dark with fixed seeds, and its numbers are called synthetic.
"""

import csv
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np
import rawpy
from scipy.ndimage import convolve
from skimage.restoration import denoise_nl_means

from llpack import legibility, scenes, sheet
from llpack.engine import Restorer, load_restorer, plain_picture
from llpack.errors import LlpackError, OutputError
from llpack.files import write_picture
from llpack.metadata import Exif
from llpack.metrics import BLOCK, MAX_PIXELS_FOR_COLOUR, eight_bits, score
from llpack.scenes import Scene
from llpack.score_report import (
    AMPLIFIED,
    ESTIMATED,
    NON_LOCAL_MEANS,
    TRUE_RATIO,
    Row,
    inference_line,
    report,
)

SHEET_ROWS = 6

Pictures = dict[str, np.ndarray]  # method -> (H, W, 3) uint8
Observer = Callable[[Scene, Pictures, list[Row]], None]
Source = tuple[str, Callable[[], Iterable[Scene]]]  # name for people, and how to load its scenes


def run_evaluation(
    folder: Path,
    output: Path,
    *,
    weights: str | None = None,
    all_photos: bool = False,
    long_side: int | None = scenes.PHOTO_LONG_SIDE,
    non_local_means: bool = False,
    pictures: bool = False,
    sheet_file: Path | None = None,
    text: bool = False,
    tell: Callable[[str], None] = print,
) -> int:
    """Score a folder and write `scores.csv`, `report.md` and, for See-in-the-Dark, the authors'
    `inference.txt` to `output`; returns the exit code: 0, or 2 when a file could not be scored.

    Parameters
    ----------
    all_photos : score photos that training may have seen, too
    long_side : photos are made smaller to it; None leaves them
    non_local_means : score that filter as well (a second per megapixel)
    pictures : write all pictures to `output/pictures`
    sheet_file : write a contact sheet of 100 % crops, from the worst picture to the best
    text : also count the words that can be read on dark pages

    Raises
    ------
    LlpackError : nothing to score, unusable weights, a file that cannot be written
    """
    restorer = load_restorer(weights)
    for note in restorer.weights.notes:
        tell(note)
    sources = sid_sources(folder) or photo_sources(
        folder, only_held_out=not all_photos, long_side=long_side
    )
    readings = legibility.measure(restorer) if text else []  # first: it may lack its program
    output.mkdir(parents=True, exist_ok=True)
    collected: list[sheet.SheetRow] = []
    observers: list[Observer] = [partial(_tell_scores, tell)]
    if pictures:
        (output / "pictures").mkdir(exist_ok=True)
        observers.append(partial(_save_pictures, output / "pictures"))
    if sheet_file:
        sheet_file.parent.mkdir(parents=True, exist_ok=True)
        observers.append(partial(_collect, collected))
    with open(output / "scores.csv", "w", newline="", encoding="utf-8") as scores:
        observers.append(partial(_write_scores, scores))
        rows, failed = evaluate(
            sources, restorer, observers=observers, non_local_means=non_local_means, tell=tell
        )
    body = heading(rows, restorer, long_side) + report(rows)
    if readings:
        body += "\n" + legibility.legibility_table(readings)
    (output / "report.md").write_text(body, encoding="utf-8")
    if rows[0].set != "synthetic":
        (output / "inference.txt").write_text(inference_line(rows) + "\n", encoding="utf-8")
    if collected:
        picture = sheet.draw(sheet.spread(collected, SHEET_ROWS))
        write_picture(sheet_file, picture, Exif(), format=_format_of(sheet_file))
    tell(body)
    return 2 if failed else 0


def sid_sources(folder: Path) -> list[Source]:
    """The test pairs of a folder in See-in-the-Dark's layout; none for other folders."""
    root = scenes.sid_root(folder)
    if root is None:
        return []
    return [(pair.short.name, partial(_load, pair)) for pair in scenes.sid_test_pairs(root)]


def _load(pair: scenes.SidPair) -> list[Scene]:
    return [pair.load()]


def photo_sources(folder: Path, *, only_held_out: bool = True, **settings) -> list[Source]:
    """The photos of a folder; `settings` are those of `scenes.photo_scenes`."""
    photos = scenes.scored_photos(folder, only_held_out)
    return [(path.name, partial(scenes.photo_scenes, path, **settings)) for path in photos]


def evaluate_sid(folder: Path, restorer: Restorer) -> list[Row]:
    """Scores of the authors' test list. Raises LlpackError for a folder of another layout, and for
    the first file that cannot be read."""
    sources = sid_sources(folder)
    if not sources:
        raise LlpackError(f"{folder} has no Sony/short and Sony/long.")
    return evaluate(sources, restorer)[0]


def evaluate_photos(folder: Path, restorer: Restorer, **settings) -> list[Row]:
    """Scores of a folder's photos, made dark; see `photo_sources`. Raises LlpackError for the first
    file that cannot be read."""
    return evaluate(photo_sources(folder, **settings), restorer)[0]


def evaluate(
    sources: Iterable[Source],
    restorer: Restorer,
    *,
    observers: Iterable[Observer] = (),
    non_local_means: bool = False,
    tell: Callable[[str], None] | None = None,
) -> tuple[list[Row], int]:
    """Score all scenes; returns the rows and how many sources failed.

    tell : told why a source failed, and the rest goes on; without it the error is raised
    """
    rows: list[Row] = []
    failed = 0
    for name, load in sources:
        try:
            for scene in load():
                pictures, scored = score_scene(scene, restorer, non_local_means)
                rows += scored
                for observe in observers:
                    observe(scene, pictures, scored)
        except OutputError:
            raise
        except LlpackError as error:
            if tell is None:
                raise
            failed += 1
            tell(f"{name}: {error}")
    if not rows:
        raise LlpackError("None of the pictures could be scored.")
    return rows, failed


def score_scene(
    scene: Scene, restorer: Restorer, non_local_means: bool = False
) -> tuple[Pictures, list[Row]]:
    """A scene's pictures by every method, and their scores."""
    pictures, details = {AMPLIFIED: scene.amplified}, {}
    if non_local_means:
        pictures[NON_LOCAL_MEANS] = denoise(scene.amplified)
    chosen = {TRUE_RATIO: scene.ratio}
    if restorer.weights.amplifier is not None:
        chosen[ESTIMATED] = restorer.estimate(scene.frame)
    for method, amplification in chosen.items():
        restored = restorer.restore(scene.frame, amplification, bits=16)
        pictures[method] = eight_bits(restored.picture)
        details[method] = {
            "amplification": restored.amplification,
            "seconds": restored.stages.total,
            "peak_memory_mib": restored.peak_memory_mib,
        }
    rows = []
    for method, picture in pictures.items():
        if picture.shape != scene.truth.shape:
            raise LlpackError(
                f"The pictures of {scene.name} differ in size: "
                f"{picture.shape[1::-1]} and {scene.truth.shape[1::-1]}."
            )
        how = details.get(method, {"amplification": scene.ratio})
        rows.append(
            Row(
                set=scene.set,
                image=scene.name,
                camera=scene.camera,
                ratio=scene.ratio,
                restricted=scene.restricted,
                method=method,
                score=score(picture, scene.truth),
                **how,
            )
        )
    return pictures, rows


def denoise(picture: np.ndarray) -> np.ndarray:
    """Non-local means of scikit-image: fast mode, 5x5 patches, 6 pixels around, h = 2.5 sigma, with
    the noise estimated on the picture (uint8 in and out).

    2.5 gave the best PSNR of 0.8, 1.5, 2.5 and 4 on two photos of the training set at x100 and
    x250; the customary 0.8 hardly does anything here, for demosaiced noise is not white.
    """
    values = picture / 255
    sigma = noise_level(values)
    smooth = denoise_nl_means(
        values,
        patch_size=5,
        patch_distance=6,
        h=2.5 * sigma,
        sigma=sigma,
        fast_mode=True,
        channel_axis=-1,
    )
    return np.rint(255 * np.clip(smooth, 0, 1)).astype(np.uint8)


def noise_level(picture: np.ndarray) -> float:
    """Standard deviation of white noise on a picture (H, W, 3), mean over the channels.

    Immerkaer, "Fast noise variance estimation", CVIU 1996: a mask that is blind to planes and
    edges; the mean magnitude of a normal variable is sigma * sqrt(2 / pi).
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[:, :, None]
    response = np.abs(convolve(picture, mask))[1:-1, 1:-1].mean()
    return float(np.sqrt(np.pi / 2) * response / 6)


def heading(rows: list[Row], restorer: Restorer, long_side: int | None) -> str:
    """What the numbers are of, and how they were made."""
    weights = restorer.weights
    images = {row.image for row in rows}
    if rows[0].set == "synthetic":
        kind = "held-out photos, never trained on" if images <= scenes.HELD_OUT else "photos"
        size = f", long side at most {long_side} pixels" if long_side else ""
        source = (
            f"Synthetic: {len(images)} {kind}{size}, made dark with calibrated noise. "
            "The truth is LibRaw's rendering of the noiseless bright frame."
        )
    else:
        restricted = {row.image for row in rows if row.restricted}
        source = (
            f"See-in-the-Dark, Sony test list by the authors' rule: {len(images)} images, "
            f"{len(restricted)} restricted (complete: {scenes.SID_TEST_IMAGES} and "
            f"{scenes.SID_RESTRICTED_IMAGES}). "
            "The truth is LibRaw's rendering of the long exposure."
        )
    libraw = ".".join(map(str, rawpy.libraw_version))
    return (
        f"# Evaluation of {weights.name}\n\n{source}\n\n"
        f"Weights {weights.sha256[:16]} ({weights.source}), network in {restorer.precision}, "
        f"LibRaw {libraw}. uint8 by truncation; PSNR and SSIM of scikit-image. CIEDE2000 of pixels, "
        f"of {BLOCK}x{BLOCK} averages above {MAX_PIXELS_FOR_COLOUR / 1e6:g} MP.\n\n"
    )


def _tell_scores(tell: Callable[[str], None], scene: Scene, _: Pictures, rows: list[Row]) -> None:
    values = ", ".join(f"{row.method} {row.score.psnr:.2f} dB" for row in rows)
    tell(f"{scene.name}, {scene.camera}, x{scene.ratio:.4g}: {values}")


def _save_pictures(folder: Path, scene: Scene, pictures: Pictures, _: list[Row]) -> None:
    for method, picture in (pictures | {"truth": scene.truth}).items():
        words = f"{scene.name} {scene.camera} x{scene.ratio:.4g} {method}"
        name = "_".join(words.replace(",", "").split()) + ".jpg"
        write_picture(folder / name, picture, Exif(), format="jpg")


def _collect(
    collected: list[sheet.SheetRow], scene: Scene, pictures: Pictures, rows: list[Row]
) -> None:
    """Keep a scene's crops for the sheet."""
    restored = next(row for row in rows if row.method == TRUE_RATIO)
    columns = {
        "dark": plain_picture(scene.frame, 1.0),
        AMPLIFIED: scene.amplified,
        TRUE_RATIO: pictures[TRUE_RATIO],
        "truth": scene.truth,
    }
    label = f"{restored.group}: {scene.name}, {restored.score.psnr:.1f} dB"
    collected.append(sheet.cut(label, restored.score.psnr, columns, scene.truth))


def _write_scores(file: TextIO, _: Scene, __: Pictures, rows: list[Row]) -> None:
    """Append to the CSV, at once: what is scored stays scored when the run is stopped."""
    records = [row.record() for row in rows]
    writer = csv.DictWriter(file, records[0])
    if file.tell() == 0:
        writer.writeheader()
    writer.writerows(records)
    file.flush()


def _format_of(path: Path) -> str:
    """JPEG unless the name says PNG."""
    return "png" if path.suffix.lower() == ".png" else "jpg"
