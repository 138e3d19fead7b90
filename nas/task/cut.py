"""Which samples are trained on, validated and tested with, where a source does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.lazy import np
from nas.task.error import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SEED = 2024  # of every cut of a split
TEST, VALID = 0.20, 0.15  # shares: test of the whole, valid of what is left


def cut(
    y: Array, test: float, valid: float, where: str, stratified: bool = True
) -> dict[str, Array]:
    """Indices of train, valid and test: shares of all and of what is left, 0 for no such split.

    Classes, (n,), may be stratified: each is spread evenly over (0, 1), and the lowest go first;
    a class of 2 or more samples thus always keeps one in train.
    """
    rng = np.random.default_rng(SEED)
    key = rng.random(len(y))
    if stratified:
        shuffled = rng.permutation(len(y))
        by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
        sizes = np.unique(y, return_counts=True)[1]
        rank = np.arange(len(y)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        key[by_class] = (rank + np.repeat(rng.random(len(sizes)), sizes)) / np.repeat(sizes, sizes)
    tests = max(1, round(len(y) * test)) if test else 0
    valids = max(1, round((len(y) - tests) * valid)) if valid else 0
    if 2 * (tests + valids) > len(y):
        raise TaskError(f"{where}: {len(y)} samples are too few to cut; give 4 or more")
    order = np.split(np.argsort(key, kind="stable"), [tests, tests + valids])
    parts = dict(zip(("test", "valid", "train"), order, strict=True))
    return {split: rng.permutation(part) for split, part in parts.items() if len(part)}
