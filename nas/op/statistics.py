"""Statistics over time, weighted by attention: an utterance of any length as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F, torch
from nas.op.base import Arg, Args, Code, Operator, Param, Phase, Segments, Shapes
from nas.op.graph import Graph, Names
from nas.op.shape import Shape, wants_image

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays

LEAST = 1e-4  # of a variance, whose root is taken


class AttentivePool(Operator):
    """Mean and standard deviation of each channel over space, (C, *space) → (2C,), each place
    weighted by an attention of that channel's own, which sees the place and what the whole comes to
    (attentive statistics pooling, Okabe et al. 2018, equations 5 and 6, with the context of
    ECAPA-TDNN, Desplanques et al. 2020, section 3.1).

    attention = softmax over space of B · tanh(A · x + M · mean + D · deviation + a) + b
    """

    name = "attentive_pool"
    args = (Arg("size", "shape", 128),)
    nonlinear = True
    helper: ClassVar[str] = '''
class AttentivePool(nn.Module):
    """Mean and deviation of each channel over space, weighted by attention."""

    def __init__(self, channels, size):
        super().__init__()
        self.place = nn.Linear(channels, size)
        self.mean = nn.Linear(channels, size, bias=False)
        self.deviation = nn.Linear(channels, size, bias=False)
        self.back = nn.Linear(size, channels)

    def forward(self, x):  # (batch, channels, *space)
        x = x.flatten(2)
        mean = x.mean(2)
        deviation = ((x - mean[..., None]) ** 2).mean(2).clamp(min=1e-4).sqrt()
        whole = self.mean(mean) + self.deviation(deviation)
        weight = self.back(torch.tanh(self.place(x.transpose(1, 2)) + whole[:, None]))
        weight = weight.transpose(1, 2).softmax(2)
        mean = (weight * x).sum(2)
        deviation = (weight * (x - mean[..., None]) ** 2).sum(2).clamp(min=1e-4).sqrt()
        return torch.cat([mean, deviation], dim=1)
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants_image(xs[0])
        return (Shape("vector", (2 * xs[0].channels,)),)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        channels, size = xs[0].channels, int(a["size"])
        return (
            Param("place.weight", (size, channels), "fan_in", channels),
            Param("place.bias", (size,), "zeros", decay=False),
            Param("mean.weight", (size, channels), "fan_in", channels),
            Param("deviation.weight", (size, channels), "fan_in", channels),
            Param("back.weight", (channels, size), "fan_in", size),
            Param("back.bias", (channels,), "zeros", decay=False),
        )

    def segments(self, xs: Shapes, a: Args, entering: Sequence[Segments]) -> Segments:
        """Of elastic channels the means are one stream and the deviations another."""
        return 2 * (entering[0] or (xs[0].channels,))

    def flops(self, xs: Shapes, a: Args) -> int:
        places = xs[0].elements // xs[0].channels
        return 4 * xs[0].channels * int(a["size"]) * (places + 1)

    def scratch(self, xs: Shapes, a: Args) -> int:
        return 2 * xs[0].elements

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        x = xs[0].flatten(2)
        mean = x.mean(2)
        deviation = ((x - mean[..., None]) ** 2).mean(2).clamp(min=LEAST).sqrt()
        whole = F.linear(mean, p["mean.weight"]) + F.linear(deviation, p["deviation.weight"])
        places = F.linear(x.transpose(1, 2), p["place.weight"], p["place.bias"])
        hidden = torch.tanh(places + whole[:, None])
        weight = F.linear(hidden, p["back.weight"], p["back.bias"]).transpose(1, 2).softmax(2)
        mean = (weight * x).sum(2)
        deviation = (weight * (x - mean[..., None]) ** 2).sum(2).clamp(min=LEAST).sqrt()
        return (torch.cat([mean, deviation], dim=1),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(f"AttentivePool({xs[0].channels}, {a['size']})", "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        last = graph.integers(2)

        def mapped(value: str, name: str) -> str:
            weight = graph.constant(p[f"{name}.weight"][..., None])
            return graph("Conv", value, weight, *graph.biased(p, f"{name}.bias"))

        def root(variance: str) -> str:
            return graph("Sqrt", graph("Max", variance, graph.number(LEAST)))

        def squared(mean: str) -> str:
            apart = graph("Sub", x, mean)
            return graph("Mul", apart, apart)

        x = graph("Reshape", *values, graph.integers(0, xs[0].channels, -1))
        mean = graph("ReduceMean", x, last, keepdims=1)
        deviation = root(graph("ReduceMean", squared(mean), last, keepdims=1))
        whole = graph("Add", mapped(mean, "mean"), mapped(deviation, "deviation"))
        hidden = graph("Tanh", graph("Add", mapped(x, "place"), whole))
        weight = graph("Softmax", mapped(hidden, "back"), axis=2)
        mean = graph("ReduceSum", graph("Mul", weight, x), last, keepdims=1)
        variance = graph("ReduceSum", graph("Mul", weight, squared(mean)), last, keepdims=1)
        both = graph("Concat", mean, root(variance), axis=1)
        return (graph("Flatten", both, axis=1),)
