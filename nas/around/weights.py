"""A module's weights as those of the largest network of its space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nas.around.error import UnreadError
from nas.around.groups import Groups
from nas.around.reading import Applied, Read
from nas.plan import Plan, Step

Target = Callable[[int, Step, str], Tensor | None]
Orders = Mapping[int, Tensor]  # of each group the numbers of its channels, the important first
ADDING = ("class_token", "positional")  # operators whose tensors are added to what they read
NAMES = {"mean_space": "pool"}  # of operators that are parts of those which are read


def by_importance(applied: Sequence[Applied], groups: Groups) -> dict[int, Tensor]:
    """Of each group that may become narrower its channels, those first whose reading weights have
    the largest norm: narrow networks are the first of a width."""
    norms: dict[int, Tensor] = {}
    for entry in (entry for entry in applied if entry.operator not in ADDING):
        for tensor, axes in entry.tensors.values():
            for axis, width in axes:
                group = groups.find(width.group)
                if axis != 1 or groups.pinned(group):
                    continue
                by_channel = tensor.transpose(0, 1).flatten(1).square().sum(1)
                norm = by_channel.reshape(-1, width.times).sum(1)
                norms[group] = norms.get(group, torch.zeros_like(norm)) + norm
    return {group: norm.argsort(descending=True, stable=True) for group, norm in norms.items()}


def ordered(read: Read, orders: Orders, groups: Groups) -> Tensor:
    """A tensor with its channels in the order of their groups."""
    tensor = read.tensor
    for axis, (group, times) in read.axes:
        order = orders.get(groups.find(group))
        if order is not None:
            at = (order[:, None] * times + torch.arange(times)).flatten()
            tensor = tensor.index_select(axis, at)
    return tensor


def fill(
    plan: Plan, applied: Sequence[Applied], target: Target, orders: Orders, groups: Groups
) -> None:
    """Copy every tensor to where `target` says that a step of the plan has it. Raises UnreadError
    where the plan is of another network."""
    if len(plan.steps) != len(applied):
        raise UnreadError(f"{len(applied)} operators were read, and {len(plan.steps)} written")
    with torch.no_grad():
        for number, (step, entry) in enumerate(zip(plan.steps, applied, strict=True)):
            name = step.operator.name
            if NAMES.get(name, name).partition(":")[0] != entry.operator and step.params:
                raise UnreadError(f"{entry.path}: {entry.operator} was written as {name}")
            for local, read in entry.tensors.items():
                there, tensor = target(number, step, local), ordered(read, orders, groups)
                if there is None:
                    continue
                if there.shape != tensor.shape:
                    raise UnreadError(
                        f"{entry.path}.{local} is {list(tensor.shape)}, and in the space "
                        f"{list(there.shape)}"
                    )
                there.copy_(tensor)
