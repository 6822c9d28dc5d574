"""LLPackNet against a reference written from the paper's tables, and Inference against both."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from llpack.inference import (
    DRAW_HALO,
    LOOK_HALO,
    TAKE_HALO,
    WIDEN_HALO,
    Features,
    Inference,
)
from llpack.network import DetailNet, LLPackNet, multiply_adds
from llpack.packing import STRIDE
from llpack.training import normalise_weights
from llpack.weights import load_weights

HEADS = ("RDBr", "RDBg1", "RDBg2", "RDBb")


def random_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of the authors' names and shapes, large enough for every layer to matter."""
    shapes = {f"{head}.weight": (64, 64, 3, 3) for head in HEADS}
    shapes |= {"before_identity.weight": (64, 256, 1, 1), "after_rdb.weight": (64, 192, 1, 1)}
    for block, channels in (("RDB1", 64), ("RDB2", 64), ("RDB3", 64), ("final.1", 16)):
        for i in range(6):
            shapes[f"{block}.dense_layers.{i}.conv.weight"] = (32, channels + 32 * i, 3, 3)
        shapes[f"{block}.conv_1x1.weight"] = (channels, channels + 192, 1, 1)
    shapes["final.2.weight"] = (192, 16, 3, 3)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(shape, generator=generator) * (2 / (shape[1] * shape[2] ** 2)) ** 0.5
        for name, shape in shapes.items()
    }
    for name in (*HEADS, "final.2"):
        outputs = len(weights[f"{name}.weight"])
        weights[f"{name}.bias"] = 0.3 * torch.randn(outputs, generator=generator)
    return weights


def reference(weights: dict[str, torch.Tensor], mosaic: torch.Tensor) -> torch.Tensor:
    """The authors' network of 2022 up to its sigmoid, for sides that are multiples of 16."""

    def conv(name, x):
        kernel = weights[f"{name}.weight"]
        return F.conv2d(x, kernel, weights.get(f"{name}.bias"), padding=kernel.shape[-1] // 2)

    def dense_block(name, x):
        features = x
        for i in range(6):
            grown = F.relu(conv(f"{name}.dense_layers.{i}.conv", features))
            features = torch.cat([features, grown], 1)
        return conv(f"{name}.conv_1x1", features) + x

    heads = []
    for name, (row, column) in zip(HEADS, [(0, 0), (0, 1), (1, 0), (1, 1)], strict=True):
        plane = mosaic[:, :, row::2, column::2]
        block = [plane[:, 0, r::8, c::8] for r in range(8) for c in range(8)]
        heads.append(F.relu(conv(name, torch.stack(block, 1))))
    identity = conv("before_identity", torch.cat(heads, 1))
    first = dense_block("RDB1", identity)
    second = dense_block("RDB2", first)
    third = dense_block("RDB3", second)
    low = conv("after_rdb", torch.cat([first, second, third], 1)) + identity
    packed = conv("final.2", dense_block("final.1", F.pixel_shuffle(low, 2)))
    picture = torch.empty(len(mosaic), 3, *mosaic.shape[2:])
    for phase in range(64):
        picture[:, :, phase // 8 :: 8, phase % 8 :: 8] = packed[:, 3 * phase : 3 * phase + 3]
    return picture


@pytest.fixture(scope="module")
def detail_net() -> DetailNet:
    """DetailNet with random weights in all its layers, the last of the detail path too."""
    network = DetailNet()
    network.load_state_dict(random_weights(), strict=False)
    torch.manual_seed(1)
    nn.init.normal_(network.detail[-1].weight, std=0.1)
    nn.init.normal_(network.detail[-1].bias, std=0.1)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(("output", "activate"), [("sigmoid", torch.sigmoid), ("relu", F.relu)])
def test_the_network_is_the_reference(output, activate):
    weights = random_weights()
    network = LLPackNet(output)
    network.load_state_dict(weights)
    mosaic = torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        drawn, expected = network(mosaic), activate(reference(weights, mosaic))
    assert expected.std() > 0.1
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=2e-4)


def test_parameters_are_the_papers():
    assert sum(p.numel() for p in LLPackNet().parameters()) == 1_169_088


def test_multiply_adds():
    """83.30 G is a sum over the table of layers; the authors state 83.46 with biases and ReLUs."""
    assert multiply_adds(LLPackNet(), 2848, 4256) == pytest.approx(83.30e9, abs=0.005e9)
    assert multiply_adds(DetailNet(), 2848, 4256) <= 112e9


def test_multiply_adds_are_those_of_a_forward_pass():
    network, counted = DetailNet(), []

    def count(conv, _, output):
        counted.append(output.numel() * conv.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 1, 66, 96))
    assert multiply_adds(network, 66, 96) == sum(counted) == multiply_adds(network, 80, 96)


