"""Samples: as a source finds them, and as training takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Array = npt.NDArray[Any]
    Pairs = dict[str, tuple[Array, Array]]  # split -> (x, y)

SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Samples:
    """Arrays as a source found them. A function of one's own that brings data may return this."""

    where: str  # what an error calls the source
    pairs: Pairs  # by split: train, and where there are some valid and test
    layout: str | None = None  # one of LAYOUTS; None to infer
    classes: tuple[str, ...] | None = None  # None to infer
    notes: tuple[str, ...] = ()  # on where the arrays come from


@dataclass(frozen=True)
class Split:
    """Samples in memory."""

    x: Tensor  # (n, *input) float32, normalised
    y: Tensor  # class: (n,) int64; labels: (n, classes) float32; pixels: (n, h, w) int64

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Splits:
    """The three splits; `notes` say what was done to the data, a line each."""

    train: Split
    valid: Split
    test: Split
    notes: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> str:
        """A digest of every x: the same where two tasks have the same samples in the same order."""
        digest = hashlib.blake2b(digest_size=16)
        for split in (self.train, self.valid, self.test):
            digest.update(str(tuple(split.x.shape)).encode())
            digest.update(split.x.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """Splits ready to train on, and what they turned out to be; of what content x is, and where
    train was cut which of its samples went where."""

    splits: Splits
    target: str
    classes: tuple[str, ...]
    content: str = ""
    parts: Mapping[str, Array] | None = None
