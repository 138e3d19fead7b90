"""The operators: each declares arity, shape, parameters, cost, forward and its code."""

from __future__ import annotations

from nas.op.activation import ACTIVATIONS, Softmax
from nas.op.attention import Attention, ClassToken, Item
from nas.op.base import (
    BATCH,
    EVAL,
    LARGEST,
    Arg,
    Args,
    Code,
    Composite,
    Inferred,
    Operator,
    Param,
    Phase,
    Shapes,
    Value,
    infer,
    output_shapes,
)
from nas.op.conv import Conv, Depthwise, MBConv, Pointwise, SqueezeExcite
from nas.op.experts import Experts
from nas.op.fuse import Fuse
from nas.op.linear import Cosine, Flatten, Linear
from nas.op.norm import BatchNorm, ChannelNorm, GroupNorm, LayerNorm, LayerScale, Norm
from nas.op.pool import (
    AvgPool,
    MaxPool,
    MeanPositions,
    MeanSpace,
    Pool,
    Resize,
    Upsample,
    UpsampleTo,
)
from nas.op.product import MatMul, Multiply, ScaledMatMul
from nas.op.sequence import Col2Im, Im2Col, Permute, Positional, Tokens
from nas.op.shape import Kind, Shape, ShapeError
from nas.op.statistics import AttentivePool
from nas.op.stream import Add, Clone, Concat, Group, Identity, Output, Precision, UpsampleAdd

OPERATORS: dict[str, Operator] = {
    op.name: op
    for op in (
        Conv(),
        Depthwise(),
        Pointwise(),
        MBConv(),
        SqueezeExcite(),
        BatchNorm(),
        LayerNorm(),
        ChannelNorm(),
        GroupNorm(),
        LayerScale(),
        Norm(),
        *ACTIVATIONS.values(),
        Softmax(),
        Pool(),
        MeanSpace(),
        MeanPositions(),
        AttentivePool(),
        MaxPool(),
        AvgPool(),
        Upsample(),
        UpsampleTo(),
        Resize(),
        Linear(),
        Cosine(),
        Flatten(),
        Identity(),
        Output(),
        Precision(),
        Clone(),
        Group(),
        Add(),
        Multiply(),
        Concat(),
        MatMul(),
        ScaledMatMul(),
        UpsampleAdd(),
        Fuse(),
        Permute(),
        Im2Col(),
        Col2Im(),
        Tokens(),
        Positional(),
        Attention(),
        ClassToken(),
        Item(),
        Experts(),
    )
}

__all__ = [
    "ACTIVATIONS",
    "BATCH",
    "EVAL",
    "LARGEST",
    "OPERATORS",
    "Arg",
    "Args",
    "Code",
    "Composite",
    "Inferred",
    "Kind",
    "Operator",
    "Param",
    "Phase",
    "Shape",
    "ShapeError",
    "Shapes",
    "Value",
    "infer",
    "output_shapes",
]
