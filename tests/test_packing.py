"""Pack and UnPack against the paper's loops, and padding that a CFA survives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llpack.packing import STRIDE, pack, pad_to_stride, split_cfa, unpack, unpack_order


def loop_pack(planes: torch.Tensor, factor: int) -> torch.Tensor:
    """The paper's Pack: every position in a block becomes a channel, row by row."""
    packed = [
        planes[:, plane, row::factor, column::factor]
        for plane in range(planes.shape[1])
        for row in range(factor)
        for column in range(factor)
    ]
    return torch.stack(packed, 1)


def loop_unpack(packed: torch.Tensor, factor: int) -> torch.Tensor:
    """The paper's UnPack: three channels at a time are the RGB of one position in a block."""
    batch, _, height, width = packed.shape
    picture = torch.empty(batch, 3, height * factor, width * factor)
    for row in range(factor):
        for column in range(factor):
            first = 3 * (row * factor + column)
            picture[:, :, row::factor, column::factor] = packed[:, first : first + 3]
    return picture


def one_liner_of_2020(packed: torch.Tensor) -> torch.Tensor:
    """UnPack 8x as the authors' first release has it."""
    batch, _, height, width = packed.shape
    moved = packed.reshape(-1, 8, 3, height, width).permute(2, 3, 0, 4, 1)
    return moved.reshape(batch, 3, height * 8, width * 8)


def numbered(*shape: int) -> torch.Tensor:
    """A tensor in which no two values are equal."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("channels", "factor"), [(1, 8), (4, 8), (1, 4), (2, 2)])
def test_pack_is_the_papers_loop(batch, channels, factor):
    planes = numbered(batch, channels, 3 * factor, 5 * factor)
    assert torch.equal(pack(planes, factor), loop_pack(planes, factor))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("factor", [8, 4, 2])
def test_unpack_is_the_papers_loop(batch, factor):
    packed = numbered(batch, 3 * factor**2, 3, 5)
    assert torch.equal(unpack(packed, factor), loop_unpack(packed, factor))


@pytest.mark.parametrize("batch", [1, 3])
def test_unpack_undoes_pack(batch):
    """UnPack counts colours last, Pack counts planes first: a transposition lies between them."""
    picture = numbered(batch, 3, 16, 40)
    colour_last = pack(picture).unflatten(1, (3, 64)).transpose(1, 2).flatten(1, 2)
    assert torch.equal(unpack(colour_last), picture)


def test_unpack_order_makes_unpack_a_pixel_shuffle():
    packed = numbered(2, 192, 3, 5)
    shuffled = torch.nn.functional.pixel_shuffle(packed[:, unpack_order()], 8)
    assert torch.equal(shuffled, loop_unpack(packed, 8))


def test_the_one_liner_of_2020_holds_for_one_picture():
    packed = numbered(1, 192, 3, 5)
    assert torch.equal(one_liner_of_2020(packed), loop_unpack(packed, 8))


def test_the_one_liner_of_2020_mixes_the_pictures_of_a_batch():
    """Why it is not used: of two flat pictures, black and white, it makes two striped ones."""
    packed = torch.stack([torch.zeros(192, 3, 5), torch.ones(192, 3, 5)])
    black, white = one_liner_of_2020(packed)
    assert 0 < black.mean() < 1
    assert 0 < white.mean() < 1
    assert torch.equal(unpack(packed)[0], torch.zeros(3, 24, 40))
    assert torch.equal(unpack(packed)[1], torch.ones(3, 24, 40))


def test_split_cfa_takes_the_planes_apart():
    mosaic = numbered(2, 1, 4, 6)
    planes = split_cfa(mosaic)
    for plane, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(planes[:, plane], mosaic[:, 0, row::2, column::2])


SIDES = st.one_of(st.sampled_from([64, 66, 70, 78, 80]), st.integers(1, 60).map(lambda n: 2 * n))


@settings(max_examples=60, deadline=None, database=None)
@given(SIDES, SIDES)
def test_padding_keeps_picture_and_phase(height, width):
    mosaic = torch.rand(1, 1, height, width)
    for position in range(4):  # 0 for R, 10 for G1, 20 for G2, 30 for B
        mosaic[..., position // 2 :: 2, position % 2 :: 2] += 10 * position
    padded = pad_to_stride(mosaic)
    assert all(side % STRIDE == 0 for side in padded.shape[-2:])
    assert 0 <= padded.shape[-2] - height < STRIDE
    assert 0 <= padded.shape[-1] - width < STRIDE
    assert torch.equal(padded[..., :height, :width], mosaic)
    for position, plane in enumerate(split_cfa(padded)[0]):
        assert ((plane >= 10 * position) & (plane <= 10 * position + 1)).all()


def test_padding_is_a_mirror():
    """The cell behind the edge is the one before the last: no flat border, no repeated row."""
    rows = torch.arange(66.0)[:, None].expand(66, 64)[None, None]
    padded = pad_to_stride(rows)[0, 0, :, 0].tolist()
    assert padded[64:72] == [64, 65, 62, 63, 60, 61, 58, 59]
