"""What suits a task's data: how it is augmented, and weights by which its classes are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import F, torch
from nas.task.augment import Batch, augmented, kind_of
from nas.task.error import TaskError
from nas.task.preparation import Preparation
from nas.task.target import TARGETS

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Split, Splits

LOOKED_AT = 4000  # samples of a split
CANDIDATES = {"picture": ("flip", "shift"), "series": ("scale", "noise"), "features": ()}


def usual_augmentation(splits: Splits, target: str, classes: int) -> tuple[str, ...]:
    """What leaves the answers as they are, as far as the data shows: of the candidates for such
    samples those after which a small linear model tells held-out ones apart as well as before. So
    digits, which are upright and in the middle, are neither mirrored nor moved.

    Where that model tells nothing, pictures in colours are mirrored and moved, as is usual. Masks
    move with their pictures. Numbers may say where something is: nothing.
    """
    shape = splits.train.inputs.shape
    candidates = CANDIDATES[kind_of(shape)]
    if target == "numbers" or not candidates:
        return ()
    if target == "pixels":
        return ("shift",)
    in_colours = candidates if len(shape) == 3 and shape[0] > 1 else ()
    if target != "class":
        return in_colours
    (x, y), held_out = map(_some, (splits.train, splits.valid))
    model = _linear(x, y, classes)
    alike = {name: _told_apart_alike(model, *held_out, name, classes) for name in candidates}
    if None in alike.values():
        return in_colours
    return tuple(name for name in candidates if alike[name])


def _some(split: Split) -> tuple[Tensor, Tensor]:
    at = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:LOOKED_AT]
    return split.x_at(at), split.y_at(at)


def _small(x: Tensor) -> Tensor:
    """(n, features) float64: small copies of samples, and a one."""
    pooled = F.adaptive_avg_pool2d(x, (8, 8)) if x.dim() == 4 else F.adaptive_avg_pool1d(x, 32)
    values = pooled.flatten(1).double()
    return torch.cat([values, torch.ones(len(values), 1, dtype=values.dtype)], 1)


def _linear(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """(features, classes): ridge regression of classes on small copies."""
    features, wanted = _small(x), F.one_hot(y, classes).double()
    ridge = torch.eye(features.shape[1], dtype=torch.float64) * (0.1 * len(x))
    weights: Tensor = torch.linalg.solve(features.T @ features + ridge, features.T @ wanted)
    return weights


def _told_apart_alike(model: Tensor, x: Tensor, y: Tensor, name: str, classes: int) -> bool | None:
    """Whether a model says as much of changed samples as of those themselves, by two deviations of
    the difference between the shares that are right; None where it says nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        changed = augmented(Batch(x, {}), [name], Preparation()).x
    right, still = ((_small(samples) @ model).argmax(1) == y for samples in (x, changed))
    n, most = len(y), float(torch.bincount(y, minlength=classes).max()) / len(y)
    if float(right.double().mean()) < most + 2 * (most * (1 - most) / n) ** 0.5:
        return None
    lost = right.double() - still.double()
    return bool(float(lost.mean()) <= 2 * float(lost.std()) / n**0.5)


def class_weights(splits: Splits, target: str, classes: int, name: str) -> Tensor:
    """(classes,) the rarer a class, the more: 1 over its share of train, 1 on average over what
    occurs; 0 for what does not."""
    if not TARGETS[target].weighted:
        raise TaskError(f"{name}: balance = 'weights' is for classes, and the target is {target}")
    shares = TARGETS[target].prior(splits.train.stored_y, classes)
    there = shares > 0
    return torch.where(there, 1 / (there.sum() * shares.clamp(min=1e-9)), 0.0).float()


def sample_weights(splits: Splits, target: str, name: str) -> Tensor:
    """(n,) of each training sample 1 over the number of its class."""
    if target != "class":
        raise TaskError(f"{name}: balance = 'sampler' is for a class a sample, and not {target}")
    y = splits.train.y
    return 1 / torch.bincount(y).clamp(min=1)[y].float()
