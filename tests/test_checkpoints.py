"""The authors' checkpoints of 2020 and 2022, written here in their layouts with random weights."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from llpack.amplifier import EDGES
from llpack.checkpoints import AffineAmplifier, plain_state_dict
from llpack.errors import WeightsMismatch
from llpack.network import LLPackNet
from llpack.raw import RawFrame
from llpack.weights import load_weights, save_checkpoint


class Conv(nn.Sequential):
    """2022: each convolution with weight norm, in a Sequential with its ReLU."""

    def __init__(self, inputs, outputs, size, bias):
        conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)
        super().__init__(nn.utils.weight_norm(conv))


class Layer(nn.Module):
    def __init__(self, conv, inputs):
        super().__init__()
        self.conv = conv(inputs, 32, 3, False)

    def forward(self, x):
        return torch.cat([x, F.relu(self.conv(x))], 1)


class Block(nn.Module):
    def __init__(self, conv, channels):
        super().__init__()
        self.dense_layers = nn.Sequential(*(Layer(conv, channels + 32 * i) for i in range(6)))
        self.conv_1x1 = conv(channels + 192, channels, 1, False)

    def forward(self, x):
        return x + self.conv_1x1(self.dense_layers(x))


def plain_conv(inputs, outputs, size, bias):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)


class Reference(nn.Module):
    """The authors' network, written down once more from its description."""

    def __init__(self, year):
        super().__init__()
        self.year = year
        conv = Conv if year == 2022 else plain_conv
        self.RDBr, self.RDBg1, self.RDBg2, self.RDBb = (conv(64, 64, 3, True) for _ in range(4))
        self.before_identity = conv(256, 64, 1, False)
        self.after_rdb = conv(192, 64, 1, False)
        self.RDB1, self.RDB2, self.RDB3 = (Block(conv, 64) for _ in range(3))
        self.final = nn.Sequential(nn.PixelShuffle(2), Block(conv, 16), conv(16, 192, 3, True))

    def forward(self, mosaic):
        heads = (self.RDBr, self.RDBg1, self.RDBg2, self.RDBb)
        planes = [mosaic[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        x = torch.cat(
            [F.relu(h(F.pixel_unshuffle(p, 8))) for h, p in zip(heads, planes, strict=True)], 1
        )
        x = self.before_identity(x)
        first = self.RDB1(x)
        second = self.RDB2(first)
        x = self.after_rdb(torch.cat([first, second, self.RDB3(second)], 1)) + x
        x = self.final(x)
        batch, _, h, w = x.shape
        x = x.reshape(batch, 8, 8, 3, h, w).permute(0, 3, 4, 1, 5, 2)
        x = x.reshape(batch, 3, 8 * h, 8 * w)
        return torch.sigmoid(x) if self.year == 2022 else F.relu(x)


def reference(year):
    torch.manual_seed(year)
    return Reference(year).eval()


def affine_amplifier():
    """The authors' amplifier of 2020: two layers and nothing in between."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(63, 128), nn.Linear(128, 1), nn.Threshold(0, 1e-4))
    layers[1].bias.data.fill_(40.0)
    return layers


def amplifier_state(layers):
    state = nn.Sequential(*layers[:2]).state_dict()
    return {f"amplifier.conv_post.{key}": value for key, value in state.items()}


def write(path, state, **options):
    moments = {key: torch.zeros(1) for key in state}
    checkpoint = {"model": state, "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4}]}}
    torch.save(checkpoint, path, **options)
    return path


@pytest.fixture
def of_2022(tmp_path):
    return write(tmp_path / "weights", reference(2022).state_dict())


@pytest.fixture
def of_2020(tmp_path):
    state = reference(2020).state_dict() | amplifier_state(affine_amplifier())
    return write(tmp_path / "AVG_remove_400000", state, _use_new_zipfile_serialization=False)


def frame(seed=0):
    mosaic = np.random.default_rng(seed).integers(512, 1500, (64, 96), dtype=np.uint16)
    return RawFrame(
        mosaic=mosaic, black_level=(512.0,) * 4, white_level=16383.0,
        white_balance=(2.0, 1.0, 1.5), camera_to_srgb=np.eye(3, dtype=np.float32),
        orientation=1, cfa="RGGB", exif=None, notes=(),
    )  # fmt: skip


def same_pictures(network, year):
    mosaic = torch.rand(2, 1, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(mosaic), reference(year)(mosaic), rtol=1e-4, atol=1e-5)


def test_2022_draws_the_same_pictures(of_2022):
    loaded = load_weights(str(of_2022))
    assert (loaded.convention, loaded.amplifier, loaded.name) == ("srgb", None, "llpacknet-2022")
    assert loaded.network.output == "sigmoid"
    same_pictures(loaded.network, 2022)


def test_2020_draws_the_same_pictures(of_2020):
    assert not zipfile.is_zipfile(of_2020)
    loaded = load_weights(str(of_2020))
    assert (loaded.convention, loaded.name) == ("srgb", "llpacknet-2020")
    assert loaded.network.output == "relu"
    same_pictures(loaded.network, 2020)


def test_2020_amplifies_as_the_authors_do(of_2020):
    night = frame()
    values = (night.mosaic.astype(float) - 512) / (16383 - 512)
    shares = np.histogram(values, EDGES)[0] / values.size
    expected = affine_amplifier()(torch.tensor(shares, dtype=torch.float32)).item()
    amplifier = load_weights(str(of_2020)).amplifier
    assert amplifier.estimate(night) == pytest.approx(expected, rel=1e-4)


def test_the_authors_threshold():
    amplifier = AffineAmplifier()
    nn.init.zeros_(amplifier.linear.weight)
    for bias, amplification in ((-5.0, 1e-4), (0.0, 1e-4), (3.0, 3.0)):
        nn.init.constant_(amplifier.linear.bias, bias)
        assert amplifier(torch.ones(1, 63)).item() == pytest.approx(amplification)
    nn.init.constant_(amplifier.linear.bias, -5.0)
    assert amplifier.estimate(frame()) == 1.0


def renamed(state, *pairs):
    for old, new in pairs:
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


def test_other_ways_to_write_the_same_weights():
    state = reference(2022).state_dict()
    numbered = renamed(
        state,
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    )
    parallel = {f"module.{key}": value for key, value in state.items()}
    expected = plain_state_dict({"model": state}).tensors
    assert expected.keys() == LLPackNet().state_dict().keys()
    for checkpoint in (state, {"state_dict": state}, {"model": numbered}, {"model": parallel}):
        converted = plain_state_dict(checkpoint)
        assert converted.output == "sigmoid"
        assert converted.tensors.keys() == expected.keys()
        assert all(torch.equal(converted.tensors[key], expected[key]) for key in expected)


def test_the_ablations_amplifier_is_left_out_with_a_note(tmp_path):
    shapes = {
        "conv_pre.0.weight": (16, 4, 3, 3), "conv_pre.0.bias": (16,),
        "conv_post.0.weight": (128, 16, 1, 1), "conv_post.0.bias": (128,),
        "conv_post.1.weight": (1, 128, 1, 1), "conv_post.1.bias": (1,),
    }  # fmt: skip
    amplifier = {f"amplifier.{key}": torch.zeros(shape) for key, shape in shapes.items()}
    loaded = load_weights(str(write(tmp_path / "a.pt", reference(2020).state_dict() | amplifier)))
    assert loaded.amplifier is None
    assert "ablation" in loaded.notes[0]


def test_pixelshuffle_is_refused_by_its_name(tmp_path):
    path = write(tmp_path / "AVG-vs-Pixelshuffle-relu_400000", reference(2020).state_dict())
    with pytest.raises(WeightsMismatch, match="pixel shuffle"):
        load_weights(str(path))


def test_converted_to_a_weights_folder(of_2020, tmp_path):
    save_checkpoint(tmp_path / "folder", of_2020)
    direct, converted = load_weights(str(of_2020)), load_weights(str(tmp_path / "folder"))
    assert (converted.name, converted.convention) == (direct.name, "srgb")
    same_pictures(converted.network, 2020)
    assert converted.amplifier.estimate(frame()) == direct.amplifier.estimate(frame())


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"model": {}}, "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ([1, 2], "holds no weights"),
        (without(reference(2020).state_dict(), "RDBr.bias"), r"1 missing \(RDBr.bias\)"),
        (without(reference(2022).state_dict(), "RDBr.0.weight_g"), "gain of RDBr.0.weight_v"),
        (reference(2020).state_dict() | {"extra": torch.ones(1)}, r"unexpected \(extra\)"),
        ({"amplifier.x": torch.ones(1)}, "amplifier is not one of the authors'"),
    ],
)
def test_checkpoints_of_something_else(tmp_path, checkpoint, message):
    path = tmp_path / "some.pt"
    torch.save(checkpoint, path)
    with pytest.raises(WeightsMismatch, match=message) as refusal:
        load_weights(str(path))
    assert str(path) in str(refusal.value)


class Hostile:
    def __reduce__(self):
        return (print, ("code that must never run",))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys, legacy):
    path = tmp_path / "hostile.pt"
    torch.save({"model": Hostile()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsMismatch, match="more than tensors"):
        load_weights(str(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("data", [b"", b"not a checkpoint", pickle.dumps(Hostile())])
def test_files_that_are_no_checkpoints(tmp_path, data, capsys):
    path = tmp_path / "weights"
    path.write_bytes(data)
    with pytest.raises(WeightsMismatch, match=str(path)):
        load_weights(str(path))
    assert capsys.readouterr().out == ""
