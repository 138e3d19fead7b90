"""Convolutions of any rank, and the blocks made of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

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


class Geometry(NamedTuple):
    """What a convolution does as plain integers, `kernel` and `padding` for each axis of space."""

    out: int
    kernel: tuple[int, ...]
    stride: int
    groups: int
    padding: tuple[int, ...]
    dilation: int
    bias: bool


def _padding(kernel: Sequence[int], a: Args) -> tuple[int, ...]:
    """Zeros on each side of each axis: as many as `padding` says, or what keeps the size."""
    given = int(a["padding"])
    if given >= 0:
        return (given,) * len(kernel)
    return tuple(int(a["dilation"]) * (size - 1) // 2 for size in kernel)


# of a kernel that is not square the size along the last axis (0: as along the others), and how far
# apart the places are that a kernel reads
SHAPED = (
    Arg("kernel_width", "shape", 0, least=0, later=True),
    Arg("dilation", "shape", 1, later=True),
)


class Conv(Operator):
    """Convolution over all spatial axes; `padding` -1 is dilation · (kernel - 1) // 2 on each side
    of an axis. `kernel_width` is that of the last axis where it differs from `kernel`."""

    name = "conv"
    args: tuple[Arg, ...] = (
        Arg("out", "elastic"),
        Arg("kernel", "elastic", 3, decides="kernel"),
        Arg("stride", "shape", 1),
        Arg("groups", "shape", 1),
        Arg("bias", "shape", 0, least=0),
        Arg("padding", "shape", -1, least=-1),
        *SHAPED,
    )

    def geometry(self, x: Shape, a: Args) -> Geometry:
        height, width = int(a["kernel"]), int(a["kernel_width"])
        if width and len(x.space) == 1:
            raise ShapeError("a kernel of one axis has no width of its own")
        kernel = (height,) * (len(x.space) - 1) + (width or height,)
        stride, groups, bias = int(a["stride"]), int(a["groups"]), bool(a["bias"])
        padding, dilation = _padding(kernel, a), int(a["dilation"])
        return Geometry(int(a["out"]), kernel, stride, groups, padding, dilation, bias)

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        (x,) = xs
        wants_image(x)
        out, kernel, stride, groups, padding, dilation, _ = self.geometry(x, a)
        if x.channels % groups or out % groups:
            raise ShapeError(f"{groups} groups do not divide {x.channels} and {out} channels")
        space = tuple(
            (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
            for size, k, pad in zip(x.space, kernel, padding, strict=True)
        )
        return (Shape("image", (out, *space)),)

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        (x,) = xs
        out, kernel, _, groups, _, _, bias = self.geometry(x, a)
        rank, inner = len(x.space), x.channels // groups
        weight = Param(
            "weight", (out, inner, *kernel), "fan_in", inner * prod(kernel), centred=rank
        )
        return (weight, Param("bias", (out,), "zeros", decay=False)) if bias else (weight,)

    def flops(self, xs: Shapes, a: Args) -> int:
        (y,) = self.outputs(xs, a)
        return 2 * prod(self.params(xs, a)[0].shape) * prod(y.space)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,) = xs
        weight = p["weight"]
        groups, padding = x.shape[1] // weight.shape[1], _padding(weight.shape[2:], a)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
        stride, dilation = int(a["stride"]), int(a["dilation"])
        return (convolve(x, weight, p.get("bias"), stride, padding, dilation, groups),)

    def code(self, xs: Shapes, a: Args) -> Code:
        (x,) = xs
        out, kernel, stride, groups, padding, dilation, bias = self.geometry(x, a)
        rest = "".join(
            f", {name}={value}"
            for name, value, default in (
                ("stride", stride, 1),
                ("padding", _plain(padding), 0),
                ("dilation", dilation, 1),
                ("groups", groups, 1),
                ("bias", bias, True),
            )
            if value != default
        )
        module = f"nn.Conv{len(x.space)}d({x.channels}, {out}, {_plain(kernel)}{rest})"
        return Code(module, "{m}({0})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        _, _, stride, groups, padding, dilation, _ = self.geometry(xs[0], a)
        rank = len(xs[0].space)
        apart = {} if dilation == 1 else {"dilations": [dilation] * rank}
        node = graph(
            "Conv",
            *values,
            graph.constant(p["weight"]),
            *graph.biased(p),
            strides=[stride] * rank,
            pads=[*padding] * 2,
            group=groups,
            **apart,
        )
        return (node,)

    def scaled(self, xs: Shapes, p: Arrays, scale: Array, shift: Array) -> Arrays:
        return scaled_map(p, scale, shift)


def _plain(sizes: tuple[int, ...]) -> int | tuple[int, ...]:
    """One number for sizes that are equal."""
    return sizes[0] if len(set(sizes)) == 1 else sizes


class Depthwise(Conv):
    """One filter a channel."""

    keeps = True
    name = "depthwise"
    args = (
        Arg("kernel", "elastic", 3, decides="kernel"),
        Arg("stride", "shape", 1),
        Arg("bias", "shape", 0, least=0),
        Arg("padding", "shape", -1, least=-1),
        *SHAPED,
    )

    def geometry(self, x: Shape, a: Args) -> Geometry:
        channels = x.channels
        return super().geometry(x, {**a, "out": channels, "groups": channels})


POINT = {"kernel": 1, "kernel_width": 0, "groups": 1, "padding": 0, "dilation": 1}


class Pointwise(Conv):
    """A 1×1 convolution."""

    name = "pointwise"
    args = (Arg("out", "elastic"), Arg("stride", "shape", 1), Arg("bias", "shape", 0, least=0))

    def geometry(self, x: Shape, a: Args) -> Geometry:
        return super().geometry(x, {**a, **POINT})

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return super().forward(xs, p, {**a, **POINT}, phase)


class SqueezeExcite(Operator):
    """Channels scaled by a gate computed from their means (Hu et al. 2018). `inner` features are
    between the two maps, 0: a `ratio` of the channels, 4 at least."""

    in_place = True
    keeps = True
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
