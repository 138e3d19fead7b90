"""What nodes make of shapes in their shortest derivations; found once, and kept.

This is what a witness is put together from: most nodes can leave a stream as it is, and some make,
in one operator or a few, the shape that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, product
from typing import Any, Literal, NamedTuple

from nas.grammar.frames import NOTHING, Cost
from nas.grammar.nodes import (
    Capture,
    Decision,
    Fork,
    Multiple,
    Node,
    Operation,
    Parts,
    Sequence,
)  # fmt: skip
from nas.op import ShapeError, Shapes

NEAR = 3  # operators of the ways that a detour may take
FEW, MANY = 8, 256  # results kept of a node where any will do, and where one must fit

Reach = Literal["idle", "short", "turn", "near"]
"""Which derivations of a node are looked at: doing nothing where that is possible and else a few
of the shortest; all of the shortest; besides them ways of a few operators in which one part turns
the shape and all others do nothing; or those in which every part may."""


class Made(NamedTuple):
    """One thing to make of some streams: what it costs once, and the labels that lead there."""

    cost: Cost
    labels: tuple[str, ...]


BLANK = Made(NOTHING, ())
Results = dict[Shapes, Made]


class Outcomes:
    """What nodes make, the cheapest by `scale`. `priced`: costs in parameters and FLOPs matter."""

    def __init__(self, scale: Callable[[Cost], float], *, priced: bool):
        self.scale, self.priced = scale, priced
        self._made: dict[Any, Results] = {}
        self._busy: set[Any] = set()
        self._circles = 0

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return len(self._made)

    def make(self, reach: Reach, node: Node, streams: Shapes) -> Results:
        """What a node makes of some streams."""
        if reach == "idle":
            width = node.width if isinstance(node, Fork | Multiple) else 1
            if node.neutral is not None and len(streams) == width:
                return {streams: Made(Cost(node.neutral), idle_labels(node, streams))}
        if isinstance(node, Operation):
            outputs = node.outputs(streams)
            return {} if outputs is None else {outputs: Made(self.price(node, streams), ())}
        key = (reach, node, streams)
        known = self._made.get(key)
        if known is not None:
            return known
        if key in self._busy:  # a rule that leads to itself without an operator
            self._circles += 1
            return {}
        self._busy.add(key)
        before = self._circles
        found = (self._idle if reach == "idle" else self._make)(reach, node, streams)
        self._busy.discard(key)
        if self._circles == before or not self._busy:  # else it may lack what is being made
            self._made[key] = found
        return found

    def _idle(self, reach: Reach, node: Node, streams: Shapes) -> Results:
        """A shortest way that leaves the streams as they are, or a few others."""
        if isinstance(node, Decision):
            for i, size in enumerate(node.sizes):
                if size == node.least:
                    made = self.way("idle", node.parts(i), streams).get(streams)
                    if made is not None:
                        labels = (node.options[i].label, *made.labels)
                        return {streams: Made(made.cost, labels)}
        found = self.make("short", node, streams)
        return found if len(found) <= FEW else self._cheapest(found, FEW)

    def _make(self, reach: Reach, node: Node, streams: Shapes) -> Results:
        if isinstance(node, Decision):
            most = node.least if reach == "short" else max(node.least, NEAR)
            return self.best(
                (result, Made(made.cost, (node.options[i].label, *made.labels)))
                for i, size in enumerate(node.sizes) if size <= most
                for some in self._some(reach, node.parts(i), streams)
                for result, made in some.items()
            )  # fmt: skip
        if isinstance(node, Capture):
            try:
                return self.make(reach, node.on(streams), streams)
            except ShapeError:
                return {}
        if isinstance(node, Sequence):
            return self.way("short", node.parts(), streams)
        if isinstance(node, Fork) and len(streams) == node.width:
            return self._branches(reach, node, streams)
        if isinstance(node, Multiple) and streams.count(streams[0]) == len(streams) == node.width:
            n, one = node.width, self.way("short", node.parts(), streams[:1])
            return {z * n: Made(made.cost.times(n), made.labels) for z, made in one.items()}
        return {}

    def _some(self, reach: Reach, parts: Parts, streams: Shapes) -> Iterator[Results]:
        """What a way makes: each part by its shortest, or, to turn, one of them alone."""
        able = [i for i, node in enumerate(parts) if node.neutral is not None]
        if reach != "turn" or not able:
            yield self.way("short", parts, streams)
        elif len(parts) == 1:
            yield self.make(reach, parts[0], streams)
        for at in able if reach == "turn" and len(parts) > 1 else ():
            node = parts[at]
            before = self.way("idle", parts[:at], streams)
            turned = self._then(before, partial(self.make, "short", node))
            yield self._then(turned, partial(self.way, "idle", parts[at + 1 :]))

    def _then(self, found: Results, make: Callable[[Shapes], Results]) -> Results:
        return self.best(
            (result, joined(before, made))
            for x, before in found.items() for result, made in make(x).items()
        )  # fmt: skip

    def price(self, node: Operation, streams: Shapes) -> Cost:
        return Cost(1, *node.price(streams)) if self.priced else Cost(1)

    def best(self, found: Iterable[tuple[Shapes, Made]]) -> Results:
        """The cheapest way to each result, and the cheapest results."""
        best: Results = {}
        scale = self.scale
        for result, made in found:
            known = best.get(result)
            if known is None or scale(made.cost) < scale(known.cost):
                best[result] = made
        return best if len(best) <= MANY else self._cheapest(best, MANY)

    def _cheapest(self, found: Results, most: int) -> Results:
        return dict(sorted(found.items(), key=lambda pair: self.scale(pair[1].cost))[:most])

    def way(self, reach: Reach, parts: Parts, streams: Shapes) -> Results:
        """What parts in sequence make of some streams."""
        if len(parts) == 1:
            return self.make(reach, parts[0], streams)
        found: Results = {streams: BLANK}
        for at, node in enumerate(parts):
            if isinstance(node, Fork | Multiple) and _decided(parts, at + 1):
                return self._settled(reach, found, parts[at:], streams)
            if len(found) == 1:
                ((x, before),) = found.items()
                found = self.make(reach, node, x)
                if before is not BLANK:
                    found = {z: joined(before, made) for z, made in found.items()}
            else:
                found = self._then(found, partial(self.make, reach, node))
        if reach == "idle" and len(found) > 1 and streams in found:
            return {streams: found[streams]}
        return found

    def _settled(
        self, reach: Reach, found: Results, parts: Parts, streams: Shapes
    ) -> Results:
        """As `way` from a fork on, where what takes the branches is chosen before them."""
        decision = parts[1]
        assert isinstance(decision, Decision)
        results: list[tuple[Shapes, Made]] = []
        for x, before in found.items():
            for index, option in enumerate(decision.options):
                if decision.sizes[index] == decision.least:
                    whole = (parts[0], *decision.parts(index), *parts[2:])
                    for result, made in self.way(reach, whole, x).items():
                        labels = (*before.labels, option.label, *made.labels)
                        whole_made = Made(before.cost.plus(made.cost), labels)
                        if reach == "idle" and result == streams:
                            return {streams: whole_made}
                        results.append((result, whole_made))
        return self.best(results)

    def _branches(self, reach: Reach, fork: Fork, streams: Shapes) -> Results:
        """Branches that do the same, and some of those that do not: all but one nothing."""
        found: list[tuple[Shapes, Made]] = []
        parts = [fork.parts(i) for i in range(fork.width)]
        if fork.alike and streams.count(streams[0]) == len(streams):
            for result, made in self.way("short", parts[0], streams[:1]).items():
                labels = made.labels * fork.width
                found.append((result * fork.width, Made(made.cost.times(fork.width), labels)))
        each = [self.way("idle", part, (x,)) for part, x in zip(parts, streams, strict=True)]
        found += self._together(each)
        for i in range(fork.width) if reach in ("turn", "near") else ():
            turned = self.way(reach, parts[i], streams[i : i + 1])
            found += self._together([*each[:i], turned, *each[i + 1 :]])
        return self.best(found)

    def _together(self, each: list[Results]) -> Iterator[tuple[Shapes, Made]]:
        """Results of branches side by side."""
        for chosen in islice(product(*(results.items() for results in each)), MANY):
            outputs: Shapes = ()
            whole = BLANK
            for result, made in chosen:
                outputs, whole = outputs + result, joined(whole, made)
            yield outputs, whole

    def kept_way(self, reach: Reach, parts: Parts, streams: Shapes) -> Results:
        """As `way`, kept for good."""
        key = (reach, parts, streams)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self.way(reach, parts, streams)
        return found


def _decided(parts: Parts, at: int) -> bool:
    return at < len(parts) and isinstance(parts[at], Decision)


def joined(before: Made, made: Made) -> Made:
    if before is BLANK:
        return made
    return Made(before.cost.plus(made.cost), before.labels + made.labels)


def idle_labels(node: Node, streams: Shapes) -> tuple[str, ...]:
    """What to choose for a node to do nothing."""
    if isinstance(node, Capture):
        return idle_labels(node.on(streams), streams)
    if isinstance(node, Sequence | Multiple):
        return tuple(label for part in node.parts() for label in idle_labels(part, streams))
    if isinstance(node, Fork):
        return tuple(
            label for i in range(node.width) for part in node.parts(i)
            for label in idle_labels(part, streams[i : i + 1])
        )  # fmt: skip
    if not isinstance(node, Decision):
        return ()
    if node.nothing is None:
        sums = [[part.neutral for part in node.parts(i)] for i in range(len(node.options))]
        able = [i for i, some in enumerate(sums) if None not in some]
        node.nothing = min(able, key=lambda i: sum(n for n in sums[i] if n is not None))
    return (
        node.options[node.nothing].label,
        *(label for part in node.parts(node.nothing) for label in idle_labels(part, streams)),
    )
