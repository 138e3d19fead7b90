"""One class a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np
from nas.task.error import TaskError
from nas.task.target.base import (
    NLL,
    Encoded,
    Metric,
    Target,
    agreement,
    by_share,
    categorical_distance,
    named_classes,
    numbered,
    possible,
    shares,
    two_values,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array


class Class(Target):
    """y is (n,) class numbers, logits (n, classes)."""

    name, y = "class", "(n,) classes, as whole numbers or strings"
    metrics = (Metric("accuracy"), NLL)
    weighted = True

    def recognises(self, y: Array) -> bool:
        return y.ndim == 1 and y.dtype.kind in "iuU"

    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        classes, values = named_classes(ys["train"], classes, where)
        return Encoded(
            classes, {split: numbered(y, values, f"{where}, {split}") for split, y in ys.items()}
        )

    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        counts = np.bincount(y, minlength=len(classes))
        two_values(counts, where)
        if counts.min() < 2:
            raise TaskError(
                f"{where}: class {classes[int(counts.argmin())]!r} has {counts.min()} samples in "
                "train; each class needs 2 or more: add samples of it, leave it out, or where y is "
                "a quantity say target = 'numbers' (?predict=numbers)"
            )

    def strata(self, y: Array) -> Array:
        return y

    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        """Cross entropy in nats. Smoothing mixes the target with the uniform distribution (Szegedy
        et al. 2016, section 7)."""
        return F.cross_entropy(logits, y, weights, label_smoothing=label_smoothing)

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        return categorical_distance(logits, teacher)

    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        return {"accuracy": agreement(logits.argmax(1), y)}

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Any = ()) -> Any:
        return by_share(logits.softmax(0), classes)

    def prior(self, y: Tensor, classes: int) -> Tensor:
        return shares(y, classes)

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Any:
        return possible(prior).log()
