"""How a derivation of a recursive grammar may still be completed: a witness for each option.

What is left of a derivation is a list of frames. Most can do nothing (derive to `identity`), so
the usual witness lets them, and only brackets whose branches must fit each other ask for more:
another branch that repeats the first, or one short derivation somewhere that makes the shape
wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, islice
from typing import Any, cast

from nas.grammar.frames import Cost, Frame, Price, Waiting
from nas.grammar.labels import DONE, Idle, Labels, Witness, idle, repeats, witness
from nas.grammar.nodes import Copied, Decision, Fork, Join, Multiple, Node, Operation, Parts
from nas.grammar.outcomes import Outcomes
from nas.grammar.results import BLANK, Result, Results, Spare, joined
from nas.grammar.wants import aims, fitting, wanted
from nas.grammar.ways import Sites, Ways
from nas.op import Shapes

# How hard a completion is searched for: what can do nothing does so; or one operator turns the
# shape, before the end of its bracket or in a branch beside; or all ways of a few operators.
IDLE, HERE, NEAR = range(3)
Found = dict[int, Labels]  # options, each with the labels after it
TURNS = 4  # results of a turn that are tried where it is not known what is wanted


class Witnesses:
    """Completions of one grammar's derivations, the cheapest known by `scale`. `priced`: what
    they cost in parameters and FLOPs matters."""

    def __init__(
        self, scale: Callable[[Price], float], *, priced: bool, spend: Callable[[int], None]
    ):
        self.scale = scale
        self.outcomes = Outcomes(scale, priced=priced, spend=spend)
        self.sites = Sites(self.outcomes)

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return self.outcomes.kept + self.sites.kept

    def ways_at(self, waiting: Waiting) -> Ways:
        fork = waiting.fork.node if waiting.fork else None
        if isinstance(fork, Fork):
            return self.sites.uneven(waiting.decision, fork, waiting.streams)
        return self.sites.ways(waiting.decision, cast(Multiple | None, fork), waiting.streams)

    def _parts(self, waiting: Waiting, index: int) -> Parts:
        parts = waiting.decision.parts(index)
        return (waiting.fork.node, *parts) if waiting.fork else parts

    def completions(
        self, waiting: Waiting, ways: Ways, effort: int
    ) -> Iterator[tuple[Price, Found]]:
        """The options of a site for which a completion is found: what each costs, and labels."""
        copies, after = waiting.frame.copies, waiting.frame.next
        every: Any = ways.terms.results
        last, rest = None, None
        for alike in ways.alike:
            result = ways.reached[alike[0]]
            assert result is not None
            if result is not last:  # most options that do nothing differ in cost alone
                last, rest = result, self._finish_soon(after, result, effort)
            if rest is not None:
                once, labels = every[alike[0]].cost, rest.labels
                cost = once * copies + rest.cost
                yield cost, {i: (every[i].labels, labels) for i in alike}
            elif effort:
                for i in alike:
                    completed = self._within(waiting, i, ways.results(i), effort)
                    if completed is not None:
                        yield completed.cost, {i: completed.labels}
        for i in ways.many:
            completed = self.completion(waiting, ways, i, effort)
            if completed is not None:
                yield completed.cost, {i: completed.labels}

    def completion(self, waiting: Waiting, ways: Ways, index: int, effort: int) -> Witness | None:
        """A completion by one option of a site."""
        results = ways.results(index)
        copies, after = waiting.frame.copies, waiting.frame.next
        completed = self._through(results, copies, after, IDLE)
        if completed is None and effort:
            completed = self._through(results, copies, after, effort)
        return (
            self._within(waiting, index, results, effort)
            if completed is None and effort
            else completed
        )

    def _finish_soon(self, frame: Frame | None, streams: Shapes, effort: int) -> Witness | None:
        """A completion without detours if there is one."""
        completion = self.finish(frame, streams, 0)
        return self.finish(frame, streams, effort) if completion is None and effort else completion

    def _within(
        self, waiting: Waiting, index: int, results: Results, effort: int
    ) -> Witness | None:
        """A completion in which a part of the option turns the shape."""
        copies, after = waiting.frame.copies, waiting.frame.next
        if effort == NEAR or waiting.fork:
            more = self._more(self._parts(waiting, index), waiting.streams, effort)
            return self._through(more, copies, after, 0)
        if len(results) != 1 or after is None:
            return None
        ((streams, idle),) = results.items()
        spare = self.outcomes.spare(waiting.decision, index, waiting.streams)
        for node, own, later in spare:
            turned = self._turned(after, node, streams)
            if turned is not None:
                result, turned_way, rest = turned
                kept = len(idle.labels) - own - len(later)
                labels = idle.labels[:kept] + turned_way.labels + later
                cost = idle.cost + turned_way.cost + -(node.neutral or 0)
                return self._rested(Result(cost, labels), copies, after, result, rest)
        if streams != waiting.streams:
            for one, two in combinations(spare[::-1], 2):
                completion = self._turned_twice(idle, one, two, streams, after)
                if completion is not None:
                    return self._rested(completion[1], copies, after, completion[0], completion[2])
        return None

    def _turned_twice(
        self, idle: Result, earlier: Spare, later_spare: Spare, streams: Shapes, after: Frame
    ) -> tuple[Shapes, Result, Witness] | None:
        """How an option that has turned the shape, as windows of an image do, is brought back to
        one that is wanted by two operators more."""
        assert after.jump is not None
        for wish in aims(after) or ():
            for x, first in self.outcomes.turn(earlier.node, streams).items():
                then = self.outcomes.turn_into(later_spare.node, x[0], wish[0])
                rest = self.finish(after.jump, wish, IDLE) if then is not None else None
                if then is not None and rest is not None:
                    at, to = (
                        len(idle.labels) - s.own - len(s.later) for s in (earlier, later_spare)
                    )
                    between = idle.labels[at + earlier.own : to]
                    labels = (
                        *idle.labels[:at],
                        *first.labels,
                        *between,
                        *then.labels,
                        *later_spare.later,
                    )
                    cost = idle.cost + first.cost + then.cost
                    beside = (earlier.node.neutral or 0) + (later_spare.node.neutral or 0)
                    return wish, Result(cost + -beside, labels), rest
        return None

    def _rested(
        self, outcome: Result, copies: int, after: Frame, result: Shapes, rest: Witness
    ) -> Witness:
        """What is made, then nothing until the frame from which there is a completion."""
        free = after.free if after is not after.jump else 0
        cost = outcome.cost * copies + rest.cost + free
        return Witness(cost, (outcome.labels, (Idle(after, after.jump, result), rest.labels)))

    def _turned(
        self, after: Frame, node: Node, streams: Shapes
    ) -> tuple[Shapes, Result, Witness] | None:
        """How a node can turn the streams so that they fit after what does nothing from `after`
        on: the result, what it takes, and a completion from there."""
        end = after.jump
        if end is None:
            return None
        key = (node, streams)
        if key not in end.known:
            end.known[key] = None
            for result, outcome in self._fitting_turns(node, streams, after).items():
                rest = self.finish(end, result, IDLE)
                if rest is not None:
                    end.known[key] = result, outcome, rest
                    break
        turned: tuple[Shapes, Result, Witness] | None = end.known[key]
        return turned

    def _fitting_turns(self, node: Node, streams: Shapes, after: Frame) -> Results:
        """What a node turns the streams into of what fits, a few where much does."""
        fits = aims(after)
        if fits is None:
            turns = fitting(self.outcomes.turn(node, streams), after)
            return dict(islice(turns.items(), TURNS))
        turned = ((w, self.outcomes.turn_into(node, streams[0], w[0])) for w in fits)
        return {result: outcome for result, outcome in turned if outcome is not None}

    def _more(self, parts: Parts, streams: Shapes, effort: int) -> Results:
        if effort == NEAR:
            return self.outcomes.kept_way("near", parts, streams)
        return self.outcomes.turns(parts, streams)

    def finish(self, frame: Frame | None, streams: Shapes, effort: int) -> Witness | None:
        """A completion of the frames from some streams, or None where none is found."""
        if frame is None:
            return DONE
        here: Frame | None = frame
        single = len(streams) == 1
        if single:
            if frame.axes is not None and len(streams[0][1]) >= frame.axes:
                ending: Price = frame.ending
                if self.outcomes.priced:
                    ending = Cost(frame.ending, 0, 0, frame.writes * streams[0].elements)
                return witness((ending, (idle((frame, None, streams)), None)))
            here = frame.jump
        assert here is not None
        key: Any = (streams, effort) if effort else streams
        known = here.known
        if key not in known:
            fits = wanted(here) if single and effort != NEAR else None
            unfit = fits is not None and streams not in fits
            self.outcomes.spend(1)
            known[key] = None if unfit else self._finish(here, streams, effort)
        completion: Witness | None = known[key]
        if here is frame:
            return completion
        if completion is None:
            return self._detour(frame, here, streams, effort) if effort else None
        cost = completion.cost + frame.free
        return witness((cost, (idle((frame, here, streams)), completion.labels)))

    def _finish(self, frame: Frame, streams: Shapes, effort: int) -> Witness | None:
        node, after = frame.node, frame.next
        if isinstance(node, Join):
            return self._join(frame, streams, effort)
        if isinstance(node, Copied):
            return self.finish(after, streams * node.n, NEAR if effort == NEAR else IDLE)
        if isinstance(node, Operation):
            outputs = node.outputs(streams)
            rest = None if outputs is None else self.finish(after, outputs, effort)
            if rest is None:
                return None
            cost = self.outcomes.price(node, streams) * frame.copies + rest.cost
            return witness((cost, rest.labels))
        parts: Parts = (node,)
        if isinstance(node, Fork | Multiple) and after and isinstance(after.node, Decision):
            taker = after.node
            parts, after = (node, taker), after.next
            if effort != NEAR:
                return self._taken(node, taker, streams, frame.copies, after, effort)
        results = self.outcomes.kept_way("idle", parts, streams)
        completion = self._through(results, frame.copies, after, effort)
        turning = effort == NEAR or not results or isinstance(node, Decision)
        if completion is None and effort and turning:
            completion = self._through(
                self._more(parts, streams, effort), frame.copies, after, IDLE
            )
        return completion

    def _taken(
        self,
        fork: Fork | Multiple,
        taker: Decision,
        streams: Shapes,
        copies: int,
        after: Frame | None,
        effort: int,
    ) -> Witness | None:
        """A completion by the first option for what takes a fork's branches that has one."""
        ways = self.sites.ways(taker, fork, streams)
        able: Iterator[tuple[int, Results]] = ((i, ways.results(i)) for i in ways.terms.labels)
        if effort:  # in but one way, that which leaves the shape as it is if there is one
            every = list(able)
            able = iter([pair for pair in every if streams[:1] in pair[1]][:1] or every[:1])
        for index, results in able:
            completion = self._through(results, copies, after, effort)
            if completion is not None:
                cost, (labels, rest) = completion
                return Witness(cost, ((taker.options[index].label, *labels), rest))
        return None

    def _through(
        self, results: Results, copies: int, after: Frame | None, effort: int
    ) -> Witness | None:
        """A completion by the first of some results that has one."""
        if effort == 0 and len(results) > 1:
            results = fitting(results, after)
        for result, outcome in islice(results.items(), 1 if effort == HERE else None):
            rest = self.finish(after, result, effort)
            if rest is not None:
                return _after(outcome, copies, rest)
        return None

    def _detour(self, frame: Frame, end: Frame, streams: Shapes, effort: int) -> Witness | None:
        """A completion in which one of the frames that could do nothing changes the shape."""
        for at in frame.turners():
            assert at.next is not None
            idle = (at.node.neutral or 0) * at.copies
            if effort < NEAR:
                turned = self._turned(at.next, at.node, streams)
                if turned is not None:
                    result, outcome, rest = turned
                    cost = outcome.cost * at.copies + rest.cost
                    cost = cost + (frame.free - idle)
                    labels: Labels = (Idle(at.next, end, result), rest.labels)
                    return Witness(cost, (Idle(frame, at, streams), (outcome.labels, labels)))
            else:
                results = self._more((at.node,), streams, effort)
                completion = self._through(results, at.copies, at.next, 0)
                if completion is not None:
                    cost = completion.cost + (frame.free - at.free)
                    return Witness(cost, (Idle(frame, at, streams), completion.labels))
        return None

    def _join(self, join: Frame, streams: Shapes, effort: int) -> Witness | None:
        bracket, node = join.bracket, join.node
        assert bracket is not None
        assert isinstance(node, Join)
        done, waiting = bracket.done + streams, bracket.waiting
        outer = NEAR if effort == NEAR else IDLE
        if not waiting:
            return self.finish(join.next, done, outer)
        number = node.fork.width - len(waiting)
        if bracket.twins:
            first = done[: len(done) // number]
            rest = self.finish(join.next, done + first * len(waiting), outer)
            if rest is not None:
                return witness((rest.cost, repeats(join, rest.labels)))
        results: Results = {done: BLANK}
        for index, x in enumerate(waiting, number):
            parts = node.fork.parts(index)
            branch = self.outcomes.way("idle", parts, (x,))
            if effort == NEAR or (effort and _uneven(join)):
                branch = {**branch, **self._more(parts, (x,), effort)}
            if len(results) == 1 == len(branch):
                ((some, a),), ((result, b),) = results.items(), branch.items()
                results = {some + result: joined(a, b)}
                continue
            results = self.outcomes.best(
                (some + result, joined(a, b))
                for some, a in results.items()
                for result, b in branch.items()
            )
        return self._through(results, join.copies, join.next, 0)


def _uneven(join: Frame) -> bool:
    """Whether what takes a bracket's branches may want them to differ."""
    taker = join.next.node if join.next else None
    return not (isinstance(taker, Operation) and taker.operator.even)


def _after(outcome: Result, copies: int, rest: Witness | None) -> Witness | None:
    if rest is None:
        return None
    cost = outcome.cost * copies + rest.cost
    return witness((cost, (outcome.labels, rest.labels)))
