"""Self-attention, however a module lays queries, keys and values out.

Between its maps and torch's scaled_dot_product_attention there are views alone. They are run on the
numbers of elements, which come out where the elements do: so it is seen which rows of a map are
whose head's, whether one map gives all three or each has its own, batch first or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from nas.around.groups import Width
from nas.around.reading import Read, Reader, given
from nas.around.trace import PASSED, operator_of

BATCH = 2  # samples between which positions are told apart
OPERATOR = "scaled_dot_product_attention"
LAID_OUT = (
    *PASSED,
    *"reshape view permute transpose unbind getitem select squeeze unsqueeze".split(),
    *"unflatten flatten split chunk split_with_sizes".split(),
)
NAMES = ("query", "key", "value")


class _Rows(NamedTuple):
    """The rows of a map that are each head's."""

    source: Any  # the node that the map reads
    weight: Tensor  # (heads, size, features)
    bias: Tensor  # (heads, size)
    biased: bool


def attentions(reader: Reader) -> Mapping[Node, Callable[[], None]]:
    """For the last node of each attention what writes it down; its other nodes are done."""
    nodes = (node for node in reader.traced.nodes if operator_of(node) == OPERATOR)
    found = [_Attention(reader, node) for node in nodes]
    return {attention.end: attention.write for attention in found}


