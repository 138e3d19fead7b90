"""What each ATen operator is among the operators of nas."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch.fx import Node

from nas.around.activations import ACTIVATIONS, activation
from nas.around.groups import Width
from nas.around.kept import CHANNELWISE, part
from nas.around.maps import convolution, linear
from nas.around.norms import batch_norm, group_norm, layer_norm, placed, scaled
from nas.around.pools import adaptive_pool, average_pool, max_pool, mean
from nas.around.reading import Reader
from nas.around.views import concat, cut, reshape, select, turn


def add(reader: Reader, node: Node) -> None:
    left, right = node.args[:2]
    if 0 in (left, right):
        return reader.same(node, right if left == 0 else left)
    if node.kwargs.get("alpha", 1) != 1 or not all(isinstance(x, Node) for x in (left, right)):
        raise reader.unread(node, "a sum with a number")
    for value, other in ((left, right), (right, left)):
        if (encoding := reader.traced.constant(other)) is not None:
            return placed(reader, node, value, encoding)
    _joined(reader, node, "add")


def multiply(reader: Reader, node: Node) -> None:
    left, right = node.args[:2]
    for value, other in ((left, right), (right, left)):
        if not isinstance(other, Node):
            return part(reader, node)
        if (factor := reader.traced.constant(other)) is not None:
            return scaled(reader, node, value, factor)
    _joined(reader, node, "multiply")


def _joined(reader: Reader, node: Node, operator: str) -> None:
    """Two values element by element."""
    left, right = node.args[:2]
    a, b = reader.stream(left), reader.stream(right)
    if (a.shape, a.kind, a.width.times) != (b.shape, b.kind, b.width.times):
        raise reader.unread(node, f"{operator} of {list(a.shape)} and {list(b.shape)}")
    width = Width(reader.groups.join(a.width.group, b.width.group), a.width.times)
    reader.add(node, operator, [left, right], width, a.kind)


LAYERS: Mapping[str, Callable[[Reader, Node], None]] = {
    **dict.fromkeys(CHANNELWISE, part),
    **dict.fromkeys(ACTIVATIONS, activation),
    "conv2d": convolution,
    "linear": linear,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "max_pool2d": max_pool,
    "avg_pool2d": average_pool,
    "adaptive_avg_pool2d": adaptive_pool,
    "mean": mean,
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unflatten"), reshape),
    **dict.fromkeys(("permute", "transpose"), turn),
    "select": select,
    "slice": cut,
    "add": add,
    "mul": multiply,
    "cat": concat,
}
