"""How good a task's logits are: its loss, its metrics, and what the training prior comes to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from nas.task.error import TaskError
from nas.task.target import TARGETS
from nas.task.task import Task

if TYPE_CHECKING:
    from torch import Tensor


def loss(
    task: Task,
    logits: Tensor,  # (n, *target.logits)
    y: Tensor,  # as in Split
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean loss of a batch by the task's target, a scalar; not weighted."""
    check_logits(task, logits)
    return TARGETS[task.target].loss(logits, y, label_smoothing)


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
    """Every metric of the task's target, of a whole split.

    Each is NaN where a logit is NaN or infinite: such a network gives no answer.
    """
    check_logits(task, logits)
    logits, y = logits.detach().float().cpu(), y.detach().cpu()
    target = TARGETS[task.target]
    names = [metric.name for metric in target.metrics]
    if not logits.isfinite().all():
        return dict.fromkeys(names, math.nan)
    values = target.score(logits, y)
    if "nll" in names:
        values["nll"] = float(target.loss(logits, y, 0.0))
    return {name: values[name] for name in names}


def prior(task: Task) -> Tensor:
    """(classes,) float64: what is known of any sample from the training y alone."""
    return TARGETS[task.target].prior(task.splits().train.y, len(task.classes))


def trivial_score(task: Task, split: Literal["valid", "test"] = "test") -> dict[str, float]:
    """The score on a split of a predictor that always says the training prior."""
    samples = task.splits().test if split == "test" else task.splits().valid
    logits = TARGETS[task.target].constant(prior(task), task.input)
    return score(task, logits.expand(len(samples), *logits.shape), samples.y)


def check_logits(task: Task, logits: Tensor) -> None:
    """Raises TaskError when logits do not have the shape the task's target asks for."""
    check_shape(task, tuple(logits.shape[1:]))


def check_shape(task: Task, shape: tuple[int, ...]) -> None:
    """Raises TaskError when the logits of a sample have not the shape that the target asks for."""
    wanted = TARGETS[task.target].logits(len(task.classes), task.input)
    if shape != wanted:
        raise TaskError(
            f"{task.name}: logits of shape [n, {', '.join(map(str, shape))}], but {task.target} of "
            f"{len(task.classes)} classes take [n, {', '.join(map(str, wanted))}]; "
            f"correct the head: {task.head.term}"
        )
