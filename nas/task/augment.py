"""Augmentation: samples of a batch changed at random where what is to be said of them stays.

Chance is torch's, which the caller seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.lazy import torch
from nas.task.error import TaskError
from nas.task.target import Target
from nas.task.target.base import NO_CLASS
from nas.task.target.geometry import mirrored, moved_by

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.preparation import Preparation

DRAWS = 8  # times that a policy is drawn for a batch: the library draws one for all it is given
REACH = 8  # a shift is by at most one part in so many of a side
LEAST = 4  # pixels of a side of pictures that a policy can work on


class Batch(NamedTuple):
    """Samples, and the y of each task. Where pairs of samples were mixed, the share of the first in
    the loss, and the y of the others."""

    x: Tensor  # (n, *input), prepared
    y: Mapping[str, Tensor]  # by task
    share: float = 1.0
    others: Mapping[str, Tensor] | None = None  # by task

    def pieces(self, count: int) -> list[Batch]:
        """The same in so many parts."""
        if count == 1:
            return [self]

        def cut(y: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
            parts = {name: values.tensor_split(count) for name, values in y.items()}
            return [{name: part[i] for name, part in parts.items()} for i in range(count)]

        others = [None] * count if self.others is None else cut(self.others)
        xs = self.x.tensor_split(count)
        return [
            Batch(x, y, self.share, other)
            for x, y, other in zip(xs, cut(self.y), others, strict=True)
        ]


class Maps(NamedTuple):
    """A batch of x, and every y that lies on it: maps as float (n, 1, height, width), and boxes as
    their target has them, (n, boxes, 5) in shares of the picture."""

    x: Tensor
    y: dict[str, Tensor]
    boxes: dict[str, Tensor] = {}  # noqa: RUF012

    def each(
        self, move: Callable[[Tensor], Tensor], move_boxes: Callable[[Tensor], Tensor]
    ) -> Maps:
        maps = {name: move(y) for name, y in self.y.items()}
        return Maps(move(self.x), maps, {name: move_boxes(b) for name, b in self.boxes.items()})


class Augmentation(NamedTuple):
    """A name, for which inputs it is, and what it does: to samples, or to pairs of them where the
    target bears that."""

    name: str
    inputs: tuple[str, ...]  # of picture, series, features
    change: Callable[[Maps, Preparation], Maps] | None = None
    mix: Callable[[Batch], Batch] | None = None
    bytes_alone: bool = False


def flip(maps: Maps, preparation: Preparation) -> Maps:
    """Half of the pictures mirrored, left to right."""
    which = torch.rand(len(maps.x), 1, 1, 1, device=maps.x.device) < 0.5
    return maps.each(
        lambda x: torch.where(which, x.flip(-1), x),
        lambda boxes: torch.where(which[:, 0], mirrored(boxes), boxes),
    )


def shift(maps: Maps, preparation: Preparation) -> Maps:
    """Each moved along its axes; what comes in is the edge's value."""
    x = maps.x
    places: list[Tensor] = []
    by_axis: list[Tensor] = []
    for axis in range(2, x.dim()):
        side = x.shape[axis]
        most = max(1, side // REACH)
        by = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        by_axis.append(by / side)
        place = (torch.arange(side, device=x.device) + by).clamp(0, side - 1)
        places.append(place.view(len(x), 1, *(side if a == axis else 1 for a in range(2, x.dim()))))
    across = (1, 1, *(1 for _ in places))

    def moved(values: Tensor) -> Tensor:
        sample, channel = (torch.arange(s, device=x.device) for s in values.shape[:2])
        return values[sample.view(-1, *across[1:]), channel.view(1, -1, *across[2:]), *places]

    return maps.each(moved, lambda boxes: moved_by(boxes, -by_axis[1], -by_axis[0]))


def erase(maps: Maps, preparation: Preparation) -> Maps:
    """A rectangle of half of the pictures at the mean (Zhong et al. 2020, "Random erasing"); of
    nothing is known what it hides."""
    x = maps.x
    inside = _rectangle(x, torch.rand(len(x), 1, 1, 1, device=x.device) * 0.18 + 0.02)
    inside = inside & (torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5)
    hidden = {name: y.masked_fill(inside, NO_CLASS) for name, y in maps.y.items()}
    return maps._replace(x=x.masked_fill(inside, 0), y=hidden)


def mask(maps: Maps, preparation: Preparation) -> Maps:
    """Of each series some channels in a row, an eighth at most, and a stretch of time, a fifth at
    most, at the mean (SpecAugment, Park et al. 2019, sections 2 and 3)."""
    x = maps.x
    for axis, share in ((1, 1 / 8), (2, 1 / 5)):
        side, one = x.shape[axis], (len(x), 1, 1)
        width = torch.rand(one, device=x.device) * share * side
        start = torch.rand(one, device=x.device) * (side - width)
        place = torch.arange(side, device=x.device).view((1, -1, 1) if axis == 1 else (1, 1, -1))
        x = x.masked_fill((place >= start) & (place < start + width), 0)
    return maps._replace(x=x)


def scale(maps: Maps, preparation: Preparation) -> Maps:
    """Each channel a tenth louder or softer."""
    shape = (*maps.x.shape[:2], *(1 for _ in maps.x.shape[2:]))
    return maps._replace(x=maps.x * (1 + 0.1 * torch.randn(shape, device=maps.x.device)))


def noise(maps: Maps, preparation: Preparation) -> Maps:
    """A twentieth of a deviation added to every value."""
    return maps._replace(x=maps.x + 0.05 * torch.randn_like(maps.x))


def trivial(maps: Maps, preparation: Preparation) -> Maps:
    """One operation of any strength (Müller and Hutter 2021, "TrivialAugment")."""
    return _policy(_kornia("TrivialAugment"), maps, preparation)


def rand(maps: Maps, preparation: Preparation) -> Maps:
    """Two operations of medium strength (Cubuk et al. 2020, "RandAugment")."""
    return _policy(_kornia("RandAugment", n=2, m=9), maps, preparation)


@cache
def _kornia(name: str, **words: int) -> Any:
    from kornia.augmentation import auto  # type: ignore[import-untyped, unused-ignore]

    return getattr(auto, name)(**words)


def _policy(policy: Any, maps: Maps, preparation: Preparation) -> Maps:
    """Kornia's policy on values from 0 to 1, as pictures had before they were normalised."""
    from kornia.augmentation import AugmentationSequential
    from kornia.constants import DataKey  # type: ignore[import-untyped, unused-ignore]

    across = (1, -1, 1, 1)
    mean, deviation = (
        torch.tensor(values, dtype=torch.float32, device=maps.x.device).view(across)
        for values in (preparation.mean, preparation.deviation)
    )
    grey = maps.x.shape[1] == 1
    shares = (maps.x * deviation + mean).clamp(0, 1)
    shares = shares.expand(-1, 3, -1, -1) if grey else shares
    names = list(maps.y)
    parts: list[tuple[Tensor, ...]] = []
    resample = {DataKey.MASK: {"resample": "nearest", "align_corners": None}}
    together = AugmentationSequential(
        policy, data_keys=["input", *["mask"] * len(names)], extra_args=resample
    )
    masks = [maps.y[name] - NO_CLASS for name in names]  # what comes in is 0: no class
    split = (t.tensor_split(min(DRAWS, len(maps.x))) for t in (shares, *masks))
    for part in zip(*split, strict=True):
        changed = together(*part) if names else (policy(*part),)
        parts.append(tuple(changed))
    x, *ys = (torch.cat(some) for some in zip(*parts, strict=True))
    x = x.mean(1, keepdim=True) if grey else x
    y = {name: values + NO_CLASS for name, values in zip(names, ys, strict=True)}
    return maps._replace(x=(x - mean) / deviation, y=y)


def mixup(batch: Batch) -> Batch:
    """Each sample mixed with another by one share (Zhang et al. 2018, "mixup", with α = 0.2)."""
    share = float(torch.distributions.Beta(0.2, 0.2).sample())
    order = torch.randperm(len(batch.x)).to(batch.x.device)
    others = {name: y[order] for name, y in batch.y.items()}
    return Batch(share * batch.x + (1 - share) * batch.x[order], batch.y, share, others)


def cutmix(batch: Batch) -> Batch:
    """A rectangle of another picture in half of the batches (Yun et al. 2019, "CutMix", α = 1)."""
    if torch.rand(()) < 0.5:
        return batch
    x, order = batch.x, torch.randperm(len(batch.x)).to(batch.x.device)
    inside = _rectangle(x[:1], torch.rand(1, 1, 1, 1, device=x.device))
    others = {name: y[order] for name, y in batch.y.items()}
    share = 1 - float(inside.float().mean())
    return Batch(torch.where(inside, x[order], x), batch.y, share, others)


def _rectangle(x: Tensor, area: Tensor) -> Tensor:
    """(n, 1, height, width) bool: somewhere in each picture a rectangle of that share of it, less
    what reaches out."""
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    shape = torch.exp(torch.rand_like(area) - 0.5)  # how much higher than wide
    for axis, share in ((2, area.sqrt() * shape), (3, area.sqrt() / shape)):
        side = x.shape[axis]
        centre = torch.rand_like(area) * side
        place = torch.arange(side, device=x.device).view((-1, 1) if axis == 2 else (1, -1)) + 0.5
        inside = inside & ((place - centre).abs() <= share * side / 2)
    return inside


PICTURES, EVERY = ("picture",), ("picture", "series", "features")
AUGMENTATIONS = {
    a.name: a
    for a in (
        Augmentation("flip", PICTURES, flip),
        Augmentation("shift", ("picture", "series"), shift),
        Augmentation("trivial", PICTURES, trivial, bytes_alone=True),
        Augmentation("rand", PICTURES, rand, bytes_alone=True),
        Augmentation("scale", ("series", "features"), scale),
        Augmentation("mask", ("series",), mask),
        Augmentation("noise", EVERY, noise),
        Augmentation("erase", PICTURES, erase),
        Augmentation("mixup", EVERY, mix=mixup),
        Augmentation("cutmix", PICTURES, mix=cutmix),
    )
}  # in the order in which they are done


def kind_of(input: tuple[int, ...]) -> str:
    """What samples of a shape are: a picture, a series or features."""
    if len(input) == 3 and max(input[1:]) > 1:
        return "picture"
    return "series" if len(input) == 2 and input[1] > 1 else "features"


def fault_of(
    names: Sequence[str], input: tuple[int, ...], target: Target, preparation: Preparation
) -> str:
    """Why a task cannot be augmented so, "" where it can."""
    kind = kind_of(input)
    for name in names:
        known = AUGMENTATIONS.get(name)
        if known is None:
            return f"{name!r} is no augmentation; there are none, auto, {', '.join(AUGMENTATIONS)}"
        if kind not in known.inputs:
            return f"{name} is for {' and '.join(known.inputs)}, and samples of {input} are {kind}"
        if known.mix and name not in target.mixes:
            return f"{name} mixes pairs of samples, which a target of {target.name!r} does not bear"
        if known.bytes_alone and target.boxed:
            return f"{name} turns and bends pictures, and boxes stay upright: say flip and shift"
        if known.bytes_alone and (preparation.scale != 255 or input[0] not in (1, 3)):
            return f"{name} is for pictures of bytes, in grey or red, green and blue"
        if known.bytes_alone and min(input[1:]) < LEAST:
            return f"{name} is for pictures of {LEAST} pixels a side and more"
    if {"trivial", "rand"} <= set(names):
        return "trivial and rand are two policies: say one"
    return ""


def augmented(
    batch: Batch,
    names: Sequence[str],
    preparation: Preparation,
    dense: Sequence[str] = (),  # tasks whose y is a map that lies on x
    boxed: Sequence[str] = (),  # and of boxes
) -> Batch:
    """The batch with augmentations of those names, in the order of the table."""
    laid = {name: batch.y[name].unsqueeze(1).float() for name in dense}
    boxes = {name: batch.y[name] for name in boxed}
    asked = [augmentation for name, augmentation in AUGMENTATIONS.items() if name in names]
    maps, mixing = Maps(batch.x, laid, boxes), [a.mix for a in asked if a.mix]
    for augmentation in asked:
        if augmentation.change:
            maps = augmentation.change(maps, preparation)
    y = dict(batch.y)
    for name, values in maps.y.items():
        numbers = y[name].is_floating_point()
        y[name] = values.squeeze(1) if numbers else values.squeeze(1).round().long()
    batch = Batch(maps.x, y | maps.boxes)
    if mixing:  # one of them, where there are several
        batch = mixing[int(torch.randint(len(mixing), ()))](batch)
    return batch


def agreed(tasks: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The augmentation of tasks that have their samples in common; raises TaskError where they are
    not of one mind."""
    if len(set(tasks.values())) > 1:
        asked = ", ".join(f"{name}: {' '.join(names) or 'none'}" for name, names in tasks.items())
        raise TaskError(f"tasks of the same samples are augmented alike, and these say {asked}")
    return next(iter(tasks.values()), ())
