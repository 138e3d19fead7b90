"""What suits a task's data: how it is augmented, and weights by which its classes are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas.lazy import F, torch
from nas.task.augment import Batch, augmented, kind_of
from nas.task.error import TaskError
from nas.task.preparation import Preparation
from nas.task.target import Target

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Split, Splits

LOOKED_AT, AT_ONCE = 1000, 2**22  # samples of a split; values of them that are worked on together
CANDIDATES = {"picture": ("flip", "shift"), "series": ("scale", "noise"), "features": ()}


def usual_augmentation(splits: Splits, target: Target, classes: int) -> tuple[str, ...]:
    """What leaves the answers as they are, as far as the data shows: of the candidates for such
    samples those after which a small linear model tells held-out ones apart as well as before. So
    digits, which are upright and in the middle, are neither mirrored nor moved.

    Where that model tells nothing, pictures in colours are mirrored and moved, as is usual. Masks
    and boxes move with their pictures. Numbers may say where something is: nothing.
    """
    shape = splits.train.inputs.shape
    candidates = CANDIDATES[kind_of(shape)]
    if target.dense or target.boxed:
        return ("shift",)
    if target.scaled or not candidates:
        return ()
    channels = splits.train.inputs.preparation.found(shape)[0]
    in_colours = candidates if len(shape) == 3 and channels > 1 else ()
    if target.strata(splits.train.stored_y[:1].numpy()) is None:
        return in_colours
    x, y = _small(splits.train)
    wanted = F.one_hot(y, classes).double()
    ridge = torch.eye(x.shape[1], dtype=torch.float64) * (0.1 * len(x))
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ wanted)

    held_out, held_out_y = _small(splits.valid)

    def right(features: Tensor) -> Tensor:
        """Which of the held-out samples the model is right on."""
        agree: Tensor = (features @ weights).argmax(1) == held_out_y
        return agree.double()

    as_they_are, n = right(held_out), len(held_out_y)
    most = float(torch.bincount(held_out_y).max()) / n
    if float(as_they_are.mean()) < most + 2 * (most * (1 - most) / n) ** 0.5:
        return in_colours  # by two deviations no better than the most frequent class
    lost = {name: as_they_are - right(_small(splits.valid, name)[0]) for name in candidates}
    return tuple(name for name in candidates if lost[name].mean() <= 2 * lost[name].std() / n**0.5)


def _small(split: Split, name: str = "") -> tuple[Tensor, Tensor]:
    """Small copies of some samples, changed as named, and a one: (n, features) float64; and y."""
    at = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:LOOKED_AT]
    copies = list[Any]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for some in at.split(max(1, AT_ONCE // split.inputs.size)):
            x = augmented(Batch(split.x_at(some), {}), [name], Preparation()).x
            pooled = F.adaptive_avg_pool2d(x, 8) if x.dim() == 4 else F.adaptive_avg_pool1d(x, 32)
            copies.append(F.pad(pooled.flatten(1).double(), (0, 1), value=1.0))
    return torch.cat(copies), split.y_at(at)


def class_weights(splits: Splits, target: Target, classes: int, name: str) -> Tensor:
    """(classes,) the rarer a class, the more: 1 over its share of train, 1 on average over what
    occurs; 0 for what does not."""
    if not target.weighted:
        raise TaskError(f"{name}: balance = 'weights' is for classes, not for {target.name}")
    shares = target.prior(splits.train.stored_y, classes)
    there = shares > 0
    return torch.where(there, 1 / (there.sum() * shares.clamp(min=1e-9)), 0.0).float()


def sample_weights(splits: Splits, target: Target, name: str) -> Tensor:
    """(n,) of each training sample 1 over the number of its class."""
    y = splits.train.y
    if target.strata(y.numpy()) is None:
        raise TaskError(f"{name}: balance = 'sampler' is for a class a sample, not {target.name}")
    return 1 / torch.bincount(y).clamp(min=1)[y].float()
