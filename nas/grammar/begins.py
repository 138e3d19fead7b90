"""What nodes may begin with, told by a stream's kind and its number of axes alone: most operators
of windows and orders can take no other, so whole rules need not be looked at."""

from __future__ import annotations

from collections.abc import Sequence as Sequence_

from nas.grammar.moves import Move, moves
from nas.grammar.nodes import Capture, Decision, Node, Operation, Parts, Sequence
from nas.op import Kind, Operator, Shapes


class Begins:
    """What is known of one grammar's nodes, kept for good."""

    def __init__(self) -> None:
        self._known: dict[tuple[Node, Kind, int], bool] = {}
        self._able: dict[tuple[Decision, Kind, int], tuple[int, ...]] = {}
        self._kinds: dict[tuple[Node, Kind, int], list[tuple[Operator, list[Move]]]] = {}

    def able(self, decision: Decision, streams: Shapes) -> Sequence_[int]:
        """The options of a site but for those that can surely not take some streams."""
        every = range(len(decision.options))
        if len(streams) != 1:
            return every
        ((kind, dims),) = streams
        key = (decision, kind, len(dims))
        if key not in self._able:
            self._able[key] = tuple(
                i for i in every if self._way(decision.parts(i), kind, len(dims))
            )
        return self._able[key]

    def kinds(self, node: Node, streams: Shapes) -> list[tuple[Operator, list[Move]]]:
        """The moves of a node that may take some streams, those of one operator together."""
        (kind, dims), *others = streams
        key = (node, kind, 0 if others else len(dims))
        kinds = self._kinds.get(key)
        if kinds is None:
            grouped: dict[Operator, list[Move]] = {}
            for move in moves(node):
                if others or self.may(move.operation, kind, len(dims)):
                    grouped.setdefault(move.operation.operator, []).append(move)
            kinds = self._kinds[key] = list(grouped.items())
        return kinds

    def may(self, node: Node, kind: Kind, axes: int) -> bool:
        """Whether a node may take a stream; False only where it surely cannot."""
        key = (node, kind, axes)
        if key not in self._known:
            self._known[key] = True  # of a rule that leads to itself
            self._known[key] = self._may(node, kind, axes)
        return self._known[key]

    def _way(self, parts: Parts, kind: Kind, axes: int) -> bool:
        return not parts or self.may(parts[0], kind, axes)

    def _may(self, node: Node, kind: Kind, axes: int) -> bool:
        if isinstance(node, Operation):
            return node.operator.takes(kind, axes, node.args)
        if isinstance(node, Capture):
            return node.first is None or self.may(node.first, kind, axes)
        if isinstance(node, Decision):
            return any(self._way(node.parts(i), kind, axes) for i in range(len(node.options)))
        return not isinstance(node, Sequence) or self._way(node.parts(), kind, axes)
