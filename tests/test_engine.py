"""A frame to a picture: the same in strips as in one piece, upright, and with a clock."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from area_formula import with_measured_light
from conftest import COLOR_MATRIX
from softening_formula import with_ramps
from tiny_weights import random_tensors
from torch import nn

from llpack import engine
from llpack.amplifier import Amplifier
from llpack.area_light import doubt
from llpack.colour import camera_to_srgb
from llpack.engine import Restorer, Stages, checked_amplification, plain_picture
from llpack.errors import LlpackError
from llpack.metadata import Exif
from llpack.network import DetailNet, LLPackNet
from llpack.packing import pad_to_stride
from llpack.raw import RawFrame
from llpack.rendering import bt709_curve, orient
from llpack.weights import Weights

BLACK, WHITE = (510.0, 512.0, 514.0, 520.0), 4095.0
WHITE_BALANCE = (2.0, 1.0, 1.5)


def dark_frame(height=96, width=128, orientation=1, seed=0) -> RawFrame:
    """A smooth scene at a fiftieth of the light, with noise, in RGGB."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / 40
    scene = 0.5 + 0.3 * np.sin(rows + seed) + 0.2 * np.cos(2 * columns)
    dn = scene * (WHITE - 512) / 50 + rng.normal(512, 4, (height, width))
    return RawFrame(
        mosaic=np.rint(dn).astype(np.uint16),
        black_level=BLACK,
        white_level=WHITE,
        white_balance=WHITE_BALANCE,
        camera_to_srgb=camera_to_srgb(np.array(COLOR_MATRIX)),
        orientation=orientation,
        cfa="RGGB",
        exif=Exif(),
    )


def amplified(frame: RawFrame, amplification: float, gains=WHITE_BALANCE) -> np.ndarray:
    """(H, W) float64: the formula, position by position, not yet clipped."""
    values = np.empty(frame.mosaic.shape)
    for position, colour in enumerate((0, 1, 1, 2)):
        cells = (slice(position // 2, None, 2), slice(position % 2, None, 2))
        black = frame.black_level[position]
        light = (frame.mosaic[cells] - black) / (frame.white_level - black)
        values[cells] = light * amplification * gains[colour]
    return values


@torch.inference_mode()
def drawn_whole(network: nn.Module, mosaic: np.ndarray) -> np.ndarray:
    """(H, W, 3): the network's answer for a whole frame."""
    answer = network(torch.from_numpy(mosaic.astype(np.float32))[None, None])
    return answer[0].permute(1, 2, 0).double().numpy()


def display_codes(camera_rgb: np.ndarray, frame: RawFrame, bits: int) -> np.ndarray:
    """Codes before rounding, float64, of linear camera RGB (H, W, 3)."""
    linear = camera_rgb.clip(0, 1) @ frame.camera_to_srgb.T.astype(np.float64)
    return (2**bits - 1) * bt709_curve(linear.clip(0, 1))


def restorer_with(network: nn.Module, **changes) -> Restorer:
    values = {"amplifier": None, "convention": "camera", "name": "random", "source": "a test"}
    return Restorer(Weights(network.eval(), sha256="0" * 64, **values | changes), "float32")


@pytest.fixture(autouse=True)
def any_machine(monkeypatch):
    """What a processor is fastest in must not decide what is compared here; and for frames this
    small, waiting for a second thread takes longer than the work."""
    monkeypatch.setattr(engine, "usable_cpus", lambda: 1)


@pytest.fixture(scope="module")
def network() -> DetailNet:
    torch.manual_seed(7)
    network = DetailNet()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    nn.init.normal_(network.detail[-1].weight, std=0.05)
    nn.init.normal_(network.final[2].weight, std=0.05)
    return network.eval().requires_grad_(False)


@pytest.fixture
def restorer(network) -> Restorer:
    return restorer_with(network)


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (66, 70), (78, 130)])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_picture_is_network_then_rendering(restorer, network, size, bits):
    frame = dark_frame(*size)
    picture = restorer.restore(frame, 50, bits=bits).picture
    # Sizes that are no multiples of 16 are padded, and the last areas have the padding's light.
    mosaic = torch.from_numpy(amplified(frame, 50).clip(-1, 2))[None, None]
    mosaic = pad_to_stride(mosaic)[0, 0].numpy()
    encoded = drawn_whole(network, mosaic)
    assert encoded.min() < 0 < 1 < encoded.max()  # the detail path goes beyond black and white
    encoded = with_ramps(encoded)
    light = with_measured_light(encoded.clip(0, 1) ** 2, mosaic, doubt(frame, 50).numpy(), 4)
    expected = display_codes(light, frame, bits)[: size[0], : size[1]]
    assert picture.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert picture.shape == expected.shape
    assert expected.std() > 0.05 * 2**bits
    # Half a code is rounding; a sixteen-bit code is 300 times finer than the eye, float32 is not.
    assert np.abs(picture - expected).max() <= (0.55 if bits == 8 else 12)


