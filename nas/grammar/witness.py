"""How a derivation of a recursive grammar may still be completed: a witness for each option.

What is left of a derivation is a list of frames. Most can do nothing (derive to `identity`), so
the usual witness lets them, and only brackets whose branches must fit each other ask for more:
another branch that repeats the first, or one short derivation somewhere that makes the shape
wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple, cast

from nas.grammar.frames import NOTHING, Cost, Frame, Waiting
from nas.grammar.nodes import Copied, Decision, Fork, Join, Multiple, Node, Operation, Parts
from nas.grammar.outcomes import BLANK, Outcomes, Reach, Results, idle_labels, joined
from nas.op import Shapes
from nas.op.stream import Add


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
        self.scale = scale
        self.outcomes = Outcomes(scale, priced=priced)
        self._sites: dict[Any, Ways] = {}

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return self.outcomes.kept + len(self._sites)

    def ways(self, waiting: Waiting) -> Ways:
        """What the options of a site can make."""
        node, fork = waiting.decision, waiting.fork
        key = (node, fork.node if fork else None, waiting.streams)
        found = self._sites.get(key)
        if found is None:
            each = (self._parts(waiting, i) for i in range(len(node.options)))
            way, streams = self.outcomes.way, waiting.streams
            results = tuple(
                way("idle", parts, streams) or (way("turn", parts, streams) if fork else {})
                for parts in each
            )
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
            more = self.outcomes.kept_way(reach, self._parts(waiting, index), waiting.streams)
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
            cost = self.outcomes.price(node, streams).times(frame.copies).plus(rest.cost)
            return Witness(cost, rest.labels)
        parts: Parts = (node,)
        if isinstance(node, Fork | Multiple) and after and isinstance(after.node, Decision):
            parts, after = (node, after.node), after.next
        results = self.outcomes.kept_way("idle", parts, streams)
        found = self._through(results, frame.copies, after, effort)
        if found is None and effort:
            results = self.outcomes.kept_way("near" if effort > 1 else "short", parts, streams)
            found = self._through(results, frame.copies, after, 0)
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
                results = self.outcomes.make(reach, at.node, streams)
                found = self._through(results, at.copies, at.next, 0)
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
                return Witness(rest.cost, repeats(join, rest.labels))
        reach: Reach = ("idle", "turn", "near")[effort]
        results: Results = {done: BLANK}
        for index, x in enumerate(waiting, number):
            branch = self.outcomes.way(reach, node.fork.parts(index), (x,))
            results = self.outcomes.best(
                (some + result, joined(a, b))
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


def repeats(join: Frame, labels: Labels, but: int = 0) -> Labels:
    """All branches left repeat the first, `but` so many, and then come some labels."""
    assert join.bracket is not None
    assert isinstance(join.node, Join)
    width = join.node.fork.width
    for number in range(width, width - len(join.bracket.waiting) + but, -1):
        labels = (Repeat(join.next, number), labels)
    return labels


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
                rest = repeats(frame, rest)
            piece = idle_labels(frame.node, streams)
        elif isinstance(piece, Repeat):
            piece = repeated(piece)
        if piece:
            return piece[0], (piece[1:], rest)
        labels = rest
    return "", None
