"""scikit-learn's digits, and small scenes of them: one to three, enlarged and placed at random on a
faintly noisy ground; nearer digits are larger. `scenes.py` has larger ones, and what is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.task import Samples
from nas.task.cut import cut

Array = npt.NDArray[Any]

COUNTS = {"train": 2400, "valid": 600, "test": 600}
SIDE = 32  # pixels of a scene's side
SMALLEST, LARGEST = 12, 18  # pixels of an enlarged digit's side
MOST = 3  # digits in a scene
INK = 0.3  # a pixel belongs to a digit that is at least this bright there, of 1
NOISE = 0.05  # standard deviation of the ground, of 1
TRIES = 16  # places considered for a digit; the one of least overlap is taken
SEED = 2026
DIGITS = tuple("0123456789")


def digits() -> Samples:
    """The digits, cut as the scenes made of them are."""
    pictures, values = raw_digits()
    pairs = {split: (pictures[i], values[i]) for split, i in digit_parts().items()}
    note = "stratified 64 % train, 16 % valid, 20 % test; pixels over 16"
    return Samples("digits", pairs, "nhw", notes=(note,))


@cache
def raw_digits() -> tuple[Array, Array]:
    """Pictures (1797, 8, 8) in 0 to 1, values (1797,) int64."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images / 16, bunch.target.astype(np.int64)


@cache
def digit_parts() -> dict[str, Array]:
    """Which digits are in train (64 %), valid (16 %) and test (20 %)."""
    return cut(raw_digits()[1], 0.2, 0.2, "digits")


@dataclass(frozen=True)
class Scenes:
    """One split of scenes, before normalisation."""

    image: Array  # (n, 32, 32) float32, about 0 to 1
    owner: Array  # (n, 32, 32) int64: 0 ground, 1 + the digit's value elsewhere
    occurs: Array  # (n, 10) float32: 1 where that digit is in the scene
    source: Array  # (n, 3) int64: which of the 1,797 digits was placed, -1 for none
    place: Array  # (n, 32, 32) int8: which of the three, -1 for the ground
    near: Array  # (n, 3) float32: how far away each is


@cache
def compose(split: str) -> Scenes:
    """The scenes of a split; its digits are those the digits task has in that split."""
    pictures, values = raw_digits()
    rng = np.random.default_rng([SEED, list(COUNTS).index(split)])
    n = COUNTS[split]
    source = rng.choice(digit_parts()[split], size=(n, MOST))
    source[np.arange(MOST) >= rng.integers(1, MOST + 1, size=(n, 1))] = -1
    size = rng.integers(SMALLEST, LARGEST + 1, size=(n, MOST))
    corner = _places(size, source >= 0, rng)
    image, owner, place = _draw(pictures, values, source, corner, size)
    image += NOISE * rng.standard_normal(image.shape)
    occurs = np.zeros((n, 10), np.float32)
    scene, slot = np.nonzero(source >= 0)
    occurs[scene, values[source[scene, slot]]] = 1
    near = (LARGEST / size).astype(np.float32)
    return Scenes(image.astype(np.float32), owner, occurs, source, place, near)


def _places(
    size: Array,  # (n, 3) sides in pixels
    used: Array,  # (n, 3) bool
    rng: np.random.Generator,
) -> Array:
    """(n, 3, 2) top left corners, each the best of a few for not covering those before it."""
    n = len(size)
    corner = np.zeros((n, MOST, 2), np.int64)
    for slot in range(MOST):
        room = (SIDE - size[:, slot] + 1)[:, None, None]
        tried = rng.integers(0, room, size=(n, TRIES, 2))
        covered = np.zeros((n, TRIES))
        for before in range(slot):
            area = _overlap(tried, size[:, slot], corner[:, before], size[:, before])
            covered += area * used[:, before, None]
        corner[:, slot] = tried[np.arange(n), covered.argmin(1)]
    return corner


def _overlap(
    tried: Array,  # (n, tries, 2) corners
    side: Array,  # (n,)
    corner: Array,  # (n, 2)
    other: Array,  # (n,) side of the square at `corner`
) -> Array:
    """(n, tries) pixels shared by the tried squares and the other one."""
    start = np.maximum(tried, corner[:, None])
    end = np.minimum(tried + side[:, None, None], (corner + other[:, None])[:, None])
    shared: Array = (end - start).clip(min=0).prod(-1)
    return shared


def _stretch(
    start: Array,  # (n,) first pixel
    side: Array,  # (n,) pixels
) -> Array:
    """(n, 32, 8) bilinear weights: row p mixes the 8 samples seen at pixel p, 0 outside."""
    pixel = np.arange(SIDE) - start[:, None]
    at = ((pixel + 0.5) * 8 / side[:, None] - 0.5).clip(0, 7)
    weight = (1 - np.abs(at[:, :, None] - np.arange(8))).clip(min=0)
    inside = (pixel >= 0) & (pixel < side[:, None])
    return np.where(inside[:, :, None], weight, 0)


def _draw(
    pictures: Array, values: Array, source: Array, corner: Array, size: Array
) -> tuple[Array, Array, Array]:
    """(image, owner, place); enlarging is two matrix products, the last drawn owns a pixel."""
    image = np.zeros((len(source), SIDE, SIDE))
    owner = np.zeros(image.shape, np.int64)
    place = np.full(image.shape, -1, np.int8)
    for slot in range(MOST):
        scene = np.nonzero(source[:, slot] >= 0)[0]
        digit, side = source[scene, slot], size[scene, slot]
        rows = _stretch(corner[scene, slot, 0], side)
        columns = _stretch(corner[scene, slot, 1], side)
        drawn = rows @ pictures[digit] @ columns.transpose(0, 2, 1)
        ink = drawn >= INK
        image[scene] = np.where(ink, drawn, np.maximum(image[scene], drawn))
        owner[scene] = np.where(ink, 1 + values[digit, None, None], owner[scene])
        place[scene] = np.where(ink, slot, place[scene])
    return image, owner, place
