"""One class a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np, torch
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

FEWEST = 2  # samples of a class in train


class Class(Target):
    """y is (n,) class numbers, logits (n, classes)."""

    name, y = "class", "(n,) classes, as whole numbers or strings"
    metrics = (
        Metric("accuracy"),
        NLL,
        Metric("balanced_accuracy"),
        Metric("macro_f1"),
        Metric("auroc"),
    )
    weighted, mixes = True, ("mixup", "cutmix")

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
        if counts.min() < FEWEST:
            raise TaskError(
                f"{where}: class {classes[int(counts.argmin())]!r} has {counts.min()} samples in "
                f"train; each class needs {FEWEST} or more: add samples of it, leave it out, or "
                "where y is a quantity say target = 'numbers' (?predict=numbers)"
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
        predicted = logits.argmax(1)
        return {"accuracy": agreement(predicted, y), "auroc": auroc(logits, y)} | by_class(
            predicted, y, logits.shape[1]
        )

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Any = ()) -> Any:
        return by_share(logits.softmax(0), classes)

    def answer(self, logits: Tensor, input: tuple[int, ...], units: Any = ()) -> Array:
        numbers: Array = logits.argmax(1).numpy()
        return numbers

    def occurring(self, y: Array, classes: int) -> list[int]:
        kept: list[int] = np.flatnonzero(np.bincount(y, minlength=classes) >= FEWEST).tolist()
        return kept

    def prior(self, y: Tensor, classes: int) -> Tensor:
        return shares(y, classes)

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Any:
        return possible(prior).log()


def by_class(
    predicted: Tensor,  # (n,) class numbers
    y: Tensor,  # (n,) class numbers
    classes: int,
) -> dict[str, float]:
    """Means over classes: of recall over those that occur in y, of F1 over those that occur in y or
    are predicted."""
    counts = torch.bincount(y * classes + predicted, minlength=classes**2)
    counts = counts.reshape(classes, classes).double()
    right, there, said = counts.diagonal(), counts.sum(1), counts.sum(0)
    either = there + said > 0
    return {
        "balanced_accuracy": float((right / there)[there > 0].mean()),
        "macro_f1": float((2 * right / (there + said))[either].mean()),
    }


def auroc(
    logits: Tensor,  # (n, classes)
    y: Tensor,  # (n,) class numbers
) -> float:
    """The probability that a sample of a class has more of its share than one of another class,
    mean over the classes that occur beside others (Hand and Till 2001, one against the rest); NaN
    where there is one class alone."""
    from scipy.stats import rankdata  # type: ignore[import-untyped, unused-ignore]

    ranks = torch.from_numpy(rankdata(logits.softmax(1).double().numpy(), axis=0))
    own = F.one_hot(y, logits.shape[1]).double()
    positive, negative = own.sum(0), (1 - own).sum(0)
    above = (ranks * own).sum(0) - positive * (positive + 1) / 2
    return float((above / (positive * negative))[(positive > 0) & (negative > 0)].mean())
