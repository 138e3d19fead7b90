"""How good a task's logits are: its loss, its metrics, and what the training prior comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nas.lazy import torch
from nas.task.error import TaskError
from nas.task.target import TARGETS
from nas.task.task import Task
from nas.user_code import user_attribute

if TYPE_CHECKING:
    from torch import Tensor


MOST, AT_ONCE = 512, 2**22  # samples, and logits, that are scored together


def loss(
    task: Task,
    logits: Tensor,  # (n, *target.logits)
    y: Tensor,  # as in Split
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean loss of a batch by the task's target, a scalar; classes weigh as the task says, and it
    is not weighted among tasks."""
    check_logits(task, logits)
    weights = task.class_weights
    weights = None if weights is None else weights.to(logits.device)
    return TARGETS[task.target].loss(logits, y, label_smoothing, weights)


def soft_loss(
    task: Task,
    logits: Tensor,  # as in `loss`
    teacher: Tensor,  # logits of the same shape; no gradient flows into them
) -> Tensor:
    """Mean distance to a teacher's answers, a scalar."""
    check_logits(task, logits)
    check_logits(task, teacher)
    return TARGETS[task.target].distance(logits, teacher.detach())


def score(
    task: Task,
    logits: Tensor,  # as in `loss`
    y: Tensor,  # as in Split
) -> dict[str, float]:
    """Every metric of the task's target, of a whole split at once."""
    scorer = Scorer(task)
    scorer.add(logits, y)
    return scorer.score()


class Scorer:
    """Every metric of the task's target, of a split that is told batch by batch, and the user's own
    where there is one.

    Each is NaN where a logit is NaN or infinite: such a network gives no answer.
    """

    def __init__(self, task: Task):
        self.task, self.finite = task, True
        self.meter = TARGETS[task.target].meter(task.units)
        self.own: list[tuple[Tensor, Tensor]] = []  # all batches, for the user's own metric

    def add(self, logits: Tensor, y: Tensor) -> None:
        """logits: (n, *target.logits); y: as in Split."""
        check_logits(self.task, logits)
        logits, y = logits.detach().float(), y.detach()
        self.finite = self.finite and bool(logits.isfinite().all())
        if self.finite:
            self.meter.add(logits, y)
            if self.task.own:
                self.own.append((logits.cpu(), y.cpu()))

    def score(self) -> dict[str, float]:
        names = [metric.name for metric in TARGETS[self.task.target].metrics]
        values = self.meter.score() if self.finite else dict.fromkeys(names, math.nan)
        scores = {name: values[name] for name in names}
        if self.task.own:
            scores[self.task.own_metric] = self._own() if self.finite else math.nan
        return scores

    def _own(self) -> float:
        """What the user's metric(logits, y) says of the whole split; both are numpy's."""
        logits, y = (torch.cat(parts).numpy() for parts in zip(*self.own, strict=True))
        try:
            return float(user_attribute(self.task.own)(logits, y))
        except Exception as error:
            raise TaskError(
                f"{self.task.own} raised {type(error).__name__}: {error}; a metric of one's own is "
                f"a function(logits {list(logits.shape)}, y {list(y.shape)}) that returns a number"
            ) from error


def prior(task: Task) -> Tensor:
    """(classes,) float64: what is known of any sample from the training y alone."""
    return TARGETS[task.target].prior(task.splits().train.stored_y, len(task.classes))


def trivial_score(task: Task, split: Literal["valid", "test"] = "test") -> dict[str, float]:
    """The score on a split of a predictor that always says the training prior."""
    samples = task.splits().test if split == "test" else task.splits().valid
    scorer, logits = Scorer(task), TARGETS[task.target].constant(prior(task), task.input).float()
    for at in samples.numbers(max(1, min(MOST, AT_ONCE // logits.numel()))):
        scorer.add(logits.expand(len(at), *logits.shape), samples.y_at(at))
    return scorer.score()


def check_logits(task: Task, logits: Tensor) -> None:
    """Raises TaskError when logits do not have the shape the task's target asks for."""
    check_shape(task, tuple(logits.shape[1:]))


def asked_shape(task: Task) -> tuple[int, ...]:
    """The shape of a sample's logits that the target asks for; -1 is any size."""
    return TARGETS[task.target].logits(len(task.classes), task.input)


def fits(task: Task, shape: Sequence[int]) -> bool:
    """Whether logits of a sample have that shape."""
    wanted = asked_shape(task)
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(asked in (-1, side) for side, asked in pairs)


def check_shape(task: Task, shape: tuple[int, ...]) -> None:
    """Raises TaskError when the logits of a sample have not the shape that the target asks for."""
    if not fits(task, shape):
        wanted = asked_shape(task)
        raise TaskError(
            f"{task.name}: logits of shape [n, {', '.join(map(str, shape))}], but {task.target} of "
            f"{len(task.classes)} classes take [n, {', '.join(map(str, wanted))}]; "
            f"correct the head: {task.head.term}"
        )
