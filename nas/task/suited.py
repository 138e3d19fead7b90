"""What suits a task's data: how it is augmented, and weights by which its classes are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import torch
from nas.task.augment import kind_of, mirrored_alike
from nas.task.error import TaskError
from nas.task.target import TARGETS

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.samples import Split, Splits

LOOKED_AT = 4000  # samples of a split


def usual_augmentation(splits: Splits, target: str, classes: int) -> tuple[str, ...]:
    """What leaves the answers as they are: pictures of classes are moved, and mirrored where they
    are told apart as well in a mirror, or, in colours, where that cannot be said; masks move with
    theirs; series get louder and noisy. Numbers may say where something is: nothing."""
    shape = splits.train.inputs.shape
    kind = kind_of(shape)
    if kind == "features" or target == "numbers":
        return ()
    if kind == "series":
        return ("scale", "noise")
    if target != "class":
        return ("shift",)
    (x, y), (held_out, held_out_y) = map(_some, (splits.train, splits.valid))
    alike = mirrored_alike(x, y, held_out, held_out_y, classes)
    mirrored = shape[0] > 1 if alike is None else alike
    return ("flip", "shift") if mirrored else ("shift",)


def _some(split: Split) -> tuple[Tensor, Tensor]:
    at = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:LOOKED_AT]
    return split.x_at(at), split.y_at(at)


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
