"""How a derivation of a recursive grammar may still be completed: a witness for each option.

What is left of a derivation is a list of frames. Most can do nothing (derive to `identity`), so
the usual witness lets them, and only brackets whose branches must fit each other ask for more:
another branch that repeats the first, or one short derivation somewhere that makes the shape
wanted. What a node makes of a shape in its shortest derivations is kept for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, product
from typing import Any, Literal, NamedTuple, cast

from nas.grammar.frames import NOTHING, Cost, Frame, Waiting
from nas.grammar.nodes import (
    Capture,
    Copied,
    Decision,
    Fork,
    Join,
    Multiple,
    Node,
    Operation,
    Parts,
    Sequence,
    flat,
)  # fmt: skip
from nas.op import ShapeError, Shapes
from nas.op.stream import Add

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


class Repeat(NamedTuple):
    """The labels of the first branch once more, in the branch of that number before `next`."""

    next: Frame | None
    number: int


class Idle(NamedTuple):
    """Every frame from one until another left to do nothing."""

    frame: Frame | None
    until: Frame | None
    streams: Shapes


Labels = Any  # None, or (a tuple of labels, a Repeat or an Idle, and the Labels after it)


class Witness(NamedTuple):
    """A known completion: what it costs in all, and its labels in order."""

    cost: Cost
    labels: Labels


DONE = Witness(NOTHING, None)
BLANK = Made(NOTHING, ())
Results = dict[Shapes, Made]


class Ways(NamedTuple):
    """What the options of a site make of some streams where all else does nothing: the results
    of each, those that have any, the labels after them, the most that any costs once, and the
    fewest axes of any where all are one stream, else -1."""

    results: tuple[Results, ...]
    able: tuple[int, ...]
    labels: dict[int, Labels]
    most: Cost
    axes: int


class Witnesses:
    """Completions of one grammar's derivations, the cheapest known by `scale`. `priced`: what
    they cost in parameters and FLOPs matters."""

    def __init__(self, scale: Callable[[Cost], float], *, priced: bool):
        self.scale, self.priced = scale, priced
        self._made: dict[Any, Results] = {}
        self._busy: set[Any] = set()
        self._circles = 0
        self._sites: dict[Any, Ways] = {}

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return len(self._made) + len(self._sites)

    def make(self, reach: Reach, node: Node, streams: Shapes) -> Results:
        """What a node makes of some streams."""
        if reach == "idle":
            width = node.width if isinstance(node, Fork | Multiple) else 1
            if node.neutral is not None and len(streams) == width:
                return {streams: Made(Cost(node.neutral), idle_labels(node, streams))}
        if isinstance(node, Operation):
            outputs = node.outputs(streams)
            return {} if outputs is None else {outputs: Made(self._price(node, streams), ())}
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
            return self._best(
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
            return self.way("short", flat(node.parts), streams)
        if isinstance(node, Fork) and len(streams) == node.width:
            return self._branches(reach, node, streams)
        if isinstance(node, Multiple) and streams.count(streams[0]) == len(streams) == node.width:
            n, one = node.width, self.way("short", flat(node.body()), streams[:1])
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
        return self._best(
            (result, _after(before, made))
            for x, before in found.items() for result, made in make(x).items()
        )  # fmt: skip

    def _price(self, node: Operation, streams: Shapes) -> Cost:
        return Cost(1, *node.price(streams)) if self.priced else Cost(1)

    def _best(self, found: Iterable[tuple[Shapes, Made]]) -> Results:
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
                    found = {z: _after(before, made) for z, made in found.items()}
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
        return self._best(results)

    def _branches(self, reach: Reach, fork: Fork, streams: Shapes) -> Results:
        """Branches that do the same, and some of those that do not: all but one nothing."""
        found: list[tuple[Shapes, Made]] = []
        parts = [flat(fork.branch(i)) for i in range(fork.width)]
        if fork.alike and streams.count(streams[0]) == len(streams):
            for result, made in self.way("short", parts[0], streams[:1]).items():
                labels = made.labels * fork.width
                found.append((result * fork.width, Made(made.cost.times(fork.width), labels)))
        each = [self.way("idle", part, (x,)) for part, x in zip(parts, streams, strict=True)]
        found += self._together(each)
        for i in range(fork.width) if reach in ("turn", "near") else ():
            turned = self.way(reach, parts[i], streams[i : i + 1])
            found += self._together([*each[:i], turned, *each[i + 1 :]])
        return self._best(found)

    def _together(self, each: list[Results]) -> Iterator[tuple[Shapes, Made]]:
        """Results of branches side by side."""
        for chosen in islice(product(*(results.items() for results in each)), MANY):
            outputs: Shapes = ()
            whole = BLANK
            for result, made in chosen:
                outputs, whole = outputs + result, _after(whole, made)
            yield outputs, whole

    def ways(self, waiting: Waiting) -> Ways:
        """What the options of a site can make."""
        node, fork = waiting.decision, waiting.fork
        key = (node, fork.node if fork else None, waiting.streams)
        found = self._sites.get(key)
        if found is None:
            each = (self._parts(waiting, i) for i in range(len(node.options)))
            results = tuple(
                self.way("idle", parts, waiting.streams)
                or (self.way("turn", parts, waiting.streams) if fork else {}) for parts in each
            )  # fmt: skip
            labels = {i: (next(iter(r.values())).labels, None) for i, r in enumerate(results) if r}
            costs = [made.cost for some in results for made in some.values()]
            most = Cost(*map(max, zip(*costs, strict=True))) if costs else NOTHING
            axes = min(
                (len(z[0].dims) if len(z) == 1 else -1 for some in results for z in some),
                default=-1,
            )
            found = self._sites[key] = Ways(results, tuple(labels), labels, most, axes)
        return found

    def _parts(self, waiting: Waiting, index: int) -> Parts:
        parts = waiting.decision.parts(index)
        return (waiting.fork.node, *parts) if waiting.fork else parts

    def through(self, waiting: Waiting, index: int, effort: int) -> Witness | None:
        """A completion by an option of a site."""
        copies, after = waiting.frame.copies, waiting.frame.next
        results = self.ways(waiting).results[index]
        found = self._through(results, copies, after, 0)
        if found is None and effort:
            first = dict(islice(results.items(), 1))
            found = self._through(first, copies, after, effort)
        if found is None and effort:
            reach: Reach = "near" if effort > 1 else "turn" if waiting.fork else "short"
            more = self._kept(reach, self._parts(waiting, index), waiting.streams)
            found = self._through(more, copies, after, 0)
        return found

    def finish(self, frame: Frame | None, streams: Shapes, effort: int) -> Witness | None:
        """A completion of the frames from some streams, or None where none is found.

        Effort 0: what can do nothing does so. 1: in one frame before the end of each bracket a
        short derivation that changes the shape. 2: one that is near.
        """
        if frame is None:
            return DONE
        here: Frame | None = frame
        if len(streams) == 1:
            if frame.axes is not None and len(streams[0].dims) >= frame.axes:
                return Witness(Cost(frame.ending), (Idle(frame, None, streams), None))
            here = frame.jump
        assert here is not None
        key: Any = (streams, effort) if effort else streams
        try:
            found: Witness | None = here.known[key]
        except KeyError:
            found = here.known[key] = self._finish(here, streams, effort)
        if here is frame:
            return found
        if found is None:
            return self._detour(frame, here, streams, effort) if effort else None
        cost = found.cost.plus(Cost(frame.free))
        return Witness(cost, (Idle(frame, here, streams), found.labels))

    def _finish(self, frame: Frame, streams: Shapes, effort: int) -> Witness | None:
        node, after = frame.node, frame.next
        if isinstance(node, Join):
            return self._join(frame, streams, effort)
        if isinstance(node, Copied):
            return self.finish(after, streams * node.n, effort)
        if isinstance(node, Operation):
            outputs = node.outputs(streams)
            rest = None if outputs is None else self.finish(after, outputs, effort)
            if rest is None:
                return None
            cost = self._price(node, streams).times(frame.copies).plus(rest.cost)
            return Witness(cost, rest.labels)
        parts: Parts = (node,)
        if isinstance(node, Fork | Multiple) and after and isinstance(after.node, Decision):
            parts, after = (node, after.node), after.next
        found = self._through(self._kept("idle", parts, streams), frame.copies, after, effort)
        if found is None and effort:
            reach: Reach = "near" if effort > 1 else "short"
            found = self._through(self._kept(reach, parts, streams), frame.copies, after, 0)
        return found

    def _kept(self, reach: Reach, parts: Parts, streams: Shapes) -> Results:
        """As `way`, kept for good."""
        key = (reach, parts, streams)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self.way(reach, parts, streams)
        return found

    def _through(
        self, results: Results, copies: int, after: Frame | None, effort: int
    ) -> Witness | None:
        """A completion by the first of some results that has one."""
        if effort == 0 and len(results) > 1:
            results = _fitting(results, after)
        for result, made in results.items():
            rest = self.finish(after, result, effort)
            if rest is not None:
                cost = (made.cost.times(copies) if copies > 1 else made.cost).plus(rest.cost)
                return Witness(cost, (made.labels, rest.labels))
        return None

    def _detour(
        self, frame: Frame, end: Frame, streams: Shapes, effort: int
    ) -> Witness | None:
        """A completion in which one of the frames that could do nothing changes the shape."""
        tried, free = set[Node](), 0
        reach: Reach = "near" if effort > 1 else "short"
        best: Witness | None = None
        at = frame
        while at is not end:
            assert at.next is not None
            if at.node not in tried:
                tried.add(at.node)
                found = self._through(self.make(reach, at.node, streams), at.copies, at.next, 0)
                if found is not None:
                    cost = found.cost.plus(Cost(free))
                    if best is None or self.scale(cost) < self.scale(best.cost):
                        best = Witness(cost, (Idle(frame, at, streams), found.labels))
            free += (at.node.neutral or 0) * at.copies
            at = at.next
        return best

    def _join(self, join: Frame, streams: Shapes, effort: int) -> Witness | None:
        bracket, node = join.bracket, join.node
        assert bracket is not None
        assert isinstance(node, Join)
        done, waiting = bracket.done + streams, bracket.waiting
        if not waiting:
            return self.finish(join.next, done, effort)
        number = node.fork.width - len(waiting)
        if bracket.twins:
            first = done[: len(done) // number]
            rest = self.finish(join.next, done + first * len(waiting), effort)
            if rest is not None:
                return Witness(rest.cost, _repeats(join, rest.labels))
        reach: Reach = ("idle", "turn", "near")[effort]
        results: Results = {done: BLANK}
        for index, x in enumerate(waiting, number):
            branch = self.way(reach, flat(node.fork.branch(index)), (x,))
            results = self._best(
                (some + result, _after(a, b))
                for some, a in results.items() for result, b in branch.items()
            )  # fmt: skip
        return self._through(results, join.copies, join.next, 0)


def _fitting(results: Results, after: Frame | None) -> Results:
    """Those of some results that what takes them next can take, if only doing nothing is between;
    all where that cannot be told."""
    taker, done = after, cast(Shapes, ())
    first = next(iter(results))
    if after is not None and len(first) == 1:
        join = after.jump
        if join is None or join.bracket is None or join.bracket.waiting:
            return results
        taker, done = join.next, join.bracket.done
    if taker is None or not isinstance(taker.node, Operation):
        return results
    node = taker.node
    if isinstance(node.operator, Add) and done:
        made = results.get(done[:1])
        return {} if made is None else {done[:1]: made}
    return {z: made for z, made in results.items() if node.operator.accepts(done + z, node.args)}


def _repeats(join: Frame, labels: Labels) -> Labels:
    """All branches left repeat the first, and then some labels."""
    assert join.bracket is not None
    assert isinstance(join.node, Join)
    width = join.node.fork.width
    for number in range(width, width - len(join.bracket.waiting), -1):
        labels = (Repeat(join.next, number), labels)
    return labels


def _decided(parts: Parts, at: int) -> bool:
    return at < len(parts) and isinstance(parts[at], Decision)


def _after(before: Made, made: Made) -> Made:
    if before is BLANK:
        return made
    return Made(before.cost.plus(made.cost), before.labels + made.labels)


def idle_labels(node: Node, streams: Shapes) -> tuple[str, ...]:
    """What to choose for a node to do nothing."""
    if isinstance(node, Capture):
        return idle_labels(node.on(streams), streams)
    if isinstance(node, Sequence):
        return tuple(label for part in flat(node.parts) for label in idle_labels(part, streams))
    if isinstance(node, Multiple):
        return tuple(label for part in flat(node.body()) for label in idle_labels(part, streams))
    if isinstance(node, Fork):
        return tuple(
            label for i in range(node.width) for part in flat(node.branch(i))
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


def next_label(labels: Labels, repeated: Callable[[Repeat], tuple[str, ...]]) -> tuple[str, Labels]:
    """The first of some labels, "" where there is none, and those after it."""
    while labels is not None:
        piece, rest = labels
        if isinstance(piece, Idle):
            frame, until, streams = piece
            if frame is None or frame is until:
                labels = rest
                continue
            rest = (Idle(frame.next, until, streams), rest)
            if frame.bracket is not None:
                rest = _repeats(frame, rest)
            piece = idle_labels(frame.node, streams)
        elif isinstance(piece, Repeat):
            piece = repeated(piece)
        if piece:
            return piece[0], (piece[1:], rest)
        labels = rest
    return "", None
