"""An evaluation to be done, what came of it, and what evaluates many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nas.archive import Measurement
from nas.evaluate import EVALUATORS
from nas.grammar import Grammar
from nas.search.breed import Lineage
from nas.search.settings import Settings


@dataclass(frozen=True)
class Job:
    """One evaluation to do: the trial's number, its derivation's text, and what evaluates it."""

    number: int
    derivation: str
    evaluator: str
    seed: int
    lineage: Lineage | None = None
    weights: tuple[bytes, ...] = ()  # of the lineage's parents, as they were trained
    epochs: float | None = None  # of training alone, where they are others than the recipe's


@dataclass(frozen=True)
class Outcome:
    """One evaluation done; `reason` says why where it failed, `traceback` where. `weights` are
    those that children may go on from, where there will be any; `losses` are as of `Evaluated`."""

    number: int
    measurements: tuple[Measurement, ...]
    reason: str
    seconds: float
    weights: bytes = b""
    cpu_s: float = 0.0
    stopped: bool = False  # whether it was not trained to the end, since others were better
    losses: tuple[float, ...] = ()
    traceback: str = ""


class Pool(Protocol):
    """Evaluates jobs, yielding outcomes as they come, in any order; so many at a time at most, and
    in parallel so many as there are.

    `begun` hears of a job that may misbehave before it begins. At the end of time, by
    `time.monotonic()`, what is not done is left.
    """

    @property
    def workers(self) -> int: ...
    @property
    def parallel(self) -> int: ...
    def evaluate(
        self, jobs: Sequence[Job], *, begun: Callable[[Job], None] = ..., ends: float = ...
    ) -> Iterator[Outcome]: ...
    def close(self) -> None: ...


def risky(job: Job, grammar: Grammar) -> bool:
    """Whether an evaluation may hang or crash: it trains alone, or runs code of the user's own."""
    return bool(grammar.used) or EVALUATORS[job.evaluator].alone


def longest_s(settings: Settings) -> float:
    """Seconds after which an evaluation that did not end by itself is ended."""
    return 1.2 * settings.standalone.limit_s + 10