def cut_into_strips(monkeypatch):
    monkeypatch.setattr(engine, "LOOK_POSITIONS", 1)  # 36 rows of the 1/16 grid, the least
    monkeypatch.setattr(engine, "WIDEN_POSITIONS", 1)
    monkeypatch.setattr(engine, "TAKE_POSITIONS", 1)  # 4 rows
    monkeypatch.setattr(engine, "BAND_POSITIONS", 1)


@pytest.mark.parametrize("size", [(1280, 64), (1286, 70)])
def test_strips_are_the_whole_frame(network, size, monkeypatch):
    monkeypatch.setattr(engine, "usable_cpus", lambda: 2)
    restorer = restorer_with(network)
    frame = dark_frame(*size)
    whole = restorer.restore(frame, 50, bits=16).picture.astype(int)
    cut_into_strips(monkeypatch)
    looks = []
    look = restorer._inference.look
    monkeypatch.setattr(
        restorer._inference, "look", lambda mosaic: looks.append(mosaic.shape) or look(mosaic)
    )
    in_strips = restorer.restore(frame, 50, bits=16).picture.astype(int)
    assert len(looks) == 3
    off = np.abs(in_strips - whole)
    assert off.max() <= 16  # of 65535: float32's rounding, through the steep end of the curve
    assert off.mean() < 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_ends_upright(restorer, orientation, monkeypatch):
    cut_into_strips(monkeypatch)
    sensor_frame, frame = dark_frame(210, 70), dark_frame(210, 70, orientation)
    for make in (
        lambda frame: restorer.restore(frame, 50).picture,
        lambda frame: plain_picture(frame, 50),
    ):
        np.testing.assert_array_equal(make(frame), orient(make(sensor_frame), orientation))


@pytest.mark.parametrize("output", ["relu", "sigmoid"])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_authors_weights_see_and_draw_as_they_were_trained(output, bits):
    """Black cut, no white balance, nothing cut above; display values back, truncated to codes."""
    torch.manual_seed(8)
    network = LLPackNet(output)
    nn.init.normal_(network.final[2].weight, std=0.5)
    nn.init.normal_(network.final[2].bias, mean=0.4 if output == "relu" else 0, std=0.3)
    frame = dark_frame(70, 66)
    frame.mosaic[:8, :8] = 4095  # far beyond 1 when amplified
    picture = restorer_with(network, convention="srgb").restore(frame, 50, bits=bits).picture
    mosaic = amplified(frame, 50, (1, 1, 1)).clip(min=0)
    assert mosaic.max() > 40
    top = 2**bits - 1
    expected = top * drawn_whole(network, mosaic).clip(0, 1)
    assert expected.std() > 0.05 * top
    off = 0.01 if bits == 8 else 4  # float32 in another order
    assert -off < (expected - picture).min() <= (expected - picture).max() < 1 + off
    between = (expected > 1) & (expected < top - 1)
    assert (expected - picture)[between].mean() == pytest.approx(0.5, abs=0.05)  # rounded: 0


@pytest.mark.parametrize("amplification", [1, 37.5, 1000])
def test_possible_amplifications(restorer, amplification):
    restored = restorer.restore(dark_frame(64, 64), amplification)
    assert (restored.amplification, restored.amplification_source) == (amplification, "chosen")


@pytest.mark.parametrize("amplification", [0, 0.99, -5, 1000.5, float("nan"), float("inf")])
def test_impossible_amplifications(restorer, amplification):
    for attempt in (
        lambda: checked_amplification(amplification),
        lambda: restorer.restore(dark_frame(64, 64), amplification),
        lambda: plain_picture(dark_frame(64, 64), amplification),
    ):
        with pytest.raises(LlpackError, match="from 1 to 1000"):
            attempt()


def test_where_the_amplification_came_from(network):
    amplifier = Amplifier()
    nn.init.zeros_(amplifier.stops.weight)
    nn.init.constant_(amplifier.stops.bias, 5.0)
    restorer = restorer_with(network, amplifier=amplifier)
    frame = dark_frame(64, 64)
    estimated = restorer.restore(frame)
    assert estimated.amplification == pytest.approx(32)
    assert estimated.amplification_source == "estimated"
    given = restorer.restore(frame, 32, source="exposure ratio")
    assert given.amplification_source == "exposure ratio"
    np.testing.assert_array_equal(estimated.picture, given.picture)


def test_weights_that_cannot_estimate_say_so(restorer):
    with pytest.raises(LlpackError, match="'random' cannot estimate.*give a number"):
        restorer.restore(dark_frame(64, 64))


