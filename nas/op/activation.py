"""Activations, element by element, and softmax."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F
from nas.op.base import Args, Code, Operator, Phase, Shapes, Value
from nas.op.graph import Graph, Names
from nas.op.shape import ShapeError

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights
    from nas.op.graph import Arrays


class Activation(Operator):
    """One of torch.nn.functional's activations, named by `function`; `node` is ONNX's name."""

    function: ClassVar[str]
    node: ClassVar[str]
    keywords: ClassVar[dict[str, float]] = {}
    attributes: ClassVar[dict[str, float]] = {}  # of the node
    nonlinear = keeps = in_place = True

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (getattr(F, self.function)(xs[0], **self.keywords),)

    def code(self, xs: Shapes, a: Args) -> Code:
        words = "".join(f", {name}={value}" for name, value in self.keywords.items())
        return Code(None, f"F.{self.function}({{0}}{words})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph(self.node, *values, **self.attributes),)


class ReLU(Activation):
    name, function, node = "relu", "relu", "Relu"


class LeakyReLU(Activation):
    name, function, node = "leaky_relu", "leaky_relu", "LeakyRelu"
    keywords: ClassVar[dict[str, float]] = {"negative_slope": 0.01}
    attributes: ClassVar[dict[str, float]] = {"alpha": 0.01}


class HardSwish(Activation):
    name, function, node = "hardswish", "hardswish", "HardSwish"


class HardSigmoid(Activation):
    name, function, node = "hardsigmoid", "hardsigmoid", "HardSigmoid"
    attributes: ClassVar[dict[str, float]] = {"alpha": 1 / 6, "beta": 0.5}


class ReLU6(Activation):
    name, function = "relu6", "relu6"

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("Clip", *values, graph.number(0), graph.number(6)),)


class SiLU(Activation):
    name, function = "silu", "silu"

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("Mul", *values, graph("Sigmoid", *values)),)


class GELU(Activation):
    name, function = "gelu", "gelu"

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        """x (1 + erf(x / √2)) / 2, which runtimes know and run as one."""
        erf = graph("Erf", graph("Div", *values, graph.number(sqrt(2))))
        twice = graph("Mul", *values, graph("Add", erf, graph.number(1)))
        return (graph("Mul", twice, graph.number(0.5)),)


class Sigmoid(Activation):
    name, function, node = "sigmoid", "sigmoid", "Sigmoid"


class Tanh(Activation):
    name, function, node = "tanh", "tanh", "Tanh"


class Softmax(Activation):
    """Softmax over the last axis."""

    name, function, node, levels = "softmax", "softmax", "Softmax", True
    keywords: ClassVar[dict[str, float]] = {"dim": -1}
    attributes: ClassVar[dict[str, float]] = {"axis": -1}


ACTIVATIONS: dict[str, Activation] = {
    op.name: op
    for op in (
        ReLU(),
        LeakyReLU(),
        HardSwish(),
        SiLU(),
        GELU(),
        Sigmoid(),
        Tanh(),
        HardSigmoid(),
        ReLU6(),
    )
}


def activation(word: Value) -> Activation:
    """The activation of a name; raises ShapeError where there is none."""
    if word not in ACTIVATIONS:
        raise ShapeError(f"{word!r} is no activation: {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[str(word)]
