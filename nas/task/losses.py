"""Losses: what training minimises, from a target's labels or from a teacher's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.task.task import Task, TaskError

if TYPE_CHECKING:
    from torch import Tensor


def loss(
    task: Task,
    logits: Tensor,  # class, labels: (n, classes); pixels: (n, classes, height, width)
    y: Tensor,  # as in Split
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean loss in nats, a scalar: cross entropy a sample or a pixel, binary a label. Pixels of no
    class (y below 0) are passed over; a batch of nothing else has a loss of 0.

    Smoothing mixes the target with the uniform distribution (Szegedy et al. 2016, section 7).
    """
    from torch.nn import functional as F

    check_logits(task, logits)
    if task.target == "pixels":
        known = (y >= 0).sum().clamp(min=1)
        return F.cross_entropy(logits, y, label_smoothing=label_smoothing, reduction="sum") / known
    if task.target == "class":
        return F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    smooth = y * (1 - label_smoothing) + 0.5 * label_smoothing
    return F.binary_cross_entropy_with_logits(logits, smooth)


def soft_loss(
    task: Task,
    logits: Tensor,  # as in `loss`
    teacher: Tensor,  # logits of the same shape; no gradient flows into them
) -> Tensor:
    """Mean distance in nats to a teacher's answers (Hinton et al. 2015, temperature 1), a scalar.

    KL(teacher | logits) a sample or a pixel; for labels the binary cross entropy to the
    teacher's probabilities, whose least value is their entropy and not 0.
    """
    from torch.nn import functional as F

    check_logits(task, logits)
    check_logits(task, teacher)
    teacher = teacher.detach()
    if task.target == "labels":
        return F.binary_cross_entropy_with_logits(logits, teacher.sigmoid())
    said, wanted = logits.log_softmax(1), teacher.log_softmax(1)
    return F.kl_div(said, wanted, reduction="none", log_target=True).sum(1).mean()


def check_logits(task: Task, logits: Tensor) -> None:
    """Raises TaskError when logits do not have the shape the task's target asks for."""
    check_shape(task, tuple(logits.shape[1:]))


def check_shape(task: Task, shape: tuple[int, ...]) -> None:
    """Raises TaskError when the logits of a sample have not the shape that the target asks for."""
    wanted: tuple[int, ...] = (len(task.classes),)
    if task.target == "pixels":
        wanted += task.input[1:]
    if shape != wanted:
        raise TaskError(
            f"{task.name}: logits of shape [n, {', '.join(map(str, shape))}], but {task.target} of "
            f"{len(task.classes)} classes take [n, {', '.join(map(str, wanted))}]; "
            f"correct the head: {task.head.term}"
        )
