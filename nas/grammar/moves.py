"""Ways through a node that hang on no shape: to nothing, or to one operator beside nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import NamedTuple

from nas.grammar.nodes import Capture, Decision, Fork, Multiple, Node, Operation, Parts, Sequence
from nas.grammar.results import Result
from nas.grammar.wants import turns_some
from nas.op import ShapeError, Shapes


class Move(NamedTuple):
    """One operator that a node can come to, `beside` so many that do nothing; how, at the cost in
    operators alone."""

    operation: Operation
    beside: int
    result: Result


def moves(node: Node) -> tuple[Move, ...]:
    """The single operators that a node can come to and that turn some shape, each in the shortest
    way."""
    best: dict[Operation, Move] = {}
    for beside, labels, operation in sorted(_moves(node, frozenset()), key=lambda way: way[0]):
        if operation not in best and turns_some(operation):
            best[operation] = Move(operation, beside, Result(1 + beside, labels))
    return tuple(best.values())


_Way = tuple[int, tuple[str, ...], Operation]


def _moves(node: Node, above: frozenset[Node]) -> Iterator[_Way]:
    """Every way to one operator that does not lead through a node `above`."""
    if isinstance(node, Operation):
        if node.neutral is None:
            yield 0, (), node
    elif isinstance(node, Decision) and node not in above:
        for index, option in enumerate(node.options):
            for beside, labels, operation in _along(node.parts(index), above | {node}):
                yield beside, (option.label, *labels), operation


def _along(parts: Parts, above: frozenset[Node]) -> Iterator[_Way]:
    for at, node in enumerate(parts):
        others = parts[:at] + parts[at + 1 :]
        if any(other.neutral is None or isinstance(other, Fork | Multiple) for other in others):
            continue
        beside = sum(other.neutral or 0 for other in others)
        try:
            before, after = (
                tuple(label for part in some for label in idle_labels(part, ()))
                for some in (parts[:at], parts[at + 1 :])
            )
        except ShapeError:  # what does nothing there depends on a shape
            continue
        for more, labels, operation in _moves(node, above):
            yield beside + more, (*before, *labels, *after), operation


def alone(
    node: Node, test: Callable[[Operation], bool]
) -> tuple[Operation, tuple[str, ...]] | None:
    """How a node is one operator that passes a test."""
    if isinstance(node, Operation):
        return (node, ()) if test(node) else None
    if not isinstance(node, Decision):
        return None
    for index, option in enumerate(node.options):
        parts = node.parts(index)
        inner = alone(parts[0], test) if len(parts) == 1 else None
        if inner is not None:
            return inner[0], (option.label, *inner[1])
    return None


def idle_labels(node: Node, streams: Shapes) -> tuple[str, ...]:
    """What to choose for a node to do nothing."""
    if isinstance(node, Capture):
        return idle_labels(node.on(streams), streams)
    if isinstance(node, Sequence | Multiple):
        return tuple(label for part in node.parts() for label in idle_labels(part, streams))
    if isinstance(node, Fork):
        return tuple(
            label
            for i in range(node.width)
            for part in node.parts(i)
            for label in idle_labels(part, streams[i : i + 1])
        )
    if not isinstance(node, Decision):
        return ()
    if node.nothing is None:
        _decide_nothing(node)
    assert node.nothing is not None
    return (
        node.options[node.nothing].label,
        *(label for part in node.parts(node.nothing) for label in idle_labels(part, streams)),
    )


def _decide_nothing(start: Decision) -> None:
    """Choose for a decision, and all that it may lead to on the way to nothing, the option with the
    fewest operators, and of these the one that ends in the fewest steps: so none leads back."""
    reached, ways = [start], dict[Decision, list[tuple[int, int, list[Decision]]]]()
    for node in reached:
        ways[node] = []
        for i in range(len(node.options)):
            counts = [part.neutral for part in node.parts(i)]
            if None not in counts:
                inner = [d for part in node.parts(i) for d in _decisions(part)]
                ways[node].append((i, sum(n for n in counts if n is not None), inner))
                reached += [d for d in inner if d not in ways and d not in reached]
    steps = dict.fromkeys(reached, inf)
    moved = True
    while moved:
        moved = False
        for node in reached:
            least = min(count for _, count, _ in ways[node])
            for i, count, inner in ways[node]:
                taken = 1 + sum(steps[d] for d in inner)
                if count == least and taken < steps[node]:
                    steps[node], node.nothing, moved = taken, i, True


def _decisions(part: Node) -> list[Decision]:
    """The decisions that a part comes to, but for those behind captured sizes."""
    if isinstance(part, Decision):
        return [part]
    if isinstance(part, Sequence | Multiple):
        return [d for inner in part.parts() for d in _decisions(inner)]
    if isinstance(part, Fork):
        return [d for i in range(part.width) for inner in part.parts(i) for d in _decisions(inner)]
    return []


def decided(parts: Parts, at: int) -> bool:
    """Whether a choice is at that place of some parts."""
    return at < len(parts) and isinstance(parts[at], Decision)
