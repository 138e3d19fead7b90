"""Normalisation. Batch statistics belong to an architecture, never to shared weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from nas.lazy import F, np, torch
from nas.op.base import Arg, Args, Code, Composite, Operator, Param, Part, Phase, Shapes
from nas.op.graph import Graph, Names
from nas.op.shape import Shape, ShapeError, wants_image

if TYPE_CHECKING:
    from torch import Tensor

    from nas.op.base import Tensors, Weights
    from nas.op.graph import Array, Arrays

EPS = Arg("eps", "execution", 1e-5, "float")  # added to a variance


def _scale(channels: int) -> tuple[Param, ...]:
    return (
        Param("weight", (channels,), "ones", decay=False),
        Param("bias", (channels,), "zeros", decay=False),
    )


class BatchNorm(Operator):
    """Batch normalisation of an image's channels or a vector's features (Ioffe & Szegedy 2015)."""

    in_place = True
    keeps = True
    name = "batchnorm"
    args = (EPS,)
    statistics = ("running_mean", "running_var")

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        if xs[0].kind == "sequence":
            raise ShapeError("it takes an image or a vector; for a sequence there is layernorm")
        if xs[0].kind == "image":
            wants_image(xs[0])
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return _scale(xs[0].channels)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        mean, var = p.get("running_mean"), p.get("running_var")
        training = phase.training or mean is None
        rate = phase.momentum
        if mean is not None and var is not None and rate is None:
            return (_joining(xs[0], p, mean, var, phase.seen, float(a["eps"])),)
        weight, bias, eps = p["weight"], p["bias"], float(a["eps"])
        return (F.batch_norm(xs[0], mean, var, weight, bias, training, rate or 0.0, eps),)

    def code(self, xs: Shapes, a: Args) -> Code:
        rank = max(1, len(xs[0].space))
        return Code(f"nn.BatchNorm{rank}d({xs[0].channels}{_eps(a)})", "{m}({0})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        names = ("weight", "bias", *self.statistics)
        given = (graph.constant(p[name]) for name in names)
        return (graph("BatchNormalization", *values, *given, epsilon=a["eps"]),)

    def affine(self, p: Arrays, a: Args) -> tuple[Array, Array]:
        scale = p["weight"] / np.sqrt(p["running_var"] + np.float32(a["eps"]))
        return scale, p["bias"] - p["running_mean"] * scale


def _eps(a: Args) -> str:
    """What follows the channels in a module's arguments."""
    return "" if a["eps"] == EPS.default else f", eps={a['eps']}"


def _joining(x: Tensor, p: Weights, mean: Tensor, var: Tensor, seen: int, eps: float) -> Tensor:
    """x normalised by its own statistics; the mean and variance of `seen` samples become those of
    these and x's together (Chan et al. 1979, "Updating formulae and a pairwise algorithm for
    computing sample variances", eq. 2.1). In one call: torch.var_mean is slow beside it."""
    normed, own_mean, scale = torch.native_batch_norm(
        x, p["weight"], p["bias"], None, None, True, 0.0, eps
    )
    own_var = (scale.square().reciprocal() - eps).clamp_(min=0)  # of 1 / sqrt(var + eps)
    share, apart = len(x) / (seen + len(x)), own_mean - mean
    var.lerp_(own_var, share).add_(apart.square(), alpha=share * (1 - share))
    mean.lerp_(own_mean, share)
    return normed


