"""Linear maps of the last axis."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from nas.lazy import F
from nas.op.base import Arg, Args, Code, Operator, Param, Phase, Shapes
from nas.op.shape import Shape

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights


class Linear(Operator):
    """A linear map of the last axis, whatever it means."""

    name = "linear"
    args = (Arg("out", "elastic"), Arg("bias", "shape", 1, least=0))

    def may_make(self, x: Shape, y: Shape) -> bool:
        return x.dims[:-1] == y.dims[:-1] and x.kind == y.kind

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        return (Shape(x.kind, (*x.dims[:-1], int(a["out"]))),)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        inner, out = xs[0].dims[-1], int(a["out"])
        weight = Param("weight", (out, inner), "fan_in", inner)
        return (weight, Param("bias", (out,), "zeros", decay=False)) if a["bias"] else (weight,)

    def flops(self, xs: Shapes, a: Args) -> int:
        return 2 * prod(xs[0].dims) * int(a["out"])

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (F.linear(xs[0], p["weight"], p.get("bias")),)

    def code(self, xs: Shapes, a: Args) -> Code:
        bias = "" if a["bias"] else ", bias=False"
        return Code(f"nn.Linear({xs[0].dims[-1]}, {a['out']}{bias})", "{m}({0})")


class Flatten(Operator):
    """All elements as one vector."""

    name = "flatten"

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return (Shape("vector", (xs[0].elements,)),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0].flatten(1),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, "{0}.flatten(1)")
