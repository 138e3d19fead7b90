"""Activations, element by element, and softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F
from nas.op.base import Args, Code, Operator, Phase, Shapes

if TYPE_CHECKING:
    from nas.op.base import Tensors, Weights


class Activation(Operator):
    """One of torch.nn.functional's activations, named by `function`."""

    function: ClassVar[str]
    keywords: ClassVar[dict[str, float]] = {}
    nonlinear = True

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (getattr(F, self.function)(xs[0], **self.keywords),)

    def code(self, xs: Shapes, a: Args) -> Code:
        words = "".join(f", {name}={value}" for name, value in self.keywords.items())
        return Code(None, f"F.{self.function}({{0}}{words})")


class ReLU(Activation):
    name, function = "relu", "relu"


class LeakyReLU(Activation):
    name, function = "leaky_relu", "leaky_relu"
    keywords: ClassVar[dict[str, float]] = {"negative_slope": 0.01}


class HardSwish(Activation):
    name, function = "hardswish", "hardswish"


class SiLU(Activation):
    name, function = "silu", "silu"


class GELU(Activation):
    name, function = "gelu", "gelu"


class Sigmoid(Activation):
    name, function = "sigmoid", "sigmoid"


class Tanh(Activation):
    name, function = "tanh", "tanh"


class Softmax(Activation):
    """Softmax over the last axis."""

    name, function, levels = "softmax", "softmax", True
    keywords: ClassVar[dict[str, float]] = {"dim": -1}


ACTIVATIONS: dict[str, Activation] = {
    op.name: op for op in (ReLU(), LeakyReLU(), HardSwish(), SiLU(), GELU(), Sigmoid(), Tanh())
}
