"""Pools and means over space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.fx import Node

from nas.around.kept import part
from nas.around.maps import squeeze_excite
from nas.around.reading import Reader, given, pair


def max_pool(reader: Reader, node: Node) -> None:
    _, kernel, stride, padding, dilation, ceil = given(node, 6)
    if pair(dilation, 1) != (1, 1):
        return part(reader, node)
    _pool(reader, node, "max_pool", (kernel, stride or kernel, padding or 0), {"ceil": bool(ceil)})


def average_pool(reader: Reader, node: Node) -> None:
    _, kernel, stride, padding, ceil, counted, divisor = given(node, 7)
    if divisor is not None:
        return part(reader, node)
    args = {"ceil": bool(ceil), "counted": counted is not False}
    _pool(reader, node, "avg_pool", (kernel, stride or kernel, padding or 0), args)


def _pool(
    reader: Reader, node: Node, operator: str, sizes: Sequence[Any], args: Mapping[str, bool]
) -> None:
    pairs = [pair(size, 0) for size in sizes]
    stream = reader.stream(node.args[0])
    if any(height != width for height, width in pairs) or stream.kind != "image":
        return part(reader, node)
    kernel, stride, padding = (height for height, _ in pairs)
    given = {"kernel": kernel, "stride": stride, **{name: int(v) for name, v in args.items()}}
    if padding != (kernel - 1) // 2:
        given["padding"] = padding
    reader.add(node, operator, [node.args[0]], stream.width, "image", args=given)


def adaptive_pool(reader: Reader, node: Node) -> None:
    source, stream = node.args[0], reader.stream(node.args[0])
    places, space = pair(node.args[1], 1), stream.shape[1:]
    if places == space and stream.kind in ("image", "point"):
        return reader.same(node, source)
    if stream.kind != "image":
        raise reader.unread(node, f"a mean of {list(stream.shape)}")
    if places == (1, 1):
        return _mean_of_space(reader, node, "point")
    windows = {size // count for size, count in zip(space, places, strict=True)}
    if any(size % count for size, count in zip(space, places, strict=True)) or len(windows) > 1:
        return part(reader, node)  # windows that are not alike
    (window,) = windows
    args = {"kernel": window, "stride": window, "padding": 0}
    reader.add(node, "avg_pool", [source], stream.width, "image", args=args)


SPACE = {  # the axes that are a value's space, the batch first
    "image": {2, 3},
    "last": {1, 2},
    "rows": {2},
    "sequence": {1},
}


def mean(reader: Reader, node: Node) -> None:
    source, axes, kept = given(node, 3)
    stream = reader.stream(source)
    count = len(stream.shape) + 1
    if SPACE.get(stream.kind) != {axis % count for axis in axes or range(count)}:
        raise reader.unread(node, f"a mean of {list(stream.shape)} over axes {axes}")
    if kept and stream.kind != "image":
        raise reader.unread(node, f"a mean of {list(stream.shape)} that keeps its axes")
    _mean_of_space(reader, node, "point" if kept else "vector")


def _mean_of_space(reader: Reader, node: Node, kind: str) -> None:
    if kind == "point" and squeeze_excite(reader, node):
        return
    stream = reader.stream(node.args[0])
    reader.add(node, "pool", [node.args[0]], stream.width, kind)
