"""Products of streams: of matrices, and element by element."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from nas.op.base import Args, Code, Operator, Phase, Shapes
from nas.op.graph import Graph, Names
from nas.op.shape import Shape, ShapeError
from nas.op.stream import Add

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays


class Multiply(Add):
    """The product of streams of one shape, element by element."""

    name = "multiply"
    sums, nonlinear = False, True

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (reduce(lambda product, x: product * x, xs),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, " * ".join(f"{{{i}}}" for i in range(len(xs))))

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (reduce(lambda product, value: graph("Mul", product, value), values),)


class MatMul(Operator):
    """The matrix product of two streams over their last two axes."""

    name = "matmul"
    streams_in = 2
    nonlinear = True

    def makes(self, xs: Shapes, a: Args) -> Shapes | None:
        if len(xs) != 2:
            return None
        (kind, x), (other, y) = xs
        matrices = kind == other and min(len(x), len(y)) >= 2
        fit = matrices and x[-1] == y[-2] and x[:-2] == y[:-2]
        return (Shape(kind, (*x[:-1], y[-1])),) if fit else None

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        result = self.makes(xs, a)
        if result is None:
            raise ShapeError("these are no two matrices (…, m, k) and (…, k, n)")
        return result

    def joins(
        self, before: Shapes, after: Shapes | int, whole: Shape | None, a: Args
    ) -> tuple[Shape, ...] | None:
        if whole is None:
            return None
        if before:
            kind, dims = before[0]
            return (Shape(kind, (*dims[:-2], dims[-1], whole.dims[-1])),)
        if isinstance(after, int) or not after or len(after[0].dims) < 2:
            return (whole,)
        return whole, Shape(whole.kind, (*whole.dims[:-1], after[0].dims[-2]))

    def tries(self, before: Shapes, after: Shapes, a: Args) -> tuple[Shape, ...] | None:
        kind, dims = (before or after)[0]
        if len(dims) < 2:
            return ()
        if not before:
            return (Shape(kind, (*dims[:-1], dims[-2])),)
        return tuple(Shape(kind, (*dims[:-2], dims[-1], size)) for size in dims[-2:])

    def mended(self, xs: Shapes, a: Args) -> tuple[Shape, ...]:
        if len(xs) != 2 or min(len(x.dims) for x in xs) < 2:
            return ()
        (kind, x), (other, y) = xs
        return Shape(kind, (*x[:-1], y[-2])), Shape(other, (*x[:-2], x[-1], y[-2]))

    def flops(self, xs: Shapes, a: Args) -> int:
        return 2 * xs[0].elements * xs[1].dims[-1]

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0] @ xs[1],)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, "{0} @ {1}")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("MatMul", *values),)


class ScaledMatMul(MatMul):
    """A matrix product divided by the square root of the inner size."""

    name = "scaled_matmul"

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0] @ xs[1] * xs[0].shape[-1] ** -0.5,)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, f"{{0}} @ {{1}} * {xs[0].dims[-1]} ** -0.5")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        product = super().onnx(graph, values, xs, p, a)
        return (graph("Mul", *product, graph.number(xs[0].dims[-1] ** -0.5)),)
