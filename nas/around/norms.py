"""Norms, and what a module adds to or scales each channel by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from nas.around.reading import Read, Reader, Stream, given

EPS = 1e-5


def batch_norm(reader: Reader, node: Node) -> None:
    source, weight, bias, mean, variance, _, _, eps, *_ = given(node, 9)
    stream, known = reader.stream(source), reader.traced.constant
    running_mean, running_var = known(mean), known(variance)
    if running_mean is None or running_var is None:
        raise reader.unread(node, "a batch norm that keeps no statistics")
    if stream.kind not in ("image", "vector", "point"):
        raise reader.unread(node, f"a batch norm of {list(stream.shape)}")
    statistics = {"running_mean": running_mean, "running_var": running_var}
    tensors = _scale(known(weight), known(bias), running_mean) | statistics
    _norm(reader, node, "batchnorm", stream, eps, tensors)


def layer_norm(reader: Reader, node: Node) -> None:
    """Of the channels alone: of a sequence or vector, or of a picture's at each place."""
    source, sizes, weight, bias, eps = given(node, 5)
    stream = reader.stream(source)
    operators = {"sequence": "layernorm", "vector": "layernorm", "last": "channelnorm"}
    if stream.kind == "point" and stream.shape[:2] == (1, 1):  # its channels last
        operators["point"] = "layernorm"
    if stream.kind not in operators or list(sizes) != [stream.shape[-1]]:
        raise reader.unread(node, f"a norm of the last {list(sizes)} of {list(stream.shape)}")
    known = reader.traced.constant
    tensors = _scale(known(weight), known(bias), torch.empty(stream.shape[-1]))
    _norm(reader, node, operators[stream.kind], stream, EPS if eps is None else eps, tensors)


def group_norm(reader: Reader, node: Node) -> None:
    source, groups, weight, bias, eps = given(node, 5)
    stream, known = reader.stream(source), reader.traced.constant
    if stream.kind != "image":
        raise reader.unread(node, f"a norm of groups of {list(stream.shape)}")
    reader.groups.pin(stream.width.group, "a norm of groups reads it")
    tensors = _scale(known(weight), known(bias), torch.empty(stream.shape[0]))
    eps = EPS if eps is None else eps
    _norm(reader, node, "groupnorm", stream, eps, tensors, {"groups": int(groups)})


def _scale(weight: Tensor | None, bias: Tensor | None, like: Tensor) -> dict[str, Tensor]:
    return {
        "weight": torch.ones_like(like) if weight is None else weight,
        "bias": torch.zeros_like(like) if bias is None else bias,
    }


def _norm(
    reader: Reader,
    node: Node,
    operator: str,
    stream: Stream,
    eps: Any,
    tensors: Mapping[str, Tensor],
    more: Mapping[str, int] | None = None,
) -> None:
    read = {name: Read(tensor, ((0, stream.width),)) for name, tensor in tensors.items()}
    args = {**(more or {}), "eps": float(eps)}
    reader.add(node, operator, [node.args[0]], stream.width, stream.kind, args=args, tensors=read)


CHANNELS = {"image": 0, "point": 0, "last": 2, "sequence": 1, "vector": 0}  # axis of a sample's


def scaled(reader: Reader, node: Node, source: Any, factor: Tensor) -> None:
    """A value times a parameter of the module: a number for each channel."""
    stream = reader.stream(source)
    axis, axes = CHANNELS.get(stream.kind), len(stream.shape)
    if stream.kind == "point" and stream.shape[:2] == (1, 1):  # its channels last
        axis = 2
    wanted = tuple(size if i == axis else 1 for i, size in enumerate(stream.shape))
    broadcast = (*[1] * (axes - factor.ndim), *factor.shape)
    if axis is None or broadcast[-axes:] != wanted or factor.numel() != stream.shape[axis]:
        raise reader.unread(
            node, f"{list(stream.shape)} is multiplied by a parameter of {list(factor.shape)}"
        )
    behind = [1, 1] if stream.kind in ("image", "last") else []
    weight = Read(factor.reshape(-1, *behind), ((0, stream.width),))
    reader.add(node, "layer_scale", [source], stream.width, stream.kind, tensors={"weight": weight})


def placed(reader: Reader, node: Node, source: Any, encoding: Tensor) -> None:
    """A value with a parameter added that has a number for each of its elements."""
    stream = reader.stream(source)
    axis = {"sequence": 1, "image": 0}.get(stream.kind)
    if axis is None or tuple(encoding.shape) not in (stream.shape, (1, *stream.shape)):
        raise reader.unread(
            node, f"a parameter of {list(encoding.shape)} is added to {list(stream.shape)}"
        )
    weight = Read(encoding.reshape(stream.shape), ((axis, stream.width),))
    reader.add(node, "positional", [source], stream.width, stream.kind, tensors={"weight": weight})
