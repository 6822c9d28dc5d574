"""A JPEG made of strips decodes to the same pixels as one that was encoded in one go."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from llpack import jpeg


def noisy_picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 200, height)[:, None, None] * [1, 0.6, 0.3]
    return (smooth + rng.integers(0, 56, (height, width, 3))).astype(np.uint8)


def decoded(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def in_one_go(picture: np.ndarray, quality: int, subsampling: str) -> bytes:
    options = {"outcolorspace": "YCBCR", "subsampling": subsampling}
    return imagecodecs.jpeg8_encode(picture, quality, **options)


@pytest.mark.parametrize("processors", [1, 2, 9])
@pytest.mark.parametrize("size", [(8, 8), (64, 40), (333, 70), (1001, 259)])
@pytest.mark.parametrize("quality, subsampling", [(92, "444"), (80, "420")])
def test_pixels_are_those_of_one_encoding(monkeypatch, processors, size, quality, subsampling):
    monkeypatch.setattr(jpeg, "usable_cpus", lambda: processors)
    picture = noisy_picture(*size)
    encoded = b"".join(jpeg.encode_jpeg(picture, quality, subsampling))
    expected = decoded(in_one_go(picture, quality, subsampling))
    np.testing.assert_array_equal(decoded(encoded), expected)


def restart_markers(encoded: bytes) -> list[int]:
    """Numbers of the restart markers: 0xFF in coded pixels is always followed by 0."""
    scan = encoded[encoded.index(b"\xff\xda") :]
    return [b - 0xD0 for a, b in zip(scan, scan[1:], strict=False) if a == 0xFF and 0xD0 <= b <= 0xD7]


def test_strips_are_counted_around_from_0_to_7(monkeypatch):
    monkeypatch.setattr(jpeg, "usable_cpus", lambda: 9)
    encoded = b"".join(jpeg.encode_jpeg(noisy_picture(8 * 18, 40), 92, "444"))
    assert restart_markers(encoded) == [*range(8), *range(8), 0]


def test_no_strip_is_longer_than_a_restart_interval_can_say(monkeypatch):
    monkeypatch.setattr(jpeg, "_LONGEST_INTERVAL", 12)
    picture = noisy_picture(80, 40)  # 5 units in a row, so two rows of units in a strip
    encoded = b"".join(jpeg.encode_jpeg(picture, 92, "444"))
    assert len(restart_markers(encoded)) == 4
    np.testing.assert_array_equal(decoded(encoded), decoded(in_one_go(picture, 92, "444")))


def test_a_view_of_a_larger_picture_is_encoded():
    picture = noisy_picture(100, 100)[10:90, 20:60]
    encoded = b"".join(jpeg.encode_jpeg(picture, 92, "444"))
    expected = in_one_go(np.ascontiguousarray(picture), 92, "444")
    np.testing.assert_array_equal(decoded(encoded), decoded(expected))
