"""What a search is given as its tasks, as specs that a run can be carried on from."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from nas.search.folder import DATA
from nas.task import Task, TaskError

Arrays: TypeAlias = tuple[Any, Any]  # x (n, ...) and y (n, ...), of numpy or torch
Tasks: TypeAlias = (
    "str | Task | Sequence[str | Task] | Mapping[str, str | Path | Arrays | Mapping[str, Any]]"
)


class Given:
    """Tasks as specs; those that were given as arrays are kept in the run's folder.

    Before that folder is there they lie beside it, and are gone where it never comes to be.
    """

    def __init__(self, tasks: Tasks, folder: Path):
        self.folder = folder.absolute() / DATA
        self.waiting: Path | None = None
        self.specs = tuple(self._specs(tasks))

    def _specs(self, tasks: Tasks) -> list[str]:
        if isinstance(tasks, str | Task):
            tasks = [tasks]
        if isinstance(tasks, Mapping):
            return [self._named(name, source) for name, source in tasks.items()]
        if not isinstance(tasks, Sequence):
            raise TaskError(_unknown(tasks))
        return [_spec(task) for task in tasks]

    def _named(self, name: str, source: Any) -> str:
        if isinstance(source, str | Path):
            return f"{name}={source}"
        if isinstance(source, tuple) and len(source) == 2:
            source = {"x": source[0], "y": source[1]}
        if not isinstance(source, Mapping) or not re.fullmatch(r"[\w-]+", name):
            raise TaskError(_unknown(source))
        if self.waiting is None:
            beside = self.folder.parent.parent
            beside.mkdir(parents=True, exist_ok=True)
            self.waiting = Path(mkdtemp(prefix=f".{self.folder.parent.name}.", dir=beside))
        arrays: dict[str, Any] = {str(k): np.asarray(v) for k, v in source.items()}
        np.savez(self.waiting / f"{name}.npz", **arrays)
        return f"{name}={self.waiting / f'{name}.npz'}"

    def settled(self, spec: str) -> str:
        """A spec as it is once the run's folder is there."""
        return spec.replace(f"={self.waiting}/", f"={self.folder}/") if self.waiting else spec

    def settle(self) -> None:
        """Move what is kept into the run's folder."""
        if self.waiting:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.waiting.rename(self.folder)
            self.waiting = None

    def __enter__(self) -> Given:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.waiting:
            shutil.rmtree(self.waiting, ignore_errors=True)


def _spec(task: Any) -> str:
    if isinstance(task, str | Path):
        return str(task)
    if isinstance(task, Task):
        return task.spec
    raise TaskError(_unknown(task))


def _unknown(given: Any) -> str:
    return (
        f"a task is a name, a path, name=source or a Task, and arrays are given by name as "
        f"tasks={{'mine': (x, y)}}; this is a {type(given).__name__}"
    )
