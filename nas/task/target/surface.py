"""A number for every pixel: depth, height, any dense regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.lazy import F, np, torch
from nas.task.error import TaskError
from nas.task.target.base import NO_CLASS, Encoded, Meter, Target
from nas.task.target.numbers import ERRORS
from nas.task.target.pixels import DENSE_HEAD

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array, Units


class Surface(Target):
    """y is (n, height, width) numbers, less their mean over their deviation in train, and so are
    logits (n, 1, height, width). Where y is NaN nothing is known, and nothing is asked. Metrics
    are over all pixels, in the units that y was given in."""

    name, y = "surface", "(n, height, width) numbers, NaN where nothing is known"
    metrics = ERRORS
    head = DENSE_HEAD
    merit, scaled, dense, counted = "r2", True, True, "pixels"

    def recognises(self, y: Array) -> bool:
        return y.ndim == 3 and y.dtype.kind in "iuf"

    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        for split, y in ys.items():
            if np.isinf(y).any():
                raise TaskError(f"{where}, {split}: y is infinite somewhere: NaN is not known")
        if classes and len(classes) > 1:
            raise TaskError(f"{where}: a number a pixel has one name, not {len(classes)}")
        known = {split: ~np.isnan(y) for split, y in ys.items()}
        scaled, units = _scaled(ys, known, ((0.0, 1.0),))
        return Encoded(classes or ("y",), scaled, (), units)

    def rescaled(self, ys: dict[str, Array], units: Units) -> tuple[dict[str, Array], Units]:
        return _scaled(ys, {split: y != NO_CLASS for split, y in ys.items()}, units)

    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        if y.shape[1:] != input[1:]:
            raise TaskError(
                f"{where}: y is {list(y.shape[1:])} but x {list(input[1:])}; each pixel needs "
                "a number, or NaN: resize y"
            )
        known = y[y != NO_CLASS]
        if not known.size or (known == known[:1]).all():
            raise TaskError(f"{where}: every y of train is the same: there is nothing to learn")

    def logits(self, classes: int, input: tuple[int, ...]) -> tuple[int, ...]:
        return (1, *input[1:])

    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        """Huber's loss (1964) a pixel: squared up to one deviation, then linear."""
        known = y != NO_CLASS
        summed = F.huber_loss(logits[:, 0][known], y[known], reduction="sum")
        return summed / known.sum().clamp(min=1)

    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        return F.mse_loss(logits, teacher)

    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        meter = Sums(())
        meter.add(logits, y)
        return meter.score()

    def meter(self, units: Units = ()) -> Sums:
        return Sums(units)

    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Units = ()) -> Any:
        mean, deviation = units[0] if units else (0.0, 1.0)
        return (logits[0].double() * deviation + mean).numpy().astype(np.float32)

    def answer(self, logits: Tensor, input: tuple[int, ...], units: Units = ()) -> Array:
        mean, deviation = units[0] if units else (0.0, 1.0)
        larger = F.interpolate(logits, input[1:], mode="bilinear", align_corners=False)
        values: Array = (larger[:, 0].double() * deviation + mean).float().numpy()
        return values

    def prior(self, y: Tensor, classes: int) -> Tensor:
        return y[y != NO_CLASS].double().mean().reshape(1)

    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Any:
        return prior.float()[:, None, None].expand(1, *input[1:])

    def balance(self, prior: Tensor, classes: tuple[str, ...]) -> str:
        return f"of {classes[0]} at every pixel, less the mean over the deviation of train"


def _scaled(
    ys: Mapping[str, Array], known: Mapping[str, Array], units: Units
) -> tuple[dict[str, Array], Units]:
    """Less the mean over the deviation of what is known in train; of the rest nothing is asked."""
    values = ys["train"][known["train"]].astype(np.float64)
    mean, deviation = (values.mean(), values.std()) if values.size else (0.0, 0.0)
    deviation = deviation or 1.0
    scaled = {
        split: np.where(known[split], (y - mean) / deviation, NO_CLASS).astype(np.float32)
        for split, y in ys.items()
    }
    ((before, unit),) = units
    return scaled, ((float(before + mean * unit), float(deviation * unit)),)


class Sums(Meter):
    """Adds up errors, in the units of y."""

    def __init__(self, units: Units):
        self.mean, self.deviation = units[0] if units else (0.0, 1.0)
        self.sums = torch.zeros(5, dtype=torch.float64)  # count, |e|, e², y, y²

    def add(self, logits: Tensor, y: Tensor) -> None:
        known = y != NO_CLASS
        values = y[known].double() * self.deviation
        errors = logits[:, 0][known].double() * self.deviation - values
        parts = (torch.ones_like(errors), errors.abs(), errors**2, values, values**2)
        self.sums += torch.stack([part.sum() for part in parts]).cpu()

    def score(self) -> dict[str, float]:
        count, absolute, squared, total, squares = self.sums.tolist()
        spread = squares - total**2 / max(count, 1)
        nothing = float("nan")
        return {
            "rmse": (squared / count) ** 0.5 if count else nothing,
            "mae": absolute / count if count else nothing,
            "r2": 1 - squared / spread if spread > 0 else nothing,
        }
