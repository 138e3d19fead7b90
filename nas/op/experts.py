"""A mixture of experts: maps side by side, of which a learned gate takes a few for each position.

Chen et al. 2023, "Mod-Squad: Designing Mixture of Experts As Modular Multi-Task Learners", arXiv
2212.08066, and "An Efficient General-Purpose Modular Vision Model", arXiv 2306.17165.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F, torch
from nas.op.activation import ACTIVATIONS
from nas.op.base import Arg, Args, Code, Operator, Param, Phase, Shapes, wants
from nas.op.graph import Graph, Names
from nas.op.shape import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays

GELU, FLOAT = ACTIVATIONS["gelu"], 1  # the second as ONNX calls a type


class Experts(Operator):
    """`n` perceptrons with a hidden layer on the channels of each place of an image, of which a
    gate takes the `k` that fit best, weighted by a softmax over these alone: so a network without
    those that are never taken computes the same. Fewer experts are the first ones.

    Where tasks share the experts each has a gate of its own.
    """

    name = "experts"
    args = (Arg("n", "elastic", most=256), Arg("k", "execution", 2), Arg("hidden", "elastic", 32))
    nonlinear = gated = True
    helper: ClassVar[str] = '''
class Experts(nn.Module):
    """Perceptrons on the channels, of which a gate takes k for each place."""

    def __init__(self, features, n, k, hidden):
        super().__init__()
        self.k = k
        self.gate = nn.Linear(features, n, bias=False)
        self.inner = nn.Parameter(torch.randn(n, hidden, features) / features**0.5)
        self.inner_bias = nn.Parameter(torch.zeros(n, hidden))
        self.outer = nn.Parameter(torch.randn(n, features, hidden) / hidden**0.5)
        self.outer_bias = nn.Parameter(torch.zeros(n, features))

    def forward(self, x):  # (batch, features, *space)
        last = x.movedim(1, -1)
        rows = last.reshape(-1, x.shape[1])
        fits, taken = self.gate(rows).topk(self.k)
        shares, result = fits.softmax(1), torch.zeros_like(rows)
        for e in range(len(self.inner)):
            at, place = chosen(taken, e, len(self.inner))
            hidden = F.gelu(F.linear(rows[at], self.inner[e], self.inner_bias[e]))
            given = F.linear(hidden, self.outer[e], self.outer_bias[e])
            weighted = (given * shares[at, place, None]).to(result.dtype)
            result = result.index_add(0, at, weighted)
        return result.view(last.shape).movedim(-1, 1)


def chosen(taken, e, n):
    """Which rows take expert e of n, and at which of their k places; where values are not known
    the first so many, as if all experts had as many."""
    if taken.is_meta:
        at = torch.arange(taken.numel() // n, device="meta") // taken.shape[1]
        return at, torch.zeros_like(at)
    return (taken == e).nonzero(as_tuple=True)
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants(xs[0], "image", "vector")
        if int(a["k"]) > int(a["n"]):
            raise ShapeError(f"of {a['n']} experts {a['k']} cannot be taken: k is at most n")
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        features, n, hidden = xs[0].channels, int(a["n"]), int(a["hidden"])
        return (
            Param("gate.weight", (n, features), "fan_in", features, own=True),
            Param("inner", (n, hidden, features), "fan_in", features),
            Param("inner_bias", (n, hidden), "zeros", decay=False),
            Param("outer", (n, features, hidden), "fan_in", hidden),
            Param("outer_bias", (n, features), "zeros", decay=False),
        )

    def flops(self, xs: Shapes, a: Args) -> int:
        """Of the gate, and of the experts that are taken."""
        return xs[0].elements * (2 * int(a["n"]) + 4 * int(a["k"]) * int(a["hidden"]))

    def scratch(self, xs: Shapes, a: Args) -> int:
        """The gate's answers; and of one expert, which all places may take, what goes in, what is
        hidden and what comes out."""
        places = xs[0].elements // xs[0].channels
        return places * (int(a["n"]) + 2 * xs[0].channels + int(a["hidden"]))

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,) = xs
        last = x.movedim(1, -1)
        rows = last.reshape(-1, x.shape[1])
        answers = F.linear(rows, p["gate.weight"])
        if phase.heard is not None:
            phase.heard.append(answers)
        fits, taken = answers.topk(int(a["k"]))
        shares, result, n = fits.softmax(1), torch.zeros_like(rows), answers.shape[1]
        for e in range(n):
            at, place = _chosen(taken, e, n)
            hidden = F.gelu(F.linear(rows[at], p["inner"][e], p["inner_bias"][e]))
            given = F.linear(hidden, p["outer"][e], p["outer_bias"][e])
            weighted = (given * shares[at, place, None]).to(result.dtype)
            result = result.index_add(0, at, weighted)
        return (result.view(last.shape).movedim(-1, 1),)

    def code(self, xs: Shapes, a: Args) -> Code:
        module = f"Experts({xs[0].channels}, {a['n']}, {a['k']}, {a['hidden']})"
        return Code(module, "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        axes, features = len(xs[0].dims), xs[0].channels
        last = graph("Transpose", *values, perm=[0, *range(2, axes + 1), 1])
        rows = graph("Reshape", last, graph.integers(-1, features))
        answers = graph("MatMul", rows, graph.constant(p["gate.weight"].T))
        k = graph.integers(int(a["k"]))
        fits, taken = graph.several(2, "TopK", answers, k, axis=1)
        shares, columns = graph("Softmax", fits, axis=1), graph.integers(1)
        result = graph("Mul", rows, graph.number(0))
        for e in range(int(a["n"])):
            takes = graph("Cast", graph("Equal", taken, graph.integers(e)), to=FLOAT)
            share = graph("ReduceSum", graph("Mul", shares, takes), columns, keepdims=1)
            one = graph("ReduceSum", takes, columns, keepdims=0)
            at = graph("Transpose", graph("NonZero", one), perm=[1, 0])
            hidden = graph(
                "Add",
                graph("MatMul", graph("GatherND", rows, at), graph.constant(p["inner"][e].T)),
                graph.constant(p["inner_bias"][e]),
            )
            (active,) = GELU.onnx(graph, (hidden,), xs, {}, {})
            given = graph(
                "Add",
                graph("MatMul", active, graph.constant(p["outer"][e].T)),
                graph.constant(p["outer_bias"][e]),
            )
            weighted = graph("Mul", given, graph("GatherND", share, at))
            result = graph("ScatterND", result, at, weighted, reduction="add")
        whole = graph("Reshape", result, graph("Shape", last))
        return (graph("Transpose", whole, perm=[0, axes, *range(1, axes)]),)


def _chosen(taken: Tensor, e: int, n: int) -> tuple[Tensor, Tensor]:
    """Which rows take expert e of n, and at which of their k places; where values are not known the
    first so many, as if all experts had as many."""
    if taken.is_meta:
        at = torch.arange(taken.numel() // n, device="meta") // taken.shape[1]
        return at, torch.zeros_like(at)
    rows, places = (taken == e).nonzero(as_tuple=True)
    return rows, places
