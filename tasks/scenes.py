"""Scenes, and what may be asked of one: which things occur (labels), what each pixel belongs to
(pixels), where they are (boxes), how far away each pixel is (surface), how many they are (numbers).

All tasks of a size get the very same x, so that one pass of a trunk serves all. At 32 pixels scenes
are those of `digits.py`. Larger ones are in colours on textured grounds: up to five things of any
size, the farther the smaller, which hide parts of each other, under noise. They are made of digits,
or of what a folder holds as Fashion-MNIST does, and of each split's own; made once and kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.journal import JSON
from nas.task import Samples
from nas.task.cut import cut
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.source import read_path
from nas.task.store import new_array, stored
from nas.user_code import user_attribute

Array = npt.NDArray[Any]

COUNTS = {"train": 4000, "valid": 1000, "test": 1000}
SIZES = (32, 64, 96)  # pixels of a scene's side
MOST = 5  # things in a scene
NEAREST, FARTHEST, BEHIND = 1.0, 3.0, 4.0  # distances of things, and of the ground at the top
SIDE = 0.55  # of a thing at distance 1, in sides of the scene
INK = 0.35  # a pixel belongs to a thing that is at least this bright there, of 1
HIDDEN = 0.6  # of a thing at most, by those before it
WAVES = 6  # of a ground's texture
TRIES = 8  # places considered for a thing
SEED = 2026
TARGETS = ("labels", "pixels", "boxes", "surface", "numbers")


def scenes(target: str = "labels", size: int = 32, folder: str = "") -> Samples:
    """The scenes of a size with what is asked of them. folder: of pictures by class, or as
    Fashion-MNIST is published, of which scenes of 64 and 96 pixels are made in place of digits."""
    if target not in TARGETS or size not in SIZES:
        raise TaskError(
            f"scenes: target {target!r} and size {size}: targets are {', '.join(TARGETS)}, sizes "
            f"{', '.join(map(str, SIZES))}"
        )
    if size == SIZES[0]:
        if folder:
            raise TaskError("scenes: those of 32 pixels are of digits: say size = 64 with a folder")
        parts, classes = _small(), tuple("0123456789")
    else:
        parts, classes = _kept(size, folder)
    pairs = {split: (part.x, part.asked(target, len(classes))) for split, part in parts.items()}
    named = {"pixels": ("background", *classes), "surface": ("distance",), "numbers": ("things",)}
    note = "scenes of each split are composed of that split's own pictures"
    layout = "nhw" if size == SIZES[0] else "nhwc"
    return Samples("scenes", pairs, layout, named.get(target, classes), (note,), target=target)


@dataclass(frozen=True)
class Part:
    """One split of scenes."""

    x: Array  # (n, size, size), or with three colours last
    place: Array  # (n, size, size) int8: which thing each pixel belongs to, -1 for the ground
    kinds: Array  # (n, most) class of each thing, -1 for none
    near: Array  # (n, most) float32: how far away it is

    def asked(self, target: str, classes: int) -> Array:
        """What is to be said of each scene."""
        there = self._there()
        if target == "numbers":
            return there.sum(1)
        if target == "labels":
            occurs = np.zeros((len(there), classes), np.int64)
            scene, thing = np.nonzero(there)
            occurs[scene, self.kinds[scene, thing]] = 1
            return occurs
        if target == "boxes":
            return self._boxes(there)
        values = np.concatenate([self.kinds, np.full((len(there), 1), -1)], 1)
        scene = np.arange(len(there))[:, None, None]
        if target == "pixels":
            return (values[scene, self.place] + 1).astype(np.int64)
        down = np.linspace(0, 1, self.place.shape[1])[None, :, None]
        ground = np.broadcast_to(BEHIND - down, self.place.shape)
        distance = self.near[scene, np.maximum(self.place, 0)]
        return np.where(self.place >= 0, distance, ground).astype(np.float32)

    def _there(self) -> Array:
        """(n, most) bool: of which things something is seen."""
        seen = [(self.place == thing).any((1, 2)) for thing in range(self.kinds.shape[1])]
        there: Array = np.stack(seen, 1) & (self.kinds >= 0)
        return there

    def _boxes(self, there: Array) -> Array:
        """(n, most, 5) class, left, top, right and bottom of what is seen of each thing."""
        boxes = np.full((*self.kinds.shape, 5), -1.0, np.float32)
        for thing in range(self.kinds.shape[1]):
            mine = self.place == thing
            rows, columns = mine.any(2), mine.any(1)
            sides = [columns.argmax(1), rows.argmax(1)]
            sides += [f.shape[1] - f[:, ::-1].argmax(1) for f in (columns, rows)]
            some = there[:, thing]
            boxes[some, thing, 0] = self.kinds[some, thing]
            boxes[some, thing, 1:] = np.stack(sides, 1)[some]
        return boxes


def _small() -> dict[str, Part]:
    """Those of 32 pixels."""
    file = Path(__file__).with_name("digits.py")
    compose, counts = (user_attribute(f"{file}:{name}") for name in ("compose", "COUNTS"))
    _, values = user_attribute(f"{file}:raw_digits")()
    parts = {}
    for split in counts:
        made = compose(split)
        kinds = np.where(made.source >= 0, values[made.source], -1)
        parts[split] = Part(made.image, made.place, kinds, made.near)
    return parts


def _kept(size: int, folder: str) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Larger ones, from where they are kept; and the names of their classes."""
    pictures, classes = _pictures(folder)
    text = f"{Path(__file__).read_bytes()!r} {size} {_digest(pictures)}"
    key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    store = stored(key, f"scenes of {size} pixels", partial(_make, size, pictures))
    parts = {
        split: Part(*(store.array(f"{split}_{name}") for name in Part.__dataclass_fields__))
        for split in COUNTS
    }
    return parts, classes


