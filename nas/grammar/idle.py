"""How nodes do nothing, and which options come to one operator where all else does nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from nas.grammar.frames import Cost
from nas.grammar.moves import alone, idle_labels
from nas.grammar.nodes import Decision, Fork, Multiple, Node, Operation, Parts, Sequence
from nas.grammar.results import BLANK, Result, joined
from nas.op import ShapeError

SAME = (0, 1)  # of what makes of equal streams one as they are, of any number of axes


class Idle:
    """What is known of one grammar's nodes, kept for good. `priced`: costs in parameters and FLOPs
    matter."""

    def __init__(self, priced: bool):
        self.priced = priced
        self._nothing: dict[Node, Result | None] = {}
        self.routes: dict[Any, tuple[Result, Operation | None, Parts]] = {}

    def nothing(self, node: Node) -> Result | None:
        """How a node does nothing; None where it cannot or where that hangs on the shape."""
        if node not in self._nothing:
            best = None
            if node.neutral is not None:
                with suppress(ShapeError):
                    best = Result(node.neutral, idle_labels(node, ()))
            elif isinstance(node, Decision):
                for i, option in enumerate(node.options):
                    bracket = self._bracket(node.parts(i))
                    if bracket and (best is None or Cost.of(bracket.cost) < Cost.of(best.cost)):
                        best = bracket._replace(labels=(option.label, *bracket.labels))
            self._nothing[node] = best
        return self._nothing[node]

    def _bracket(self, parts: Parts) -> Result | None:
        """How a stream is cloned, left as it is and summed."""
        if len(parts) != 3 or not isinstance(parts[1], Fork | Multiple):
            return None
        fork, idle = parts[1], self.nothing(parts[1])
        width = fork.width
        spread = alone(parts[0], lambda o: o.operator.role == "copy" and o.args["n"] == width)
        gather = alone(parts[2], lambda o: o.operator.takes_equal(width, o.args) == SAME)
        if self.priced or idle is None or spread is None or gather is None:
            return None
        return Result(idle.cost + 2, (*spread[1], *gather[1], *idle.labels))

    def route(
        self, parts: Parts, fork: Fork | Multiple | None
    ) -> tuple[Result, Operation | None, Parts]:
        """What does nothing, and the one operator beside it; else the parts."""
        if len(parts) == 1 and isinstance(parts[0], Sequence):
            parts = parts[0].parts()
        whole = (fork, *parts) if fork else parts
        bracket = None if fork else self._bracket(parts)
        if bracket is not None:
            return bracket, None, whole
        working = [node for node in whole if self.nothing(node) is None]
        idle = BLANK
        for node in whole:
            idle = joined(idle, self.nothing(node) or BLANK)
        if not working:
            return idle, None, whole
        if len(working) == 1 and isinstance(working[0], Operation):
            least = 0 if self.priced else 1
            return Result(idle.cost + least, idle.labels), working[0], whole
        return BLANK, None, whole
