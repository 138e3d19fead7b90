"""Linear maps of the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F, np
from nas.op.base import Arg, Args, Code, Operator, Param, Phase, Segments, Shapes, wants
from nas.op.graph import Graph, Names
from nas.op.shape import Shape

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Array, Arrays


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

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (dense(graph, values[0], len(xs[0].dims), p),)

    def scaled(self, xs: Shapes, p: Arrays, scale: Array, shift: Array) -> Arrays | None:
        return scaled_map(p, scale, shift) if xs[0].kind == "vector" else None


class Cosine(Operator):
    """`scale` times the cosine of the angle between a vector and each of `out` directions, which
    are learned: losses with a margin draw the embeddings of one class together so (Deng et al.
    2019, "ArcFace", arXiv 1801.07698, equation 2)."""

    name = "cosine"
    args = (Arg("out", "elastic"), Arg("scale", "execution", 30.0, "float"))
    nonlinear = True
    helper: ClassVar[str] = '''
class Cosine(nn.Module):
    """The cosines between a vector and learned directions, scaled."""

    def __init__(self, features, out, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, features) / features**0.5)
        self.scale = scale

    def forward(self, x):  # (batch, features)
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants(xs[0], "vector")
        return (Shape("vector", (int(a["out"]),)),)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        inner = xs[0].channels
        return (Param("weight", (int(a["out"]), inner), "fan_in", inner, decay=False),)

    def flops(self, xs: Shapes, a: Args) -> int:
        return 2 * xs[0].channels * int(a["out"])

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        cosines = F.linear(F.normalize(xs[0]), F.normalize(p["weight"]))
        return (float(a["scale"]) * cosines,)

    def code(self, xs: Shapes, a: Args) -> Code:
        module = f"Cosine({xs[0].channels}, {a['out']}, {a['scale']})"
        return Code(module, "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        length = graph("ReduceL2", *values, graph.integers(1), keepdims=1)
        direction = graph("Div", *values, graph("Max", length, graph.number(1e-12)))
        norms = np.linalg.norm(p["weight"], axis=1, keepdims=True).clip(min=1e-12)
        weight = graph.constant((float(a["scale"]) * p["weight"] / norms).T)
        return (graph("MatMul", direction, weight),)


def dense(graph: Graph, value: str, axes: int, p: Arrays, name: str = "") -> str:
    """A linear map of the last of a value's axes, by `name`'s weight and bias."""
    if axes == 1:
        weight = graph.constant(p[f"{name}weight"])
        return graph("Gemm", value, weight, *graph.biased(p, f"{name}bias"), transB=1)
    product = graph("MatMul", value, graph.constant(p[f"{name}weight"].T))
    biased = graph.biased(p, f"{name}bias")
    return graph("Add", product, *biased) if biased else product


def scaled_map(p: Arrays, scale: Array, shift: Array) -> Arrays:
    """A map's parameters with which what comes out, the first axis of its weight, is scaled and
    shifted."""
    weight = p["weight"]
    bias = p.get("bias", np.zeros_like(shift))
    return {
        "weight": weight * scale.reshape(-1, *[1] * (weight.ndim - 1)),
        "bias": bias * scale + shift,
    }


class Flatten(Operator):
    """All elements as one vector."""

    name = "flatten"

    def segments(self, xs: Shapes, a: Args, entering: Sequence[Segments]) -> Segments:
        places = prod(xs[0].space)  # in a row for each channel
        return () if xs[0].kind == "sequence" else tuple(places * size for size in entering[0])

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return (Shape("vector", (xs[0].elements,)),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0].flatten(1),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, "{0}.flatten(1)")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("Flatten", *values, axis=1),)
