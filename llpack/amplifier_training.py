"""Training of the amplifier: how much light is missing, from the histogram of a dark mosaic.

Every photo counts as correctly exposed: its photographer chose how bright it should look. The
network sees the histogram of the whole scene, darkened by a random ratio, and learns that ratio.
"""

from pathlib import Path

import numpy as np
import torch

from llpack.amplifier import BINS, Amplifier, bin_shares
from llpack.patches import random_colour, random_noise, random_white_balance, training_photos
from llpack.sensor_noise import FULL_SCALE
from llpack.synthetic import digitise, mosaic_of, scene_light

_LONG_SIDE = 240  # pixels of a scene that are enough for its histogram
_MAX_RATIO = 600


def dark_histogram(photo: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """(63,) shares of a photo's scene taken by a random camera with 1/ratio of the light."""
    step = max(1, max(photo.shape[:2]) // _LONG_SIDE)
    rows, columns = (side // step // 2 * 2 for side in photo.shape[:2])
    small = photo[::step, ::step][:rows, :columns]  # sampled, not averaged: noise stays as it is
    light = scene_light(small, random_colour(rng))
    dn = digitise(mosaic_of(light, random_white_balance(rng)), ratio, random_noise(rng), rng)
    return bin_shares(dn / FULL_SCALE)


def train_amplifier(
    photos: Path, *, samples: int = 40_000, epochs: int = 80, seed: int = 0
) -> Amplifier:
    """Amplifier trained on random parts of all photos that are not held out."""
    rng = np.random.default_rng(seed)
    scenes = training_photos(photos)
    shares, stops = np.empty((samples, BINS), np.float32), np.empty(samples, np.float32)
    for i in range(samples):
        stops[i] = rng.uniform(0, np.log2(_MAX_RATIO))
        scene = _part(scenes[rng.integers(len(scenes))], rng)
        shares[i] = dark_histogram(scene, 2.0 ** stops[i], rng)
    return _fit(torch.from_numpy(shares), torch.from_numpy(stops), epochs, seed)


def _part(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random part of a photo with at least 60 % of either side: another way to frame it."""
    rows, columns = (int(side * rng.uniform(0.6, 1)) for side in photo.shape[:2])
    top = rng.integers(photo.shape[0] - rows + 1)
    left = rng.integers(photo.shape[1] - columns + 1)
    return photo[top : top + rows, left : left + columns]


def _fit(shares: torch.Tensor, stops: torch.Tensor, epochs: int, seed: int) -> Amplifier:
    torch.manual_seed(seed)
    amplifier = Amplifier()
    torch.nn.init.constant_(amplifier.stops.bias, stops.mean().item())
    optimiser = torch.optim.AdamW(amplifier.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(shares)).split(256):
            error = amplifier(shares[batch]) - stops[batch]
            optimiser.zero_grad()
            error.abs().mean().backward()
            optimiser.step()
        schedule.step()
    return amplifier.eval()
