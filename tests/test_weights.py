"""Weights folders: which one is read, and what is refused."""

import json

import pytest
import safetensors.torch
import torch
from tiny_weights import CONFIG, random_tensors, write_folder

from llpack import weights
from llpack.amplifier import Amplifier
from llpack.errors import MissingWeights, WeightsMismatch
from llpack.network import DetailNet, LLPackNet, ranged_layers
from llpack.weights import load_weights, save_weights


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "weights")


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    monkeypatch.delenv("LLPACK_WEIGHTS", raising=False)
    folder = write_folder(tmp_path / "embedded", seed=1, name="the-embedded-ones")
    monkeypatch.setattr(weights, "EMBEDDED", folder)
    return folder


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_saved_tensors_come_back(folder):
    loaded = load_weights(str(folder))
    assert (type(loaded.network), type(loaded.amplifier)) == (DetailNet, Amplifier)
    tensors = random_tensors()
    for key, value in loaded.network.state_dict().items():
        assert torch.equal(value, tensors[key])
    assert torch.equal(loaded.amplifier.hidden.weight, tensors["amplifier.hidden.weight"])
    assert (loaded.convention, loaded.name) == ("camera", "llpack-test")
    assert loaded.source == "folder weights"  # no path: visitors of the page see it


def test_the_network_is_ready_to_use(folder):
    network = load_weights(str(folder)).network
    assert not network.training
    assert not any(p.requires_grad or p.is_meta for p in network.parameters())
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 64, 64)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    tensors = random_tensors()
    save_weights(tmp_path / "a", tensors, CONFIG)
    save_weights(tmp_path / "b", dict(reversed(tensors.items())), CONFIG)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_embedded_by_default(embedded):
    assert load_weights().source == load_weights("embedded").source == "embedded"
    assert load_weights().name == "the-embedded-ones"


def test_paper_is_the_embedded_file_without_the_detail_path(embedded):
    paper, detail = load_weights("paper"), load_weights()
    assert type(paper.network) is LLPackNet
    assert (paper.name, paper.sha256) == ("llpack-paper", detail.sha256)
    mosaic = torch.rand(1, 1, 64, 64)
    assert torch.equal(paper.network(mosaic), detail.network.both(mosaic)[0])
    assert paper.amplifier is not None


def test_paper_of_weights_that_are_the_papers_already(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "p", architecture="paper", output="relu")
    monkeypatch.setattr(weights, "EMBEDDED", folder)
    paper = load_weights("paper")
    assert (paper.name, paper.network.output) == ("llpack-test", "relu")


def test_the_variable_names_a_path(folder, embedded, monkeypatch):
    monkeypatch.setenv("LLPACK_WEIGHTS", str(folder))
    assert load_weights().name == "llpack-test"
    assert load_weights("embedded").name == "the-embedded-ones"


def test_a_file_is_read_with_the_config_beside_it(folder):
    file = (folder / "model.safetensors").rename(folder / "other.safetensors")
    loaded = load_weights(str(file))
    assert (loaded.name, loaded.source) == ("llpack-test", "file other.safetensors")


def test_an_existing_path_wins_over_a_name_on_the_hub(tmp_path, monkeypatch):
    write_folder(tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert load_weights("owner/name").source == "folder name"
    monkeypatch.chdir("owner/name")
    assert load_weights(".").source == "folder name"


@pytest.mark.parametrize(
    "spec",
    ["/no/such/folder", "./nothing", "night.safetensors", "a/b.pt", "a/b/c", "~", "x" * 5000, "\0"],
)
def test_missing_paths(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingWeights):
        load_weights(spec)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_file_in_a_folder(folder, name):
    (folder / name).unlink()
    with pytest.raises(MissingWeights, match=f"{folder}/{name} is missing"):
        load_weights(str(folder))


def test_damaged_file(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsMismatch, match=f"{file} is damaged"):
        load_weights(str(folder))


def replace_tensors(folder, tensors):
    save_weights(folder, tensors, CONFIG)


def test_missing_and_unexpected_tensors(folder):
    tensors = random_tensors()
    tensors["RDBx.weight"] = tensors.pop("RDBr.weight")
    replace_tensors(folder, tensors)
    message = r"1 missing \(RDBr.weight\); 1 unexpected \(RDBx.weight\)"
    with pytest.raises(WeightsMismatch, match=message):
        load_weights(str(folder))


def test_wrong_shape(folder):
    replace_tensors(folder, random_tensors() | {"RDBr.bias": torch.zeros(63)})
    message = r"RDBr.bias is float32 \(63,\) instead of float32 \(64,\)"
    with pytest.raises(WeightsMismatch, match=message):
        load_weights(str(folder))


def test_wrong_type(folder):
    tensors = random_tensors()
    replace_tensors(folder, tensors | {"RDBr.bias": tensors["RDBr.bias"].half()})
    with pytest.raises(WeightsMismatch, match="RDBr.bias is float16"):
        load_weights(str(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": True},
        {"architecture": "unet"},
        {"convention": None},
        {"output": "tanh"},
        {"output": "relu"},  # not with the detail path
        {"amplifier": 1},
        {"name": 7},
        {"sha256": None},
    ],
)
def test_config_of_another_kind(folder, changes):
    rewrite_config(folder, **changes)
    with pytest.raises(WeightsMismatch, match=f"{folder}/config.json"):
        load_weights(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_config_that_is_none(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(WeightsMismatch, match=f"{folder}/config.json"):
        load_weights(str(folder))


def test_a_pickle_in_disguise(folder):
    file = folder / "model.safetensors"
    torch.save(random_tensors(), file)
    rewrite_config(folder, sha256=weights.hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(WeightsMismatch, match="not a safetensors file"):
        load_weights(str(folder))


def test_a_huge_file_is_not_read(folder):
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(weights.MAX_BYTES + 1)  # sparse
    with pytest.raises(WeightsMismatch, match="far larger"):
        load_weights(str(folder))


def test_only_tensors_are_in_the_file(folder):
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert stored.keys() == random_tensors().keys()


def with_ranges(folder, **changes):
    """The folder's weights with ranges; `changes` replace some, None removes one."""
    tensors = random_tensors()
    ranges = {name: torch.rand(2, n) for name, n in ranged_layers(DetailNet()).items()} | changes
    tensors |= {f"ranges.{name}": limits for name, limits in ranges.items() if limits is not None}
    save_weights(folder, tensors, CONFIG)
    return ranges


def test_ranges_come_back_and_are_not_needed(folder):
    assert load_weights(str(folder)).ranges is None
    ranges = with_ranges(folder)
    loaded = load_weights(str(folder)).ranges
    assert loaded.keys() == ranges.keys()
    assert all(torch.equal(loaded[name], ranges[name]) for name in ranges)


def test_the_papers_network_has_its_share_of_the_ranges(embedded):
    with_ranges(embedded)
    assert load_weights("paper").ranges.keys() == ranged_layers(LLPackNet()).keys()


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"detail.2": None}, "1 missing .ranges.detail.2"),
        ({"final.2": torch.rand(2, 3)}, r"ranges.final.2 is float32 \(2, 3\) instead"),
        ({"final.2": torch.full((2, 16), torch.nan)}, "ranges that are not numbers"),
        ({"more": torch.rand(2, 3)}, "1 unexpected .ranges.more"),
    ],
)
def test_odd_ranges_are_refused(folder, changes, complaint):
    with_ranges(folder, **changes)
    with pytest.raises(WeightsMismatch, match=complaint):
        load_weights(str(folder))