def test_stages_and_readout(restorer):
    stages = Stages()
    with stages("read"):
        pass
    restored = restorer.restore(dark_frame(), 50, stages=stages)
    assert list(restored.stages.seconds) == ["read", "amplify", "network", "render"]
    assert restored.stages.total == pytest.approx(sum(restored.stages.seconds.values()))
    assert restored.megapixels == pytest.approx(96 * 128 / 1e6)
    speed = restored.megapixels / restored.stages.total
    assert restored.megapixels_per_second == pytest.approx(speed)
    assert restored.peak_memory_mib > 50
    assert (restored.threads, restored.precision) == (1, "float32")
    labels = [label for label, _ in restored.table()]
    assert labels[:5] == ["read", "amplify", "network", "render", "total"]
    values = " ".join(value for _, value in restored.table())
    for word in ("x50 (chosen)", "float32", "random, a test", "0" * 16, "MP/s", "MiB"):
        assert word in values


def test_time_of_threads_adds_up_to_the_wall_clock():
    stages = Stages({"network": 1.0})
    stages.add_concurrent(3.0, [Stages({"network": 2.0, "render": 1.0}), Stages({"network": 3.0})])
    assert stages.seconds == pytest.approx({"network": 1 + 2.5, "render": 0.5})
    assert stages.total == pytest.approx(4)


@pytest.mark.parametrize("bits", [8, 16])
def test_plain_picture_is_a_bilinear_demosaic(bits, monkeypatch):
    """Against the textbook's interpolation, by convolution over the sites of each colour."""
    monkeypatch.setattr(engine, "PLAIN_ROWS", 32)
    frame = dark_frame(78, 66)
    mosaic = np.pad(amplified(frame, 50).clip(-1, 2), 1, mode="reflect")
    height, width = mosaic.shape
    rows, columns = np.mgrid[:height, :width]
    red, blue = (rows % 2 == 1) & (columns % 2 == 1), (rows % 2 == 0) & (columns % 2 == 0)
    camera_rgb = np.empty((frame.height, frame.width, 3))
    for colour, sites in enumerate((red, ~(red | blue), blue)):
        # Weights 1, 1/2, 1/4 over the known neighbours, divided by their sum: nearest ones first.
        sums, weights = np.zeros((2, frame.height, frame.width))
        for down, right in np.ndindex(3, 3):
            weight = 2.0 ** -(abs(down - 1) + abs(right - 1))
            window = (slice(down, down + frame.height), slice(right, right + frame.width))
            sums += weight * (mosaic * sites)[window]
            weights += weight * sites[window]
        camera_rgb[..., colour] = sums / weights
        known = sites[1:-1, 1:-1]
        camera_rgb[known, colour] = mosaic[1:-1, 1:-1][known]
    expected = display_codes(camera_rgb, frame, bits)
    picture = plain_picture(frame, 50, bits=bits)
    assert expected.std() > 0.1 * 2**bits
    assert np.abs(picture - expected).max() <= (0.51 if bits == 8 else 2)


@pytest.mark.parametrize("amplification", [1, 100])
@pytest.mark.parametrize("white_balance", [WHITE_BALANCE, (1.0, 1.3, 2.6)])
def test_clipped_highlights_end_white(amplification, white_balance):
    frame = dark_frame(64, 64)
    object.__setattr__(frame, "white_balance", white_balance)
    frame.mosaic[16:32, 16:32] = 4095
    frame.mosaic[40:56, 40:56] = 5000  # some sensors go beyond the white level that they state
    picture = plain_picture(frame, amplification)
    assert (picture[18:30, 18:30] == 255).all()
    assert (picture[42:54, 42:54] == 255).all()


def test_two_threads_get_their_own_pictures(network, monkeypatch):
    monkeypatch.setattr(engine, "usable_cpus", lambda: 2)
    restorer = restorer_with(network)
    cut_into_strips(monkeypatch)
    frames = [dark_frame(320, 64, seed=1), dark_frame(320, 96, seed=2)]
    expected = [restorer.restore(frame, 50).picture for frame in frames]
    wrong = []

    def restore_often(frame, picture):
        for _ in range(4):
            restored = restorer.restore(frame, 50).picture
            # How many threads share a sum, and so its rounding, depends on who else is at work.
            if np.abs(restored.astype(int) - picture).max() > 1:
                wrong.append(frame.width)

    threads = [
        threading.Thread(target=restore_often, args=pair) for pair in zip(frames, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_random_weights_of_the_other_tests_restore_too():
    network = DetailNet()
    tensors = random_tensors()
    network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("amplifier.")})
    assert restorer_with(network).restore(dark_frame(), 10).picture.shape == (96, 128, 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinities")
def test_usable_cpus_respects_the_affinity():
    allowed = sorted(os.sched_getaffinity(0))
    code = (
        "import json, os\n"
        "from llpack.machine import usable_cpus\n"
        "before = usable_cpus()\n"
        f"os.sched_setaffinity(0, {{{allowed[0]}}})\n"
        "print(json.dumps([before, usable_cpus()]))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = json.loads(output.stdout)
    assert 1 <= before <= len(allowed)
    assert after == 1
