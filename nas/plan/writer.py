"""From a derivation, an input shape and the heads of tasks to a plan."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from nas.grammar import Apply, Derivation, Grammar
from nas.grammar.derivation import Input
from nas.grammar.derive import derive_fixed
from nas.grammar.tokens import CLOSE, NEXT, OPEN, Token
from nas.op import Arg, Args, Operator, Shape, ShapeError, Shapes, Value, infer
from nas.op.base import Segments
from nas.op.segments import segmented
from nas.plan.plan import FLOAT, Plan, Precision, Step, alive

if TYPE_CHECKING:
    from nas.task import Task

FEATURES = "features"  # the name of the trunk's output that the decoders of tasks read
FEATURES_RESULT = "/features"  # and of the result that is made of it, which no task is called
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


def plan(
    derivation: Derivation,
    input: Input | None = None,
    heads: Iterable[Task] | None = None,
    *,
    features: int | None = None,
) -> Plan:
    """The plan of a derivation, at its own input shape or another, with the heads of tasks.

    features: what the trunk names so is a result too, as it is with 0, else mapped linearly to so
    many channels. What no result reads is left out. Raises ShapeError where the derivation does not
    fit the input, ValueError where what is read is no output that the trunk names.
    """
    shape = derivation.input if input is None else Shape.of(input)
    writer = _Writer(shape)
    last = writer.write(derivation.terms, [0])
    outputs = writer.named or _unnamed(last)
    if heads is not None:
        attached = [(task, writer.head(task, outputs, derivation.grammar)) for task in heads]
        given = {} if features is None else {FEATURES_RESULT: writer.mapped(outputs, features)}
        outputs = {task.name: value for task, value in attached} | given
    steps = alive(writer.steps, outputs.values())
    return Plan(shape, steps, tuple(writer.shapes), outputs, writer.precision)


def _unnamed(values: Sequence[int]) -> dict[str, int]:
    """Names for the results of a space that names none."""
    if len(values) == 1:
        return {"coarse": values[0]}
    named = {f"stream{i}": value for i, value in enumerate(values)}
    return {**named, "fine": values[0], "coarse": values[-1]}


def own_output(task: str) -> str:
    """The name of the output that a task's own decoder has."""
    return "for_" + re.sub(r"\W", "_", task)


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
        self.segments: list[Segments] = [()]  # of each value
        self.steps: list[Step] = []
        self.named: dict[str, int] = {}
        self.precision = FLOAT
        self.said = False  # in how many bits it runs
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
                elif term.operator.name == "precision":
                    self._run_in(Precision(int(term.args["bits"]), int(term.args["low"])))
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
        tensors, entering = inferred.tensors, [self.segments[i] for i in streams]
        self.segments += [operator.segments(shapes, args, entering)] * len(outputs)
        if tensors and entering[0]:
            tensors = segmented(operator, shapes, tuple(args.items()), tensors, entering[0])
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
                tensors,
                inferred.flops,
                f"{whole}.{local}".strip("."),
            )
        )
        return list(outputs)

    def _run_in(self, precision: Precision) -> None:
        """Take down in how many bits the network runs; raises ShapeError where that was said to be
        other ones."""
        if self.said and precision != self.precision:
            raise ShapeError(f"one network runs in {self.precision}, and in {precision}: say one")
        self.precision, self.said = precision, True

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
        reads, term = task.head.reads, task.head.term
        if own_output(task.name) in outputs:
            if not task.head.own and len(reads) > 1:
                raise ValueError(
                    f"the head of task {task.name!r} reads {', '.join(reads)}, and {grammar.name} "
                    "has a decoder for the task, which has one result: give the head a term for "
                    "that, as own"
                )
            reads, term = (own_output(task.name),), task.head.own or term
        missing = [name for name in reads if name not in outputs]
        if missing:
            raise ValueError(
                f"the head of task {task.name!r} reads {missing[0]!r}, and {grammar.name} names "
                f"{', '.join(outputs)}: put output({missing[0]}) into the grammar, or let the "
                "task's head read another"
            )
        streams = [outputs[name] for name in reads]
        space = [*task.input[1:], 1, 1]
        head = _head_grammar(term, len(streams), len(task.classes), space[0], space[1])
        terms = derive_fixed(head, tuple(self.shapes[i] for i in streams))
        (value,) = self.write(terms, streams, scope=f"head/{task.name}/")
        return value

    def mapped(self, outputs: Mapping[str, int], channels: int) -> int:
        """What the trunk names `features`, mapped to so many channels if any are asked for."""
        if FEATURES not in outputs:
            raise ValueError(f"the space names no output({FEATURES})")
        value = outputs[FEATURES]
        if channels:
            term = "pointwise" if self.shapes[value].kind == "image" else "linear"
            head = _head_grammar(f"{term}({channels})", 1, 0, 1, 1)
            terms = derive_fixed(head, (self.shapes[value],))
            (value,) = self.write(terms, [value], scope=f"{FEATURES}/")
        return value


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
    known = {arg.name: arg for arg in operator.args if arg.kind == "shape"}
    named = ((k, v) for k, v in items if k in known and not _usual(known[k], v))
    words = [f"{k}={v}" for k, v in named]
    words += [str(shape) for shape in fixed]
    return f"{place}:{operator.name}({','.join(words)})"


def _usual(arg: Arg, value: Value) -> bool:
    return arg.later and value == arg.default


def nontrivial(derivation: Derivation) -> bool:
    """Whether there is something to learn in an architecture: it has parameters and something
    that is not linear, and what comes out depends on the input."""
    return not plan(derivation).trivial
