"""Normalisation. Batch statistics belong to an architecture, never to shared weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.op.base import Args, Code, Composite, Operator, Param, Part, Phase, Shapes
from nas.op.lazy import F
from nas.op.shape import ShapeError, wants_image

if TYPE_CHECKING:
    from torch import Tensor


def _scale(channels: int) -> tuple[Param, ...]:
    return (
        Param("weight", (channels,), "ones", decay=False),
        Param("bias", (channels,), "zeros", decay=False),
    )


class BatchNorm(Operator):
    """Batch normalisation of an image's channels or a vector's features (Ioffe & Szegedy 2015)."""

    name = "batchnorm"
    statistics = ("running_mean", "running_var")

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        if xs[0].kind == "sequence":
            raise ShapeError("it takes an image or a vector; for a sequence there is layernorm")
        if xs[0].kind == "image":
            wants_image(xs[0])
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return _scale(xs[0].channels)

    def forward(
        self, xs: tuple[Tensor, ...], p: Mapping[str, Tensor], a: Args, phase: Phase
    ) -> tuple[Tensor, ...]:
        mean, var = p.get("running_mean"), p.get("running_var")
        training = phase.training or mean is None
        return (F.batch_norm(xs[0], mean, var, p["weight"], p["bias"], training, phase.rate),)

    def code(self, xs: Shapes, a: Args) -> Code:
        rank = max(1, len(xs[0].space))
        return Code(f"nn.BatchNorm{rank}d({xs[0].channels})", "{m}({0})")


class LayerNorm(Operator):
    """Normalisation of the last axis (Ba et al. 2016)."""

    name = "layernorm"
    nonlinear, levels = True, True

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        return xs

    def params(self, xs: Shapes, a: Args) -> tuple[Param, ...]:
        return _scale(xs[0].dims[-1])

    def forward(
        self, xs: tuple[Tensor, ...], p: Mapping[str, Tensor], a: Args, phase: Phase
    ) -> tuple[Tensor, ...]:
        (x,) = xs
        return (F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"]),)

    def code(self, xs: Shapes, a: Args) -> Code:
        return Code(f"nn.LayerNorm({xs[0].dims[-1]})", "{m}({0})")


class Norm(Composite):
    """einspace's norm: batch normalisation of images, layer normalisation of anything else."""

    name = "norm"

    def outputs(self, xs: Shapes, a: Args) -> Shapes:
        if xs[0].kind == "image":
            wants_image(xs[0])
        return xs

    def expand(self, xs: Shapes, a: Args) -> tuple[tuple[Part, ...], tuple[int, ...]]:
        if xs[0].kind == "image":
            return (Part("batch", BatchNorm(), {}, (0,)),), (1,)
        return (Part("layer", LayerNorm(), {}, (0,)),), (1,)