class LayerNorm(Operator):
    """Normalisation of the last axis (Ba et al. 2016)."""

    in_place = True
    keeps = True
    name = "layernorm"
    args = (EPS,)
    nonlinear, levels = True, True

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return _scale(xs[0].dims[-1])

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (x,) = xs
        return (F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"], float(a["eps"])),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(f"nn.LayerNorm({xs[0].dims[-1]}{_eps(a)})", "{m}({0})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        given = (graph.constant(p[name]) for name in ("weight", "bias"))
        return (graph("LayerNormalization", *values, *given, axis=-1, epsilon=a["eps"]),)


class ChannelNorm(LayerNorm):
    """Layer normalisation of an image's channels at each place (Liu et al. 2022, ConvNeXt)."""

    name, levels = "channelnorm", False
    helper: ClassVar[str] = '''
class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of an image's channels at each place."""

    def forward(self, x):  # (batch, channels, *space)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants_image(xs[0])
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return _scale(xs[0].channels)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        (normed,) = super().forward((xs[0].movedim(1, -1),), p, a, phase)
        return (normed.movedim(-1, 1),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(f"ChannelNorm({xs[0].channels}{_eps(a)})", "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        space = range(2, len(xs[0].dims) + 1)
        last = graph("Transpose", *values, perm=[0, *space, 1])
        (normed,) = super().onnx(graph, (last,), xs, p, a)
        return (graph("Transpose", normed, perm=[0, len(xs[0].dims), *range(1, len(xs[0].dims))]),)


class GroupNorm(Operator):
    """Normalisation of groups of an image's channels over space (Wu & He 2018)."""

    in_place = True
    keeps = True
    name = "groupnorm"
    args = (Arg("groups", "shape"), EPS)
    nonlinear = True

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        wants_image(xs[0])
        if xs[0].channels % int(a["groups"]):
            raise ShapeError(f"{a['groups']} groups do not divide {xs[0].channels} channels")
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return _scale(xs[0].channels)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (F.group_norm(xs[0], int(a["groups"]), p["weight"], p["bias"], float(a["eps"])),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(f"nn.GroupNorm({a['groups']}, {xs[0].channels}{_eps(a)})", "{m}({0})")

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        """Each group as one channel that is normalised for itself, then the scale of each."""
        groups, (channels, *space) = int(a["groups"]), xs[0].dims
        apart = graph("Reshape", *values, graph.integers(0, groups, -1))
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        given = graph.constant(ones), graph.constant(zeros)
        normed = graph("InstanceNormalization", apart, *given, epsilon=a["eps"])
        whole = graph("Reshape", normed, graph.integers(0, channels, *space))
        weight, bias = (p[name].reshape(-1, *[1] * len(space)) for name in ("weight", "bias"))
        scaled = graph("Mul", whole, graph.constant(weight))
        return (graph("Add", scaled, graph.constant(bias)),)


class LayerScale(Operator):
    """Every channel times a learned number (Touvron et al. 2021, "Going deeper with image
    transformers", eq. 5)."""

    in_place = True
    keeps = True
    name = "layer_scale"
    helper: ClassVar[str] = '''
class LayerScale(nn.Module):
    """Every channel times a learned number."""

    def __init__(self, channels, axes=0):  # of space, behind the channels
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, x):
        return x * self.weight
'''

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return (Param("weight", (xs[0].channels, *[1] * _behind(xs[0])), "ones", decay=False),)

    def forward(self, xs: Tensors, p: Weights, a: Args, phase: Phase) -> Tensors:
        return (xs[0] * p["weight"],)

    def code(self, xs: Shapes, a: Args) -> Code:
        rest = f", {_behind(xs[0])}" if _behind(xs[0]) else ""
        return Code(f"LayerScale({xs[0].channels}{rest})", "{m}({0})", self.helper)

    def onnx(self, graph: Graph, values: Names, xs: Shapes, p: Arrays, a: Args) -> Names:
        return (graph("Mul", *values, graph.constant(p["weight"])),)

    def affine(self, p: Arrays, a: Args) -> tuple[Array, Array]:
        scale = p["weight"].reshape(-1)
        return scale, np.zeros_like(scale)


def _behind(x: Shape) -> int:
    """How many axes follow the channels."""
    return len(x.space) if x.kind == "image" else 0


class Norm(Composite):
    """einspace's norm: batch normalisation of images, layer normalisation of anything else."""

    name = "norm"

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        if xs[0].kind == "image":
            wants_image(xs[0])
        return xs

    def expand(self, xs: Shapes, a: Args) -> tuple[tuple[Part, ...], tuple[int, ...]]:
        if xs[0].kind == "image":
            return (Part("batch", BatchNorm(), BatchNorm().bind((), {}), (0,)),), (1,)
        return (Part("layer", LayerNorm(), LayerNorm().bind((), {}), (0,)),), (1,)
