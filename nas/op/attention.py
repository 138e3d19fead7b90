"""Self-attention, and what vision transformers put before and take after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F, torch
from nas.op.base import Arg, Args, Code, Operator, Param, Phase, Shapes, wants
from nas.op.graph import Graph, Names
from nas.op.linear import dense
from nas.op.shape import Shape, ShapeError

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays


class ClassToken(Operator):
    """A learned item before all others of a sequence (Dosovitskiy et al. 2021)."""

    keeps = True
    name = "class_token"
    helper: ClassVar[str] = '''
class ClassToken(nn.Module):
    """Put a learned item before all others of a sequence."""

    def __init__(self, features):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(1, features))

    def forward(self, x):  # (batch, positions, features)
        return torch.cat([self.weight.expand(len(x), -1, -1), x], dim=1)
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return (Shape("sequence", (_positions(xs[0]) + 1, xs[0].dims[1])),)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return (Param("weight", (1, xs[0].dims[1]), "small", decay=False),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,) = xs
        return (torch.cat([p["weight"].expand(len(x), -1, -1), x], dim=1),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(f"ClassToken({xs[0].dims[1]})", "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        samples = graph("Shape", *values, start=0, end=1)
        sizes = graph("Concat", samples, graph.integers(*p["weight"].shape), axis=0)
        tokens = graph("Expand", graph.constant(p["weight"][None]), sizes)
        return (graph("Concat", tokens, *values, axis=1),)


class Item(Operator):
    """One item of a sequence, counted from 1, as a vector: (positions, features) → (features,)."""

    keeps = True
    name = "item"
    args = (Arg("at", "shape", 1),)

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        if int(a["at"]) > _positions(xs[0]):
            raise ShapeError(f"it has {xs[0].dims[0]} positions, and none of number {a['at']}")
        return (Shape("vector", xs[0].dims[1:]),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0][:, int(a["at"]) - 1],)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(None, f"{{0}}[:, {int(a['at']) - 1}]")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        item = graph("Gather", *values, graph.integers(int(a["at"]) - 1), axis=1)
        return (graph("Flatten", item, axis=1),)


def _positions(x: Shape) -> int:
    wants(x, "sequence")
    if len(x.dims) != 2:
        raise ShapeError("it takes (positions, features)")
    return x.dims[0]


READING = ("query", "key", "value")  # the maps of an attention that read what arrives


class Attention(Operator):
    """Multi-head self-attention over a sequence (Vaswani et al. 2017).

    `size` is a head's width; 0 is features / heads. With `bias` query, key and value have one, what
    comes out always has. Fewer heads are the leading ones where `size`
    is given: query, key and value have weights of their own, a head's rows together.
    """

    name = "attention"
    args = (
        Arg("heads", "elastic"),
        Arg("size", "shape", 0, least=0),
        Arg("bias", "shape", 0, least=0, later=True),
    )
    nonlinear = True
    helper: ClassVar[str] = '''
class SelfAttention(nn.Module):
    """Multi-head self-attention over a sequence (batch, positions, features)."""

    def __init__(self, features, heads, size, bias=False):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(features, heads * size, bias=bias)
        self.key = nn.Linear(features, heads * size, bias=bias)
        self.value = nn.Linear(features, heads * size, bias=bias)
        self.out = nn.Linear(heads * size, features)

    def forward(self, x):
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for f in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))
'''

    def _sizes(self, x: Shape, a: Args) -> tuple[int, int]:
        heads, size = int(a["heads"]), int(a["size"])
        if not size and x.dims[-1] % heads:
            raise ShapeError(f"{heads} heads do not divide {x.dims[-1]} features")
        return heads, size or x.dims[-1] // heads

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        _positions(xs[0])
        self._sizes(xs[0], a)
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        heads, size = self._sizes(xs[0], a)
        features, inner = xs[0].dims[-1], heads * size
        return (
            *(Param(f"{n}.weight", (inner, features), "fan_in", features) for n in READING),
            *(Param(f"{n}.bias", (inner,), "zeros", decay=False) for n in READING if a["bias"]),
            Param("out.weight", (features, inner), "fan_in", inner),
            Param("out.bias", (features,), "zeros", decay=False),
        )

    def flops(self, xs: Shapes, a: Args) -> int:
        heads, size = self._sizes(xs[0], a)
        positions, features = xs[0].dims
        return heads * size * (8 * positions * features + 4 * positions * positions)

    def scratch(self, xs: Shapes, a: Args) -> int:
        """Queries, keys, values, what they come to, and how much a position attends to each."""
        heads, size = self._sizes(xs[0], a)
        positions = xs[0].dims[0]
        return positions * heads * (4 * size + positions)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        heads = int(a["heads"])
        q, k, v = (
            F.linear(xs[0], p[f"{n}.weight"], p.get(f"{n}.bias"))
            .unflatten(2, (heads, -1))
            .transpose(1, 2)
            for n in READING
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return (F.linear(y.transpose(1, 2).flatten(2), p["out.weight"], p["out.bias"]),)

    def code(self, xs: Shapes, a: Args) -> Code:
        heads, size = self._sizes(xs[0], a)
        rest = ", bias=True" if a["bias"] else ""
        module = f"SelfAttention({xs[0].dims[-1]}, {heads}, {size}{rest})"
        return Code(module, "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        heads, size = self._sizes(xs[0], a)
        apart = graph.integers(0, xs[0].dims[0], heads, size)

        def by_head(name: str, perm: list[int]) -> str:
            rows = dense(graph, values[0], 2, p, f"{name}.")
            return graph("Transpose", graph("Reshape", rows, apart), perm=perm)

        query, key = by_head("query", [0, 2, 1, 3]), by_head("key", [0, 2, 3, 1])
        fit = graph("Mul", graph("MatMul", query, key), graph.number(size**-0.5))
        share, value = graph("Softmax", fit, axis=-1), by_head("value", [0, 2, 1, 3])
        mixed = graph("Transpose", graph("MatMul", share, value), perm=[0, 2, 1, 3])
        flat = graph("Reshape", mixed, graph.integers(0, xs[0].dims[0], heads * size))
        return (dense(graph, flat, 2, p, "out."),)
