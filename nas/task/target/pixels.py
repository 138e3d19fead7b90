"""A class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np, torch
from nas.task.error import TaskError
from nas.task.target.base import (
    NLL,
    NO_CLASS,
    Encoded,
    Head,
    Meter,
    Metric,
    Target,
    agreement,
    categorical_distance,
    counts_of,
    named_classes,
    numbered,
    possible,
    shares,
    two_values,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array

LAST = "pointwise(classes, bias=1) upsample_to(height, width)"
DENSE_HEAD = Head(
    ("fine", "middle", "coarse"),
    f"[pointwise(32); pointwise(32); pointwise(32)] upsample_add batchnorm relu {LAST}",
    own=LAST,
)
IGNORED = 255  # the value of a mask that belongs to no class


class Pixels(Target):
    """y is (n, height, width) class numbers, logits (n, classes, height, width)."""

    name = "pixels"
    y = "(n, height, width) classes, as whole numbers or strings"
    metrics = (Metric("mean_iou"), NLL, Metric("pixel_accuracy"))
    head = DENSE_HEAD
    counted = "pixels"
    weighted = dense = True

    def recognises(self, y: Array) -> bool:
        return y.ndim == 3 and y.dtype.kind in "iuU"

    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        """Masks by split; pixels of 255 belong to no class where train has two others."""
        outside: dict[str, Array] = {}
        train = ys["train"]
        if train.dtype.kind != "U" and len(classes or ()) <= IGNORED:
            inside = [value for value in np.unique(train).tolist() if value != IGNORED]
            if len(inside) > 1 and any((y == IGNORED).any() for y in ys.values()):
                outside = {split: y == IGNORED for split, y in ys.items()}
                kind = train.dtype.type(inside[0])
                ys = {split: np.where(outside[split], kind, y) for split, y in ys.items()}
        classes, values = named_classes(ys["train"], classes, where)
        encoded = {split: numbered(y, values, f"{where}, {split}") for split, y in ys.items()}
        for split, at in outside.items():
            encoded[split][at] = NO_CLASS
        note = f"pixels of {IGNORED} belong to no class and are passed over"
        return Encoded(classes, encoded, (note,) if outside else ())

    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        if y.shape[1:] != input[1:]:
            raise TaskError(
                f"{where}: y has {list(y.shape[1:])} pixels but x has {list(input[1:])}; "
                "each pixel needs a class: resize y with nearest neighbours"
            )
        two_values(counts_of(y, len(classes)), where)

    def logits(self, classes: int, input: tuple[int, ...]) -> tuple[int, ...]:
        return (classes, *input[1:])

    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        """Cross entropy a pixel, in nats; those of no class are passed over, and a batch of nothing
        else has a loss of 0."""
        inside = y >= 0
        known = inside.sum().clamp(min=1) if weights is None else weights[y[inside]].sum()
        summed = F.cross_entropy(
            logits, y, weights, label_smoothing=label_smoothing, reduction="sum"
        )
        return summed / known.clamp(min=1e-6)

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        return categorical_distance(logits, teacher)

    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        predicted = logits.argmax(1)
        return {
            "mean_iou": mean_iou(predicted, y, logits.shape[1]),
            "pixel_accuracy": agreement(predicted, y),
        }

    def meter(self, units: Any = ()) -> Confusion:
        return Confusion()

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Any = ()) -> Any:
        return logits.argmax(0).numpy()

    def answer(self, logits: Tensor, input: tuple[int, ...], units: Any = ()) -> Array:
        larger = F.interpolate(logits, input[1:], mode="bilinear", align_corners=False)
        kind = torch.uint8 if logits.shape[1] <= IGNORED else torch.int32
        numbers: Array = larger.argmax(1).to(kind).numpy()
        return numbers

    def prior(self, y: Tensor, classes: int) -> Tensor:
        return shares(y, classes)

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Any:
        return possible(prior).log()[:, None, None].expand(-1, *input[1:])


class Confusion(Meter):
    """Counts pixels by class and prediction, and adds up losses."""

    def __init__(self) -> None:
        self.counts: Any = 0  # [class, prediction]
        self.nll = 0.0

    def add(self, logits: Tensor, y: Tensor) -> None:
        self.counts = self.counts + confusion(logits.argmax(1), y, logits.shape[1])
        self.nll += float(F.cross_entropy(logits, y, reduction="none").double().sum())

    def score(self) -> dict[str, float]:
        known = self.counts.sum()
        return {
            "mean_iou": iou(self.counts),
            "pixel_accuracy": float(self.counts.diagonal().sum() / known),
            "nll": self.nll / max(1.0, float(known)),
        }


def confusion(
    predicted: Tensor,  # (n, height, width) class numbers
    y: Tensor,  # (n, height, width) class numbers, below 0 where there is none
    classes: int,
) -> Tensor:  # (classes, classes) float64, on the CPU: [class, prediction]
    """How many pixels of each class were predicted as each; those of no class are passed over."""
    pairs = torch.bincount((y * classes + predicted)[y >= 0], minlength=classes**2)
    return pairs.cpu().reshape(classes, classes).double()


def iou(counts: Tensor) -> float:
    """Intersection over union, mean over the classes that occur in prediction or target."""
    both = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - both
    return float((both[union > 0] / union[union > 0]).mean())


def mean_iou(
    predicted: Tensor,  # (n, height, width) class numbers
    y: Tensor,  # (n, height, width) class numbers, below 0 where there is none
    classes: int,
) -> float:
    """Intersection over union, mean over the classes that occur in prediction or target; pixels of
    no class are passed over."""
    return iou(confusion(predicted, y, classes))
