"""Functions of each element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.fx import Node

from nas.around.kept import part
from nas.around.reading import Reader
from nas.around.trace import operator_of

ACTIVATIONS = {
    "relu": "relu",
    "hardswish": "hardswish",
    "silu": "silu",
    "gelu": "gelu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "hardsigmoid": "hardsigmoid",
    "hardtanh": "relu6",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
}
# what an activation is given beside x, where it is what the operator of nas does
USUAL: Mapping[str, list[tuple[Any, ...]]] = {
    "hardtanh": [(0.0, 6.0), (0, 6)],
    "leaky_relu": [(), (0.01,)],
}


def activation(reader: Reader, node: Node) -> None:
    name = operator_of(node)
    if not usual(node):
        return part(reader, node)
    stream = reader.stream(node.args[0])
    reader.add(node, ACTIVATIONS[name], [node.args[0]], stream.width, stream.kind)


def usual(node: Node) -> bool:
    """Whether an activation is given what the operator of nas does."""
    usual = USUAL.get(operator_of(node), [()])
    return bool(tuple(node.args[1:]) in usual and node.kwargs.get("approximate", "none") == "none")
