"""Who is trained in a step, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nas.grammar import Derivation


@dataclass(frozen=True)
class Turn:
    """Who is trained in one step, all on the same weights, before one update.

    teach: the first learns from the labels and teaches the others its logits. batches: all see
    `one` batch, or `each` one of its own. Gradients add up over one batch, as in FairNAS (Chu et
    al. 2019, algorithm 1) and BigNAS: what a single derivation touches moves as in a step of its
    own. Over batches of their own the losses are averaged, as over one larger batch. tasks: the
    names of those that each derivation is trained for, by default all.
    """

    derivations: tuple[Derivation, ...]
    teach: bool = False
    batches: Literal["one", "each"] = "one"
    tasks: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.teach and self.batches == "each":
            raise ValueError("a turn that teaches sees one batch: what is taught are its logits")
        if self.tasks and len(self.tasks) != len(self.derivations):
            raise ValueError("a turn names the tasks of each of its derivations, or of none")
        if self.teach and self.tasks:
            raise ValueError("a turn that teaches trains all its derivations for all tasks")

    def trains(self, number: int, task: str) -> bool:
        """Whether its derivation of that number is trained for a task."""
        return not self.tasks or task in self.tasks[number]


class StepLosses(NamedTuple):
    """What came of a step: of each derivation the loss of each task, by name and not weighted."""

    by_derivation: tuple[Mapping[str, float], ...]

    @property
    def first(self) -> float:
        """The first derivation's, summed over its tasks."""
        return sum(self.by_derivation[0].values())


class TrainingError(RuntimeError):
    """Training that cannot go on: a loss that is no number, for one."""


class StepError(TrainingError):
    """A training step that failed and changed nothing: which, on which derivation, why, and whether
    for want of memory."""

    def __init__(self, step: int, derivation: str, reason: str, short: bool = False):
        super().__init__(step, derivation, reason, short)
        self.step, self.derivation, self.reason = step, derivation, reason
        self.short = short

    def __str__(self) -> str:
        return f"step {self.step} failed: {self.reason}"
