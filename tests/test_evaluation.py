"""The protocol's rules on a folder in See-in-the-Dark's layout, and photos from end to end."""

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_weights import write_folder

from llpack import evaluation, scenes, score_report
from llpack.amplifier import Amplifier
from llpack.engine import Restorer, plain_picture
from llpack.errors import LlpackError, UnreadableRaw
from llpack.metrics import Score, eight_bits, psnr
from llpack.network import LLPackNet
from llpack.score_report import AMPLIFIED, ESTIMATED, NON_LOCAL_MEANS, TRUE_RATIO, Row
from llpack.synthetic import darken, write_dark
from llpack.weights import Weights

CAMERA = "Sony A7S II"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Pictures of 80x96 are too small to share among threads, which would wait for each other."""
    monkeypatch.setattr("llpack.engine.usable_cpus", lambda: 1)


def restorer(convention: str = "camera", amplifier: bool = True) -> Restorer:
    torch.manual_seed(0)
    network = LLPackNet().eval().requires_grad_(False)
    estimate = Amplifier().eval() if amplifier else None
    return Restorer(Weights(network, estimate, convention, "random", "a test", "0" * 64))


def scene_photo(height: int = 80, width: int = 96) -> np.ndarray:
    """Smooth colours with a bright square: something that a demosaic gets right."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    photo = np.stack([60 + 120 * x, 90 + 80 * y, 150 - 90 * x], -1)
    photo[20:40, 30:60] = 230
    return photo.astype(np.uint8)


def write_exposure(path, ratio: float) -> None:
    write_dark(path, darken(scene_photo(), camera=CAMERA, iso=100, ratio=ratio), CAMERA)


@pytest.fixture
def sid_folder(tmp_path):
    """Names as in the dataset; only the pairs of 10003 and 10034 are real files."""
    short, long = tmp_path / "Sony" / "short", tmp_path / "Sony" / "long"
    short.mkdir(parents=True)
    long.mkdir()
    for name in (
        "00001_00_0.1s.ARW",  # training
        "10045_00_0.1s.ARW",
        "10045_01_0.1s.ARW",  # a second frame of the same exposure
        "10172_00_0.033s.ARW",
        "10187_00_0.04s.dng",
        "20201_00_0.1s.ARW",  # validation
        "10003_00_0.1s.txt",
    ):
        (short / name).write_bytes(b"")
    for name in ("00001_00_10s", "10045_00_10s", "10172_00_10s", "10187_00_10s", "20201_00_10s"):
        (long / f"{name}.ARW").write_bytes(b"")
    (long / "10187_00_30s.ARW").write_bytes(b"")  # the first match counts
    write_exposure(short / "10003_00_0.1s.ARW", 100)
    write_exposure(short / "10003_00_0.04s.ARW", 250)
    write_exposure(short / "10034_00_0.1s.ARW", 300)
    for name in ("10003_00_10s.ARW", "10034_00_30s.ARW"):
        write_exposure(long / name, 1)
    return tmp_path


def test_sid_list_follows_the_authors_rule(sid_folder):
    pairs = scenes.sid_test_pairs(scenes.sid_root(sid_folder))
    found = [(p.short.name, p.long.name, round(p.ratio, 6), p.restricted) for p in pairs]
    assert found == [
        ("10003_00_0.04s.ARW", "10003_00_10s.ARW", 250, True),
        ("10003_00_0.1s.ARW", "10003_00_10s.ARW", 100, True),
        ("10034_00_0.1s.ARW", "10034_00_30s.ARW", 300, False),
        ("10045_00_0.1s.ARW", "10045_00_10s.ARW", 100, False),
        ("10172_00_0.033s.ARW", "10172_00_10s.ARW", 300, False),  # 303 before the cap
        ("10187_00_0.04s.dng", "10187_00_10s.ARW", 250, True),
    ]


def test_sid_folder_is_recognised_with_and_without_sony(sid_folder, tmp_path_factory):
    assert scenes.sid_root(sid_folder) == scenes.sid_root(sid_folder / "Sony")
    assert scenes.sid_root(tmp_path_factory.mktemp("photos")) is None


def test_sid_without_a_long_exposure_or_with_odd_names_is_refused(sid_folder):
    root = scenes.sid_root(sid_folder)
    odd = root / "short" / "10001_00_dark.ARW"
    odd.write_bytes(b"")
    with pytest.raises(LlpackError, match="10001_00_dark.ARW does not state"):
        scenes.sid_test_pairs(root)
    odd.unlink()
    (root / "long" / "10045_00_10s.ARW").unlink()
    with pytest.raises(LlpackError, match="no exposure of scene 10045"):
        scenes.sid_test_pairs(root)


