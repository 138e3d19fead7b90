"""What is heard of some work while it goes on: typed records, for whoever shows or tracks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from nas.trial import Trial


@dataclass(frozen=True)
class Event:
    """Anything that a listener hears of."""


@dataclass(frozen=True)
class Told(Event):
    """Words for a person: what a task is, which evaluator was chosen."""

    text: str


@dataclass(frozen=True)
class Progress(Event):
    """So many of so many things in a phase are done; `total` may change as more is known."""

    phase: str  # supernet, calibration, trials, finalists, retraining, …
    done: int
    total: int
    figures: Mapping[str, float] = field(default_factory=dict)  # to show beside it


@dataclass(frozen=True)
class StepDone(Progress):
    """A training step; `figures` hold its loss."""


@dataclass(frozen=True)
class TrialDone(Progress):
    """A trial that was recorded; `figures` hold the best value so far."""

    trial: Trial | None = None


@dataclass(frozen=True)
class BankSaved(Event):
    """Shared weights that were written, after so many training steps."""

    path: Path
    version: int


@dataclass(frozen=True)
class RunEnded(Event):
    """A search that came to its end, with so many trials in its folder."""

    folder: Path
    trials: int


Listener: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """A listener that says nothing."""
