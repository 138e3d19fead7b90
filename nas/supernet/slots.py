"""Where a step's parameters lie in a bank: the key of a slot, and the slice of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from nas.lazy import torch
from nas.op import Param
from nas.plan import FEATURES, Plan, Step, own_output

if TYPE_CHECKING:
    from torch import Tensor

OWN = own_output("")  # how the rules begin that are decoders of tasks
Box = tuple[slice, ...]
Keys = list[list[tuple[Param, str]]]


class BankError(ValueError):
    """A bank that does not fit memory, a file that is none, a slice larger than its slot."""


def named(plan: Plan, share: str = "path") -> Keys:
    """For each step its parameters with their slots' keys, as steps share weights by a policy.

    path: a slot for each place in the grammar. tasks: the same, but the decoders of tasks share
    theirs, except what is a task's own. stage: one for each operator, with its shape
    arguments, at each stage of a network, which is the kind and the resolution of what enters.
    index: the same, but the first such operator of a network, the second and so on apart.
    operator: one for each operator, whatever the resolution. Parts of a composite operator and
    heads of tasks are always apart.
    """
    if share == "path":
        return [keys(step) for step in plan.steps]
    if share == "tasks":
        return [[(param, _of_tasks(param, key)) for param, key in keys(s)] for s in plan.steps]
    met: Counter[str] = Counter()
    slots: Keys = []
    for step in plan.steps:
        slot = _shared(step, share)
        if share == "index":
            met[slot] += 1
            slot += f"#{met[slot] - 1}"
        params = (_whole(param) for param in step.params)  # streams differ by place
        slots.append([(param, f"{slot}.{param.name}") for param in params])
    return slots


def _whole(param: Param) -> Param:
    """A parameter without segments."""
    return param._replace(segments=()) if param.segments else param


def keys(step: Step) -> list[tuple[Param, str]]:
    """Each parameter of a step with the key of a slot of its own."""
    return [(param, f"{step.slot}.{param.name}") for param in step.params]


def _of_tasks(param: Param, key: str) -> str:
    """A slot's key, the same in the decoders of all tasks where tasks share it."""
    if param.own or not key.startswith(OWN):
        return key
    return f"{OWN}all/{key.partition('/')[2]}"


def _shared(step: Step, share: str) -> str:
    if step.slot.startswith(("head/", f"{FEATURES}/")):
        return step.slot
    words, shape = step.slot.partition(":")[2], step.shapes[0]
    sizes = "x".join(map(str, shape.space)) if share != "operator" else f"{len(shape.dims)}"
    return f"{shape.kind} {sizes}/{step.part}:{words}"


def slices(shape: Sequence[int], whole: Sequence[int], centred: int) -> Box:
    """Where a smaller parameter lies in a larger: leading elements, and on the last `centred`
    axes the middle ones. Raises BankError where it is no part of it."""
    if len(shape) != len(whole) or any(a > b for a, b in zip(shape, whole, strict=True)):
        raise BankError(f"a parameter of {shape} is no slice of a slot of {whole}")
    first_centred = len(shape) - centred
    starts = [
        (b - a) // 2 if i >= first_centred else 0
        for i, (a, b) in enumerate(zip(shape, whole, strict=True))
    ]
    return tuple(slice(at, at + size) for at, size in zip(starts, shape, strict=True))


def boxes(param: Param, whole: Param) -> tuple[list[Box], int]:
    """Where a smaller parameter lies in a larger one: in one box or, where joined streams lie along
    an axis, in one for each of those that do not follow each other; and along which axis."""
    parts, wholes = param.segments, whole.segments
    axis = next((i for i, sizes in enumerate(wholes) if sizes), None)
    if axis is None or len(parts) != len(wholes) or len(parts[axis]) != len(wholes[axis]):
        return [slices(param.shape, whole.shape, param.centred)], 0
    rest = slices(
        (*param.shape[:axis], 0, *param.shape[axis + 1 :]),
        (*whole.shape[:axis], 0, *whole.shape[axis + 1 :]),
        param.centred,
    )
    spans, begin = list[slice](), 0
    for size, most in zip(parts[axis], wholes[axis], strict=True):
        if size > most:
            raise BankError(f"a stream of {size} channels is no part of one of {most}")
        if spans and spans[-1].stop == begin:
            spans[-1] = slice(spans[-1].start, begin + size)
        else:
            spans.append(slice(begin, begin + size))
        begin += most
    return [(*rest[:axis], span, *rest[axis + 1 :]) for span in spans], axis


def take(tensor: Tensor, boxes: Sequence[Box], axis: int) -> Tensor:
    """A tensor's elements in boxes, one behind the other along an axis; of one box a view."""
    if len(boxes) == 1:
        return tensor[boxes[0]]
    return torch.cat([tensor[box] for box in boxes], axis)


def put(tensor: Tensor, value: Tensor, boxes: Sequence[Box], axis: int) -> None:
    """Give a tensor's elements in boxes those of a value, a box behind the other along an axis."""
    sizes = [box[axis].stop - box[axis].start for box in boxes]
    for box, part in zip(boxes, value.split(sizes, axis), strict=True):
        tensor[box].copy_(part)


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds some."""
    return tuple(
        slice(min(s.start for s in axis), max(s.stop for s in axis))
        for axis in zip(*boxes, strict=True)
    )


def within(box: Box, outer: Box) -> Box:
    """A box as it lies in an outer one."""
    return tuple(
        slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, outer, strict=True)
    )


def largest(pairs: Iterable[tuple[Param, str]]) -> dict[str, Param]:
    """Every slot of some parameters with the elementwise largest shape; with segments where the
    largest stream of each is in one parameter, and a slot of these no larger than without."""
    pairs = list(pairs)
    whole = _spanned(pairs, max)
    if not any(param.segments for param, _ in pairs):
        return whole
    plain = _spanned(((_whole(param), key) for param, key in pairs), max)
    return {
        key: param if param.shape == plain[key].shape else plain[key]
        for key, param in whole.items()
    }


def smallest(pairs: Iterable[tuple[Param, str]]) -> dict[str, Param]:
    """Every slot of some parameters with the elementwise smallest shape."""
    return _spanned(pairs, min)


def larger(first: Param, other: Param) -> Param:
    """A parameter as large as both."""
    return _spanned([(first, ""), (other, "")], max)[""]


def _spanned(
    pairs: Iterable[tuple[Param, str]], pick: Callable[[int, int], int]
) -> dict[str, Param]:
    slots: dict[str, Param] = {}
    for param, key in pairs:
        other = slots.setdefault(key, param)
        if (other.shape, other.segments) != (param.shape, param.segments):
            segments = _of_both(other, param, pick)
            shape = tuple(
                sum(sizes) if sizes else pick(a, b)
                for a, b, sizes in zip_longest(other.shape, param.shape, segments)
            )
            fan_in = pick(other.fan_in, param.fan_in)
            slots[key] = other._replace(shape=shape, fan_in=fan_in, segments=segments)
    return slots


def _of_both(a: Param, b: Param, pick: Callable[[int, int], int]) -> tuple[tuple[int, ...], ...]:
    """The segments of two parameters of one slot; none where these are not as many."""
    if [len(sizes) for sizes in a.segments] != [len(sizes) for sizes in b.segments]:
        return ()
    return tuple(tuple(map(pick, x, y)) for x, y in zip(a.segments, b.segments, strict=True))
