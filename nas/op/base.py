"""What every operator answers: arity, shape, parameters, cost, forward, and its code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from nas.op.graph import Graph, Names, NoOnnxForm
from nas.op.shape import Kind, Shape, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from nas.op.graph import Array, Arrays

    Tensors = tuple[Tensor, ...]
    Weights = Mapping[str, Tensor]

LARGEST = 10**9  # of a shape's sizes
Value = int | float | str
Args = Mapping[str, Value]
Shapes = tuple[Shape, ...]
Segments = tuple[int, ...]  # how many channels each of some streams has that were joined


class Arg(NamedTuple):
    """One argument. `shape` arguments are part of a bank slot's key (those of `later` only where
    they are not the default: banks were kept before there were any), `elastic` ones slice it,
    `execution` ones leave the parameters alone. `decides` is what a choice of it is a choice of."""

    name: str
    kind: Literal["shape", "elastic", "execution"]
    default: Value | None = None
    type: Literal["int", "float", "word"] = "int"
    least: int = 1  # of an int
    most: int = LARGEST
    decides: Literal["width", "kernel", "resolution"] = "width"
    later: bool = False


class Param(NamedTuple):
    """One trained tensor. A smaller one is the leading slice of a larger one on each axis, but
    on the last `centred` axes (a kernel's) the middle slice, and on an axis along which joined
    streams lie (`segments`, their sizes by axis) the leading slice of each stream's. `own`: of a
    task alone where tasks share weights."""

    name: str
    shape: tuple[int, ...]
    init: Literal["fan_in", "zeros", "ones", "small", "eye"] = "fan_in"
    fan_in: int = 0
    decay: bool = True
    centred: int = 0
    segments: tuple[Segments, ...] = ()
    own: bool = False


class Phase(NamedTuple):
    """How an operator with statistics runs.

    training: normalise with this batch's statistics, and update running ones if there are any
    with `momentum` (None: to those of this batch and `seen` earlier samples together). heard: where
    given, gates add what they answer, (places, experts), in the order of a plan's steps.
    """

    training: bool = False
    momentum: float | None = 0.1
    seen: int = 0
    heard: list[Tensor] | None = None


EVAL = Phase()
BATCH = Phase(training=True)


class Code(NamedTuple):
    """PyTorch text of one step: a module expression (or None) and a call over {0}, {1}, …, with
    {m} standing for the module; `helper` is the source of a class the text needs."""

    module: str | None
    call: str
    helper: str = ""


class Operator(ABC):
    """One operator, without state: functions of shapes, arguments, tensors and parameters.

    `streams_in` None means any number. `statistics` are the buffers (each of one size per
    channel) that belong to an architecture and not to the weights. `role` is what a plan makes of
    it: a step of its own, nothing (pass), the same stream several times (copy), or its parts.

    What a bracket's branches are joined by answers backwards: `joins`, `tries` and `mended` say
    which shapes would fit, so that few need be tried.
    """

    name: ClassVar[str]
    args: tuple[Arg, ...] = ()
    streams_in: ClassVar[int | None] = 1
    statistics: ClassVar[tuple[str, ...]] = ()
    role: ClassVar[Literal["step", "pass", "copy", "parts"]] = "step"
    whole: ClassVar[bool] = False  # shared between equal input shapes or not at all
    nonlinear: ClassVar[bool] = False
    levels: ClassVar[bool] = False  # on a last axis of one, all that comes out is constant
    sums: ClassVar[bool] = False  # what comes out is the sum of what arrives
    commutes: ClassVar[bool] = False  # its inputs may come in any order
    even: ClassVar[bool] = False  # it takes streams alike, so what fits one fits all
    splits: ClassVar[bool] = False  # its arguments say how many streams come out
    in_place: ClassVar[bool] = False  # each number that comes out may lie where one was read
    gated: ClassVar[bool] = False  # a gate of its own takes some of its parts
    keeps: ClassVar[bool] = False  # what comes out has the channels that enter, in their order

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def streams_out(self, streams_in: int, a: Args) -> int:
        return 1

    @abstractmethod
    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        """Shapes of the results; raises ShapeError where the operator cannot take `xs`."""

    def makes(self, xs: Shapes, a: Args) -> Shapes | None:
        """Shapes of the results, None where it cannot take `xs` and nobody asks why."""
        try:
            return self.outputs(xs, a)
        except ShapeError:
            return None

    def takes(self, kind: Kind, axes: int, a: Args) -> bool:
        """False where it can take no single stream of that kind with so many axes."""
        return True

    def may_make(self, x: Shape, y: Shape) -> bool:
        """False where with no arguments it makes `y` of `x` alone."""
        return True

    def takes_equal(self, n: int, a: Args) -> tuple[int, int] | None:
        """The fewest axes with which it takes `n` equal streams whatever their sizes, to make one
        stream of as many axes, and how many times the elements of one that has; None where it may
        not."""
        return None

    def joins(
        self, before: Shapes, after: Shapes | int, whole: Shape | None, a: Args
    ) -> tuple[Shape, ...] | None:
        """All shapes with which one more stream is taken between others, to make `whole` where that
        is wanted; None where that cannot be told. `after` are streams, or so many more, each like
        the first."""
        return None

    def tries(self, before: Shapes, after: Shapes, a: Args) -> tuple[Shape, ...] | None:
        """A few shapes to try for one more stream between others where many would do."""
        return None

    def mended(self, xs: Shapes, a: Args) -> tuple[Shape, ...]:
        """For each stream the shape with which all are taken if the others stay; () where that
        cannot be told."""
        return ()

    def segments(self, xs: Shapes, a: Args, entering: Sequence[Segments]) -> Segments:
        """The joined streams that the channels of a result are of, () where they are of none; those
        of each value that enters are given."""
        return entering[0] if self.keeps and len(set(entering)) == 1 else ()

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return ()

    def flops(self, xs: Shapes, a: Args) -> int:
        """Multiply-adds of convolutions and matrix products, times two, for a batch of one."""
        return 0

    def activations(self, xs: Shapes, a: Args) -> int:
        """Numbers that it writes for a batch of one: what training keeps for its gradients."""
        if self.role in ("pass", "copy"):
            return 0
        return sum(shape.elements for shape in self.outputs(xs, a))

    def scratch(self, xs: Shapes, a: Args) -> int:
        """Numbers that it holds beside what it reads and writes, for a batch of one, at most."""
        return 0

    @abstractmethod
    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors: ...

    @abstractmethod
    def code(self, xs: Shapes, a: Args) -> Code: ...

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        """Write what it computes in evaluation into a graph; what comes back are the names of its
        results. Raises NoOnnxForm where it cannot be written."""
        raise NoOnnxForm(f"the operator {self.name} has no form in ONNX")

    def affine(self, p: Arrays, a: Args) -> tuple[Array, Array] | None:
        """The scale and the shift of each channel that it comes to in evaluation, where that is
        all it does."""
        return None

    def scaled(self, xs: Shapes, p: Arrays, scale: Array, shift: Array) -> Arrays | None:
        """The parameters with which each channel of its result comes out scaled and shifted; None
        where there are none."""
        return None

    def bind(self, positional: tuple[Value, ...], named: Args) -> dict[str, Value]:
        """Arguments by name, with defaults; raises ValueError for what is unknown or missing."""
        names = [arg.name for arg in self.args]
        if len(positional) > len(names):
            raise ValueError(f"{self.name} takes {len(names)} arguments, {len(positional)} given")
        given = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names:
                raise ValueError(f"{self.name} has no argument {name!r}: it takes {names}")
            if name in given:
                raise ValueError(f"{self.name} is given {name!r} twice")
            given[name] = value
        return {arg.name: self._checked(arg, given.get(arg.name, arg.default)) for arg in self.args}

    def _checked(self, arg: Arg, value: Value | None) -> Value:
        if value is None:
            raise ValueError(f"{self.name} needs the argument {arg.name!r}")
        if arg.type == "word":
            return str(value)
        if isinstance(value, str) or (arg.type == "int" and value != int(value)):
            raise ValueError(f"{self.name}({arg.name}={value}) wants a number of type {arg.type}")
        if arg.type == "int" and value < arg.least:
            raise ValueError(f"{self.name}({arg.name}={value}) wants at least {arg.least}")
        if arg.type == "int" and value > arg.most:
            raise ValueError(f"{self.name}({arg.name}={value}) wants at most {arg.most:,}")
        return int(value) if arg.type == "int" else value


class Part(NamedTuple):
    """One step inside a composite: values are numbered, inputs first, then each result."""

    local: str
    operator: Operator
    args: Args
    inputs: tuple[int, ...]


class Composite(Operator):
    """An operator made of others: it answers by its parts, and plans hold only the parts."""

    role = "parts"

    @abstractmethod
    def expand(self, xs: Shapes, a: Args) -> tuple[tuple[Part, ...], tuple[int, ...]]:
        """The parts in order, and the numbers of the values that are the results."""

    def _walk(self, xs: Shapes, a: Args) -> tuple[list[Shape], list[tuple[Part, Shapes]]]:
        values, typed = list(xs), []
        for part in self.expand(xs, a)[0]:
            inputs = tuple(values[i] for i in part.inputs)
            typed.append((part, inputs))
            values.extend(part.operator.outputs(inputs, part.args))
        return values, typed

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        results = self.expand(xs, a)[1]
        values, _ = self._walk(xs, a)
        return tuple(values[i] for i in results)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return tuple(
            param._replace(name=f"{part.local}.{param.name}")
            for part, inputs in self._walk(xs, a)[1]
            for param in part.operator.params(inputs, part.args)
        )

    def flops(self, xs: Shapes, a: Args) -> int:
        return sum(part.operator.flops(inputs, part.args) for part, inputs in self._walk(xs, a)[1])

    def activations(self, xs: Shapes, a: Args) -> int:
        return sum(
            part.operator.activations(inputs, part.args) for part, inputs in self._walk(xs, a)[1]
        )

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        raise TypeError(f"{self.name} runs as its parts: plan it")

    def code(self, xs: Shapes, a: Args) -> Code:
        raise TypeError(f"{self.name} is written as its parts: plan it")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        raise TypeError(f"{self.name} is written as its parts: plan it")


class Inferred(NamedTuple):
    """What integer arithmetic knows of one application of an operator: output shapes, trained
    numbers, FLOPs, activations (numbers that it writes for a batch of one), its parameters, and
    the parts and results of a composite."""

    outputs: Shapes
    params: int
    flops: int
    activations: int
    tensors: tuple[Param, ...] = ()
    parts: tuple[tuple[Part, ...], tuple[int, ...]] = ((), ())


def output_shapes(operator: Operator, xs: Shapes, a: Args) -> Shapes:
    """Output shapes alone; raises ShapeError."""
    try:
        if operator.streams_in is not None and len(xs) != operator.streams_in:
            raise ShapeError(f"takes {operator.streams_in} streams and {len(xs)} arrive")
        outputs = operator.outputs(xs, a)
        for shape in outputs:
            if max(shape.dims) > LARGEST:
                raise ShapeError(f"a size of {max(shape.dims):.3g} comes out: {LARGEST:,} at most")
            if min(shape.dims) < 1:
                shapes_text = " ".join(map(str, outputs))
                raise ShapeError(f"nothing is left of the shape {shapes_text}")
    except ShapeError as error:
        error.refused = operator.name, xs
        raise
    return outputs


def infer(operator: Operator, xs: Shapes, a: Args) -> Inferred:
    """Output shapes, number of parameters and FLOPs; raises ShapeError. Results are kept."""
    inferred = _infer(operator, xs, tuple(a.items()))
    if isinstance(inferred, str):
        raise ShapeError(inferred)
    return inferred


@lru_cache(maxsize=1 << 16)
def _infer(operator: Operator, xs: Shapes, items: tuple[tuple[str, Value], ...]) -> Inferred | str:
    a = dict(items)
    try:
        outputs = output_shapes(operator, xs, a)
    except ShapeError as error:
        return str(error)
    tensors = operator.params(xs, a)
    count = sum(prod(param.shape) for param in tensors)
    parts: tuple[tuple[Part, ...], tuple[int, ...]] = ((), ())
    if isinstance(operator, Composite):
        parts = operator.expand(xs, a)
    written = operator.activations(xs, a)
    return Inferred(outputs, count, operator.flops(xs, a), written, tensors, parts)


def wants(x: Shape, *kinds: str) -> None:
    """Raise ShapeError unless `x` is of one of `kinds`."""
    if x.kind not in kinds:
        raise ShapeError(f"it takes {' or '.join(kinds)} shapes, this is a {x.kind}")
