"""What makes, joins and mixes streams: the tuple of tensors that flows through a network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING

from nas.lazy import F, torch
from nas.op.base import Arg, Args, Code, Operator, Phase, Segments, Shapes
from nas.op.graph import Graph, Names
from nas.op.pool import nearest
from nas.op.shape import Kind, Shape, ShapeError, wants_image

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays


class Identity(Operator):
    name, role = "identity", "pass"

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return xs

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, "{0}")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return values


class Output(Identity):
    """Identity that names what passes: a result of the trunk to which heads attach."""

    name = "output"
    args = (Arg("name", "shape", type="word"), Arg("also", "shape", "", "word"))


class Precision(Identity):
    """Identity that says in how many bits the network runs: 32, or 8 in integers, and there how
    many percent of its weights have 4 (SimQ-NAS, 2023)."""

    name = "precision"
    args = (Arg("bits", "execution", 8), Arg("low", "execution", 0, least=0, most=100))

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        if a["bits"] not in (8, 32):
            raise ShapeError(f"a network of {a['bits']} bits: 8 and 32 can be run")
        if a["low"] and a["bits"] == 32:
            raise ShapeError("of a network of 32 bits no weights have 4")
        return xs


STREAMS = 1_024  # that an operator makes of one


class Clone(Operator):
    """The same tensor on `n` streams."""

    name, role, splits = "clone", "copy", True
    args = (Arg("n", "shape", 2, most=STREAMS),)

    def streams_out(self, streams_in: int, a: Args) -> int:
        return int(a["n"])

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs * int(a["n"])

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return xs * int(a["n"])

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, ", ".join(["{0}"] * int(a["n"])))

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return values * int(a["n"])


def axis(x: Shape, a: Args) -> int:
    """The axis that `dim` names, counted from 1 without the batch axis; raises ShapeError."""
    dim = int(a["dim"])
    if not 1 <= dim <= len(x.dims):
        raise ShapeError(f"there is no axis {dim}: axes count from 1, the batch is none")
    return dim


class Group(Operator):
    """`n` equal parts along axis `dim`, each a stream."""

    name, splits = "group", True
    args = (Arg("n", "shape", 2, most=STREAMS), Arg("dim", "shape", 1))

    def takes(self, kind: Kind, axes: int, a: Args) -> bool:
        return int(a["dim"]) <= axes

    def streams_out(self, streams_in: int, a: Args) -> int:
        return int(a["n"])

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,), n = xs, int(a["n"])
        at = axis(x, a) - 1
        if x.dims[at] % n:
            raise ShapeError(f"axis {at + 1} is not divisible by {n}")
        return (Shape(x.kind, (*x.dims[:at], x.dims[at] // n, *x.dims[at + 1 :])),) * n

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return tuple(torch.chunk(xs[0], int(a["n"]), dim=int(a["dim"])))

    def code(self, xs: Shapes, a: Args) -> Code:
        if int(a["n"]) == 1:
            return Code(None, "{0}")
        return Code(None, f"torch.chunk({{0}}, {a['n']}, dim={a['dim']})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        n = int(a["n"])
        if n == 1:
            return values
        return graph.several(n, "Split", *values, axis=int(a["dim"]), num_outputs=n)


class Add(Operator):
    """The sum of streams of one shape."""

    in_place = True
    keeps = True
    name = "add"
    streams_in = None
    sums = commutes = even = True

    def makes(self, xs: Shapes, a: Args) -> Shapes | None:
        return xs[:1] if xs.count(xs[0]) == len(xs) else None

    def takes_equal(self, n: int, a: Args) -> tuple[int, int] | None:
        return 0, 1

    def joins(
        self, before: Shapes, after: Shapes | int, whole: Shape | None, a: Args
    ) -> tuple[Shape, ...] | None:
        if before:
            return before[:1] if whole in (None, before[0]) else ()
        return None if whole is None else (whole,)

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        result = self.makes(xs, a)
        if result is None:
            raise ShapeError("the streams differ in shape")
        return result

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return (total,)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, " + ".join(f"{{{i}}}" for i in range(len(xs))))

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (summed(graph, values),)


def summed(graph: Graph, values: Names) -> str:
    """The sum of values of one shape, from the first to the last."""
    return reduce(lambda total, value: graph("Add", total, value), values)


class Concat(Operator):
    """Streams joined along axis `dim`; the other axes must agree."""

    keeps = True
    name = "concat"
    args = (Arg("dim", "shape", 1),)
    streams_in = None
    even = True

    def takes_equal(self, n: int, a: Args) -> tuple[int, int] | None:
        return int(a["dim"]), n

    def joins(
        self, before: Shapes, after: Shapes | int, whole: Shape | None, a: Args
    ) -> tuple[Shape, ...] | None:
        if whole is None:
            return None
        at = int(a["dim"]) - 1
        if at >= len(whole.dims):
            return ()
        size = whole.dims[at]
        if isinstance(after, int) and not before:
            size = size // (after + 1) if size % (after + 1) == 0 else 0
        else:
            beside = (*before, *(before[:1] * after if isinstance(after, int) else after))
            if any(len(x.dims) != len(whole.dims) for x in beside):
                return ()
            size -= sum(x.dims[at] for x in beside)
        dims = (*whole.dims[:at], size, *whole.dims[at + 1 :])
        return (Shape(whole.kind, dims),) if size > 0 else ()

    def segments(self, xs: Shapes, a: Args, entering: Sequence[Segments]) -> Segments:
        channels = 1 if xs[0].kind == "image" else len(xs[0].dims)
        if int(a["dim"]) != channels or len(xs) == 1:
            return super().segments(xs, a, entering)
        apart = (sizes or (x.channels,) for x, sizes in zip(xs, entering, strict=True))
        return tuple(chain.from_iterable(apart))

    def tries(self, before: Shapes, after: Shapes, a: Args) -> tuple[Shape, ...] | None:
        return before[:1] or None

    def makes(self, xs: Shapes, a: Args) -> Shapes | None:
        at, (kind, first) = int(a["dim"]) - 1, xs[0]
        if at >= len(first):
            return None
        before, after = first[:at], first[at + 1 :]
        if xs.count(xs[0]) == len(xs):
            return (Shape(kind, (*before, first[at] * len(xs), *after)),)
        total, axes = 0, len(first)
        for other, dims in xs:
            if other != kind or len(dims) != axes or dims[:at] != before or dims[at + 1 :] != after:
                return None
            total += dims[at]
        return (Shape(kind, (*before, total, *after)),)

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        at = axis(xs[0], a) - 1
        result = self.makes(xs, a)
        if result is None:
            raise ShapeError(f"the streams differ in an axis other than {at + 1}")
        return result

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (torch.cat(xs, dim=int(a["dim"])),)

    def code(self, xs: Shapes, a: Args) -> Code:
        names = ", ".join(f"{{{i}}}" for i in range(len(xs)))
        return Code(None, f"torch.cat([{names}], dim={a['dim']})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("Concat", *values, axis=int(a["dim"])),)


class UpsampleAdd(Operator):
    """Streams of several resolutions resampled to the first one's, then summed."""

    name, sums = "upsample_add", True
    streams_in = None

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        for x in xs:
            wants_image(x)
            if x.channels != xs[0].channels or len(x.space) != len(xs[0].space):
                raise ShapeError("the streams differ in channels or rank")
        return xs[:1]

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        total = xs[0]
        for x in xs[1:]:
            if x.shape[2:] != total.shape[2:]:
                x = F.interpolate(x, size=total.shape[2:], mode="nearest")
            total = total + x
        return (total,)

    def code(self, xs: Shapes, a: Args) -> Code:
        size = tuple(xs[0].space)
        terms = [
            f"{{{i}}}"
            if x.space == size
            else f'F.interpolate({{{i}}}, size={size}, mode="nearest")'
            for i, x in enumerate(xs)
        ]
        return Code(None, " + ".join(terms))

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        size = xs[0].space
        alike = tuple(
            value if x.space == size else nearest(graph, value, x.space, size)
            for value, x in zip(values, xs, strict=True)
        )
        return (summed(graph, alike),)
