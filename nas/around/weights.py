"""A module's weights as those of the largest network of its space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nas.around.error import UnreadError
from nas.around.groups import Groups, Width
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
                if axis != 1:
                    continue
                by_channel = tensor.transpose(0, 1).flatten(1).square().sum(1)
                norm = by_channel.reshape(-1, width.times).sum(1)
                parts = groups.parts(width.group) or (Width(width.group),)
                sizes = [groups.size(part.group) * part.times for part in parts]
                for part, own in zip(parts, norm.split(sizes), strict=True):
                    group, each = groups.find(part.group), own.reshape(-1, part.times).sum(1)
                    norms[group] = norms.get(group, torch.zeros_like(each)) + each
    return {
        group: norm.argsort(descending=True, stable=True)
        for group, norm in norms.items()
        if not groups.pinned(group)
    }


def ordered(read: Read, orders: Orders, groups: Groups) -> Tensor:
    """A tensor with its channels in the order of their groups."""
    tensor = read.tensor
    for axis, (group, times) in read.axes:
        order = _order(group, orders, groups)
        tensor = tensor.index_select(axis, _in_a_row(order, times))
    return tensor


def _order(group: int, orders: Orders, groups: Groups) -> Tensor:
    """The numbers of a group's channels in their order, of joined ones stream by stream."""
    parts, begin, order = groups.parts(group), 0, list[Tensor]()
    for part in parts:
        own = _in_a_row(_order(part.group, orders, groups), part.times)
        order.append(begin + own)
        begin += len(own)
    if parts:
        return torch.cat(order)
    group = groups.find(group)
    return orders.get(group, torch.arange(groups.size(group)))


def _in_a_row(order: Tensor, times: int) -> Tensor:
    return (order[:, None] * times + torch.arange(times)).flatten()


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