@pytest.mark.parametrize("size", [(64, 64), (64, 80), (66, 70), (78, 130), (112, 64), (94, 94)])
def test_any_even_size_from_64_up(size, detail_net):
    mosaic = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        picture = detail_net(mosaic)
    assert picture.shape == (1, 3, *size)
    assert picture.isfinite().all()


def test_detail_adds_nothing_before_training():
    network = DetailNet()
    mosaic = torch.randn(2, 1, 64, 80)
    with torch.inference_mode():
        plain, detailed = network.both(mosaic)
        paper = LLPackNet()
        paper.load_state_dict(
            {key: value for key, value in network.state_dict().items() if key in paper.state_dict()}
        )
        assert torch.equal(plain, detailed)
        torch.testing.assert_close(paper(mosaic), plain)


def test_folding_weight_norm_changes_nothing():
    network, mosaic = DetailNet(), torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        before = network(mosaic)
    normalise_weights(network)
    with torch.no_grad():
        torch.testing.assert_close(network(mosaic), before)
        for parameter in network.parameters():  # as if it had been trained
            parameter.add_(0.05 * torch.randn_like(parameter))
        trained = network(mosaic)
        for name, module in network.named_modules():
            if parametrize.is_parametrized(module):
                gain, direction = module.parametrizations.weight.parameters()
                formula = gain * direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                parametrize.remove_parametrizations(module, "weight")
                torch.testing.assert_close(module.weight, formula, msg=name)
        assert torch.equal(network(mosaic), trained)
    assert network.state_dict().keys() == DetailNet().state_dict().keys()


def positive_linear(network: LLPackNet) -> Inference:
    """Nothing cancels and nothing is cut: whatever a value can reach, it does reach."""
    network.output = "relu"
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1 / parameter[0].numel() if parameter.ndim == 4 else 0)
    return Inference(network)


def reached(rows: torch.Tensor, source: int) -> set[int]:
    """Distances from grid row `source` to all others that are not zero; rows: (grid rows, ...)."""
    return {row - source for row in rows.flatten(1).any(1).nonzero()[:, 0].tolist()}


def impulse(*shape: int, source: int, side: int) -> torch.Tensor:
    """Zeros (1, C, rows, columns) but for row `source` of the grid, which is `side` rows high."""
    x = torch.zeros(1, *shape)
    x[:, :, source * side : (source + 1) * side] = 1
    return x.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def test_halos_are_the_receptive_fields():
    inference = positive_linear(LLPackNet())

    def take(rows: int, source: int) -> torch.Tensor:
        mosaic = impulse(1, rows * STRIDE, 4 * STRIDE, source=source, side=STRIDE)
        return inference.take(mosaic, slice(0, rows))

    def look(rows: int, source: int) -> torch.Tensor:
        return inference.look(impulse(64, rows, 4, source=source, side=1))

    for step, halo in ((take, TAKE_HALO), (look, LOOK_HALO)):
        source = halo + 2
        seen = step(2 * halo + 5, source)
        assert reached(seen[0].transpose(0, 1), source) == set(range(-halo, halo + 1))


