"""Any number of labels a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np
from nas.task.error import TaskError
from nas.task.target.base import (
    NLL,
    Encoded,
    Metric,
    Target,
    by_share,
    numbered,
    possible,
    two_values,
    unique,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array


class Labels(Target):
    """y is (n, labels) of 0 and 1, logits (n, labels)."""

    name, y = "labels", "(n, k) of 0 and 1"
    metrics = (Metric("average_precision"), NLL)
    mixes = ("mixup", "cutmix")

    def recognises(self, y: Array) -> bool:
        return y.ndim == 2 and y.dtype.kind in "iu"

    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        count = ys["train"].shape[1]
        classes = classes or tuple(map(str, range(count)))
        if len(classes) != count:
            raise TaskError(f"{where}: {count} labels a sample but {len(classes)} classes")
        unique(classes, where)
        encoded = {
            split: numbered(y, np.arange(2), f"{where}, {split}").astype(np.float32)
            for split, y in ys.items()
        }
        alone = all((y.sum(1) == 1).all() for y in encoded.values())
        note = "every y has exactly one 1: if it is one class a sample, give y.argmax(1)"
        return Encoded(classes, encoded, (note,) if alone else ())

    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        two_values(np.array([(y == 0).sum(), (y == 1).sum()]), where)

    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        """Binary cross entropy a label, in nats; smoothing moves y towards a half."""
        smooth = y * (1 - label_smoothing) + 0.5 * label_smoothing
        return F.binary_cross_entropy_with_logits(logits, smooth)

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Binary cross entropy to the teacher's probabilities, whose least value is their entropy
        and not 0."""
        return F.binary_cross_entropy_with_logits(logits, teacher.sigmoid())

    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        return {"average_precision": average_precision(logits, y)}

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Any = ()) -> Any:
        return by_share(logits.sigmoid(), classes)

    def answer(self, logits: Tensor, input: tuple[int, ...], units: Any = ()) -> Array:
        there: Array = (logits > 0).long().numpy()
        return there

    def prior(self, y: Tensor, classes: int) -> Tensor:
        return y.double().mean(0)

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Any:
        return possible(prior).logit()


def average_precision(
    logits: Tensor,  # (n, labels)
    y: Tensor,  # (n, labels) of 0 and 1
) -> float:
    """Mean over labels of the average precision; a label without a positive is left out.

    NaN when no label has a positive.
    """
    from sklearn.metrics import average_precision_score  # type: ignore[import-untyped, unused-ignore]

    present = y.sum(0) > 0
    if not present.any():
        return math.nan
    truth, scores = y[:, present].numpy(), logits[:, present].numpy()
    return float(average_precision_score(truth, scores, average="macro"))
