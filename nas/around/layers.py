"""What each ATen operator is among the operators of nas."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from nas.around.groups import Width
from nas.around.kept import CHANNELWISE, part
from nas.around.reading import Read, Reader
from nas.around.trace import operator_of

Layer = Callable[[Reader, Node], None]
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
    if not _usual(node):
        return part(reader, node)
    stream = reader.stream(node.args[0])
    reader.add(node, ACTIVATIONS[name], [node.args[0]], stream.width, stream.kind)


def convolution(reader: Reader, node: Node) -> None:
    source, weight, bias, stride, padding, dilation, groups = _given(node, 7)
    w, b = _tensor(reader, node, weight), reader.traced.constant(bias)
    stream = reader.stream(source)
    kernel, stride, dilation = tuple(w.shape[2:]), _pair(stride, 1), _pair(dilation, 1)
    if isinstance(padding, str):
        whole = all(size % 2 for size in kernel)
        padding = {"valid": (0, 0), "same": kernel and tuple((k - 1) // 2 for k in kernel)}[padding]
        if not whole and padding != (0, 0):
            raise reader.unread(node, "padding differs from side to side")
    padding = _pair(padding, 0)
    if dilation != (1, 1) or any(len(set(pair)) > 1 for pair in (kernel, stride, padding)):
        raise reader.unread(
            node,
            f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}: those of "
            "one size and no dilation are read",
        )
    if stream.kind == "point":  # of one pixel
        if (groups or 1) != 1 or kernel != (1, 1):
            raise reader.unread(node, "a convolution of one pixel that is no linear map")
        return _linear(reader, node, source, w.flatten(1), b, "point")
    args = {"kernel": kernel[0], "stride": stride[0], "bias": int(b is not None)}
    if padding[0] != (kernel[0] - 1) // 2:
        args["padding"] = padding[0]
    if (groups or 1) == 1:
        width = Width(reader.groups.new(w.shape[0]))
        tensors = _mapped(w, b, width, stream.width)
        says = "out", width.group
        reader.add(node, "conv", [source], width, "image", args=args, says=says, tensors=tensors)
    elif groups == w.shape[0] == stream.shape[0] and stream.width.times == 1:
        tensors = {"weight": Read(w, ((0, stream.width),))} | _bias(b, stream.width)
        reader.add(node, "depthwise", [source], stream.width, "image", args=args, tensors=tensors)
    else:
        reader.groups.pin(stream.width.group, "a grouped convolution reads it")
        width = Width(reader.groups.new(w.shape[0], "a grouped convolution makes it"))
        args |= {"groups": int(groups)}
        tensors = {"weight": Read(w, ((0, width),))} | _bias(b, width)
        says = "out", width.group
        reader.add(node, "conv", [source], width, "image", args=args, says=says, tensors=tensors)


def linear(reader: Reader, node: Node) -> None:
    source, weight, bias = _given(node, 3)
    w = _tensor(reader, node, weight)
    _linear(reader, node, source, w, reader.traced.constant(bias), "vector")


def _linear(
    reader: Reader, node: Node, source: Any, w: Tensor, b: Tensor | None, kind: str
) -> None:
    stream, width = reader.stream(source), Width(reader.groups.new(w.shape[0]))
    if stream.kind == "image":
        raise reader.unread(node, "a linear map of a picture's rows")
    args, tensors = {"bias": int(b is not None)}, _mapped(w, b, width, stream.width)
    says = "out", width.group
    reader.add(node, "linear", [source], width, kind, args=args, says=says, tensors=tensors)


def batch_norm(reader: Reader, node: Node) -> None:
    source, weight, bias, mean, variance, _, _, eps, *_ = _given(node, 9)
    stream, known = reader.stream(source), reader.traced.constant
    running_mean, running_var = known(mean), known(variance)
    if running_mean is None or running_var is None:
        raise reader.unread(node, "a batch norm that keeps no statistics")
    w, b = known(weight), known(bias)
    given = {
        "weight": torch.ones_like(running_mean) if w is None else w,
        "bias": torch.zeros_like(running_mean) if b is None else b,
        "running_mean": running_mean,
        "running_var": running_var,
    }
    tensors = {name: Read(tensor, ((0, stream.width),)) for name, tensor in given.items()}
    args = {"eps": float(eps)}
    reader.add(node, "batchnorm", [source], stream.width, stream.kind, args=args, tensors=tensors)


def max_pool(reader: Reader, node: Node) -> None:
    source, kernel, stride, padding, dilation, ceil = _given(node, 6)
    usual = not ceil and _pair(dilation, 1) == (1, 1)
    _pool(reader, node, "max_pool", source, kernel, stride, padding, usual)


def average_pool(reader: Reader, node: Node) -> None:
    source, kernel, stride, padding, ceil, counted, divisor = _given(node, 7)
    usual = not ceil and divisor is None and (counted is not False or not any(_pair(padding, 0)))
    _pool(reader, node, "avg_pool", source, kernel, stride, padding, usual)


def _pool(
    reader: Reader,
    node: Node,
    operator: str,
    source: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    usual: bool,
) -> None:
    pairs = _pair(kernel, 0), _pair(stride or kernel, 0), _pair(padding, 0)
    if not usual or any(len(set(pair)) > 1 for pair in pairs):
        return part(reader, node)
    stream, ((k, _), (s, _), (p, _)) = reader.stream(source), pairs
    args = {"kernel": k, "stride": s, "padding": p}
    if p == (k - 1) // 2:
        del args["padding"]
    reader.add(node, operator, [source], stream.width, "image", args=args)


def adaptive_pool(reader: Reader, node: Node) -> None:
    source, stream = node.args[0], reader.stream(node.args[0])
    places, space = _pair(node.args[1], 1), stream.shape[1:]
    if places == space:
        return reader.same(node, source)
    if places == (1, 1):
        return _mean_of_space(reader, node, "point")
    windows = {size // count for size, count in zip(space, places, strict=True)}
    if any(size % count for size, count in zip(space, places, strict=True)) or len(windows) > 1:
        raise reader.unread(node, f"a mean of {list(space)} in {list(places)} unequal windows")
    (window,) = windows
    args = {"kernel": window, "stride": window, "padding": 0}
    reader.add(node, "avg_pool", [source], stream.width, "image", args=args)


def mean(reader: Reader, node: Node) -> None:
    source, axes, kept = _given(node, 3)
    if reader.stream(source).kind != "image" or {axis % 4 for axis in axes} != {2, 3}:
        raise reader.unread(node, f"a mean over axes {axes}: that over a picture's space is read")
    _mean_of_space(reader, node, "point" if kept else "vector")


def _mean_of_space(reader: Reader, node: Node, kind: str) -> None:
    if kind == "point" and squeeze_excite(reader, node):
        return
    stream = reader.stream(node.args[0])
    reader.add(node, "pool", [node.args[0]], stream.width, kind)


def squeeze_excite(reader: Reader, node: Node) -> bool:
    """Whether a mean over space begins one: two maps with an activation and a gate, times what the
    mean is of (Hu et al. 2018)."""
    chain, at = list[Node](), node
    gated: tuple[Collection[str], ...] = {"conv2d"}, ACTIVATIONS, {"conv2d"}, ACTIVATIONS, {"mul"}
    for wanted in gated:
        following = reader.only_reader(at)
        if following is None or operator_of(following) not in wanted:
            return False
        chain.append(following)
        at = following
    reduce, act, expand, gate, product = chain
    sides = [reader.skipped(side) for side in product.args[:2] if isinstance(side, Node)]
    source = reader.skipped(node.args[0])  # type: ignore[arg-type]
    weights = [reader.traced.constant(entry) for m in (reduce, expand) for entry in m.args[1:3]]
    if source not in sides or len(weights) < 4 or any(entry is None for entry in weights):
        return False
    if any(tuple(w.shape[2:]) != (1, 1) for w in weights[::2] if w is not None):
        return False
    whole = all(_given(conv, 7)[6] in (None, 1) for conv in (reduce, expand))
    if not (whole and _usual(act) and _usual(gate)):
        return False
    stream, (w1, b1, w2, b2) = reader.stream(source), weights
    assert w1 is not None and w2 is not None
    inner, outer = Width(reader.groups.new(w1.shape[0])), stream.width
    tensors = {f"reduce.{k}": v for k, v in _mapped(w1.flatten(1), b1, inner, outer).items()}
    tensors |= {f"expand.{k}": v for k, v in _mapped(w2.flatten(1), b2, outer, inner).items()}
    args = {"act": ACTIVATIONS[operator_of(act)], "gate": ACTIVATIONS[operator_of(gate)]}
    reader.done.update(chain)
    says = "inner", inner.group
    reader.add(
        product, "squeeze_excite", [source], outer, "image", args=args, says=says, tensors=tensors
    )
    return True


def flatten(reader: Reader, node: Node) -> None:
    source, stream = node.args[0], reader.stream(node.args[0])
    count = stream.width.times * stream.shape[1] * stream.shape[2] if stream.kind == "image" else 0
    shape = tuple(node.meta["val"].shape)
    if len(shape) != 2 or not isinstance(shape[1], int):
        if stream.kind == "point" and len(shape) == 4:
            return reader.same(node, source)
        raise reader.unread(node, f"of {list(stream.shape)} it makes {list(shape[1:])}")
    if stream.kind != "image":
        return reader.same(node, source, "vector")
    reader.add(node, "flatten", [source], Width(stream.width.group, count), "vector")


def add(reader: Reader, node: Node) -> None:
    left, right = (node.args[i] for i in (0, 1))
    if 0 in (left, right):
        return reader.same(node, right if left == 0 else left)
    if node.kwargs.get("alpha", 1) != 1 or not all(isinstance(x, Node) for x in (left, right)):
        raise reader.unread(node, "a sum with a number")
    if any(reader.traced.constant(side) is not None for side in (left, right)):
        raise reader.unread(node, "a sum with a parameter")
    a, b = reader.stream(left), reader.stream(right)
    if a.shape != b.shape or a.width.times != b.width.times:
        raise reader.unread(node, f"a sum of {list(a.shape)} and {list(b.shape)}")
    width = Width(reader.groups.join(a.width.group, b.width.group), a.width.times)
    reader.add(node, "add", [left, right], width, a.kind)


def concat(reader: Reader, node: Node) -> None:
    sources, axis = _given(node, 2)
    for count in range(len(sources) - 1, 1, -1):  # of what was joined before the whole is joined
        before = reader.joined.get(tuple(map(reader.number, sources[:count])))
        if before is not None:
            sources = [before, *sources[count:]]
            break
    whole = tuple(map(reader.number, node.args[0]))  # type: ignore[arg-type]
    streams = [reader.stream(source) for source in sources]
    axes = len(node.meta["val"].shape)
    if axis not in (1, 1 - axes) or streams[0].kind == "point":
        raise reader.unread(node, f"what is joined along axis {axis}: channels are read")
    for stream in streams:
        reader.groups.pin(stream.width.group, "a concatenation reads it")
    size = sum(stream.shape[0] for stream in streams)
    width = Width(reader.groups.new(size, "a concatenation makes it"))
    reader.add(node, "concat", sources, width, streams[0].kind)
    reader.joined[whole] = reader.number(node)


LAYERS: Mapping[str, Layer] = {
    **dict.fromkeys(CHANNELWISE, part),
    **dict.fromkeys(ACTIVATIONS, activation),
    "conv2d": convolution,
    "linear": linear,
    "batch_norm": batch_norm,
    "max_pool2d": max_pool,
    "avg_pool2d": average_pool,
    "adaptive_avg_pool2d": adaptive_pool,
    "mean": mean,
    "flatten": flatten,
    "view": flatten,
    "reshape": flatten,
    "squeeze": flatten,
    "add": add,
    "cat": concat,
}


def _usual(node: Node) -> bool:
    """Whether an activation is given what the operator of nas does."""
    usual = USUAL.get(operator_of(node), [()])
    return tuple(node.args[1:]) in usual and node.kwargs.get("approximate", "none") == "none"


def _given(node: Node, count: int) -> tuple[Any, ...]:
    """The arguments of a node in order, None where ATen leaves the default out."""
    given = list(node.args[:count])
    return (*given, *[None] * (count - len(given)))


def _pair(value: Any, default: int) -> tuple[int, int]:
    if value is None:
        return default, default
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return (pair * 2)[:2] if len(pair) == 1 else pair


def _tensor(reader: Reader, node: Node, source: Any) -> Tensor:
    tensor = reader.traced.constant(source)
    if tensor is None:
        raise reader.unread(node, "its weights are computed")
    return tensor


def _mapped(w: Tensor, b: Tensor | None, out: Width, entering: Width) -> dict[str, Read]:
    return {"weight": Read(w, ((0, out), (1, entering)))} | _bias(b, out)


def _bias(b: Tensor | None, out: Width) -> dict[str, Read]:
    return {} if b is None else {"bias": Read(b, ((0, out),))}
