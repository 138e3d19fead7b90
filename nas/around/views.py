"""What a module does to the axes of a value: flattens, turns, takes apart, joins."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

from nas.around.groups import Width
from nas.around.reading import Read, Reader, given
from nas.around.trace import operator_of


def reshape(reader: Reader, node: Node) -> None:
    """A view of other axes. Places of a picture become positions of a sequence, and back."""
    source, stream, shape = node.args[0], reader.stream(node.args[0]), _sizes(node)
    if shape == stream.shape:
        return reader.same(node, source)
    to = len(shape)
    places = stream.shape[1] * stream.shape[2] if len(stream.shape) == 3 else 0
    match stream.kind:
        case "image" if to == 1:
            count = stream.width.times * places
            width = Width(stream.width.group, count)
            return reader.add(node, "flatten", [source], width, "vector")
        case "image" if shape == (stream.shape[0], places):
            return reader.same(node, source, "rows")
        case "last" if shape == (places, stream.shape[2]):
            return reader.add(node, "tokens", [source], stream.width, "sequence")
        case "sequence" if to == 3 and shape[2] == stream.shape[1]:
            return _laid_out(reader, node, shape[:2], "last")
        case "turned" if to == 3 and shape[0] == stream.shape[0]:
            return _laid_out(reader, node, shape[1:], "image")
        case "point" | "vector" if to == 1:
            return reader.same(node, source, "vector")
        case "point" | "vector" if to == 3 and shape[1:] == (1, 1):
            return reader.same(node, source, "point")
    raise reader.unread(node, f"of {list(stream.shape)} it makes {list(shape)}")


def _laid_out(reader: Reader, node: Node, space: tuple[int, ...], kind: str) -> None:
    args = dict(zip(("height", "width"), space, strict=True))
    width = reader.stream(node.args[0]).width
    reader.add(node, "col2im", [node.args[0]], width, kind, args=args)


def _sizes(node: Node) -> tuple[Any, ...]:
    """The shape of one sample; where the batch is no axis of its own, with what it became."""
    batch, *sizes = node.meta["val"].shape
    return tuple(sizes) if not isinstance(batch, int) else (batch, *sizes)


TURNED = {  # how a kind of value is seen after an order of axes, the batch first
    ("image", (0, 2, 3, 1)): "last",
    ("last", (0, 3, 1, 2)): "image",
    ("sequence", (0, 2, 1)): "turned",
    ("turned", (0, 2, 1)): "sequence",
    ("point", (0, 2, 3, 1)): "point",
    ("point", (0, 3, 1, 2)): "point",
}


def turn(reader: Reader, node: Node) -> None:
    """Axes in another order."""
    source, stream = node.args[0], reader.stream(node.args[0])
    axes = len(stream.shape) + 1
    if operator_of(node) == "permute":
        order = tuple(axis % axes for axis in given(node, 2)[1])
    else:
        swapped = list(range(axes))
        i, j = (axis % axes for axis in given(node, 3)[1:])
        swapped[i], swapped[j] = j, i
        order = tuple(swapped)
    if (stream.kind, order) == ("rows", (0, 2, 1)):
        return reader.add(node, "tokens", [source], stream.width, "sequence")
    if (stream.kind, order) not in TURNED:
        raise reader.unread(node, f"axes {list(order)} of {list(stream.shape)}")
    reader.same(node, source, TURNED[stream.kind, order])


def select(reader: Reader, node: Node) -> None:
    """One item of a sequence."""
    source, axis, at = given(node, 3)
    stream = reader.stream(source)
    if stream.kind != "sequence" or axis % 3 != 1:
        raise reader.unread(node, "one place of what is no sequence")
    args = {"at": at % stream.shape[0] + 1}
    reader.add(node, "item", [source], stream.width, "vector", args=args)


def cut(reader: Reader, node: Node) -> None:
    """A slice: only of everything."""
    source = node.args[0]
    if tuple(node.meta["val"].shape) != tuple(source.meta["val"].shape):  # type: ignore[union-attr]
        raise reader.unread(node, "a part of an axis")
    reader.same(node, source)


def concat(reader: Reader, node: Node) -> None:
    """Channels of several values in a row, or an item of the module's own before a sequence."""
    sources, axis = given(node, 2)
    if reader.traced.constant(sources[-1]) is not None:
        raise reader.unread(node, "values of the module's own are joined behind others")
    token = reader.traced.constant(sources[0])
    if token is not None and len(sources) == 2:
        return _class_token(reader, node, token, sources[1], axis)
    for count in range(len(sources) - 1, 1, -1):  # of what was joined before the whole is joined
        before = reader.joined.get(tuple(map(reader.number, sources[:count])))
        if before is not None:
            sources = [before, *sources[count:]]
            break
    whole = tuple(map(reader.number, node.args[0]))  # type: ignore[arg-type]
    streams = [reader.stream(source) for source in sources]
    axes, kind = len(node.meta["val"].shape), streams[0].kind
    channels = {"image": 1, "vector": 1, "last": 3}.get(kind)
    if channels is None or (axis or 0) % axes != channels:
        raise reader.unread(node, f"what is joined along axis {axis}: channels are read")
    width = Width(reader.groups.joined([stream.width for stream in streams]))
    reader.add(node, "concat", sources, width, kind)
    reader.joined[whole] = reader.number(node)


def _class_token(reader: Reader, node: Node, token: Tensor, source: Any, axis: Any) -> None:
    stream = reader.stream(source)
    if stream.kind != "sequence" or axis not in (1, -2) or token.shape[-2:] != (1, stream.shape[1]):
        raise reader.unread(node, "values of the module's own are joined to what is no sequence")
    weight = Read(token.reshape(1, -1), ((1, stream.width),))
    reader.add(node, "class_token", [source], stream.width, "sequence", tensors={"weight": weight})
