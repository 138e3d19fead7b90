"""`Recipe`: how weights are trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import cos, pi
from typing import Literal

from nas.task import Task
from nas.train.balance import Losses

LATER = ("parts", "average", "augment", "patience", "losses")  # fields that recipes once had not


@dataclass(frozen=True)
class Recipe:
    """How weights are trained: warm-up, then a cosine to zero.

    epochs: passes over the training split (of each task); lr: the peak; momentum: of SGD, or how
    long Adam remembers gradients; warmup: the share of all steps; weight_decay: on weights, never
    on norms and biases; clip: the gradient's largest norm; optimizer: sgd, or adam with decoupled
    decay, which wants an lr of about 0.005.

    parts: batches in a step, whose gradients are averaged: by several processes, or one after the
    other where one larger batch would not fit. average: the decay of the moving average of weights
    that is kept and used in the end, 0 for none (Polyak and Juditsky 1992). augment: whether tasks
    augment their samples. patience: epochs without a better validation after which a retraining
    stops, 0 for none. losses: how those of several tasks are weighed, see `Balance`.
    """

    epochs: float = 20
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 64
    warmup: float = 0.1
    label_smoothing: float = 0.1
    clip: float = 5.0
    seed: int = 0
    optimizer: Literal["sgd", "adam"] = "sgd"
    parts: int = 1
    average: float = 0.0
    augment: bool = False
    patience: int = 0
    losses: Losses = "equal"

    def rate(self, step: float, steps: int) -> float:
        """The learning rate of a step of `steps`, or between two."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.lr * min(1.0, (step + 1) / warm)
        return self.lr * 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))

    def steps(self, tasks: Iterable[Task]) -> int:
        """Steps in all the epochs of the largest task."""
        most = max(len(task.splits().train) for task in tasks)
        return max(1, round(self.epochs * max(1, most // (self.batch * self.parts))))

    def lasting(self, steps: int, tasks: Iterable[Task]) -> Recipe:
        """The same for so many steps."""
        return replace(self, epochs=steps / replace(self, epochs=1).steps(tasks))

    def __str__(self) -> str:
        """As the recipe is known of a training; what was added later only where it is used."""
        usual = Recipe()
        shown = [f.name for f in fields(self)]
        shown = [n for n in shown if n not in LATER or getattr(self, n) != getattr(usual, n)]
        return f"Recipe({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"
