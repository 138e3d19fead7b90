"""A child's weights from its parents': what continues a part of a parent begins as that part was.

Weights follow the origin of every path (Real et al. 2017, "Large-Scale Evolution of Image
Classifiers", section 3.3, keep those whose shapes match); what is new begins as the identity
where a linear map or convolution can be one, so that a child starts out near its parent (Chen et
al. 2016, "Net2Net", section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.grammar import Derivation
from nas.grammar.tokens import Apply, CopiedBranch
from nas.lazy import nn, torch
from nas.op import Param
from nas.plan import Plan, Step
from nas.supernet.bank import Bank
from nas.supernet.slots import keys

if TYPE_CHECKING:
    from torch import Tensor

Origin = Callable[[str], tuple[int, str] | None]
Place = tuple[str, tuple[int, ...]]  # a path in the grammar, and which copy of each that holds it


@dataclass(frozen=True)
class Parent:
    """An architecture that was trained, and its tensors by slot key."""

    derivation: Derivation
    tensors: Mapping[str, Tensor]

    @staticmethod
    def of(derivation: Derivation, data: bytes) -> Parent:
        """A parent from what `trained` gave."""
        from safetensors.torch import load

        return Parent(derivation, load(data))


def trained(bank: Bank) -> bytes:
    """A bank's tensors by slot key, as safetensors."""
    from safetensors.torch import save

    return save({key: value.detach().cpu().contiguous() for key, value in bank.tensors.items()})


def inherit(
    bank: Bank, child: Derivation, planned: Plan, parents: Sequence[Parent], origin: Origin
) -> float:
    """Begin a child's bank with its parents' weights; the share of its numbers that have them.

    origin: for a path of the child the parent's number and the path there that it continues, None
    for what is new. A tensor is taken where operator, arguments and shape are the same.
    """
    here = {text: place for place, text in _places(child)}
    there = [dict(_places(parent.derivation)) for parent in parents]
    taken = whole = 0
    with torch.no_grad():
        for step in planned.steps:
            for param, key in keys(step):
                ours = bank.tensors[key]
                whole += ours.numel()
                theirs = _theirs(step, param.name, here, there, parents, origin)
                if theirs is not None and theirs.shape == ours.shape:
                    ours.copy_(theirs)
                    taken += ours.numel()
                elif _may_pass(step, planned, param):
                    _pass(ours)
    return taken / max(whole, 1)


def _theirs(
    step: Step,
    param: str,
    here: Mapping[str, Place],
    there: Sequence[Mapping[Place, str]],
    parents: Sequence[Parent],
    origin: Origin,
) -> Tensor | None:
    """The tensor that a parameter continues, if any."""
    path, separator, rest = step.slot.partition(":")
    inner = path
    while inner and inner not in here:  # an operator written as several has a path below its own
        inner = inner.rpartition(".")[0]
    if not inner:  # a task's head
        return parents[0].tensors.get(f"{step.slot}.{param}") if parents else None
    place, copies = here[inner]
    source = origin(place)
    text = there[source[0]].get((source[1].lstrip("/"), copies)) if source else None
    if source is None or text is None:
        return None
    return parents[source[0]].tensors.get(f"{text}{path[len(inner) :]}{separator}{rest}.{param}")


def _places(derivation: Derivation) -> Iterator[tuple[Place, str]]:
    """Every operator's place in the grammar with the path that it is written with."""
    written = (term.path for term in derivation.terms if isinstance(term, Apply))
    return zip(_walked(derivation.tokens, ()), written, strict=True)


def _walked(tokens: Iterable[Any], copies: tuple[int, ...]) -> Iterator[Place]:
    for token in tokens:
        if isinstance(token, CopiedBranch):
            for i in range(token.n):
                yield from _walked(token.body, (*copies, i))
        elif not isinstance(token, str):
            yield str(token[1]), copies


def _may_pass(step: Step, planned: Plan, param: Param) -> bool:
    """Whether a weight can hand on what its step takes: a map between equal shapes."""
    single = len(step.inputs) == len(step.outputs) == 1
    maps = single and param.name == "weight" and param.init == "fan_in"
    return maps and planned.shapes[step.outputs[0]] == step.shapes[0]


def _pass(weight: Tensor) -> None:
    """Begin a weight (out, in, *kernel) near the identity; its own values are a tenth as large."""
    weight *= 0.1
    out, inner = weight.shape[:2]
    if weight.ndim == 2 and out == inner:
        weight += torch.eye(out, dtype=weight.dtype, device=weight.device)
    elif 3 <= weight.ndim <= 5 and out % inner == 0:
        weight += nn.init.dirac_(torch.empty_like(weight), groups=out // inner)