def only_real_files(sid_folder) -> None:
    for path in sid_folder.rglob("*.*"):
        if path.is_file() and not path.stat().st_size:
            path.unlink()


@pytest.mark.parametrize("convention", ["camera", "srgb"])
def test_sid_means_are_of_all_and_of_the_aligned_scenes(sid_folder, convention):
    only_real_files(sid_folder)
    rows = evaluation.evaluate_sid(sid_folder, restorer(convention))
    scored = {row.image: row.score for row in rows if row.method == TRUE_RATIO}
    assert set(scored) == {"10003_00_0.04s", "10003_00_0.1s", "10034_00_0.1s"}
    line = score_report.inference_line(rows)
    values = {key: float(value) for key, value in (part.split(" = ") for part in line.split(", "))}
    aligned = [score for image, score in scored.items() if "10034" not in image]
    assert values == {
        "psnr_avg": pytest.approx(np.mean([s.psnr for s in scored.values()]), abs=1e-4),
        "ssim_avg": pytest.approx(np.mean([s.ssim for s in scored.values()]), abs=1e-4),
        "psnr_avg_restricted": pytest.approx(np.mean([s.psnr for s in aligned]), abs=1e-4),
        "ssim_avg_restricted": pytest.approx(np.mean([s.ssim for s in aligned]), abs=1e-4),
    }
    table = score_report.means_table(rows)
    assert f"| See-in-the-Dark, all | {TRUE_RATIO} | 3 |" in table
    assert f"| See-in-the-Dark, restricted | {TRUE_RATIO} | 2 |" in table


def test_sid_uses_the_authors_levels_whatever_the_file_says(sid_folder):
    only_real_files(sid_folder)
    path = sid_folder / "Sony" / "short" / "10003_00_0.1s.ARW"
    frame = darken(scene_photo(), camera=CAMERA, iso=100, ratio=100)
    write_dark(path, dataclasses.replace(frame, black_level=(510.0,) * 4, white_level=15360), CAMERA)
    pair = scenes.sid_test_pairs(scenes.sid_root(sid_folder))[1]
    loaded = pair.load().frame
    assert (loaded.black_level, loaded.white_level) == ((512.0,) * 4, 16383.0)


def test_damaged_sid_file_is_told_and_the_rest_is_scored(sid_folder):
    only_real_files(sid_folder)
    damaged = sid_folder / "Sony" / "short" / "10034_00_0.1s.ARW"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    told = []
    sources = evaluation.sid_sources(sid_folder)
    rows, failed = evaluation.evaluate(sources, restorer(), tell=told.append)
    assert failed == 1 and len(told) == 1 and "10034" in told[0]
    assert {row.image for row in rows} == {"10003_00_0.04s", "10003_00_0.1s"}
    with pytest.raises(UnreadableRaw):
        evaluation.evaluate_sid(sid_folder, restorer())


@pytest.mark.parametrize("camera", [camera for camera, _ in scenes.PHOTO_CAMERAS])
def test_truth_of_a_photo_is_the_photo_as_libraw_renders_it(camera):
    photo = scene_photo()
    dark = darken(photo, camera=camera, iso=800, ratio=100)
    bright = scenes.bright_frame(photo, dark, camera)
    truth = scenes.libraw_picture_of(bright, camera)
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(np.median(truth[inside].astype(int) - photo[inside], axis=(0, 1))).max() <= 2
    ours = eight_bits(plain_picture(bright, 1.0, bits=16))
    assert psnr(ours[inside], truth[inside]) > 25


def test_libraw_amplifies_by_the_ratio():
    """Without noise, a hundredth of the light amplified a hundred times is the bright picture."""
    bright = scenes.bright_frame(
        scene_photo(), darken(scene_photo(), camera=CAMERA, iso=100, ratio=2), CAMERA
    )
    light = (bright.mosaic.astype(float) - 512) / 20
    dim = dataclasses.replace(bright, mosaic=np.rint(512 + light).astype(np.uint16))
    amplified = scenes.libraw_picture_of(dim, CAMERA, brightness=20)
    assert psnr(amplified, scenes.libraw_picture_of(bright, CAMERA)) > 35


