"""A number, or several, a sample: regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np, torch
from nas.task.error import TaskError
from nas.task.target.base import Collected, Encoded, Metric, Target, unique

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array, Units


ERRORS = (
    Metric("rmse", "", larger_is_better=False),
    Metric("mae", "", larger_is_better=False),
    Metric("r2"),
)


class Numbers(Target):
    """y is (n, numbers), each less its mean over its deviation in train, and so are logits. Metrics
    are in the units that y was given in; of several numbers each is the mean over them."""

    name, y = "numbers", "(n,) or (n, k) numbers"
    metrics = ERRORS
    merit, scaled, mixes = "r2", True, ("mixup",)

    def recognises(self, y: Array) -> bool:
        return y.ndim <= 2 and y.dtype.kind in "iuf"

    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        columns = {split: y.reshape(len(y), -1).astype(np.float64) for split, y in ys.items()}
        train = columns["train"]
        for split, y in columns.items():
            if not np.isfinite(y).all():
                at = np.argwhere(~np.isfinite(y))[0].tolist()
                raise TaskError(
                    f"{where}, {split}: y{at} is missing or infinite; each sample needs its "
                    "numbers: leave those without out"
                )
        names = classes or tuple(
            f"y{i}" if train.shape[1] > 1 else "y" for i in range(train.shape[1])
        )
        unique(names, where)
        if len(names) != train.shape[1]:
            raise TaskError(f"{where}: {train.shape[1]} numbers a sample but {len(names)} names")
        mean, deviation = train.mean(0), train.std(0)
        units = tuple(
            zip(mean.tolist(), np.where(deviation > 0, deviation, 1).tolist(), strict=True)
        )
        scaled = {
            split: ((y - mean) / [d for _, d in units]).astype(np.float32)
            for split, y in columns.items()
        }
        return Encoded(names, scaled, (), units)

    def rescaled(self, ys: dict[str, Array], units: Units) -> tuple[dict[str, Array], Units]:
        train = ys["train"].astype(np.float64)
        mean, deviation = train.mean(0), train.std(0)
        deviation[deviation == 0] = 1
        scaled = {s: ((y - mean) / deviation).astype(np.float32) for s, y in ys.items()}
        pairs = zip(units, mean.tolist(), deviation.tolist(), strict=True)
        return scaled, tuple((m + a * d, d * b) for (m, d), a, b in pairs)

    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        if (y == y[:1]).all():
            raise TaskError(f"{where}: every y of train is the same: there is nothing to learn")

    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        """Huber's loss (1964): squared up to one deviation, then linear, so that a few far samples
        do not rule a batch."""
        return F.huber_loss(logits, y)

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        return F.mse_loss(logits, teacher)

    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        return _errors(logits.double(), y.double())

    def meter(self, units: Units = ()) -> Errors:
        return Errors(self, units)

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Units = ()) -> Any:
        values = logits.double() * _deviation(units) + _mean(units)
        return dict(zip(classes, values.tolist(), strict=True))

    def answer(self, logits: Tensor, input: tuple[int, ...], units: Units = ()) -> Array:
        values: Array = (logits.double() * _deviation(units) + _mean(units)).numpy()
        return values

    def words(self, shown: Any, most: int) -> str:
        return ", ".join(f"{name} {value:.6g}" for name, value in shown.items())

    def prior(self, y: Tensor, classes: int) -> Tensor:
        return y.double().mean(0)

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Any:
        return prior.float()

    def balance(self, prior: Tensor, classes: tuple[str, ...]) -> str:
        return f"of {', '.join(classes)}, less the mean over the deviation of train"


class Errors(Collected):
    """Errors in the units of y."""

    def __init__(self, target: Target, units: Units):
        super().__init__(target)
        self.units = units

    def score(self) -> dict[str, float]:
        logits, y = torch.cat(self.logits).double(), torch.cat(self.ys).double()
        mean, deviation = _mean(self.units), _deviation(self.units)
        return _errors(logits * deviation + mean, y * deviation + mean)


def _errors(predicted: Tensor, y: Tensor) -> dict[str, float]:
    """Root mean squared and mean absolute error and R², each the mean over the numbers."""
    error = predicted - y
    squared, spread = (error**2).mean(0), ((y - y.mean(0)) ** 2).mean(0)
    return {
        "rmse": float(squared.sqrt().mean()),
        "mae": float(error.abs().mean()),
        "r2": float((1 - squared / spread).mean()) if bool((spread > 0).all()) else float("nan"),
    }


def _mean(units: Units) -> Tensor:
    return torch.tensor([mean for mean, _ in units] or [0.0], dtype=torch.float64)


def _deviation(units: Units) -> Tensor:
    return torch.tensor([deviation for _, deviation in units] or [1.0], dtype=torch.float64)