def _pictures(folder: str) -> tuple[dict[str, tuple[Array, Array]], tuple[str, ...]]:
    """(pictures in 0 to 1, class numbers) by split, and the classes' names."""
    if not folder:
        file = Path(__file__).with_name("digits.py")
        x, y = user_attribute(f"{file}:raw_digits")()
        parts = user_attribute(f"{file}:digit_parts")()
        return {split: (x[at], y[at]) for split, at in parts.items()}, tuple("0123456789")
    samples = read_path(Path(folder), Options())
    names = samples.classes or tuple(map(str, np.unique(samples.pairs["train"][1]).tolist()))
    pairs = {
        split: (_grey(x), np.searchsorted(np.unique(samples.pairs["train"][1]), y))
        for split, (x, y) in samples.pairs.items()
    }
    x, y = pairs["train"]
    missing = [0.0 if split in pairs else 0.2 for split in ("test", "valid")]
    at = cut(y, *missing, folder)
    cuts = {split: (x[i], y[i]) for split, i in at.items() if len(i)}
    return {**cuts, **{s: pair for s, pair in pairs.items() if s != "train"}}, names


def _grey(x: Array) -> Array:
    """(n, height, width) in 0 to 1."""
    values = x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1)
    return values.mean(-1) if values.ndim == 4 else values


def _digest(pictures: Mapping[str, tuple[Array, Array]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for split in sorted(pictures):
        for array in pictures[split]:
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _make(
    size: int, pictures: Mapping[str, tuple[Array, Array]], folder: Path
) -> Mapping[str, JSON]:
    """Write every split's scenes into a folder."""
    for number, (split, n) in enumerate(COUNTS.items()):
        x = new_array(folder, f"{split}_x", "uint8", (n, size, size, 3))
        place = new_array(folder, f"{split}_place", "int8", (n, size, size))
        kinds = new_array(folder, f"{split}_kinds", "int64", (n, MOST))
        near = new_array(folder, f"{split}_near", "float32", (n, MOST))
        for i in range(n):
            rng = np.random.default_rng([SEED, size, number, i])
            x[i], place[i], kinds[i], near[i] = _scene(size, *pictures[split], rng)
        for array in (x, place, kinds, near):
            array.flush()
    return {}


def _scene(
    size: int, pictures: Array, values: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """A scene: (size, size, 3) bytes, which thing each pixel belongs to, their classes and
    distances, those far away first."""
    image, place = _ground(size, rng), np.full((size, size), -1, np.int8)
    kinds, near = np.full(MOST, -1), np.full(MOST, BEHIND, np.float32)
    whole = np.zeros(MOST)
    count = rng.integers(1, MOST + 1)
    near[:count] = np.sort(rng.uniform(NEAREST, FARTHEST, count))[::-1]
    for thing in range(count):
        at = rng.integers(len(pictures))
        side = round(size * SIDE / near[thing] * rng.uniform(0.85, 1.15))
        drawn = _resized(pictures[at], side)
        ink, colour = drawn >= INK, rng.uniform(0, 1, 3)
        for _ in range(TRIES):
            top, left = rng.integers(0, size - side + 1, 2)
            window = np.s_[top : top + side, left : left + side]
            after = place.copy()
            after[window][ink] = thing
            seen = np.array([(after == other).sum() for other in range(thing)])
            if (seen >= (1 - HIDDEN) * whole[:thing]).all() and ink.any():
                break
        else:
            continue
        ground = image[window].mean((0, 1))
        colour = np.where(np.abs(colour - ground).max() < 0.35, (ground + 0.5) % 1, colour)
        opaque = drawn.clip(0, 1)[..., None]
        image[window] = image[window] * (1 - opaque) + colour * opaque
        place, kinds[thing], whole[thing] = after, values[at], ink.sum()
    noisy = image + rng.uniform(0.02, 0.08) * rng.standard_normal(image.shape)
    return (noisy.clip(0, 1) * 255).round().astype(np.uint8), place, kinds, near


def _ground(size: int, rng: np.random.Generator) -> Array:
    """(size, size, 3) a colour, and waves of others across it."""
    across = np.linspace(0, 1, size)
    image = np.broadcast_to(rng.uniform(0.2, 0.8, 3), (size, size, 3)).copy()
    for _ in range(WAVES):
        down, right = rng.uniform(-6, 6, 2)
        wave = np.cos(2 * np.pi * (down * across[:, None] + right * across) + rng.uniform(0, 7))
        image += wave[..., None] * rng.normal(0, 0.05, 3)
    return image.clip(0, 1)


def _resized(picture: Array, side: int) -> Array:
    """A picture as a square of so many pixels, bilinear."""

    def weights(n: int) -> Array:
        at = ((np.arange(side) + 0.5) * n / side - 0.5).clip(0, n - 1)
        mixed: Array = (1 - np.abs(at[:, None] - np.arange(n))).clip(min=0)
        return mixed

    resized: Array = weights(picture.shape[0]) @ picture @ weights(picture.shape[1]).T
    return resized
