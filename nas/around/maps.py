"""Convolutions, linear maps and what is made of two of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor
from torch.fx import Node

from nas.around.activations import ACTIVATIONS, usual
from nas.around.groups import Width
from nas.around.reading import Read, Reader, biased, given, mapped, pair
from nas.around.trace import operator_of


def convolution(reader: Reader, node: Node) -> None:
    source, weight, bias, stride, padding, dilation, groups = given(node, 7)
    w, b = _tensor(reader, node, weight), reader.traced.constant(bias)
    stream = reader.stream(source)
    kernel, stride, dilation = tuple(w.shape[2:]), pair(stride, 1), pair(dilation, 1)
    around = [d * (size - 1) for d, size in zip(dilation, kernel, strict=True)]  # what keeps a size
    if padding == "same" and any(size % 2 for size in around):
        raise reader.unread(node, "padding differs from side to side")
    keeping = tuple(size // 2 for size in around)
    named = {"same": keeping, "valid": (0, 0)}
    padding = named[padding] if isinstance(padding, str) else pair(padding, 0)
    plain = padding == keeping or len(set(padding)) == 1
    if not plain or any(len(set(sizes)) > 1 for sizes in (stride, dilation)):
        raise reader.unread(
            node,
            f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}: stride and "
            "dilation are to be the same along both axes, and padding too or what keeps a size",
        )
    if stream.kind not in ("image", "point"):
        raise reader.unread(node, f"a convolution of {list(stream.shape)}")
    if stream.kind == "point":  # of one pixel
        if (groups or 1) != 1 or kernel != (1, 1):
            raise reader.unread(node, "a convolution of one pixel that is no linear map")
        return _linear(reader, node, source, w.flatten(1), b, "point")
    args = {"kernel": kernel[0], "stride": stride[0], "bias": int(b is not None)}
    if padding != keeping:
        args["padding"] = padding[0]
    if kernel[0] != kernel[1]:
        args["kernel_width"] = kernel[1]
    if dilation[0] > 1:
        args["dilation"] = dilation[0]
    if (groups or 1) == 1:
        width = Width(reader.groups.new(w.shape[0]))
        tensors = mapped(w, b, width, stream.width)
        says = "out", width.group
        reader.add(node, "conv", [source], width, "image", args=args, says=says, tensors=tensors)
    elif groups == w.shape[0] == stream.shape[0] and stream.width.times == 1:
        tensors = {"weight": Read(w, ((0, stream.width),))} | biased(b, stream.width)
        reader.add(node, "depthwise", [source], stream.width, "image", args=args, tensors=tensors)
    else:
        reader.groups.pin(stream.width.group, "a grouped convolution reads it")
        width = Width(reader.groups.new(w.shape[0], "a grouped convolution makes it"))
        args |= {"groups": int(groups)}
        tensors = {"weight": Read(w, ((0, width),))} | biased(b, width)
        says = "out", width.group
        reader.add(node, "conv", [source], width, "image", args=args, says=says, tensors=tensors)


def linear(reader: Reader, node: Node) -> None:
    source, weight, bias = given(node, 3)
    w = _tensor(reader, node, weight)
    b, stream = reader.traced.constant(bias), reader.stream(source)
    kind = stream.kind
    if kind == "last":  # of a picture's channels at each place
        width = Width(reader.groups.new(w.shape[0]))
        tensors = mapped(w[:, :, None, None], b, width, stream.width)
        args, says = {"kernel": 1, "bias": int(b is not None)}, ("out", width.group)
        return reader.add(
            node, "conv", [source], width, kind, args=args, says=says, tensors=tensors
        )
    if kind not in ("vector", "point", "sequence"):
        raise reader.unread(node, f"a linear map of the last of {list(stream.shape)}")
    _linear(reader, node, source, w, b, "sequence" if kind == "sequence" else "vector")


def _linear(
    reader: Reader, node: Node, source: Any, w: Tensor, b: Tensor | None, kind: str
) -> None:
    stream, width = reader.stream(source), Width(reader.groups.new(w.shape[0]))
    args, tensors = {"bias": int(b is not None)}, mapped(w, b, width, stream.width)
    says = "out", width.group
    reader.add(node, "linear", [source], width, kind, args=args, says=says, tensors=tensors)


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
    whole = all(given(conv, 7)[6] in (None, 1) for conv in (reduce, expand))
    if not (whole and usual(act) and usual(gate)):
        return False
    stream, (w1, b1, w2, b2) = reader.stream(source), weights
    assert w1 is not None and w2 is not None
    inner, outer = Width(reader.groups.new(w1.shape[0])), stream.width
    tensors = {f"reduce.{k}": v for k, v in mapped(w1.flatten(1), b1, inner, outer).items()}
    tensors |= {f"expand.{k}": v for k, v in mapped(w2.flatten(1), b2, outer, inner).items()}
    args = {"act": ACTIVATIONS[operator_of(act)], "gate": ACTIVATIONS[operator_of(gate)]}
    reader.done.update(chain)
    says = "inner", inner.group
    reader.add(
        product, "squeeze_excite", [source], outer, "image", args=args, says=says, tensors=tensors
    )
    return True


def _tensor(reader: Reader, node: Node, source: Any) -> Tensor:
    tensor = reader.traced.constant(source)
    if tensor is None:
        raise reader.unread(node, "its weights are computed")
    return tensor
