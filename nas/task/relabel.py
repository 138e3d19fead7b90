"""What is to be said of samples, in a file of its own: labels that a teacher gave, for one."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.files import write
from nas.lazy import np
from nas.task.error import TaskError
from nas.task.samples import SPLITS, Prepared, Samples

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


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
        for name in ("target", "classes", "content", "teacher"):
            arrays[name] = np.array(getattr(self, name))
        buffer = BytesIO()
        np.savez_compressed(buffer, **arrays)
        write(path, buffer.getvalue())

    @staticmethod
    def read(path: Path) -> Labels:
        """Raises TaskError for a file that holds none."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file}
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise TaskError(f"{path}: is no .npz file of plain arrays: {error}") from None
        arrays |= {"y_train": arrays["y"]} if "y" in arrays else {}
        ys = {split: arrays[f"y_{split}"] for split in SPLITS if f"y_{split}" in arrays}
        if "train" not in ys:
            raise TaskError(
                f"{path}: holds {', '.join(arrays) or 'nothing'}; labels are named y, or y_train "
                "(also y_valid, y_test): name them so"
            )
        words = {n: str(arrays[n]) for n in ("target", "content", "teacher") if n in arrays}
        classes = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else ()
        return Labels(ys, classes=classes, **words)

    def given_to(self, samples: Samples, where: Path) -> Samples:
        """The samples with these for y; raises TaskError where there are more of one."""
        pairs = dict(samples.pairs)
        for split, (x, _) in samples.pairs.items():
            if split not in self.ys or len(self.ys[split]) != len(x):
                there = len(self.ys.get(split, ()))
                raise TaskError(
                    f"{where}: {there} labels for {len(x)} samples of {split} in {samples.where}; "
                    "each sample needs one, in their order: make the file anew for these samples"
                )
            pairs[split] = x, self.ys[split]
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
