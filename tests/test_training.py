"""Training goes on where it stopped, its loss falls, and what it exports is what it averaged."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from llpack.amplifier import Amplifier
from llpack.amplifier_training import dark_histogram, train_amplifier
from llpack.network import DetailNet
from llpack.patches import SyntheticBatches
from llpack.rendering import render_strip
from llpack.training import (
    Recipe,
    Trainer,
    border_steps,
    display,
    export,
    normalise_weights,
    picture_loss,
    start_without_grid,
    structural_dissimilarity,
)
from llpack.weights import load_weights

MATRIX = np.array([[1.7, -0.55, -0.15], [-0.2, 1.6, -0.4], [0.0, -0.4, 1.4]], np.float32)


def scene(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth picture with an edge, (H, W, 3) uint8."""
    rows, columns = np.mgrid[:height, :width] / 20
    waves = [np.sin(rows + seed + i) * np.cos(columns - i) for i in range(3)]
    picture = 128 + 90 * np.stack(waves, -1)
    picture[:, width // 2 :] *= 0.5
    return picture.astype(np.uint8)


@pytest.fixture(autouse=True)
def one_thread():
    """On patches this small, waiting for a second thread takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(scene(96, 128, i)).save(folder / f"scene{i}.png")
    return folder


def recipe_for(photos, **changes) -> Recipe:
    tiny = {"steps": 4, "batch": 1, "patch": 64, "late_patch": 64, "warm_up": 1}
    return Recipe(str(photos), **tiny | changes)


def test_display_is_the_rendering():
    torch.manual_seed(0)
    encoded = torch.rand(2, 3, 40, 50)
    matrices = torch.from_numpy(np.stack([MATRIX, np.eye(3, dtype=np.float32)]))
    shown = display(encoded, matrices).clamp(0, 1) * 255
    for picture, one, matrix in zip(shown, encoded, matrices.numpy(), strict=True):
        rendered = render_strip(one**2, matrix).transpose(2, 0, 1)
        assert (picture - torch.from_numpy(rendered)).abs().max() <= 0.51


def test_astray_values_find_their_way_back():
    encoded = torch.tensor([-0.5, 1.5]).reshape(1, 1, 1, 2).repeat(1, 3, 1, 1).requires_grad_()
    display(encoded, torch.eye(3)[None]).sum().backward()
    assert encoded.grad.min() > 0


def test_border_steps_are_those_between_blocks_and_no_others():
    blocks = torch.rand(1, 3, 4, 5).repeat_interleave(8, 2).repeat_interleave(8, 3)
    down, right = border_steps(blocks)
    assert down.shape == (1, 3, 3, 40)
    assert right.shape == (1, 3, 32, 4)
    assert down.abs().min() > 0
    assert right.abs().min() > 0
    tile = torch.rand(1, 3, 8, 8)
    tile[..., 0], tile[..., 7] = 0.5, 0.5
    assert border_steps(tile.repeat(1, 1, 4, 5))[1].abs().max() == 0


def test_dissimilarity_is_one_minus_ssim():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 32, 32)
    assert structural_dissimilarity(picture, picture).item() == pytest.approx(0, abs=1e-6)
    assert structural_dissimilarity(picture, 1 - picture).item() > 0.5

    def by_definition(x, y):
        """Wang et al. 2004, a single scale: K1 = 0.01, K2 = 0.03, windows side by side."""
        scores = []
        for row, column in np.ndindex(x.shape[0] // 8, x.shape[1] // 8):
            window = np.s_[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            a, b = x[window], y[window]
            covariance = np.mean((a - a.mean()) * (b - b.mean()))
            light = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
            scores.append(light * (2 * covariance + 9e-4) / (a.var() + b.var() + 9e-4))
        return np.mean(scores)

    other = (picture + 0.2 * torch.rand(1, 3, 32, 32)).clamp(0, 1)
    x, y = (p[0].double().mean(0).numpy() for p in (picture, other))
    halves = [p.reshape(16, 2, 16, 2).mean((1, 3)) for p in (x, y)]
    expected = 1 - (by_definition(x, y) + by_definition(*halves)) / 2
    assert structural_dissimilarity(picture, other).item() == pytest.approx(expected, abs=1e-4)


def test_learning_rate_warms_up_and_falls():
    recipe = Recipe("", steps=1000, warm_up=100)
    rates = [recipe.learning_rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(recipe.learning_rate / 100)
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=0.05)
    assert rates[-1] == pytest.approx(recipe.last_learning_rate)
    assert np.argmax(rates) == 99
    assert (np.diff(rates[100:]) < 0).all()


def test_late_patches_are_larger_and_fewer():
    recipe = Recipe("", steps=100, batch=9)
    assert {recipe.size_at(step) for step in range(75)} == {(256, 9)}
    assert {recipe.size_at(step) for step in range(75, 100)} == {(384, 4)}


def test_a_block_starts_flat():
    network = DetailNet()
    start_without_grid(network)
    with torch.inference_mode():
        blocks = network(torch.rand(1, 1, 64, 96)).unfold(2, 8, 8).unfold(3, 8, 8)
    torch.testing.assert_close(blocks, blocks[..., :1, :1].expand_as(blocks))
    assert blocks.std() > 1e-3


def test_the_loss_falls_on_one_batch(photos, tmp_path):
    recipe = recipe_for(photos, steps=100, learning_rate=2e-3, borders=0.0)
    trainer = Trainer(recipe, tmp_path / "run", compiled=False)
    images = [scene(96, 128, i) for i in range(2)]
    batch = SyntheticBatches(images, lambda step: (64, 2), 1, seed=0)[0]
    losses = []
    for _ in range(10):
        losses.append(trainer.train_step(*batch))
        trainer.step += 1
    assert np.isfinite(losses).all()
    first, last = np.array(losses[0]), np.array(losses[-1])
    assert (last < 0.8 * first).all(), losses  # the detailed picture's and the paper's


def test_an_interrupted_run_ends_as_an_uninterrupted_one(photos, tmp_path):
    recipe = recipe_for(photos)
    whole = Trainer(recipe, tmp_path / "whole", compiled=False)
    whole.run(save_every=2)

    stopped = Trainer(recipe, tmp_path / "stopped", compiled=False)
    train_step = stopped.train_step

    def pulled_plug(*batch):
        if stopped.step == 3:
            raise KeyboardInterrupt
        return train_step(*batch)

    stopped.train_step = pulled_plug
    with pytest.raises(KeyboardInterrupt):
        stopped.run(save_every=2)
    resumed = Trainer(recipe, tmp_path / "stopped", compiled=False)
    assert resumed.step == 2
    resumed.run(save_every=2)

    assert resumed.step == whole.step == 4
    expected = whole.averaged_weights()
    for name, tensor in resumed.averaged_weights().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    log = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[-1])
    assert log["step"] == 4
    assert math.isfinite(log["detail"])
    assert json.loads((tmp_path / "whole" / "recipe.json").read_text())["steps"] == 4


def test_averaged_weights_are_the_average_folded(tmp_path):
    trainer = Trainer(Recipe(""), tmp_path, compiled=False)
    torch.manual_seed(0)
    for average in trainer.average:
        average.add_(0.05 * torch.randn_like(average))
    normed = DetailNet()
    normalise_weights(normed)
    plain = DetailNet()
    plain.load_state_dict(trainer.averaged_weights())
    mosaic = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        for parameter, average in zip(normed.parameters(), trainer.average, strict=True):
            parameter.copy_(average)
        torch.testing.assert_close(plain(mosaic), normed(mosaic))


def test_the_average_forgets_the_start(tmp_path):
    """The first step counts 1/10, the second 9/11 of the rest: (1 + n) / (10 + n) is kept."""
    trainer = Trainer(Recipe("", warm_up=1), tmp_path, compiled=False)
    batch = SyntheticBatches([scene(96, 128, 0)], lambda step: (64, 1), 1, seed=0)[0]
    names = [name for name, _ in trainer.network.named_parameters()]
    place = names.index("final.2.bias")
    before = trainer.average[place].clone()
    trainer.train_step(*batch)
    now = trainer.network.final[2].bias.detach()
    torch.testing.assert_close(trainer.average[place], 0.1 * before + 0.9 * now)


def test_exported_weights_load(tmp_path):
    trainer = Trainer(Recipe("/home/somebody/photos"), tmp_path, compiled=False)
    amplifier = Amplifier()
    folder = export(trainer, amplifier, "mine")
    weights = load_weights(str(folder))
    assert (weights.name, weights.convention) == ("mine", "camera")
    expected = trainer.averaged_weights()
    for name, tensor in weights.network.state_dict().items():
        assert torch.equal(tensor, expected[name])
    shares = torch.rand(2, 63)
    assert torch.equal(weights.amplifier(shares), amplifier(shares))
    config = (folder / "config.json").read_text()
    assert json.loads(config)["training"]["recipe"]["steps"] == 19000
    assert "somebody" not in config  # whose machine it was is nobody's business


def test_loss_is_zero_for_the_truth():
    truth = torch.rand(1, 3, 16, 16)
    eye = torch.eye(3)[None]
    encoded = torch.rand(1, 3, 16, 16)
    truth = display(encoded, eye)
    assert picture_loss(encoded, eye, truth, 0.2, 0.5, 1.0).item() == pytest.approx(0, abs=1e-5)
    assert picture_loss(encoded.flip(3), eye, truth, 0.2, 0.5, 1.0).item() > 0.1


def test_dark_histograms():
    photo = scene(300, 480, 0)
    bright, dark, same = (
        dark_histogram(photo, ratio, np.random.default_rng(0)) for ratio in (1, 300, 300)
    )
    for shares in (bright, dark):
        assert shares.shape == (63,)
        assert shares.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(dark, same)
    places = np.arange(63)
    assert (places * dark).sum() < (places * bright).sum() / 2


def test_the_amplifier_learns_how_much_light_is_missing(photos):
    amplifier = train_amplifier(photos, samples=1200, epochs=40)
    rng = np.random.default_rng(1)
    stops = np.linspace(0.5, 8, 30)
    scenes = [scene(96, 128, i % 2) for i in range(len(stops))]
    dark = zip(scenes, stops, strict=True)
    shares = np.stack([dark_histogram(photo, 2.0**stop, rng) for photo, stop in dark])
    with torch.inference_mode():
        predicted = amplifier(torch.from_numpy(shares)).numpy()
    assert np.median(np.abs(predicted - stops)) < 1
    assert not amplifier.training
