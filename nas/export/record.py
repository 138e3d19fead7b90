"""What architecture.json holds, with a schema: a folder may come from somebody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from nas.export.error import ExportError
from nas.task import METRICS, TARGETS, Head, Splits, Task
from nas.task.augment import AUGMENTATIONS
from nas.task.preparation import Preparation
from nas.task.task import NAME, Known


@dataclass(frozen=True)
class GrammarRecord:
    name: str
    hash: str
    text: str


@dataclass(frozen=True)
class TaskRecord:
    """A task without its data, which `spec` names."""

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    spec: str
    input: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]
    target: Literal[tuple(TARGETS)]  # type: ignore[valid-type]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    metric: Literal[tuple(METRICS)]  # type: ignore[valid-type]
    source: str
    licence: str
    title: str
    head: Head
    weight: Annotated[float, Field(gt=0)] = 1.0
    preparation: Preparation | None = None  # of a network of an older version it is not known
    units: tuple[tuple[float, Annotated[float, Field(gt=0)]], ...] = ()
    augment: tuple[Literal[tuple(AUGMENTATIONS)], ...] = ()  # type: ignore[valid-type]
    balance: Literal["", "weights", "sampler"] = ""
    alike: str = ""

    @staticmethod
    def of(task: Task) -> TaskRecord:
        values = {field.name: getattr(task, field.name) for field in fields(TaskRecord)}
        return TaskRecord(**values | {"augment": task.augmentation})

    @property
    def known(self) -> Known | None:
        """What is known without the data."""
        return Known(self.preparation, self.units) if self.preparation else None

    def task(self, loader: Callable[[], Splits]) -> Task:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["preparation"], values["units"]
        return Task(**values, loader=loader, known=self.known)


@dataclass(frozen=True)
class Record:
    format: int
    name: str
    input: str
    outputs: dict[str, str]
    params: int
    flops: int
    network: str
    derivation: str
    tasks: tuple[TaskRecord, ...]
    grammar: GrammarRecord
    source: dict[str, Any]


@cache
def _schema() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def checked_record(record: Any, path: Path) -> Record:
    """A record read from JSON; raises ExportError naming what is missing or of another type."""
    try:
        checked = _schema().validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ExportError(
            f"{path}: {place} is missing or wrong ({first['msg']}); save the network again"
        ) from None
    for task in checked.tasks:
        if task.preparation and (fault := task.preparation.fault(task.input)):
            raise ExportError(f"{path}: {task.name} is prepared by {fault}; save the network again")
        if task.units and len(task.units) != len(task.classes):
            raise ExportError(f"{path}: {task.name} has {len(task.units)} units; save it again")
    return checked
