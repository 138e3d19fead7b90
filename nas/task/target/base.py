"""What every target answers: how y is encoded, what is lost, what is measured, which head fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nas.task.cut import cut
from nas.task.error import TaskError
from nas.task.samples import Units

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Array

NO_CLASS = -100  # y of a pixel of no class: what torch's losses pass over
CHUNK = 2**22  # values of y that are worked on at a time
POOLED_HEAD = "pool linear(classes)"


@dataclass(frozen=True)
class Metric:
    """A figure of merit, its unit and the direction in which it is better."""

    name: str
    unit: str = "fraction"
    larger_is_better: bool = True


NLL = Metric("nll", "nats", larger_is_better=False)
LOSS = Metric("detection_loss", "", larger_is_better=False)  # where what is lost is no likelihood


@dataclass(frozen=True)
class Head:
    """What turns the trunk's outputs into logits. `own`: the term that follows a decoder which the
    space has for the task alone; "" is `term`, which must then read one output."""

    reads: tuple[str, ...]  # names of the trunk's outputs, as ("coarse",)
    term: str  # in the grammar language; may use classes, height, width
    own: str = ""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


class Encoded(NamedTuple):
    """The y of every split as training takes it, the names of the logits, notes on both, and of
    numbers the mean and deviation of each in train, by which they are scaled."""

    classes: tuple[str, ...]
    ys: dict[str, Array]
    notes: tuple[str, ...] = ()
    units: Units = ()


class Target(ABC):
    """What a task predicts. One record a kind, without state; the first metric judges a task."""

    name: ClassVar[str]
    y: ClassVar[str]  # what y must be, in words
    metrics: ClassVar[tuple[Metric, ...]]
    head: ClassVar[Head] = Head(("coarse",), POOLED_HEAD)
    merit: ClassVar[str] = ""  # the metric that is alike for all data, where it is not the first
    scaled: ClassVar[bool] = False  # whether y are numbers that are scaled by their units
    weighted: ClassVar[bool] = False  # whether losses can be weighted by class
    dense: ClassVar[bool] = False  # whether y is a map that lies on a picture and moves with it
    boxed: ClassVar[bool] = False  # whether y are boxes on it
    mixes: ClassVar[tuple[str, ...]] = ()  # augmentations that mix pairs, which its losses bear
    holds_out: ClassVar[bool] = False  # whether a cut leaves whole classes out of train
    counted: ClassVar[str] = "samples"  # what a share of the training data is a share of

    @abstractmethod
    def recognises(self, y: Array) -> bool:
        """Whether a training y (n, ...), of numbers or strings, is of this kind."""

    @abstractmethod
    def encode(
        self, ys: Mapping[str, Array], classes: tuple[str, ...] | None, where: str
    ) -> Encoded:
        """y by split, of which train is one; `classes` where they were named. Raises TaskError."""

    @abstractmethod
    def check(self, y: Array, input: tuple[int, ...], classes: tuple[str, ...], where: str) -> None:
        """Raise TaskError where an encoded training y does not fit the input (a sample's shape),
        or nothing can be learned from it."""

    def placed(
        self, ys: dict[str, Array], input: tuple[int, ...], classes: tuple[str, ...], where: str
    ) -> dict[str, Array]:
        """Encoded y as it lies on samples of a shape. Raises TaskError for what does not."""
        return ys

    def rescaled(self, ys: dict[str, Array], units: Units) -> tuple[dict[str, Array], Units]:
        """Encoded y once it was cut: numbers are scaled by what is left in train alone."""
        return ys, units

    def cut(
        self, y: Array, classes: int, shares: Mapping[str, float], where: str
    ) -> tuple[dict[str, Array], str]:
        """Which samples of an encoded y go to train and to the other splits that have a share, and
        in words how. Raises TaskError where there are too few."""
        from nas.lazy import np

        strata = self.strata(y)
        order = np.zeros(len(y)) if strata is None else strata
        test, valid = shares.get("test", 0), shares.get("valid", 0)
        how = "at random" if strata is None else "stratified"
        return cut(order, test, valid, where, strata is not None), how

    def settled(self, ys: Mapping[str, Array], classes: int, where: str) -> None:  # noqa: B027
        """Raise TaskError where the encoded y of some split, cut or given, cannot be measured."""

    def strata(self, y: Array) -> Array | None:
        """(n,) class numbers by which a cut is stratified; None where it is at random."""
        return None

    def logits(self, classes: int, input: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one sample's logits; -1 is any size."""
        return (classes,)

    @abstractmethod
    def loss(
        self, logits: Tensor, y: Tensor, label_smoothing: float, weights: Tensor | None = None
    ) -> Tensor:
        """Mean loss of a batch, a scalar; weights: (classes,), where the target is `weighted`."""

    @abstractmethod
    def distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Mean distance of a batch to a teacher's logits, a scalar; least where they are equal."""

    @abstractmethod
    def score(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        """Every metric but the loss's own, of a whole split."""

    def meter(self, units: Units = ()) -> Meter:
        """What scores a split batch by batch; by default it keeps all logits until the end."""
        return Collected(self)

    @abstractmethod
    def shown(self, logits: Tensor, classes: tuple[str, ...], units: Units = ()) -> Any:
        """What one sample's logits say, for a person: shares by class, the likeliest first,
        numbers by name, a list of things, or an array (height, width) that is to be drawn."""

    @abstractmethod
    def answer(self, logits: Tensor, input: tuple[int, ...], units: Units = ()) -> Array:
        """What logits (n, ...) say of samples of a shape, as a y (n, ...) of theirs is found."""

    def occurring(self, y: Array, classes: int) -> list[int]:
        """The classes of which a training y has enough to be learned."""
        return list(range(classes))

    def words(self, shown: Any, most: int) -> str:
        """What is shown of one sample in a line: the `most` likeliest classes."""
        return ", ".join(f"{name} {share:.1%}" for name, share in list(shown.items())[:most])

    @abstractmethod
    def prior(self, y: Tensor, classes: int) -> Tensor:
        """(classes,) float64: what to say of any sample when only the training y is known."""

    @abstractmethod
    def constant(self, prior: Tensor, input: tuple[int, ...]) -> Tensor:
        """The logits of one sample that say the prior; of a probability at least 1e-6."""

    def balance(self, prior: Tensor, classes: tuple[str, ...]) -> str:
        """How often what occurs in training, in words."""
        share = prior.tolist()
        low, high = share.index(min(share)), share.index(max(share))
        rarest, most = (f"{classes[i]!r} {share[i]:.1%}" for i in (low, high))
        return f"of the training {self.counted}, rarest {rarest}, most frequent {most}"


class Meter(ABC):
    """Told the batches of a split, then asked for every metric of the target."""

    @abstractmethod
    def add(self, logits: Tensor, y: Tensor) -> None: ...

    @abstractmethod
    def score(self) -> dict[str, float]: ...


class Collected(Meter):
    """Keeps all logits, for metrics of the whole: a few numbers a sample."""

    def __init__(self, target: Target):
        self.target = target
        self.logits: list[Tensor] = []
        self.ys: list[Tensor] = []

    def add(self, logits: Tensor, y: Tensor) -> None:
        self.logits.append(logits.cpu())
        self.ys.append(y.cpu())

    def score(self) -> dict[str, float]:
        from nas.lazy import torch

        logits, y = torch.cat(self.logits), torch.cat(self.ys)
        scores = self.target.score(logits, y)
        return scores | {"nll": float(self.target.loss(logits, y, 0.0))}


def numbered(
    y: Array,  # of class numbers or names
    values: Array,  # (classes,) what may occur, in the order of the logits
    where: str,
) -> Array:  # as y, of the smallest type that also holds -100
    """Each value's place in `values`. Raises TaskError for a value that is not among them."""
    from nas.lazy import np

    order, words = np.argsort(values), values.dtype.kind == "U"
    smallest = next(t for t in (np.int8, np.int16, np.int64) if len(values) <= np.iinfo(t).max)
    numbers: Array = np.empty(y.shape, smallest)
    step = max(1, CHUNK // max(1, y[0].size))
    for start in range(0, len(y), step):  # of masks that are mapped only some at a time
        part = y[start : start + step]
        place = order[np.searchsorted(values, part, sorter=order).clip(max=len(values) - 1)]
        alike = (part.dtype.kind == "U") == words
        wrong = values[place] != part if alike else np.ones(part.shape, bool)
        if wrong.any():
            first, *rest = np.argwhere(wrong)[0].tolist()
            raise TaskError(
                f"{where}: y{[start + first, *rest]} is {part[wrong][0].item()!r}, which is not "
                f"among {values[:20].tolist()}, what training or the names of the classes allow: "
                "correct it, or add samples of it to train"
            )
        numbers[start : start + step] = place
    return numbers


def counts_of(y: Array, classes: int) -> Array:
    """(classes,) how often each class number occurs, those below 0 passed over."""
    from nas.lazy import np

    counts, step = np.zeros(classes, np.int64), max(1, CHUNK // max(1, y[0].size))
    for start in range(0, len(y), step):
        part = y[start : start + step]
        counts += np.bincount(part[part >= 0], minlength=classes)[:classes]
    return counts


def named_classes(
    train: Array, classes: tuple[str, ...] | None, where: str
) -> tuple[tuple[str, ...], Array]:
    """The classes and the values of y that stand for them: as named, or all that occur in train."""
    from nas.lazy import np

    if classes:
        values = np.array(classes) if train.dtype.kind == "U" else np.arange(len(classes))
    else:
        values = np.unique(train)
        classes = tuple(map(str, values.tolist()))
    unique(classes, where)
    return classes, values


def unique(classes: tuple[str, ...], where: str) -> None:
    """Raise TaskError where two classes have one name."""
    if len(set(classes)) != len(classes):
        raise TaskError(f"{where}: classes {list(classes)} repeat; name each class once")


def two_values(
    counts: Any,  # (values,) how often each occurs
    where: str,
) -> None:
    """Raise TaskError where every y is the same."""
    if (counts > 0).sum() < 2:
        raise TaskError(
            f"{where}: every y of train is the same; there must be two classes to tell apart: "
            "add samples of another"
        )


def by_share(shares: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    """Shares by class, the largest first."""
    pairs = zip(classes, shares.tolist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: -pair[1]))


def possible(prior: Tensor) -> Tensor:
    """Probabilities within [1e-6, 1 - 1e-6], so that a likelihood stays finite."""
    return prior.clamp(1e-6, 1 - 1e-6)


def agreement(predicted: Tensor, y: Tensor) -> float:
    """The share of class numbers that agree, those below 0 passed over."""
    known = y >= 0
    return float((predicted == y)[known].double().mean())


def shares(y: Tensor, classes: int) -> Tensor:
    """(classes,) float64: each class's share of some class numbers, those below 0 passed over."""
    from nas.lazy import torch

    counts = torch.bincount(y[y >= 0], minlength=classes).double()
    return counts / counts.sum()


def categorical_distance(logits: Tensor, teacher: Tensor) -> Tensor:
    """Mean KL(teacher | logits) over everything but the class axis, which is the second (Hinton et
    al. 2015, temperature 1)."""
    from nas.lazy import F

    student, wanted = logits.log_softmax(1), teacher.log_softmax(1)
    return F.kl_div(student, wanted, reduction="none", log_target=True).sum(1).mean()
