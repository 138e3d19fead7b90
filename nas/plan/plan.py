"""A network as a plan: operators with input streams and parameter names, by integer arithmetic."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from nas.op import EVAL, Args, Operator, Param, Phase, Shape, Shapes
from nas.op.sequence import convolve, grid
from nas.plan.memory import peak

if TYPE_CHECKING:
    import networkx as nx
    from torch import Tensor


class Step(NamedTuple):
    """One operator applied: `inputs` and `outputs` number the plan's values.

    `name` is an identifier, unique in the plan; `slot` is the bank's key for its parameters, and
    `part` says of what composite operator it is which part, "" where it is none.
    """

    operator: Operator
    args: Args
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: Shapes
    name: str
    slot: str
    params: tuple[Param, ...]
    flops: int
    part: str = ""


class Precision(NamedTuple):
    """In how many bits a network runs, and of eight how many percent of its weights have four."""

    bits: int = 32
    low: int = 0

    def __str__(self) -> str:
        return "32 bits" if self.bits == 32 else f"8 bits, {self.low} % of its weights 4"


FLOAT = Precision()


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in order; value 0 is the input. `outputs` names the values that are results:
    the tasks where there are heads, the trunk's outputs otherwise."""

    input: Shape
    steps: tuple[Step, ...]
    shapes: tuple[Shape, ...]
    outputs: Mapping[str, int]
    precision: Precision = FLOAT

    @cached_property
    def readers(self) -> Counter[int]:
        """How often each value is read, by steps and as a result."""
        read = Counter(value for step in self.steps for value in step.inputs)
        read.update(self.outputs.values())
        return read

    @cached_property
    def convolutions(self) -> Mapping[int, tuple[int, int]]:
        """Where im2col, linear and col2im follow each other and nothing else reads what is between:
        the numbers of the first two steps by that of the last. They run as one convolution."""
        maker = {value: i for i, step in enumerate(self.steps) for value in step.outputs}
        read = self.readers

        def before(i: int | None, name: str) -> int | None:
            """The step that made what step `i` reads, if it is one of that name read but once."""
            value = None if i is None else self.steps[i].inputs[0]
            j = maker.get(value) if value is not None and read[value] == 1 else None
            return j if j is not None and self.steps[j].operator.name == name else None

        fused = {}
        for i, step in enumerate(self.steps):
            linear = before(i, "linear") if step.operator.name == "col2im" else None
            windows = before(linear, "im2col")
            if linear is not None and windows is not None:
                first = self.steps[windows]
                if self.shapes[step.outputs[0]].space == grid(first.shapes[0], first.args):
                    fused[i] = windows, linear
        return fused

    @cached_property
    def params(self) -> int:
        """Trained numbers."""
        return sum(prod(p.shape) for step in self.steps for p in step.params)

    @cached_property
    def flops(self) -> int:
        """FLOPs of convolutions and matrix products for a batch of one; a multiply-add is 2."""
        return sum(step.flops for step in self.steps)

    @cached_property
    def activations(self) -> int:
        """Numbers written for a batch of one: what training keeps, and often what takes time."""
        return sum(self.shapes[i].elements for step in self.steps for i in step.outputs)

    @property
    def size_mb(self) -> float:
        """Parameters in megabytes of 1,000,000 bytes: as 32-bit floats or, where the network runs
        in integers, weights in their bits, and biases and the scale of each channel in 32."""
        if self.precision.bits == 32:
            return self.params * 4 / 1e6
        maps = [p.shape for step in self.steps for p in step.params if p.init == "fan_in"]
        weights, channels = sum(map(prod, maps)), sum(shape[0] for shape in maps)
        others = self.params - weights + channels
        return (weights * (1 - self.precision.low / 200) + 4 * others) / 1e6

    @cached_property
    def memory_kb(self) -> float:
        """What activations take at most at a time, for a batch of one, in kB of 1,000 bytes: four
        for each number, or one where the network runs in integers, as if all of it did. Weights are
        not counted."""
        return peak(self) * self.precision.bits / 8 / 1e3

    @cached_property
    def depth(self) -> int:
        """The most operators with parameters on a path from the input to a result."""
        deep = [0] * len(self.shapes)
        for step in self.steps:
            here = max(deep[i] for i in step.inputs) + bool(step.params)
            for i in step.outputs:
                deep[i] = here
        return max((deep[i] for i in self.outputs.values()), default=0)

    @cached_property
    def fingerprint(self) -> str:
        """The same for plans that compute the same but for names: a Merkle hash over the steps,
        with the operands of a sum in any order. Copies with weights of their own count apart.
        """
        hashes = {0: _digest(str(self.input))}
        applied: list[str] = []
        for step in self.steps:
            inputs = [hashes[i] for i in step.inputs]
            if step.operator.commutes:
                inputs.sort()
            args = ", ".join(f"{k}={v}" for k, v in sorted(step.args.items()))
            applied.append(_digest(step.operator.name, args, *inputs))
            hashes |= {v: _digest(applied[-1], str(i)) for i, v in enumerate(step.outputs)}
        named = [f"{name}={hashes[i]}" for name, i in sorted(self.outputs.items())]
        bits = [] if self.precision.bits == 32 else [str(self.precision)]
        return _digest(*sorted(applied), *named, *bits)

    @cached_property
    def trivial(self) -> str:
        """Why there is nothing to learn here, "" where there is: it has parameters and something
        that is not linear, and what comes out depends on the input."""
        if not self.params:
            return "it has no parameters"
        if not any(step.operator.nonlinear for step in self.steps):
            return "nothing in it is non-linear"
        constant: set[int] = set()
        for step in self.steps:
            same = step.operator.levels and step.shapes[0].dims[-1] == 1
            if same or constant.issuperset(step.inputs):
                constant.update(step.outputs)
        fixed = constant.issuperset(self.outputs.values())
        return "what comes out does not depend on the input" if fixed else ""

    def only(self, name: str) -> Plan:
        """What one of the results takes, and nothing else."""
        outputs = {name: self.outputs[name]}
        steps = alive(self.steps, outputs.values())
        return Plan(self.input, steps, self.shapes, outputs, self.precision)

    def output_shapes(self) -> dict[str, Shape]:
        return {name: self.shapes[i] for name, i in self.outputs.items()}

    def graph(self) -> nx.DiGraph:
        """The plan as a networkx graph: a node a step, with operator, shape, params and FLOPs."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_node("input", operator="input", shape=str(self.input), params=0, flops=0)
        makers = {0: "input"}
        for step in self.steps:
            graph.add_node(
                step.name,
                operator=step.operator.name,
                shape=" ".join(str(self.shapes[i]) for i in step.outputs),
                params=sum(prod(p.shape) for p in step.params),
                flops=step.flops,
            )
            graph.add_edges_from((makers[i], step.name) for i in step.inputs)
            makers |= dict.fromkeys(step.outputs, step.name)
        return graph


def alive(steps: Sequence[Step], results: Iterable[int]) -> tuple[Step, ...]:
    """The steps that results depend on, in order."""
    wanted, kept = set(results), list[Step]()
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            kept.append(step)
            wanted.update(step.inputs)
    return tuple(reversed(kept))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def run(
    plan: Plan,
    params: Sequence[Mapping[str, Tensor]],
    x: Tensor,
    phase: Phase = EVAL,
    *,
    fused: bool = True,
) -> dict[str, Tensor]:
    """The plan's results for a batch.

    x: (batch, *input). params: for each step its tensors by local name, running statistics
    among them where there are any. `fused`: convolutions written as windows, a linear map and a
    grid run as one operation, with the same results but for rounding. Raises nothing of its own.
    """
    values: list[Tensor | None] = [None] * len(plan.shapes)
    values[0] = x
    convolutions = plan.convolutions if fused else {}
    within = {i for steps in convolutions.values() for i in steps}
    for number, (step, given) in enumerate(zip(plan.steps, params, strict=True)):
        if number in within:
            continue
        if number in convolutions:
            first, linear = convolutions[number]
            image = values[plan.steps[first].inputs[0]]
            assert image is not None
            values[step.outputs[0]] = convolve(image, params[linear], plan.steps[first].args)
            continue
        inputs = tuple(values[i] for i in step.inputs)
        results = step.operator.forward(inputs, given, step.args, phase)  # type: ignore[arg-type]
        for i, result in zip(step.outputs, results, strict=True):
            values[i] = result
    return {name: values[i] for name, i in plan.outputs.items()}  # type: ignore[misc]
