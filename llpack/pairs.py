"""Training patches from real pairs: short exposures of See-in-the-Dark and the long ones beside them.

The folder is laid out as the dataset is (Sony/short, Sony/long; Chen et al., CVPR 2018). Only its
training scenes are used; the mosaic is what the engine makes of the short exposure, and the picture
is LibRaw's of the long one, as `evaluate` has it.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from llpack.amplifier import amplify
from llpack.banding import row_offsets
from llpack.errors import LlpackError
from llpack.patches import Patch, SyntheticBatches, random_jitter
from llpack.raw import RawFrame, read_raw
from llpack.rendering import bt709_curve
from llpack.scenes import SidPair, libraw_picture, sid_root, sid_training_pairs
from llpack.synthetic import LINEAR_OF_CODE

PAIRS_OPEN = 8  # pairs from which a batch is drawn
STEPS_PER_PAIR = 8  # after which the oldest of them is closed and another is opened


@dataclass(frozen=True, eq=False)
class OpenPair:
    """A decoded pair.

    frame : the short exposure, with the white balance of the long one
    row_offsets : see `banding`
    truth : (H, W, 3) uint8, the long exposure's picture in the sensor's order, not turned upright
    """

    name: str
    ratio: float
    frame: RawFrame
    row_offsets: np.ndarray
    truth: np.ndarray


class MixedBatches(SyntheticBatches):
    """Batches with a share of real patches beside synthetic ones; all are real without photos.

    Opening a pair takes two seconds, cutting a patch from it five milliseconds. So batches are drawn
    from PAIRS_OPEN pairs, one of which is replaced every STEPS_PER_PAIR steps: with four real patches
    a step, 32 from every opened pair. Which pairs these are depends on seed and step alone; a resumed
    run opens the same ones again. All pairs have had their turn after len(pairs) * STEPS_PER_PAIR
    steps, and go on in another order.

    Memory: a frame of 12 MP is kept as 24 MB of mosaic and 36 MB of picture, so about 0.5 GB in the
    one process that makes the batches, and 0.3 GB more for a moment while LibRaw renders.

    share : probability of a patch to be real, 0..1
    """

    def __init__(self, pairs: list[SidPair], share: float, photos, size_at, steps: int, seed: int):
        super().__init__(photos, size_at, steps, seed)
        self.pairs, self.share = pairs, share if photos else 1.0
        self._open = lru_cache(PAIRS_OPEN)(open_pair)

    def patch(self, step: int, size: int, rng: np.random.Generator) -> Patch:
        if rng.random() >= self.share:
            return super().patch(step, size, rng)
        place = step // STEPS_PER_PAIR + int(rng.integers(PAIRS_OPEN))
        return real_patch(self._open(self.pair_at(place)), size, rng)

    def pair_at(self, place: int) -> SidPair:
        """The pair at a place of the endless sequence: all of them, shuffled, again and again."""
        turn, index = divmod(place, len(self.pairs))
        order = np.random.default_rng((self.seed, turn, len(self.pairs))).permutation(len(self.pairs))
        return self.pairs[order[index]]


def training_pairs(folder: Path) -> list[SidPair]:
    """The pairs of a folder that may be trained on. Raises LlpackError for another layout."""
    root = sid_root(folder)
    if root is None:
        raise LlpackError(f"No pairs to train on in {folder}: it has no Sony/short and Sony/long.")
    return sid_training_pairs(root)


def open_pair(pair: SidPair) -> OpenPair:
    """Decode both files of a pair.

    Raises UnreadableRaw or UnsupportedSensor, and LlpackError when their sizes differ.
    """
    # A camera that measured its white balance in the dark may have measured another one. The truth
    # is balanced as the long exposure, and guessing the difference is nothing to be learnt.
    white_balance = read_raw(pair.long).white_balance
    frame = dataclasses.replace(pair.dark_frame(), white_balance=white_balance)
    truth = libraw_picture(pair.long, user_flip=0)
    if truth.shape[:2] != frame.mosaic.shape:
        raise LlpackError(
            f"{pair.short.name} and {pair.long.name} differ in size: "
            f"{frame.width}x{frame.height} and {truth.shape[1]}x{truth.shape[0]}."
        )
    return OpenPair(pair.short.name, pair.ratio, frame, row_offsets(frame), truth)


def real_patch(pair: OpenPair, size: int, rng: np.random.Generator) -> Patch:
    """A random square of a pair in one of its eight orientations, amplified by the exposure ratio
    or up to half a stop off, the picture made as much brighter or darker.

    size is even. Raises LlpackError when the frame is not larger than that.
    """
    flip_rows, flip_columns, transpose = (bool(coin) for coin in rng.integers(2, size=3))
    if min(pair.frame.mosaic.shape) < size + 2:
        raise LlpackError(f"{pair.name} is too small for patches of {size}x{size} pixels.")
    # A reversed line begins with what was its end: from an odd line on, it is RGGB again.
    top = 2 * int(rng.integers((pair.frame.height - size) // 2)) + flip_rows
    left = 2 * int(rng.integers((pair.frame.width - size) // 2)) + flip_columns
    columns = slice(left, left + size)
    truth = pair.truth[top : top + size, columns]

    jitter = random_jitter(rng)
    if jitter < 1 and truth.max() == 255:
        jitter = 1.0  # nobody knows how bright it really was, so how grey it would be
    light = amplify(
        pair.frame,
        pair.ratio * jitter,
        slice(top - flip_rows, top + size),
        row_offsets=pair.row_offsets,
    )
    mosaic = light[0, 0, flip_rows:, columns].numpy()
    codes = np.rint(255 * bt709_curve(np.minimum(LINEAR_OF_CODE * jitter, 1))).astype(np.uint8)
    rows_step, columns_step = (-1 if flip else 1 for flip in (flip_rows, flip_columns))
    mosaic, truth = (part[::rows_step, ::columns_step] for part in (mosaic, codes[truth]))
    if transpose:  # green keeps its places, red and blue theirs
        mosaic, truth = mosaic.T, truth.swapaxes(0, 1)
    return Patch(
        mosaic=np.ascontiguousarray(mosaic)[None],
        picture=np.ascontiguousarray(truth.transpose(2, 0, 1)),
        camera_to_srgb=pair.frame.camera_to_srgb,
    )
