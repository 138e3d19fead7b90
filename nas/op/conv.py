"""Convolutions of any rank, and the blocks made of them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F
from nas.op.activation import activation
from nas.op.base import Arg, Args, Code, Composite, Operator, Param, Part, Phase, Shapes
from nas.op.graph import Graph, Names
from nas.op.linear import scaled_map
from nas.op.norm import BatchNorm
from nas.op.shape import Shape, ShapeError, wants_image
from nas.op.stream import Add

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Array, Arrays


class Conv(Operator):
    """Convolution over all spatial axes; `padding` -1 is (kernel - 1) // 2 on each side."""

    name = "conv"
    args: tuple[Arg, ...] = (
        Arg("out", "elastic"),
        Arg("kernel", "elastic", 3, decides="kernel"),
        Arg("stride", "shape", 1),
        Arg("groups", "shape", 1),
        Arg("bias", "shape", 0, least=0),
        Arg("padding", "shape", -1, least=-1),
    )

    def geometry(self, x: Shape, a: Args) -> tuple[int, int, int, int, int, bool]:
        """out, kernel, stride, groups, padding, bias as plain integers."""
        kernel, padding = int(a["kernel"]), int(a["padding"])
        if padding < 0:
            padding = (kernel - 1) // 2
        return (int(a["out"]), kernel, int(a["stride"]), int(a["groups"]), padding, bool(a["bias"]))

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants_image(x)
        out, kernel, stride, groups, padding, _ = self.geometry(x, a)
        if x.channels % groups or out % groups:
            raise ShapeError(f"{groups} groups do not divide {x.channels} and {out} channels")
        space = tuple((size + 2 * padding - kernel) // stride + 1 for size in x.space)
        return (Shape("image", (out, *space)),)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        (x,) = xs
        out, kernel, _, groups, _, bias = self.geometry(x, a)
        rank, inner = len(x.space), x.channels // groups
        shape = (out, inner) + (kernel,) * rank
        weight = Param("weight", shape, "fan_in", inner * kernel**rank, centred=rank)
        return (weight, Param("bias", (out,), "zeros", decay=False)) if bias else (weight,)

    def flops(self, xs: Shapes, a: Args) -> int:
        (y,) = self.outputs(xs, a)
        return 2 * prod(self.params(xs, a)[0].shape) * prod(y.space)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,) = xs
        weight = p["weight"]
        kernel, padding = int(a["kernel"]), int(a["padding"])
        if padding < 0:
            padding = (kernel - 1) // 2
        groups = x.shape[1] // weight.shape[1]
        convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
        return (convolve(x, weight, p.get("bias"), int(a["stride"]), padding, 1, groups),)

    def code(self, xs: Shapes, a: Args) -> Code:
        (x,) = xs
        out, kernel, stride, groups, padding, bias = self.geometry(x, a)
        rest = "".join(
            f", {name}={value}"
            for name, value, default in (
                ("stride", stride, 1),
                ("padding", padding, 0),
                ("groups", groups, 1),
                ("bias", bias, True),
            )
            if value != default
        )
        module = f"nn.Conv{len(x.space)}d({x.channels}, {out}, {kernel}{rest})"
        return Code(module, "{m}({0})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        _, _, stride, groups, padding, _ = self.geometry(xs[0], a)
        rank = len(xs[0].space)
        node = graph(
            "Conv",
            *values,
            graph.constant(p["weight"]),
            *graph.biased(p),
            strides=[stride] * rank,
            pads=[padding] * 2 * rank,
            group=groups,
        )
        return (node,)

    def scaled(self, xs: Shapes, p: Arrays, scale: Array, shift: Array) -> Arrays:
        return scaled_map(p, scale, shift)


class Depthwise(Conv):
    """One filter a channel."""

    name = "depthwise"
    args = (
        Arg("kernel", "elastic", 3, decides="kernel"),
        Arg("stride", "shape", 1),
        Arg("bias", "shape", 0, least=0),
        Arg("padding", "shape", -1, least=-1),
    )

    def geometry(self, x: Shape, a: Args) -> tuple[int, int, int, int, int, bool]:
        channels = x.channels
        return super().geometry(x, {**a, "out": channels, "groups": channels})


class Pointwise(Conv):
    """A 1×1 convolution."""

    name = "pointwise"
    args = (Arg("out", "elastic"), Arg("stride", "shape", 1), Arg("bias", "shape", 0, least=0))

    def geometry(self, x: Shape, a: Args) -> tuple[int, int, int, int, int, bool]:
        return super().geometry(x, {**a, "kernel": 1, "groups": 1, "padding": 0})

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return super().forward(xs, p, {**a, "kernel": 1, "padding": 0}, phase)


class SqueezeExcite(Operator):
    """Channels scaled by a gate computed from their means (Hu et al. 2018). `inner` features are
    between the two maps, 0: a `ratio` of the channels, 4 at least."""

    name = "squeeze_excite"
    args = (
        Arg("ratio", "shape", 4),
        Arg("inner", "elastic", 0, least=0),
        Arg("act", "execution", "relu", "word"),
        Arg("gate", "execution", "hardsigmoid", "word"),
    )
    nonlinear = True
    helper: ClassVar[str] = '''
class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their means."""

    def __init__(self, channels, inner, act=F.relu, gate=F.hardsigmoid):
        super().__init__()
        self.reduce = nn.Linear(channels, inner)
        self.expand = nn.Linear(inner, channels)
        self.act, self.gate = act, gate

    def forward(self, x):  # (batch, channels, *space)
        gate = x.flatten(2).mean(2)
        gate = self.gate(self.expand(self.act(self.reduce(gate))))
        return x * gate.reshape(gate.shape + (1,) * (x.dim() - 2))
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants_image(xs[0])
        for name in ("act", "gate"):
            activation(a[name])
        return xs

    def _inner(self, x: Shape, a: Args) -> int:
        return int(a["inner"]) or max(4, x.channels // int(a["ratio"]))

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        channels, inner = xs[0].channels, self._inner(xs[0], a)
        return (
            Param("reduce.weight", (inner, channels), "fan_in", channels),
            Param("reduce.bias", (inner,), "zeros", decay=False),
            Param("expand.weight", (channels, inner), "fan_in", inner),
            Param("expand.bias", (channels,), "zeros", decay=False),
        )

    def flops(self, xs: Shapes, a: Args) -> int:
        return 4 * xs[0].channels * self._inner(xs[0], a)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,) = xs
        gate = x.flatten(2).mean(2)
        for part, name in (("reduce", "act"), ("expand", "gate")):
            mapped = F.linear(gate, p[f"{part}.weight"], p[f"{part}.bias"])
            (gate,) = activation(a[name]).forward((mapped,), {}, {}, phase)
        return (x * gate.reshape(gate.shape + (1,) * (x.ndim - 2)),)

    def code(self, xs: Shapes, a: Args) -> Code:
        given = [f"{name}=F.{activation(a[name]).function}" for name in ("act", "gate")]
        usual = a["act"], a["gate"]
        rest = "" if usual == ("relu", "hardsigmoid") else f", {', '.join(given)}"
        module = f"SqueezeExcite({xs[0].channels}, {self._inner(xs[0], a)}{rest})"
        return Code(module, "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        def mapped(value: str, name: str) -> str:
            weight = p[f"{name}.weight"]
            kernel = weight.reshape(*weight.shape, *[1] * len(xs[0].space))
            biased = graph.biased(p, f"{name}.bias")
            return graph("Conv", value, graph.constant(kernel), *biased)

        value = graph("GlobalAveragePool", *values)
        for part, name in (("reduce", "act"), ("expand", "gate")):
            (value,) = activation(a[name]).onnx(graph, (mapped(value, part),), xs, {}, {})
        return (graph("Mul", *values, value),)


class MBConv(Composite):
    """Inverted residual: expand 1×1 (`expand` 0: none), depthwise, squeeze-excite (`se` 0: none),
    project 1×1.

    The input is added when shape allows (Sandler et al. 2018; Howard et al. 2019).
    """

    name = "mbconv"
    args = (
        Arg("out", "elastic"),
        Arg("stride", "shape", 1),
        Arg("kernel", "elastic", 3, decides="kernel"),
        Arg("expand", "elastic", 4, least=0),
        Arg("se", "shape", 0, least=0),
        Arg("act", "shape", "relu", "word"),
    )
    nonlinear = True

    def expand(self, xs: Shapes, a: Args) -> tuple[tuple[Part, ...], tuple[int, ...]]:
        (x,) = xs
        wants_image(x)
        act, norm = activation(a["act"]), BatchNorm()
        parts: list[Part] = []

        def then(local: str, operator: Operator, *inputs: int, **args: int) -> int:
            parts.append(Part(local, operator, operator.bind((), args), inputs))
            return len(parts)

        value, hidden, stride = 0, int(a["expand"]) * x.channels, int(a["stride"])
        if hidden:
            value = then("expand", Pointwise(), value, out=hidden)
            value = then("expand_norm", norm, value)
            value = then("expand_act", act, value)
        value = then("depthwise", Depthwise(), value, kernel=int(a["kernel"]), stride=stride)
        value = then("depthwise_norm", norm, value)
        value = then("depthwise_act", act, value)
        if int(a["se"]):
            value = then("se", SqueezeExcite(), value, ratio=int(a["se"]))
        value = then("project", Pointwise(), value, out=int(a["out"]))
        value = then("project_norm", norm, value)
        if stride == 1 and int(a["out"]) == x.channels:
            value = then("add", Add(), 0, value)
        return tuple(parts), (value,)
