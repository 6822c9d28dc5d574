"""Training goes on where it stopped, its loss falls, and what it exports is what it averaged."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from test_pairs import write_pair

from llpack.amplifier import Amplifier
from llpack.amplifier_training import dark_histogram, train_amplifier
from llpack.errors import LlpackError
from llpack.network import DetailNet
from llpack.patches import SyntheticBatches
from llpack.quantised import activation_ranges
from llpack.training import (
    Recipe,
    Trainer,
    export,
    normalise_weights,
    start_without_grid,
)
from llpack.weights import load_weights


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
    amplifier, mosaic = Amplifier(), torch.rand(1, 1, 64, 64)
    folder = export(trainer, amplifier, "mine", [mosaic])
    weights = load_weights(str(folder))
    ranges = activation_ranges(weights.network, [mosaic])
    assert all(torch.equal(weights.ranges[name], limits) for name, limits in ranges.items())
    assert (weights.name, weights.convention) == ("mine", "camera")
    expected = trainer.averaged_weights()
    for name, tensor in weights.network.state_dict().items():
        assert torch.equal(tensor, expected[name])
    shares = torch.rand(2, 63)
    assert torch.equal(weights.amplifier(shares), amplifier(shares))
    config = (folder / "config.json").read_text()
    assert json.loads(config)["training"]["recipe"]["steps"] == Recipe("").steps
    assert "somebody" not in config  # whose machine it was is nobody's business


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


def test_training_on_pairs_goes_on_to_weights(tmp_path):
    write_pair(tmp_path / "sid", "00001")
    recipe = recipe_for("", steps=2, pairs=str(tmp_path / "sid"))
    trainer = Trainer(recipe, tmp_path / "run", compiled=False)
    trainer.run()
    config = json.loads(
        (export(trainer, Amplifier(), "pairs", [torch.rand(1, 1, 64, 64)]) / "config.json").read_text()
    )
    training = config["training"]
    assert training["data"] == "real pairs of See-in-the-Dark"
    assert training["recipe"]["pair_share"] == 0.5
    assert str(tmp_path) not in json.dumps(training)


def test_a_damaged_pair_is_named_without_a_traceback(tmp_path):
    write_pair(tmp_path / "sid", "00001")
    damaged = tmp_path / "sid" / "Sony" / "short" / "00001_00_1s.ARW"
    damaged.write_bytes(b"damaged")
    recipe = recipe_for("", pairs=str(tmp_path / "sid"))
    with pytest.raises(LlpackError, match=r"^00001_00_1s\.ARW [^\n]*$"):
        Trainer(recipe, tmp_path / "run", compiled=False).run()
