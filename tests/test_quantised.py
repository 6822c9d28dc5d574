"""The network in 8-bit integers draws what it draws in float32; the fastest right one is taken."""

import pytest
import torch
from conftest import REPOSITORY
from test_network import random_weights

from llpack import precision
from llpack.engine import Restorer, load_restorer
from llpack.errors import LlpackError
from llpack.inference import Inference
from llpack.network import DetailNet, LLPackNet, ranged_layers
from llpack.precision import fastest_inference, inference_in
from llpack.quantised import QuantisedInference, activation_ranges
from llpack.raw import read_raw
from llpack.weights import Weights

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.onednn, "qconv_pointwise"),
    reason="this PyTorch has no 8-bit convolutions",
)


@pytest.fixture(scope="module", params=["paper", "detail"])
def network(request) -> LLPackNet:
    torch.manual_seed(3)
    network = LLPackNet() if request.param == "paper" else DetailNet()
    network.load_state_dict(random_weights(), strict=False)
    with torch.no_grad():  # noise from layer to layer grows as it never does in a trained network
        network.final[2].weight.mul_(0.1)
    if request.param == "detail":
        torch.nn.init.normal_(network.detail[-1].weight, std=0.05)
    return network.eval().requires_grad_(False)


def mosaic(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    light = torch.linspace(-0.1, 1, width) ** 3
    return light + 0.1 * torch.randn(1, 1, height, width, generator=generator)


def weights_of(network: LLPackNet, **changes) -> Weights:
    names = {"name": "random", "source": "a test", "sha256": "0" * 64, "convention": "camera"}
    return Weights(network, None, **names | changes)


@torch.inference_mode()
def difference(network: LLPackNet, x: torch.Tensor) -> torch.Tensor:
    ranges = activation_ranges(network, [x])
    return QuantisedInference(network, ranges)(x) - Inference(network)(x)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (208, 80)])
def test_the_picture_is_that_of_float32(network, size):
    off = difference(network, mosaic(*size)).std() / network(mosaic(*size)).std()
    assert 1e-4 < off < 0.04  # not the same arithmetic in disguise


def test_borders_are_as_exact_as_the_rest(network):
    """Around the frame zeros are zeros, whatever code a channel has for them."""
    off = difference(network, mosaic(192, 192)).square().mean(1)[0]
    inside = off[48:-48, 48:-48].mean()
    for border in (off[:16], off[-16:], off[:, :16], off[:, -16:]):
        assert border.mean() < 4 * inside


def test_ranges_hold_everything_that_was_seen(network):
    first, second = mosaic(64, 96, 1), 2 * mosaic(96, 64, 2)
    one, other, both = (
        activation_ranges(network, seen) for seen in ([first], [second], [first, second])
    )
    for name, channels in ranged_layers(network).items():
        assert both[name].shape == (2, channels)
        assert torch.equal(both[name][0], one[name][0].minimum(other[name][0]))
        assert torch.equal(both[name][1], one[name][1].maximum(other[name][1]))
    seen = network.before_identity(network.heads(first))[0].flatten(1)
    torch.testing.assert_close(one["RDB1.conv_1x1"][0, :64], seen.amin(1))
    torch.testing.assert_close(one["RDB1.conv_1x1"][1, :64], seen.amax(1))


@torch.inference_mode()
def test_values_out_of_range_are_cut_not_wrapped(network):
    ranges = activation_ranges(network, [mosaic(64, 64)])
    picture = QuantisedInference(network, ranges)(3 * mosaic(64, 64))
    exact = Inference(network)(3 * mosaic(64, 64))
    assert torch.corrcoef(torch.stack([picture.flatten(), exact.flatten()]))[0, 1] > 0.4


def test_strips_are_the_whole_frame(network, monkeypatch):
    from test_engine import cut_into_strips, dark_frame

    ranges = activation_ranges(network, [mosaic(256, 256)])
    restorer = Restorer(weights_of(network, ranges=ranges), "int8")
    frame = dark_frame(1286, 70)
    whole = restorer.restore(frame, 50).picture.astype(int)
    cut_into_strips(monkeypatch)
    assert abs(restorer.restore(frame, 50).picture.astype(int) - whole).max() <= 1


def test_the_fastest_is_taken_only_when_it_is_right(network, monkeypatch):
    class Other:
        name = "other"

        def __call__(self, patch):
            return self.picture

    other = Other()
    with torch.inference_mode():
        other.picture = Inference(network)(precision._test_patch())
    monkeypatch.setattr(precision, "_alternatives", lambda weights: iter([other]))
    assert fastest_inference(weights_of(network)).name == "other"
    other.picture = other.picture + 0.004
    assert fastest_inference(weights_of(network)).name == "float32"


def test_a_precision_can_be_chosen(network):
    ranges = activation_ranges(network, [mosaic(64, 64)])
    assert inference_in("float32", weights_of(network)).name == "float32"
    assert inference_in("int8", weights_of(network, ranges=ranges)).name == "int8"
    with pytest.raises(LlpackError, match="'random' cannot run in int8"):
        inference_in("int8", weights_of(network))


@pytest.mark.parametrize("weights", ["embedded", "paper"])
@pytest.mark.parametrize("name, amplification", [("room", 100), ("dogs", 200)])
def test_the_embedded_weights_lose_nothing_to_be_seen(weights, name, amplification):
    frame = read_raw(REPOSITORY / "examples" / f"{name}.dng")
    rows = slice(frame.height // 3 // 2 * 2, frame.height // 3 // 2 * 2 + 640)
    crop = type(frame)(**{**vars(frame), "mosaic": frame.mosaic[rows, :1280].copy()})
    exact, fast = (
        load_restorer(weights, precision).restore(crop, amplification).picture.astype(float)
        for precision in ("float32", "int8")
    )
    error = ((exact - fast) ** 2).mean()
    assert 0 < error < 255**2 / 10**4.8  # 48 dB
