"""Where a step's parameters lie in a bank: the key of a slot, and the slice of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from nas.op import Param
from nas.plan import Plan, Step

Box = tuple[slice, ...]
Keys = list[list[tuple[Param, str]]]


class BankError(ValueError):
    """A bank that does not fit memory, a file that is none, a slice larger than its slot."""


def named(plan: Plan, share: str = "path") -> Keys:
    """For each step its parameters with their slots' keys, as steps share weights by a policy.

    path: a slot for each place in the grammar. stage: one for each operator, with its shape
    arguments, at each stage of a network, which is the kind and the resolution of what enters.
    index: the same, but the first such operator of a network, the second and so on apart.
    operator: one for each operator, whatever the resolution. Parts of a composite operator and
    heads of tasks are always apart.
    """
    if share == "path":
        return [keys(step) for step in plan.steps]
    met: Counter[str] = Counter()
    slots: Keys = []
    for step in plan.steps:
        slot = _shared(step, share)
        if share == "index":
            met[slot] += 1
            slot += f"#{met[slot] - 1}"
        slots.append([(param, f"{slot}.{param.name}") for param in step.params])
    return slots


def keys(step: Step) -> list[tuple[Param, str]]:
    """Each parameter of a step with the key of a slot of its own."""
    return [(param, f"{step.slot}.{param.name}") for param in step.params]


def _shared(step: Step, share: str) -> str:
    if step.slot.startswith("head/"):
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
    """Every slot of some parameters with the elementwise largest shape."""
    return _spanned(pairs, max)


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
        if other.shape != param.shape:
            shape = tuple(map(pick, other.shape, param.shape))
            slots[key] = other._replace(shape=shape, fan_in=pick(other.fan_in, param.fan_in))
    return slots
