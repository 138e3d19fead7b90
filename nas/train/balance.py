"""How the losses of several tasks are weighed against each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import exp
from typing import Literal, TypeAlias, get_args

from nas.train.turns import StepLosses, Turn

Losses: TypeAlias = Literal["equal", "uncertainty"]
METHODS: tuple[Losses, ...] = get_args(Losses)
RATE = 0.02  # by which log variances move
SPAN = 6.0  # at most, up and down


class Balance:
    """What weighs each task's loss, beside the weight that the task has itself.

    equal: one. uncertainty: exp(-s), where s is a log variance of the task's own that goes down
    exp(-s) L + s (Kendall, Gal and Cipolla 2018, "Multi-task learning using uncertainty to weigh
    losses", arXiv 1705.07115, equation 10 without the halves). It follows from the losses that were
    told alone, so that all processes of a group come to the same.
    """

    def __init__(self, method: Losses, tasks: Iterable[str]):
        self.method, self.variances = method, dict.fromkeys(tasks, 0.0)

    def __call__(self, task: str) -> float:
        return exp(-self.variances[task])

    def hear(self, turns: Sequence[Turn], losses: Sequence[StepLosses | None]) -> None:
        """Move by the losses of what a step trained on labels."""
        if self.method == "equal":
            return
        told = list[Mapping[str, float]]()
        for turn, step in zip(turns, losses, strict=True):
            trained = 1 if turn.teach else len(turn.trained)
            told += step.by_derivation[:trained] if step else ()
        for task, variance in self.variances.items():
            values = [known[task] for known in told if task in known]
            if values:
                mean = sum(values) / len(values)
                moved = variance - RATE * (1 - exp(-variance) * mean)
                self.variances[task] = min(SPAN, max(-SPAN, moved))

    @property
    def facts(self) -> Mapping[str, str]:
        """What a checkpoint keeps of it."""
        moves = self.method != "equal"
        return {"balance": json.dumps(self.variances)} if moves else {}

    def restore(self, facts: Mapping[str, str]) -> None:
        """Go on from what a checkpoint kept."""
        known = json.loads(facts.get("balance", "{}"))
        told = {task: float(known[task]) for task in self.variances if task in known}
        self.variances |= {task: min(SPAN, max(-SPAN, value)) for task, value in told.items()}
