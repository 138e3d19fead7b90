"""A module as operators of nas on numbered values, with its tensors and the groups of its
channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from nas.around.error import UnreadError
from nas.around.groups import Groups, Width
from nas.around.trace import PASSED, Traced, in_place, operator_of, path_of, shape_of
from nas.op.base import Value


class Read(NamedTuple):
    """A tensor of the module, and whose channels lie along which of its axes."""

    tensor: Tensor
    axes: tuple[tuple[int, Width], ...] = ()


@dataclass(frozen=True)
class Applied:
    """One operator on numbered values. `says`: the argument that says a width, and whose."""

    operator: str
    args: Mapping[str, Value]
    inputs: tuple[int, ...]
    output: int
    path: str  # of the module that applied it
    says: tuple[str, int] | None = None
    tensors: Mapping[str, Read] = field(default_factory=dict)  # by local name


class Stream(NamedTuple):
    """A value as a node sees it: the shape of one sample in torch, its channels, and what it is.

    image (channels, height, width); last, an image whose channels come last; rows (channels,
    positions) of an image; point, an image of one pixel, which is a vector in nas; vector;
    sequence (positions, features); turned (features, positions) of a sequence.
    """

    shape: tuple[int, ...]
    width: Width
    kind: str


@dataclass(frozen=True)
class Reading:
    """All operators in order, from value `source` to `result`."""

    applied: Sequence[Applied]
    streams: Sequence[Stream]
    groups: Groups
    source: int
    result: int
    parts: Mapping[str, str]  # functions that are kept as they are: their text by name
    classes: Mapping[str, str]  # of modules by path


class Reader:
    """Goes through what was traced; `layers.LAYERS` knows what each ATen operator is."""

    def __init__(self, traced: Traced):
        self.traced, self.groups = traced, Groups()
        self.applied: list[Applied] = []
        self.streams: list[Stream] = []
        self.parts: dict[str, str] = {}
        self.done: set[Node] = set()  # nodes that were read as a part of others
        self.joined: dict[tuple[int, ...], int] = {}  # concatenations by what they join
        self.wholes: Mapping[Node, Callable[[], None]] = {}  # what writes down more than a node
        self._numbers: dict[Node, int] = {}
        self._views: dict[Node, Stream] = {}  # how a node sees the value of another

    def read(
        self,
        layers: Mapping[str, Callable[[Reader, Node], None]],
        wholes: Callable[[Reader], Mapping[Node, Callable[[], None]]],
    ) -> Reading:
        """All of it. `wholes`: what several nodes are together, by the last of them. Raises
        UnreadError naming the first thing that no operator is for."""
        self.wholes = wholes(self)
        source = result = -1
        for node in self.traced.nodes:
            if node.op == "placeholder" and node.name not in self.traced.tensors:
                source = self._source(node)
            elif node.op == "output":
                result = self.number(node.args[0][0])  # type: ignore[index]
            elif node.op == "call_function":
                self._apply(node, layers)
        self.groups.pin(self.streams[result].width.group, "it is what comes out")
        return Reading(
            self.applied, self.streams, self.groups, source, result, self.parts, self.traced.classes
        )

    def _source(self, node: Node) -> int:
        shape = shape_of(node)
        if len(shape) not in (1, 3):
            raise UnreadError(f"samples of {list(shape)}: pictures and vectors are read")
        kind = "image" if len(shape) == 3 else "vector"
        width = Width(self.groups.new(shape[0], "it is what enters"))
        return self._stream(node, Stream(shape, width, kind))

    def _apply(self, node: Node, layers: Mapping[str, Callable[[Reader, Node], None]]) -> None:
        name = operator_of(node)
        if node in self.wholes:
            return self.wholes[node]()
        if "dropout" in name and True in node.args[1:]:
            raise self.unread(node, "dropout that is on in evaluation too")
        size = isinstance(node.meta.get("val"), torch.SymInt)  # counted from how many samples
        passed = node in self.done or name in PASSED or size
        if passed or self.traced.constant(node) is not None:
            return
        if in_place(node) and self.traced.constant(node.args[0]) is not None:
            raise self.unread(node, "it changes the module's state in forward")
        if name not in layers:
            raise self.unread(node, "no operator is for it")
        layers[name](self, node)
        if in_place(node) and isinstance(node.args[0], Node):  # later readers see what was written
            self._numbers[self.skipped(node.args[0])] = self.number(node)

    def unread(self, node: Node, why: str) -> UnreadError:
        """An error that says where."""
        where = path_of(node) or "the module itself"
        return UnreadError(f"{where}: {node.target} cannot be read: {why}")

    def skipped(self, node: Node) -> Node:
        """What a node hands on, through those that do nothing in evaluation."""
        while node.op == "call_function" and operator_of(node) in PASSED:
            node = node.args[0]  # type: ignore[assignment]
        return node

    def number(self, node: Any) -> int:
        """The number of the value that a node gives."""
        if isinstance(node, int):
            return node
        at = self.skipped(node) if isinstance(node, Node) else None
        if at is None or at not in self._numbers:
            raise UnreadError(f"{node} is no value that was computed from the input")
        return self._numbers[at]

    def stream(self, node: Any) -> Stream:
        """The value that a node gives, in the shape in which it gives it."""
        number = self.number(node)
        view = self._views.get(self.skipped(node)) if isinstance(node, Node) else None
        return view or self.streams[number]

    def only_reader(self, node: Node) -> Node | None:
        """The one node that reads a value, through those that do nothing; None of several."""
        users = [user for user in node.users if user.op != "call_function" or user not in self.done]
        if len(users) != 1:
            return None
        (user,) = users
        passes = user.op == "call_function" and operator_of(user) in PASSED
        return self.only_reader(user) if passes else user

    def same(self, node: Node, source: Any, kind: str = "") -> None:
        """Let a node's value be another's, seen in another shape."""
        seen = self.stream(source)
        self._numbers[node] = self.number(source)
        self._views[node] = Stream(shape_of(node), seen.width, kind or seen.kind)

    def add(
        self,
        node: Node,
        operator: str,
        sources: Sequence[Any],
        width: Width,
        kind: str,
        *,
        args: Mapping[str, Value] | None = None,
        says: tuple[str, int] | None = None,
        tensors: Mapping[str, Read] | None = None,
    ) -> None:
        """Write an operator down that gives the value of a node."""
        inputs = tuple(self.number(source) for source in sources)
        output = self._stream(node, Stream(shape_of(node), width, kind))
        path = path_of(node)
        self.applied.append(
            Applied(operator, args or {}, inputs, output, path, says, tensors or {})
        )

    def _stream(self, node: Node, stream: Stream) -> int:
        self.streams.append(stream)
        self._numbers[node] = len(self.streams) - 1
        return self._numbers[node]


def given(node: Node, count: int) -> tuple[Any, ...]:
    """The arguments of a node in order, None where ATen leaves the default out."""
    arguments = list(node.args[:count])
    return (*arguments, *[None] * (count - len(arguments)))


def pair(value: Any, default: int) -> tuple[int, int]:
    """Two sizes, where ATen may be given one, or nothing."""
    if value is None:
        return default, default
    sizes = (value, value) if isinstance(value, int) else tuple(value)
    return (sizes * 2)[:2] if len(sizes) == 1 else sizes


def mapped(w: Tensor, b: Tensor | None, out: Width, entering: Width) -> dict[str, Read]:
    """The tensors of a map by local name."""
    return {"weight": Read(w, ((0, out), (1, entering)))} | biased(b, out)


def biased(b: Tensor | None, out: Width) -> dict[str, Read]:
    return {} if b is None else {"bias": Read(b, ((0, out),))}
