"""A network as a plan: operators with input streams and parameter names, by integer arithmetic.

A plan is worked out once from a derivation, an input shape and the heads of tasks. A Network
runs it on its own parameters, a subnet on views of a bank; costs and code walk the same plan.
"""

from __future__ import annotations

import hashlib
import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from nas.grammar import Apply, Derivation, Grammar
from nas.grammar.derivation import Input
from nas.grammar.derive import derive_fixed
from nas.grammar.tokens import CLOSE, NEXT, OPEN, Token
from nas.op import EVAL, Args, Operator, Param, Phase, Shape, Shapes, Value, infer
from nas.op.sequence import convolve, grid

if TYPE_CHECKING:
    import networkx as nx
    from torch import Tensor

    from nas.task import Task


LONGEST = 60  # letters of a step's name that is written out with its place
RESERVED = frozenset(keyword.kwlist) | frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu
    cuda derivation double dump_patches eval extra_repr float forward get_buffer
    get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia
    named_buffers named_children named_modules named_parameters parameters params plan
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook
    requires_grad_ set_extra_state set_submodule share_memory state_dict tensors to to_empty
    train training type xpu zero_grad
    """.split()
)  # what a torch module calls its own: no step may be named so


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


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in order; value 0 is the input. `outputs` names the values that are results:
    the tasks where there are heads, the trunk's outputs otherwise."""

    input: Shape
    steps: tuple[Step, ...]
    shapes: tuple[Shape, ...]
    outputs: Mapping[str, int]

    @cached_property
    def convolutions(self) -> Mapping[int, tuple[int, int]]:
        """Where im2col, linear and col2im follow each other and nothing else reads what is between:
        the numbers of the first two steps by that of the last. They run as one convolution."""
        maker = {value: i for i, step in enumerate(self.steps) for value in step.outputs}
        read = Counter(value for step in self.steps for value in step.inputs)
        read.update(self.outputs.values())

        def before(i: int | None, name: str) -> int | None:
            """The step that made what step `i` reads, if it is one of that name read but once."""
            value = None if i is None else self.steps[i].inputs[0]
            j = maker.get(value) if value is not None and read[value] == 1 else None
            return j if j is not None and self.steps[j].operator.name == name else None

        found = {}
        for i, step in enumerate(self.steps):
            linear = before(i, "linear") if step.operator.name == "col2im" else None
            windows = before(linear, "im2col")
            if linear is not None and windows is not None:
                first = self.steps[windows]
                if self.shapes[step.outputs[0]].space == grid(first.shapes[0], first.args):
                    found[i] = windows, linear
        return found

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
        """Parameters as 32-bit floats, in megabytes of 1,000,000 bytes."""
        return self.params * 4 / 1e6

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
        return _digest(*sorted(applied), *named)

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

    def output_shapes(self) -> dict[str, Shape]:
        return {name: self.shapes[i] for name, i in self.outputs.items()}

    def graph(self) -> nx.DiGraph:
        """The plan as a networkx graph: a node a step, with operator, shape, params and FLOPs."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_node("input", operator="input", shape=str(self.input), params=0, flops=0)
        made = {0: "input"}
        for step in self.steps:
            graph.add_node(
                step.name,
                operator=step.operator.name,
                shape=" ".join(str(self.shapes[i]) for i in step.outputs),
                params=sum(prod(p.shape) for p in step.params),
                flops=step.flops,
            )
            graph.add_edges_from((made[i], step.name) for i in step.inputs)
            made |= dict.fromkeys(step.outputs, step.name)
        return graph


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def plan(
    derivation: Derivation, input: Input | None = None, heads: Iterable[Task] | None = None
) -> Plan:
    """The plan of a derivation, at its own input shape or another, with the heads of tasks.

    What no result reads is left out. Raises ShapeError where the derivation does not fit the
    input, ValueError where a head reads an output that the trunk does not name.
    """
    shape = derivation.input if input is None else Shape.of(input)
    writer = _Writer(shape)
    last = writer.write(derivation.terms, [0])
    outputs = writer.named or _unnamed(last)
    if heads is not None:
        attached = [(task, writer.head(task, outputs, derivation.grammar)) for task in heads]
        outputs = {task.name: value for task, value in attached}
    return Plan(shape, writer.alive(outputs.values()), tuple(writer.shapes), outputs)


def _unnamed(values: Sequence[int]) -> dict[str, int]:
    """Names for the results of a space that names none."""
    if len(values) == 1:
        return {"coarse": values[0]}
    named = {f"stream{i}": value for i, value in enumerate(values)}
    return {**named, "fine": values[0], "coarse": values[-1]}


@lru_cache(maxsize=256)
def _head_grammar(term: str, streams: int, classes: int, height: int, width: int) -> Grammar:
    text = f"head(classes={classes}, height={height}, width={width}) = {term}"
    head = Grammar.parse(text, name="head", streams=streams, alone=True)
    if list(head.rules) != ["head"]:
        raise ValueError(f"a head is one term of operators, as 'pool linear(classes)': {term!r}")
    return head


class _Writer:
    """Steps in the making."""

    def __init__(self, input: Shape):
        self.shapes: list[Shape] = [input]
        self.steps: list[Step] = []
        self.named: dict[str, int] = {}
        self.names: set[str] = set()
        self.numbers: Counter[str] = Counter()

    def write(self, terms: Iterable[Token], streams: list[int], scope: str = "") -> list[int]:
        """Write tokens onto the streams given; what comes back are the streams at the end."""
        brackets: list[tuple[list[int], list[int]]] = []
        for term in terms:
            if isinstance(term, Apply):
                streams = self.apply(term.operator, term.args, scope + term.path, "", streams)
                if term.operator.name == "output":
                    names = (str(term.args["name"]), str(term.args["also"]))
                    self.named |= {name: streams[0] for name in names if name}
            elif term == OPEN:
                brackets.append((streams[1:], []))
                streams = streams[:1]
            else:
                waiting, done = brackets[-1]
                done += streams
                if term == NEXT:
                    streams = [waiting.pop(0)]
                elif term == CLOSE:
                    streams = done
                    brackets.pop()
        return streams

    def apply(
        self,
        operator: Operator,
        args: Args,
        path: str,
        local: str,
        streams: list[int],
        whole: str = "",
    ) -> list[int]:
        shapes = tuple(self.shapes[i] for i in streams)
        inferred = infer(operator, shapes, args)
        role = operator.role
        if role == "pass":
            return streams
        if role == "copy":
            return streams * int(args["n"])
        if role == "parts":
            values = list(streams)
            parts, results = inferred.parts
            for part in parts:
                inner = f"{local}.{part.local}".lstrip(".")
                taken = [values[i] for i in part.inputs]
                values += self.apply(
                    part.operator, part.args, path, inner, taken, whole or operator.name
                )
            return [values[i] for i in results]
        first = len(self.shapes)
        self.shapes += inferred.outputs
        outputs = tuple(range(first, len(self.shapes)))
        place = f"{path}.{local}" if local else path
        fixed = shapes if operator.whole else ()
        slot = _slot(place, operator, tuple(args.items()), fixed)
        self.steps.append(
            Step(
                operator,
                args,
                tuple(streams),
                outputs,
                shapes,
                self._name(place),
                slot,
                inferred.tensors,
                inferred.flops,
                f"{whole}.{local}".strip("."),
            )
        )
        return list(outputs)

    def _name(self, place: str) -> str:
        name = base = _identifier(place)
        while name in self.names or name in RESERVED:
            self.numbers[base] = number = max(2, self.numbers[base] + 1)
            name = f"{base}_{number}"
        self.names.add(name)
        return name

    def head(self, task: Task, outputs: Mapping[str, int], grammar: Grammar) -> int:
        """Attach a task's head; what comes back is the value of its logits."""
        if isinstance(task, str):
            raise TypeError(f"heads are tasks: nas.Task.load({task!r}), not the name alone")
        missing = [name for name in task.head.reads if name not in outputs]
        if missing:
            raise ValueError(
                f"the head of task {task.name!r} reads {missing[0]!r}, and {grammar.name} names "
                f"{', '.join(outputs)}: put output({missing[0]}) into the grammar, or let the "
                "task's head read another"
            )
        streams = [outputs[name] for name in task.head.reads]
        space = [*task.input[1:], 1, 1]
        head = _head_grammar(task.head.term, len(streams), len(task.classes), space[0], space[1])
        terms = derive_fixed(head, tuple(self.shapes[i] for i in streams))
        (value,) = self.write(terms, streams, scope=f"head/{task.name}/")
        return value

    def alive(self, results: Iterable[int]) -> tuple[Step, ...]:
        """The steps that some result reads."""
        needed, kept = set(results), []
        for step in reversed(self.steps):
            if needed.intersection(step.outputs):
                needed.update(step.inputs)
                kept.append(step)
        return tuple(reversed(kept))


@lru_cache(maxsize=1 << 14)
def _identifier(place: str) -> str:
    """A place as a name; of one that is nested deep the operator alone."""
    name = re.sub(r"\W+|_+", "_", place).strip("_")
    if len(name) <= LONGEST:
        return name
    return _identifier(re.sub(r"\.\d+", "", place.rpartition("/")[2])[-LONGEST:])


@lru_cache(maxsize=1 << 14)
def _slot(
    place: str, operator: Operator, items: tuple[tuple[str, Value], ...], fixed: Shapes
) -> str:
    """A bank's key: place, operator and shape arguments, since slices cannot bridge those."""
    kinds = {arg.name: arg.kind for arg in operator.args}
    said = [f"{k}={v}" for k, v in items if kinds.get(k) == "shape"]
    said += [str(shape) for shape in fixed]
    return f"{place}:{operator.name}({','.join(said)})"


def nontrivial(derivation: Derivation) -> bool:
    """Whether there is something to learn in an architecture: it has parameters and something
    that is not linear, and what comes out depends on the input."""
    return not plan(derivation).trivial


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
