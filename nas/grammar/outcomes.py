"""What nodes make of shapes in their shortest derivations; found once, and kept.

This is what a witness is put together from: most nodes can leave a stream as it is, and some make,
in one operator or a few, the shape that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice, product
from typing import Any, Literal

from nas.grammar.begins import Begins
from nas.grammar.frames import Cost, Price
from nas.grammar.idle import Idle
from nas.grammar.moves import Move, decided, idle_labels
from nas.grammar.nodes import Capture, Decision, Fork, Multiple, Node, Operation, Parts, Sequence
from nas.grammar.results import BLANK, Result, Results, Spare, joined
from nas.op import Shape, ShapeError, Shapes

NEAR = 3  # operators of the ways that a detour may take
FEW, MANY = 8, 256  # results kept of a node where any will do, and where one must fit

Reach = Literal["idle", "short", "near"]
"""Which derivations of a node are looked at: doing nothing where that is possible and else a few
of the shortest; all of the shortest; or ways of a few operators in which every part may turn the
shape."""


class Outcomes:
    """What nodes make, the cheapest by `scale`. `priced`: costs in parameters and FLOPs matter.
    `spend` is told of the work that it takes."""

    def __init__(
        self, scale: Callable[[Price], float], *, priced: bool, spend: Callable[[int], None]
    ):
        self.scale, self.priced, self.spend = scale, priced, spend
        self._results: dict[Any, Results] = {}
        self.idle = Idle(priced)
        self._turned: dict[Any, Results] = {}
        self._spare: dict[Any, tuple[Spare, ...]] = {}
        self._busy: set[Any] = set()
        self._circles = 0
        self.begins = Begins()

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return len(self._results) + len(self._turned)

    def make(self, reach: Reach, node: Node, streams: Shapes) -> Results:
        """What a node makes of some streams."""
        if reach == "idle":
            width = node.width if isinstance(node, Fork | Multiple) else 1
            if len(streams) == width:
                nothing = self.idle.nothing(node)
                if nothing is None and node.neutral is not None:
                    nothing = Result(node.neutral, idle_labels(node, streams))
                if nothing is not None:
                    return {streams: nothing}
        if isinstance(node, Operation):
            outputs = node.outputs(streams)
            return {} if outputs is None else {outputs: Result(self.price(node, streams), ())}
        key = (reach, node, streams)
        known = self._results.get(key)
        if known is not None:
            return known
        if key in self._busy:  # a rule that leads to itself without an operator
            self._circles += 1
            return {}
        self.spend(1 + len(node.options) if isinstance(node, Decision) else 1)
        self._busy.add(key)
        before = self._circles
        results = (self._idle if reach == "idle" else self._make)(reach, node, streams)
        self._busy.discard(key)
        if self._circles == before or not self._busy:  # else it may lack what is being made
            self._results[key] = results
        return results

    def _idle(self, reach: Reach, node: Node, streams: Shapes) -> Results:
        """A shortest way that leaves the streams as they are, or a few others."""
        if not isinstance(node, Decision):
            return self._make(reach, node, streams)
        results: list[tuple[Shapes, Result]] = []
        for i in self.begins.able(node, streams):
            if node.sizes[i] == node.least:
                for result, outcome in self.way("idle", node.parts(i), streams).items():
                    labelled = Result(outcome.cost, (node.options[i].label, *outcome.labels))
                    if result == streams:
                        return {streams: labelled}
                    results.append((result, labelled))
        best = self.best(results)
        return best if len(best) <= FEW else self._cheapest(best, FEW)

    def _make(self, reach: Reach, node: Node, streams: Shapes) -> Results:
        if isinstance(node, Decision):
            most = node.least if reach == "short" else max(node.least, NEAR)
            return self.best(
                (result, Result(outcome.cost, (node.options[i].label, *outcome.labels)))
                for i in self.begins.able(node, streams)
                if node.sizes[i] <= most
                for result, outcome in self.way("short", node.parts(i), streams).items()
            )
        if isinstance(node, Capture):
            if node.refuses(streams):
                return {}
            try:
                return self.make(reach, node.on(streams), streams)
            except ShapeError:
                return {}
        inner: Reach = "idle" if reach == "idle" else "short"
        if isinstance(node, Sequence):
            return self.way(inner, node.parts(), streams)
        if isinstance(node, Fork) and len(streams) == node.width:
            return self._branches(reach, node, streams)
        if isinstance(node, Multiple) and streams.count(streams[0]) == len(streams) == node.width:
            n, once = node.width, self.way(inner, node.parts(), streams[:1])
            return {z * n: Result(outcome.cost * n, outcome.labels) for z, outcome in once.items()}
        return {}

    def option(
        self, decision: Decision, index: int, streams: Shapes, fork: Fork | Multiple | None
    ) -> Results:
        """What an option of a site makes behind a fork where all else does nothing."""
        key = (decision, index, fork)
        if key not in self.idle.routes:
            self.idle.routes[key] = self.idle.route(decision.parts(index), fork)
        idle, operation, parts = self.idle.routes[key]
        if len(parts) == 1 and isinstance(parts[0], Capture):
            if parts[0].refuses(streams):
                return {}
            try:
                sized = parts[0].on(streams)
            except ShapeError:
                return {}
            if sized not in self.idle.routes:
                self.idle.routes[sized] = self.idle.route((sized,), None)
            idle, operation, parts = self.idle.routes[sized]
        if streams != streams[:1] * (fork.width if fork else 1):
            return self.way("idle", parts, streams)
        if operation is not None:
            result = operation.outputs(streams)
            if result is None:
                return {}
            if self.priced:
                idle = idle._replace(cost=idle.cost + self.price(operation, streams))
            return {result: idle}
        return self.way("idle", parts, streams) if idle is BLANK else {streams: idle}

    def turn(self, node: Node, streams: Shapes) -> Results:
        """What one operator makes of the streams while all else in a node does nothing."""
        key = (node, streams)
        results = self._turned.get(key)
        if results is None:
            results = self._turned[key] = self._turn(node, streams)
        return results

    def _turn(self, node: Node, streams: Shapes) -> Results:
        results: Results = {}
        if isinstance(node, Capture):
            with suppress(ShapeError):
                results = self.turn(node.on(streams), streams)
        elif isinstance(node, Fork) and len(streams) == node.width:
            return self._branches("turn", node, streams)
        elif isinstance(node, Multiple) and streams == streams[:1] * node.width:
            n, once = node.width, self.turns(node.parts(), streams[:1])
            return {z * n: Result(outcome.cost * n, outcome.labels) for z, outcome in once.items()}
        elif isinstance(node, Sequence):
            return self.turns(node.parts(), streams)
        kinds = self.begins.kinds(node, streams)
        for move in (move for _, some in kinds for move in some):
            result = move.operation.outputs(streams)
            if result is not None and result != streams and result not in results:
                results[result] = self._moved(move, streams)
        return results

    def turns(self, parts: Parts, streams: Shapes) -> Results:
        """What parts in sequence make where one of them turns the shape."""
        key = (parts, streams)
        known = self._turned.get(key)
        if known is None:
            results: list[tuple[Shapes, Result]] = []
            before, tried = {streams: BLANK}, set[Node]()
            for at, node in enumerate(parts):
                if node not in tried:
                    turned = self._then(before, partial(self.turn, node))
                    results += self._then(
                        turned, partial(self.way, "idle", parts[at + 1 :])
                    ).items()
                tried = tried | {node} if node.neutral is not None else set()
                before = self._then(before, partial(self.make, "idle", node))
            known = self._turned[key] = self.best(results)
        return known

    def uneven(self, fork: Fork, parts: Parts, streams: Shapes) -> Results:
        """What a product makes of two branches where one of them is turned so that they fit."""
        product = parts[0]
        if len(parts) > 1 or not isinstance(product, Operation) or len(streams) != 2:
            return self.turns((fork, *parts), streams)
        results: Results = {}
        for at, wanted in enumerate(product.operator.mended(streams, product.args)):
            branch = fork.parts(at)
            turned = self.turn_into(branch[0], streams[at], wanted) if len(branch) == 1 else None
            other = self.idle.nothing(fork.parts(1 - at)[0])
            if turned is not None and other is not None and len(fork.parts(1 - at)) == 1:
                pair = (streams[0], wanted) if at else (wanted, streams[1])
                result = product.outputs(pair)
                both = joined(other, turned) if at else joined(turned, other)
                if result is not None:
                    results[result] = Result(both.cost + self.price(product, pair), both.labels)
        return results

    def spare(self, decision: Decision, index: int, streams: Shapes) -> tuple[Spare, ...]:
        """The different nodes at the end of an option's way that can do nothing, last first."""
        parts = decision.parts(index)
        if len(parts) == 1 and isinstance(parts[0], Capture):
            parts = (parts[0].on(streams),)
        if len(parts) == 1 and isinstance(parts[0], Sequence):
            parts = parts[0].parts()
        if parts not in self._spare:
            found: dict[Node, Spare] = {}
            later: tuple[str, ...] = ()
            for node in reversed(parts):
                nothing = self.idle.nothing(node)
                if nothing is None or isinstance(node, Fork | Multiple):
                    break
                found[node] = Spare(node, len(nothing.labels), later)
                later = nothing.labels + later
            self._spare[parts] = tuple(found.values())
        return self._spare[parts]

    def turn_into(self, node: Node, x: Shape, wanted: Shape) -> Result | None:
        """How one operator makes the shape wanted of `x` while all else in a node does nothing."""
        if isinstance(node, Decision):
            for operator, moves in self.begins.kinds(node, (x,)):
                if operator.may_make(x, wanted):
                    for move in moves:
                        if move.operation.outputs((x,)) == (wanted,):
                            return self._moved(move, (x,))
            return None
        return self.turn(node, (x,)).get((wanted,))

    def _moved(self, move: Move, streams: Shapes) -> Result:
        """How a move is made of some streams."""
        if not self.priced:
            return move.result
        cost = self.price(move.operation, streams) + move.beside
        return Result(cost, move.result.labels)

    def _then(self, befores: Results, make: Callable[[Shapes], Results]) -> Results:
        return self.best(
            (result, joined(before, outcome))
            for x, before in befores.items()
            for result, outcome in make(x).items()
        )

    def price(self, node: Operation, streams: Shapes) -> Price:
        return Cost(1, *node.price(streams)) if self.priced else 1

    def best(self, outcomes: Iterable[tuple[Shapes, Result]]) -> Results:
        """The cheapest way to each result, and the cheapest results."""
        best: Results = {}
        scale = self.scale
        for result, outcome in outcomes:
            known = best.get(result)
            if known is None or scale(outcome.cost) < scale(known.cost):
                best[result] = outcome
        return best if len(best) <= MANY else self._cheapest(best, MANY)

    def _cheapest(self, results: Results, most: int) -> Results:
        return dict(sorted(results.items(), key=lambda pair: self.scale(pair[1].cost))[:most])

    def way(self, reach: Reach, parts: Parts, streams: Shapes) -> Results:
        """What parts in sequence make of some streams."""
        if len(parts) == 1:
            return self.make(reach, parts[0], streams)
        results: Results = {streams: BLANK}
        for at, node in enumerate(parts):
            if isinstance(node, Fork | Multiple) and decided(parts, at + 1):
                return self._settled(reach, results, parts[at:], streams)
            if len(results) == 1:
                ((x, before),) = results.items()
                results = self.make(reach, node, x)
                if before is not BLANK:
                    results = {z: joined(before, outcome) for z, outcome in results.items()}
            else:
                results = self._then(results, partial(self.make, reach, node))
        if reach == "idle" and len(results) > 1 and streams in results:
            return {streams: results[streams]}
        return results

    def _settled(self, reach: Reach, befores: Results, parts: Parts, streams: Shapes) -> Results:
        """As `way` from a fork on, where what takes the branches is chosen before them."""
        decision = parts[1]
        assert isinstance(decision, Decision)
        results: list[tuple[Shapes, Result]] = []
        idle = self.idle.nothing(parts[0]) if reach == "idle" else None
        fork = () if idle else parts[:1]
        for x, before in befores.items():
            for index, option in enumerate(decision.options):
                if decision.sizes[index] == decision.least:
                    whole = (*fork, *decision.parts(index), *parts[2:])
                    for result, outcome in self.way(reach, whole, x).items():
                        if idle:
                            outcome = joined(idle, outcome)
                        labels = (*before.labels, option.label, *outcome.labels)
                        joint = Result(before.cost + outcome.cost, labels)
                        if reach == "idle" and result == streams:
                            return {streams: joint}
                        results.append((result, joint))
        return self.best(results)

    def _branches(self, reach: Reach | Literal["turn"], fork: Fork, streams: Shapes) -> Results:
        """Branches that do the same, and some of those that do not: all but one nothing."""
        results: list[tuple[Shapes, Result]] = []
        parts = [fork.parts(i) for i in range(fork.width)]
        if reach != "idle" and fork.alike and streams.count(streams[0]) == len(streams):
            each_alike = self.turns if reach == "turn" else partial(self.way, "short")
            for result, outcome in each_alike(parts[0], streams[:1]).items():
                labels = outcome.labels * fork.width
                results.append((result * fork.width, Result(outcome.cost * fork.width, labels)))
        branches = [self.way("idle", part, (x,)) for part, x in zip(parts, streams, strict=True)]
        results += self._together(branches)
        for i in range(fork.width) if reach in ("turn", "near") else ():
            stream = streams[i : i + 1]
            turned = partial(self.way, "near") if reach == "near" else self.turns
            results += self._together([*branches[:i], turned(parts[i], stream), *branches[i + 1 :]])
        return self.best(results)

    def _together(self, branches: list[Results]) -> Iterator[tuple[Shapes, Result]]:
        """Results of branches side by side."""
        for chosen in islice(product(*(results.items() for results in branches)), MANY):
            outputs: Shapes = ()
            whole = BLANK
            for result, outcome in chosen:
                outputs, whole = outputs + result, joined(whole, outcome)
            yield outputs, whole

    def kept_way(self, reach: Reach, parts: Parts, streams: Shapes) -> Results:
        """As `way`, kept for good."""
        key = (reach, parts, streams)
        results = self._results.get(key)
        if results is None:
            results = self._results[key] = self.way(reach, parts, streams)
        return results
