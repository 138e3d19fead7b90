"""What is to be said of samples, in a file of its own: labels that a teacher gave, for one."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nas.files import write
from nas.lazy import np
from nas.task.error import TaskError
from nas.task.samples import Prepared, Samples
from nas.task.target import TARGETS

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


WORDS = ("target", "content", "teacher")
MOST = 2**16  # classes, and labels of one sample beside four for each of its values
WORD = 2**12  # bytes of one


@dataclass(frozen=True)
class Labels:
    """The y of samples that lie elsewhere, for every split that these were given in, in their
    order; `content` is a digest of those samples, "" where it is not known."""

    ys: Mapping[str, Array]  # by split
    target: str = ""  # a key of TARGETS; "" to infer
    classes: tuple[str, ...] = ()
    content: str = ""
    teacher: str = ""  # who said so

    def save(self, path: Path) -> None:
        """Write an .npz file: y_train, …, target, classes, content and teacher."""
        arrays: dict[str, Any] = {f"y_{split}": y for split, y in self.ys.items()}
        for name in ("classes", *WORDS):
            arrays[name] = np.array(getattr(self, name))
        buffer = BytesIO()
        np.savez_compressed(buffer, **arrays)
        write(path, buffer.getvalue())

    @staticmethod
    def read(path: Path, samples: Samples) -> Labels:
        """Those for some samples: of a file from somebody else only what these want is read. Raises
        TaskError for a file that holds none, or more than there may be of such samples."""
        try:
            with zipfile.ZipFile(path) as file:
                names = {n.removesuffix(".npy") for n in file.namelist() if n.endswith(".npy")}
                words = {name: _word(file, name) for name in WORDS if name in names}
                classes = _row(file, "classes") if "classes" in names else ()
                ys = {}
                for split, (x, _) in samples.pairs.items():
                    name = "y" if split == "train" and "y" in names else f"y_{split}"
                    if name in names:
                        ys[split] = _array(file, name, len(x), MOST + 4 * x[:1].size)
        except NotRead as error:
            raise TaskError(f"{path}: {error}") from None
        except Exception as error:  # a damaged archive may raise anything
            raise TaskError(
                f"{path}: is no .npz file of plain arrays: {type(error).__name__}: {error}; labels "
                "are named y, or y_train (also y_valid, y_test): save them with np.savez"
            ) from None
        if "train" not in ys:
            raise TaskError(
                f"{path}: holds {', '.join(sorted(names)) or 'nothing'}; labels are named y, or "
                "y_train (also y_valid, y_test): name them so"
            )
        if words.get("target", "") not in ("", *TARGETS):
            raise TaskError(f"{path}: target {words['target']!r} is none of {', '.join(TARGETS)}")
        return Labels(ys, classes=classes, **words)

    def given_to(self, samples: Samples, where: Path) -> Samples:
        """The samples with these for y; raises TaskError where a split has none."""
        if lacking := [split for split in samples.pairs if split not in self.ys]:
            raise TaskError(
                f"{where}: holds no y_{lacking[0]}, and {samples.where} has samples of it: make "
                "the file anew for these samples"
            )
        pairs = {split: (x, self.ys[split]) for split, (x, _) in samples.pairs.items()}
        note = f"labels of {self.teacher or where}"
        return replace(
            samples,
            pairs=pairs,
            target=self.target or None,
            classes=self.classes or None,
            notes=(*samples.notes, note),
        )

    def check(self, prepared: Prepared, where: Path) -> None:
        """Raise TaskError where they were made for other samples."""
        if self.content and self.content != prepared.content:
            raise TaskError(
                f"{where}: these labels are of other samples, or in another order: make the file "
                "anew for these, as `nas label` does"
            )


class NotRead(ValueError):
    """An array that is not what it should be."""


def _array(file: zipfile.ZipFile, name: str, count: int, most: int) -> Array:
    """An array of so many labels, of at most so many values each."""
    with file.open(f"{name}.npy") as stream:
        shape, kind = _header(stream)
    if len(shape) < 1 or shape[0] != count:
        there = shape[0] if shape else "no row of"
        raise NotRead(
            f"{there} labels in {name} for {count} samples; each sample needs one, in their order: "
            "make the file anew for these samples"
        )
    if kind.hasobject or prod(shape[1:]) > most or kind.itemsize > WORD:
        raise NotRead(f"{name} is {kind} of shape {list(shape)}: these are no labels of {count}")
    with file.open(f"{name}.npy") as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, _, kind = read(stream)
    return shape, kind


def _word(file: zipfile.ZipFile, name: str) -> str:
    """A word of few letters."""
    return str(_small(file, name, ()))


def _row(file: zipfile.ZipFile, name: str) -> tuple[str, ...]:
    return tuple(map(str, _small(file, name, (None,)).tolist()))


def _small(file: zipfile.ZipFile, name: str, axes: tuple[None, ...]) -> Array:
    with file.open(f"{name}.npy") as stream:
        shape, kind = _header(stream)
    if len(shape) != len(axes) or prod(shape) > MOST or kind.hasobject or kind.itemsize > WORD:
        raise NotRead(f"{name} is {kind} of shape {list(shape)}: words are wanted")
    with file.open(f"{name}.npy") as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array
