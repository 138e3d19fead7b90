"""Metrics: how well logits answer a whole split, and how well the training prior alone would."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from nas.task.losses import check_logits, loss
from nas.task.task import Task

if TYPE_CHECKING:
    from torch import Tensor

METRICS: dict[str, bool] = {  # name -> is larger better
    "accuracy": True,
    "average_precision": True,
    "mean_iou": True,
    "pixel_accuracy": True,
    "nll": False,
}
NAMES = {
    "class": ("accuracy", "nll"),
    "labels": ("average_precision", "nll"),
    "pixels": ("mean_iou", "nll", "pixel_accuracy"),
}


def score(
    task: Task,
    logits: Tensor,  # class, labels: (n, classes); pixels: (n, classes, height, width)
    y: Tensor,  # as in Split
) -> dict[str, float]:
    """The primary metric, nll in nats and, for pixels, pixel_accuracy, of a whole split.

    Every value is NaN where a logit is NaN or infinite: such a network gives no answer.
    """
    check_logits(task, logits)
    logits, y = logits.detach().float().cpu(), y.detach().cpu()
    if not logits.isfinite().all():
        return dict.fromkeys(NAMES[task.target], math.nan)
    nll = float(loss(task, logits, y))
    if task.target == "class":
        return {"accuracy": _agreement(logits.argmax(1), y), "nll": nll}
    if task.target == "labels":
        return {"average_precision": average_precision(logits, y), "nll": nll}
    said = logits.argmax(1)
    return {
        "mean_iou": mean_iou(said, y, len(task.classes)),
        "nll": nll,
        "pixel_accuracy": _agreement(said, y),
    }


def _agreement(said: Tensor, y: Tensor) -> float:
    known = y >= 0
    return float((said == y)[known].double().mean())


def average_precision(
    logits: Tensor,  # (n, classes)
    y: Tensor,  # (n, classes) of 0 and 1
) -> float:
    """Mean over classes of the average precision; a class without a positive is left out.

    NaN when no class has a positive.
    """
    from sklearn.metrics import average_precision_score  # type: ignore[import-untyped, unused-ignore]

    present = y.sum(0) > 0
    if not present.any():
        return math.nan
    truth, scores = y[:, present].numpy(), logits[:, present].numpy()
    return float(average_precision_score(truth, scores, average="macro"))


def mean_iou(
    said: Tensor,  # (n, height, width) class numbers
    y: Tensor,  # (n, height, width) class numbers, below 0 where there is none
    classes: int,
) -> float:
    """Intersection over union, mean over the classes that occur in prediction or target; pixels of
    no class are passed over."""
    import torch

    pairs = torch.bincount((y * classes + said)[y >= 0], minlength=classes**2)
    confusion = pairs.reshape(classes, classes).double()  # [target, prediction]
    both = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - both
    return float((both[union > 0] / union[union > 0]).mean())


def prior(task: Task) -> Tensor:
    """(classes,) float64: each class's share of the training samples, or pixels."""
    import torch

    y = task.splits().train.y
    if task.target == "labels":
        return y.double().mean(0)
    counts = torch.bincount(y[y >= 0], minlength=len(task.classes)).double()
    return counts / counts.sum()


def trivial_score(task: Task, split: Literal["valid", "test"] = "test") -> dict[str, float]:
    """The score on a split of a predictor that always says the training prior.

    Probabilities are kept within [1e-6, 1 - 1e-6], so that nll stays finite.
    """
    test = task.splits().test if split == "test" else task.splits().valid
    share = prior(task).clamp(1e-6, 1 - 1e-6)
    logits = share.logit() if task.target == "labels" else share.log()
    if task.target == "pixels":
        return score(task, logits[:, None, None].expand(len(test), -1, *task.input[1:]), test.y)
    return score(task, logits.expand(len(test), -1), test.y)
