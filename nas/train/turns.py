"""Who is trained in a step, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    names of those that each derivation is trained for, by default all. weights: of each trained
    derivation's losses, by task, beside those that tasks have themselves. align: the weight of how
    far the others' features, mapped linearly, are from the first's (Aich et al. 2023, arXiv
    2308.11744: configuration-invariant distillation).

    scored: so many of the derivations, the last, are not trained: their losses are told on one
    batch of the validation split, as the weights are before the step.
    """

    derivations: tuple[Derivation, ...]
    teach: bool = False
    batches: Literal["one", "each"] = "one"
    tasks: tuple[tuple[str, ...], ...] = ()
    weights: tuple[Mapping[str, float], ...] = ()
    scored: int = 0
    align: float = 0.0

    def __post_init__(self) -> None:
        if (self.teach or self.align) and self.batches == "each":
            raise ValueError("a turn that teaches sees one batch: what is taught is of that")
        if self.tasks and len(self.tasks) != len(self.derivations):
            raise ValueError("a turn names the tasks of each of its derivations, or of none")
        if self.teach and self.tasks:
            raise ValueError("a turn that teaches trains all its derivations for all tasks")
        if not 0 <= self.scored < len(self.derivations):
            raise ValueError("a turn trains one derivation at least, beside those it scores")
        if self.weights and len(self.weights) != len(self.trained):
            raise ValueError("a turn weights the losses of each derivation it trains, or of none")

    @property
    def trained(self) -> tuple[Derivation, ...]:
        return self.derivations[: len(self.derivations) - self.scored]

    def trains(self, number: int, task: str) -> bool:
        """Whether its derivation of that number is trained, or scored, for a task."""
        return not self.tasks or task in self.tasks[number]


def alike(turns: Sequence[Turn], others: Sequence[Turn]) -> bool:
    """Whether turns train the same derivations, by identity, for the same tasks."""
    return len(turns) == len(others) and all(
        a.tasks == b.tasks
        and a.align == b.align
        and len(a.trained) == len(b.trained)
        and all(x is y for x, y in zip(a.trained, b.trained, strict=True))
        for a, b in zip(turns, others, strict=True)
    )


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