@torch.inference_mode()
def test_rows_are_taken_as_from_the_whole_mosaic():
    torch.manual_seed(2)
    inference, mosaic = Inference(LLPackNet()), torch.rand(1, 1, 6 * STRIDE, 4 * STRIDE)
    whole = inference.take(mosaic, slice(0, 6))
    for own in (slice(0, 2), slice(2, 4), slice(5, 6)):
        torch.testing.assert_close(inference.take(mosaic, own), whole[:, :, own])


@torch.inference_mode()
def test_widen_halo_is_the_receptive_field():
    rows, source = 2 * WIDEN_HALO + 5, WIDEN_HALO + 2
    features = positive_linear(DetailNet()).widen(impulse(64, rows, 4, source=source, side=1))
    expected = set(range(-WIDEN_HALO, WIDEN_HALO + 1))
    for found in (features.guide, features.fused):
        assert reached(found[0].transpose(0, 1).unflatten(0, (rows, 2)), source) == expected


@pytest.mark.parametrize("kind", [LLPackNet, DetailNet])
@torch.inference_mode()
def test_draw_halo_covers_the_receptive_field(kind):
    rows, source = 2 * DRAW_HALO + 5, DRAW_HALO + 2
    inference = positive_linear(kind())
    features = Features(
        impulse(64, 2 * rows, 8, source=source, side=2),
        impulse(16, 2 * rows, 8, source=source, side=2),
    )
    mosaic = impulse(1, rows * STRIDE, 4 * STRIDE, source=source, side=STRIDE)
    texture = None
    if inference.texture_type:
        texture = torch.empty(mosaic.shape[2:], dtype=inference.texture_type)
        inference.texture(mosaic, texture)
    [drawn] = inference.draw(features, texture, rows)
    pixel_rows = drawn.permute(0, 2, 1, 3, 4).flatten(0, 1).flatten(1)
    changed = pixel_rows.any(1).nonzero()[:, 0]
    assert changed.min() < source * STRIDE and changed.max() >= (source + 1) * STRIDE
    # A strip's halo ends DRAW_HALO rows beyond its own; its first pixel row beyond is looked at, too.
    assert changed.min() > (source - DRAW_HALO) * STRIDE
    assert changed.max() < (source + DRAW_HALO + 1) * STRIDE - 1


@pytest.mark.parametrize("output", ["sigmoid", "relu"])
@torch.inference_mode()
def test_inference_is_the_papers_network(output):
    network = LLPackNet(output)
    network.load_state_dict(random_weights())
    mosaic = torch.randn(1, 1, 96, 128, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(Inference(network)(mosaic), network(mosaic), rtol=1e-4, atol=2e-4)


@torch.inference_mode()
def test_inference_is_the_detailed_network(detail_net):
    inference = Inference(detail_net)
    for size in ((96, 128), (64, 80)):
        mosaic = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(sum(size)))
        torch.testing.assert_close(inference(mosaic), detail_net(mosaic), rtol=1e-4, atol=2e-4)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no bfloat16"
)
@torch.inference_mode()
def test_half_the_bits_cost_less_than_a_code():
    network = load_weights("embedded").network
    generator = torch.Generator().manual_seed(5)
    scene = F.interpolate(torch.rand(1, 1, 8, 8, generator=generator), (128, 128), mode="bilinear")
    mosaic = scene**2 + 0.05 * torch.randn(1, 1, 128, 128, generator=generator)
    exact = network(mosaic).clamp(0, 1)
    rough = Inference(network, torch.bfloat16)(mosaic).float().clamp(0, 1)
    off = (rough - exact).abs()
    assert exact.std() > 0.05
    assert off.mean() < 1 / 255
    assert off.quantile(0.99) < 2 / 255


@torch.inference_mode()
def test_without_onednn_the_picture_is_the_same(detail_net, monkeypatch):
    inference = Inference(detail_net)
    mosaic = torch.randn(1, 1, 96, 128, generator=torch.Generator().manual_seed(5))
    picture, convolved, conv2d = inference(mosaic), [], F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *a, **k: convolved.append(0) or conv2d(*a, **k))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    torch.testing.assert_close(inference(mosaic), picture, rtol=1e-4, atol=2e-4)
    assert convolved
