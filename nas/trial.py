"""What an archive holds: trials, measurements, and the notes that the library itself reads again.

Each is a record with a schema, since a journal may come from somebody else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from nas.journal import JSON, ArchiveError

Id: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")]  # a folder's name too: hex alone
Count: TypeAlias = Annotated[int, Field(ge=0)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class Measurement:
    """One number that was measured, with everything needed to say what it means."""

    name: str  # accuracy, nll, flops, params, latency_ms, size_mb …
    value: float
    unit: str = ""  # fraction, FLOPs, ms …
    task: str | None = None
    split: str | None = None  # valid, test
    evaluator: str = ""  # shared, standalone, retrained, arithmetic, torch-eager …
    bank_version: int | None = None
    fidelity: str = ""  # "600 supernet steps", "20 epochs"
    seed: int | None = None
    device: str = ""  # of a latency: runtime, device, threads, batch and dtype in one text
    spread: float | None = None  # how far the value moves when it is measured again
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @property
    def fidelity_text(self) -> str:
        """How much training the figure rests on, also where only the bank's version says so."""
        of_bank = "" if self.bank_version is None else f"{self.bank_version} supernet steps"
        return self.fidelity or of_bank


@dataclass(frozen=True)
class Trial:
    """One proposed derivation (or one a task) and all that was measured of it."""

    number: Count  # order of proposal, from 0
    id: Id  # short, unique in the run: "3f9ac21b"
    derivations: Mapping[str, str] = field(hash=False)  # {"": text}, or one text a task
    state: Literal["finished", "failed", "stopped"]  # stopped: not trained to the end
    reason: str = ""  # why it failed
    measurements: tuple[Measurement, ...] = ()  # oldest first
    seconds: Seconds = 0.0
    cpu_s: Seconds = 0.0
    drawn: bool = False  # at random, to hold the sampler's proposals against
    losses: tuple[float, ...] = ()  # of training alone, at equal distances from first step to last
    traceback: str = ""  # where it failed
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @property
    def text(self) -> str:
        """The derivation that serves all tasks; raises ArchiveError where there is none."""
        if "" not in self.derivations:
            raise ArchiveError(f"trial {self.id} has no derivation that serves all tasks")
        return self.derivations[""]

    def value(self, column: str) -> float | None:
        """The newest measurement of a column (see `columns`), or None where there is none."""
        return self.columns().get(column)

    def columns(self) -> dict[str, float]:
        """The newest value of every column: `digits_accuracy` and, short, `accuracy`; `newest` has
        the rule."""
        return {column: measurement.value for column, measurement in self.newest().items()}

    def newest(self) -> dict[str, Measurement]:
        """The newest measurement of every column.

        A task's "-" becomes "_". The short form is there when exactly one task measured the name,
        and belongs to the measurement without a task if there is one. What was measured on the
        test split is `digits_test_accuracy`, `test_accuracy`; what a retrained network reached
        elsewhere is `digits_retrained_accuracy`: neither ever answers for the plain column.
        """
        long: dict[str, Measurement] = {}
        short: dict[str, dict[str, Measurement]] = {}
        for measurement in self.measurements:
            column = _plain_or_apart(measurement)
            if measurement.task is None:
                long[column] = measurement
            else:
                task = measurement.task.replace("-", "_")
                long[f"{task}_{column}"] = measurement
                short.setdefault(column, {})[measurement.task] = measurement
        alone = {
            name: measurement
            for name, by in short.items()
            if len(by) == 1
            for measurement in by.values()
        }
        return alone | long


def _plain_or_apart(measurement: Measurement) -> str:
    if measurement.split == "test":
        return f"test_{measurement.name}"
    if measurement.evaluator == "retrained":
        return f"retrained_{measurement.name}"
    return measurement.name


@dataclass(frozen=True)
class _Measured:
    id: Id
    measurements: list[Measurement]


@dataclass(frozen=True)
class _Bank:
    version: Count
    seconds: Seconds


@dataclass(frozen=True)
class _Loss:
    step: Count
    loss: float


@dataclass(frozen=True)
class _Training:
    steps: Count
    seconds: Seconds | None = None


@dataclass(frozen=True)
class _Passed:
    step: Count
    derivation: str
    reason: str


@dataclass(frozen=True)
class _Begun:
    derivation: str


@dataclass(frozen=True)
class _Varied:
    id: str


@dataclass(frozen=True)
class _Ended:
    trials: Count
    budget_s: float | None


@dataclass(frozen=True)
class _Finalist:
    id: Id
    seconds: Seconds
    reason: str


@dataclass(frozen=True)
class _Verdict:
    evaluator: str
    reason: str
    warning: str
    seconds: Seconds


@dataclass(frozen=True)
class _Scored:
    derivation: str
    evaluator: str
    seed: int
    made: str
    measurements: list[Measurement]
    reason: str
    seconds: Seconds
    cpu_s: Seconds


@dataclass(frozen=True)
class _Workers:
    count: Annotated[int, Field(ge=1, le=100_000)]


@dataclass(frozen=True)
class _Runtime:
    name: Literal["torch", "onnxruntime"]
    reason: str


@dataclass(frozen=True)
class _Rung:
    rung: Count
    derivation: str
    measurements: list[Measurement]
    reason: str
    seconds: Seconds
    cpu_s: Seconds
    losses: tuple[float, ...] = ()
    traceback: str = ""


@dataclass(frozen=True)
class _Timed:
    id: Id


@dataclass(frozen=True)
class _Shares:
    id: Id
    steps: dict[str, Annotated[float, Field(ge=0, le=1)]]


NOTES: dict[str, Any] = {  # what the library itself reads again; other notes may say anything
    "measure": _Measured,
    "bank": _Bank,
    "training": _Training,
    "loss": _Loss,
    "finalist": _Finalist,
    "verdict": _Verdict,
    "scored": _Scored,
    "passed": _Passed,
    "begun": _Begun,
    "varied": _Varied,
    "ended": _Ended,
    "workers": _Workers,
    "runtime": _Runtime,
    "timed": _Timed,
    "shares": _Shares,
    "rung": _Rung,
}


@cache
def _schema(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(Trial if kind == "trial" else NOTES[kind])


FRACTIONS = ("value", "spread", "seconds", "cpu_s")


def plain(record: Measurement | Trial) -> dict[str, JSON]:
    """The fields of a record that are not at their default."""
    facts: dict[str, Any] = {}
    for entry in dataclasses.fields(record):
        value = getattr(record, entry.name)
        if value == entry.default:
            continue
        if entry.name == "measurements":
            value = [plain(measurement) for measurement in value]
        facts[entry.name] = float(value) if entry.name in FRACTIONS else value
    return facts


def checked_event(event: Mapping[str, Any]) -> Any:
    """An event's content as its kind's schema has it; raises ArchiveError naming the field."""
    kind = event["kind"]
    try:
        return _schema(kind).validate_python({k: v for k, v in event.items() if k != "kind"})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or kind
        raise ArchiveError(f"{kind}: {place} is {first['input']!r:.60}: {first['msg']}") from None