class _Attention:
    def __init__(self, reader: Reader, node: Node):
        self.reader, self.node, self.nodes = reader, node, {node}
        sizes = {tuple(entering.meta["val"].shape[1:]) for entering in node.args[:3]}  # type: ignore[union-attr]
        if len(sizes) > 1 or any(len(shape) != 3 for shape in sizes):
            shapes = ", ".join(str([*shape]) for shape in sorted(sizes, key=str))
            raise reader.unread(node, f"query, key and value of {shapes}: (heads, positions, size)")
        ((self.heads, self.positions, self.size),) = sizes
        self._usual()
        self.rows = {name: self._rows(of) for name, of in zip(NAMES, node.args[:3], strict=True)}
        sources = {rows.source for rows in self.rows.values()}
        if len(sources) > 1:
            raise reader.unread(node, "it attends to another value than it asks with")
        (self.source,) = sources
        self.end, self.out = self._out()
        reader.done.update(self.nodes - {self.end})

    def write(self) -> None:
        """Write the operator down, at the node whose value it gives."""
        groups, stream = self.reader.groups, self.reader.stream(self.source)
        if groups.parts(stream.width.group):
            groups.pin(stream.width.group, "attention adds to channels that were joined")
        heads, features = Width(groups.new(self.heads), self.size), stream.width
        biased = any(rows.biased for rows in self.rows.values())
        tensors = {}
        for name, rows in self.rows.items():
            weight = rows.weight.flatten(0, 1)
            tensors[f"{name}.weight"] = Read(weight, ((0, heads), (1, features)))
            if biased:
                tensors[f"{name}.bias"] = Read(rows.bias.flatten(), ((0, heads),))
        weight, bias = self.out
        if stream.kind != "sequence" or len(weight) != stream.shape[1]:
            raise self.reader.unread(self.node, f"attention of {list(stream.shape)}")
        tensors["out.weight"] = Read(weight, ((0, features), (1, heads)))
        tensors["out.bias"] = Read(bias, ((0, features),))
        self.reader.add(
            self.end,
            "attention",
            [self.source],
            features,
            "sequence",
            args={"size": self.size, "bias": int(biased)},
            says=("heads", heads.group),
            tensors=tensors,
        )

    def _usual(self) -> None:
        """Raise UnreadError for what is given beside query, key and value."""
        words = dict(zip(("attn_mask", "dropout_p", "is_causal"), self.node.args[3:], strict=False))
        words |= self.node.kwargs
        scale: Any = words.pop("scale", None)
        if any(words.values()):
            raise self.reader.unread(self.node, f"attention with {', '.join(words)}")
        if scale is not None and abs(float(scale) * self.size**0.5 - 1) > 1e-6:
            raise self.reader.unread(self.node, f"attention with a scale of its own, {scale}")

    def _rows(self, entering: Any) -> _Rows:
        """Where the elements of a query, key or value come from."""
        linear = self._before(entering, lambda node: operator_of(node) == "linear")
        weight, bias = self._map(linear)
        source = self._before(linear.args[0], _is_sequence)
        _, positions, features = source.meta["val"].shape
        numbers = torch.arange(BATCH * positions).reshape(BATCH, positions, 1)
        places = _run(linear.args[0], {source: numbers.expand(-1, -1, features)})[..., :1]
        seen = _run(entering, {linear: places * len(weight) + torch.arange(len(weight))})
        rows = seen[0, :, 0] % len(weight)  # (heads, size)
        if not torch.equal(seen, numbers[:, None] * len(weight) + rows[:, None]):
            raise self.reader.unread(self.node, "its views mix positions or heads")
        return _Rows(source, weight[rows], bias[rows], given(linear, 3)[2] is not None)

    def _out(self) -> tuple[Node, tuple[Tensor, Tensor]]:
        """The node with which it is a sequence again, and weight and bias of the map before."""
        linear = self._after(self.node, lambda node: operator_of(node) == "linear")
        end = linear if _is_sequence(linear) else self._after(linear, _is_sequence)
        weight, bias = self._map(linear)
        inner = self.heads * self.size
        columns = torch.arange(inner).reshape(1, self.heads, 1, self.size)
        numbers = torch.arange(BATCH * self.positions).reshape(BATCH, 1, -1, 1) * inner + columns
        entering = _run(linear.args[0], {self.node: numbers})  # (…, inner)
        places, order = entering[..., :1] // inner, entering.reshape(-1, inner)[0] % inner
        leaving = places * len(weight) + torch.arange(len(weight))
        comes = _run(end, {linear: leaving}).flatten()
        mixed = not torch.equal(comes, torch.arange(len(comes)))
        if mixed or not torch.equal(entering, places * inner + order):
            raise self.reader.unread(self.node, "its views mix what comes out")
        return end, (weight[:, order.argsort()], bias)

    def _map(self, linear: Node) -> tuple[Tensor, Tensor]:
        """A map's weight and bias."""
        _, weight, bias = given(linear, 3)
        w, b = self.reader.traced.constant(weight), self.reader.traced.constant(bias)
        if w is None:
            raise self.reader.unread(linear, "its weights are computed")
        return w, torch.zeros(len(w)) if b is None else b

    def _before(self, node: Any, wanted: Callable[[Node], bool]) -> Node:
        """The first node at or before one that is wanted, through views."""
        while not wanted(node):
            self._through(node)
            node = node.args[0]
        if operator_of(node) == "linear":
            self.nodes.add(node)
        return node  # type: ignore[no-any-return]

    def _after(self, node: Node, wanted: Callable[[Node], bool]) -> Node:
        """The first node after one that is wanted, through views that nothing else reads."""
        while True:
            readers = list(node.users)
            if len(readers) != 1:
                raise self.reader.unread(self.node, "what comes out is read more than once")
            (node,) = readers
            self.nodes.add(node)
            if wanted(node):
                return node
            self._through(node)

    def _through(self, node: Any) -> None:
        if not isinstance(node, Node) or operator_of(node) not in LAID_OUT:
            raise self.reader.unread(self.node, f"{node} stands between it and its maps")
        self.nodes.add(node)


def _run(node: Any, known: dict[Node, Any]) -> Any:
    """The value of a node, where those of some nodes before it are known, through views."""
    if node not in known:
        if operator_of(node) == "sym_size":
            known[node] = BATCH
        elif operator_of(node) in PASSED:
            value = _run(node.args[0], known)
            known[node] = value.contiguous() if isinstance(value, Tensor) else value
        else:
            words = map_arg(node.args, lambda inner: _run(inner, known))
            known[node] = node.target(*words, **node.kwargs)
    return known[node]


def _is_sequence(node: Node) -> bool:
    """Whether a node's value is (batch, positions, features)."""
    batch, *sizes = getattr(node.meta.get("val"), "shape", None) or [0]
    plain = all(isinstance(size, int) for size in sizes)
    return len(sizes) == 2 and plain and not isinstance(batch, int)
