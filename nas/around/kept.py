"""Functions of a module that no operator is for, kept as they are."""

from __future__ import annotations

from math import isfinite

from torch.fx import Node

from nas.around.reading import Reader
from nas.around.trace import operator_of, shape_of

CHANNELWISE = (  # functions that look at each channel alone: kept as they are, widths stay free
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "pad",
    "mish",
    "elu",
    "selu",
    "celu",
    "softplus",
    "hardtanh",
    "leaky_relu",
    "gelu",
    "adaptive_avg_pool2d",
    "mul",
    "abs",
    "clamp",
    "neg",
    "exp",
    "sqrt",
    "avg_pool2d",
    "max_pool2d",
)


def part(reader: Reader, node: Node) -> None:
    """A function of one stream without parameters, kept as it is: the text of one for `use`."""
    name, (source, *others) = operator_of(node), node.args
    if not isinstance(source, Node) or node.all_input_nodes != [source]:
        raise reader.unread(node, "it reads several values, and no operator is for it")
    stream = reader.stream(source)
    if name not in CHANNELWISE or stream.kind != "image" or shape_of(node)[0] != stream.shape[0]:
        raise reader.unread(node, "no operator is for it, and it may mix channels")
    if reader.groups.parts(stream.width.group):
        reader.groups.pin(stream.width.group, f"{name} reads it, which is kept as it is")
    given = [*others, *node.kwargs.values()]
    if not all(isinstance(v, int | float | str | list | tuple | None) for v in given):
        raise reader.unread(node, "it is given what cannot be written down")
    named = (f"{key}={_literal(value)}" for key, value in node.kwargs.items())
    called_as = str(node.target).replace(f".{name}_.", f".{name}.")  # not in place
    words = ", ".join(["x", *map(_literal, others), *named])
    text = f"(x: Tensor) -> Tensor:\n    return torch.ops.{called_as}({words})\n"
    known = next((key for key, other in reader.parts.items() if other.endswith(text)), "")
    called = known or f"{name}_{len(reader.parts) + 1}"
    reader.parts.setdefault(called, f"def {called}{text}")
    reader.add(node, called, [source], stream.width, stream.kind)


def _literal(value: object) -> str:
    """A number, a word or a list of them as Python has it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float) and not isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)
