"""Samples: as a source finds them, and as training takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.lazy import torch
from nas.task.decode import Picture
from nas.task.preparation import Inputs, Preparation
from nas.task.sound import Sound
from nas.task.spectrum import Spectrum
from nas.task.table import Table

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from nas.journal import JSON
    from nas.task.preparation import Device
    from nas.task.store import Store

    Array = npt.NDArray[Any]
    Pairs = dict[str, tuple[Array, Array]]  # split -> (x, y)

Units: TypeAlias = tuple[tuple[float, float], ...]  # mean and deviation of each number of y
SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Samples:
    """Arrays as a source found them. A function of one's own that brings data may return this."""

    where: str  # what an error calls the source
    pairs: Pairs  # by split: train, and where there are some valid and test
    layout: str | None = None  # one of LAYOUTS; None to infer
    classes: tuple[str, ...] | None = None  # None to infer
    notes: tuple[str, ...] = ()  # on where the arrays come from
    picture: Picture | None = None  # how files became arrays, where they are pictures
    table: Table | None = None  # how rows became arrays, where they are of a table
    sound: Sound | None = None  # how files became arrays, where they are recordings
    spectrum: Spectrum | None = None  # what networks take of these
    target: str | None = None  # a key of TARGETS; None to infer
    store: Store | None = None  # where the arrays are kept
    fit: Callable[[Array], Samples] | None = None  # anew, to the rows of those numbers alone

    def remembered(self, key: str, work_out: Callable[[], JSON]) -> Any:
        """What is worked out of the arrays, once where they are kept."""
        return self.store.remembered(key, work_out) if self.store else work_out()


class Split:
    """Samples by number. What is asked for comes as training takes it: x prepared, float32; y as
    class: int64; labels: (classes,) float32; pixels: (height, width) int64."""

    def __init__(self, x: Inputs | Tensor, y: Tensor):
        self.inputs = x if isinstance(x, Inputs) else Inputs(x.numpy())
        self._y = y  # whole numbers in as few bytes as hold them

    def __len__(self) -> int:
        return len(self.inputs)

    def x_at(self, at: Tensor, device: Device = "cpu") -> Tensor:
        """(len(at), *input): the inputs of those numbers (int64, on the CPU)."""
        return self.inputs.batch(at, device)

    def y_at(self, at: Tensor, device: Device = "cpu") -> Tensor:
        """What is to be said of them."""
        y = self._y[at].to(device)
        return y if y.is_floating_point() else y.long()

    @property
    def stored_y(self) -> Tensor:
        """Every y in as few bytes as hold it."""
        return self._y

    @property
    def x(self) -> Tensor:
        """All inputs at once: for few."""
        return self.inputs.whole()

    @property
    def y(self) -> Tensor:
        return self._y if self._y.is_floating_point() else self._y.long()

    def numbers(self, batch: int) -> tuple[Tensor, ...]:
        """The numbers of all samples, so many at a time."""
        return tuple(torch.arange(len(self)).split(batch))


@dataclass(frozen=True)
class Splits:
    """The three splits; `notes` say what was done to the data, a line each."""

    train: Split
    valid: Split
    test: Split
    notes: tuple[str, ...] = ()
    units: Units = ()  # of numbers that are predicted, the mean and deviation that scaled them

    @property
    def every(self) -> tuple[Split, Split, Split]:
        return self.train, self.valid, self.test

    def with_validation(self) -> Splits:
        """These, with what validation has in training too."""
        x = self.train.inputs.and_those_of(self.valid.inputs)
        y = torch.cat([self.train.stored_y, self.valid.stored_y])
        return replace(self, train=Split(x, y))

    @cached_property
    def content(self) -> str:
        """A digest of every x: the same where two tasks have the same samples in the same order."""
        digest = hashlib.blake2b(digest_size=16)
        for split in self.every:
            digest.update(split.inputs.content.encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """Splits ready to train on, and what they turned out to be; of what content x is, and where
    train was cut which of its samples went where."""

    splits: Splits
    target: str
    classes: tuple[str, ...]
    preparation: Preparation
    content: str = ""
    parts: Mapping[str, Array] | None = None