def test_only_held_out_photos_are_scored_when_there_are_any(tmp_path):
    for name in ("dogs.jpg", "trained.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in scenes.scored_photos(tmp_path)] == ["dogs.jpg"]
    assert len(scenes.scored_photos(tmp_path, only_held_out=False)) == 2
    (tmp_path / "dogs.jpg").unlink()
    assert [p.name for p in scenes.scored_photos(tmp_path)] == ["trained.png"]
    (tmp_path / "trained.png").unlink()
    with pytest.raises(LlpackError, match="neither photos"):
        scenes.scored_photos(tmp_path)


def test_scenes_do_not_depend_on_their_neighbours(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(scene_photo()).save(path)
    every = list(scenes.photo_scenes(path))
    assert len(every) == len(scenes.PHOTO_CAMERAS) * len(scenes.PHOTO_RATIOS)
    (alone,) = scenes.photo_scenes(path, cameras=(("Nikon D850", 800),), ratios=(250,))
    (same,) = (s for s in every if s.camera.startswith("Nikon") and s.ratio == 250)
    np.testing.assert_array_equal(alone.frame.mosaic, same.frame.mosaic)
    np.testing.assert_array_equal(alone.truth, same.truth)
    assert len({s.frame.mosaic.tobytes() for s in every}) == len(every)


def test_photos_are_made_smaller_to_even_sides():
    photo = np.zeros((150, 402, 3), np.uint8)
    assert scenes.shrink(photo, 200).shape == (74, 200, 3)
    assert scenes.shrink(photo, None) is photo and scenes.shrink(photo, 1000) is photo


def test_evaluation_of_photos_from_end_to_end(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.fromarray(scene_photo()).save(photos / "dogs.png")
    Image.fromarray(scene_photo()).save(photos / "trained.png")
    told = []
    code = evaluation.run_evaluation(
        photos,
        output,
        weights=str(write_folder(tmp_path / "weights")),
        pictures=True,
        non_local_means=True,
        sheet_file=tmp_path / "sheet.png",
        tell=told.append,
    )
    assert code == 0
    with open(output / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 4 and {row["image"] for row in rows} == {"dogs"}
    assert {row["method"] for row in rows} == {AMPLIFIED, NON_LOCAL_MEANS, TRUE_RATIO, ESTIMATED}
    assert all(math.isfinite(float(row["psnr"])) for row in rows)
    report = (output / "report.md").read_text()
    assert "Synthetic: 1 held-out photos" in report and told[-1] == report
    for camera, iso in scenes.PHOTO_CAMERAS:
        assert f"| synthetic, {camera} at ISO {iso}, x250 | {TRUE_RATIO} | 1 |" in report
    assert len(list((output / "pictures").iterdir())) == 9 * 5
    assert Image.open(tmp_path / "sheet.png").width > 4 * 80
    assert not (output / "inference.txt").exists()


def test_without_an_amplifier_nothing_is_estimated(tmp_path):
    Image.fromarray(scene_photo()).save(tmp_path / "a.png")
    (scene,) = scenes.photo_scenes(tmp_path / "a.png", cameras=((CAMERA, 3200),), ratios=(100,))
    _, rows = evaluation.score_scene(scene, restorer(amplifier=False))
    assert [row.method for row in rows] == [AMPLIFIED, TRUE_RATIO]


def row(amplification: float, **changes) -> Row:
    score = Score(20.0, 0.5, 21.0, 9.0, 20.0, changes.pop("a", 0.0), changes.pop("b", 0.0), True)
    values = {"set": "synthetic", "image": "i", "camera": "C", "ratio": 100.0, "restricted": True}
    return Row(**values, method=changes.pop("method", ESTIMATED), amplification=amplification,
               score=score, **changes)  # fmt: skip


def test_amplifier_error_is_the_median_in_stops():
    table = score_report.amplifier_table([row(100), row(200), row(25)])
    assert "| synthetic, all frames | 3 | 1.00 | -0.33 | 33% |" in table


def test_shadow_table_keeps_the_sign_of_a_cast():
    rows = [row(100, method=TRUE_RATIO, a=-3.0, b=1.0), row(100, method=TRUE_RATIO, a=1.0, b=2.0)]
    assert "| synthetic, C, x100 | 2 | -1.00 | +1.50 | 3.0 |" in score_report.shadow_table(rows)


def test_noise_level_finds_the_sigma_of_white_noise_on_a_slope():
    rng = np.random.default_rng(0)
    slope = np.linspace(0.2, 0.8, 200)[:, None, None] * np.ones((1, 150, 3))
    noisy = slope + rng.normal(0, 0.07, slope.shape)
    assert evaluation.noise_level(noisy) == pytest.approx(0.07, rel=0.05)


def test_non_local_means_removes_noise():
    clean = scene_photo()
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 20, clean.shape), 0, 255)
    noisy = noisy.astype(np.uint8)
    assert psnr(evaluation.denoise(noisy), clean) > psnr(noisy, clean) + 5
