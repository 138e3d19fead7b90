"""The abstract machine behind every derivation: typed streams, and what is still to be derived.

A state is (streams, frame): the shapes at hand, and a linked list of frames holding the rest of
the derivation. `advance` runs a state to its next site, where something must be chosen, or to
the end. A frame's `key` is equal for equal futures whatever their place, so what is known of a
state is known for good.
"""

from __future__ import annotations

from typing import Any

from nas.grammar.bounds import WORK
from nas.grammar.compiler import ENDLESS, Compiler
from nas.grammar.error import TooLarge
from nas.grammar.frames import (
    NOTHING,
    Bracket,
    Cost,
    Frame,
    Observer,
    Place,
    Recording,
    State,
    Waiting,
)
from nas.grammar.grammar import Grammar
from nas.grammar.nodes import (
    Capture,
    Copied,
    Decision,
    Fault,
    Fork,
    Join,
    Multiple,
    Node,
    Operation,
    Sequence,
    Way,
)
from nas.grammar.parser import fault
from nas.grammar.rules import Call
from nas.op import ShapeError, Shapes

ROOT = Place(None, "")


class Machine:
    """Runs one grammar, rules nested as deep as `depth` at most. Of a finite one every frame and
    run is kept, and only told again."""

    def __init__(self, grammar: Grammar, depth: int | None = None):
        self.grammar, self.depth = grammar, ENDLESS if depth is None else depth
        self.finite = grammar.finite
        self.compiler = Compiler(grammar)
        self.spent, self.at = 0, grammar.start
        self._start = Call(grammar.start)  # kept: nodes are known by their terms' identity
        self._refusal = ""
        self._places: dict[tuple[int, str], Place] = {}
        self._keys: dict[Any, int] = {}
        self._frames: dict[Any, Frame] = {}
        self._joins: dict[Fork, Join] = {}
        self._copied: dict[int, Copied] = {}
        self._runs: dict[State, tuple[Recording, Waiting | tuple[Shapes, Cost] | ShapeError]] = {}

    def spend(self, steps: int) -> None:
        """Count work; raises TooLarge where one question takes more than any space's should."""
        self.spent += steps
        if self.spent > WORK:
            rule = self.grammar.rules[self.at]
            reason = (
                f"working out what can be derived took more than {WORK:,} steps, the last in "
                f"{rule.name!r}: repeat less, or let sizes come to fewer different shapes"
            )
            source = rule.source or self.grammar.name
            raise TooLarge(str(fault(rule.text, source, rule.where, reason)))

    def refused(self, error: ValueError) -> None:
        """Remember why a way was closed, to say it where none is left."""
        self._refusal = str(error)

    @property
    def refusal(self) -> str:
        """The last refusal by an operator, if any was met."""
        return self._refusal or "every way was tried"

    @property
    def root(self) -> Node:
        return self.compiler.node(self._start, (), "", self.depth)

    def start(self) -> Frame | None:
        return self.push((("", self.root),), None, ROOT, 1)

    def push(self, way: Way, next: Frame | None, place: Place, copies: int) -> Frame | None:
        """The frames of a way, before those of `next`."""
        self.spend(len(way))
        if not self.finite:
            for child, node in reversed(way):
                here = Place(place, child) if child else place
                if isinstance(node, Sequence):
                    next = self.push(node.way(), next, here, copies)
                else:
                    next = Frame(node, next, here, copies)
            return next
        for child, node in reversed(way):
            here = self._place(place, child) if child else place
            if isinstance(node, Sequence):
                next = self.push(node.way(), next, here, copies)
            else:
                next = self._frame(node, next, here, copies)
        return next

    def enter(self, waiting: Waiting, index: int) -> Frame | None:
        """The frames after an option is chosen."""
        frame, fork = waiting.frame, waiting.fork
        pushed = self.push(waiting.decision.way(index), frame.next, frame.place, frame.copies)
        if fork:
            return self._frame(fork.node, pushed, fork.place, fork.copies)
        return pushed

    def _place(self, up: Place, child: str) -> Place:
        if not self.finite:
            return Place(up, child)
        key = (id(up), child)
        if key not in self._places:
            self._places[key] = Place(up, child)
        return self._places[key]

    def _frame(
        self,
        node: Node,
        next: Frame | None,
        place: Place,
        copies: int,
        bracket: Bracket | None = None,
    ) -> Frame:
        if not self.finite:
            return Frame(node, next, place, copies, 0, bracket)
        identity = (node, next.key if next else -1, copies, bracket)
        key = self._keys.setdefault(identity, len(self._keys))
        where = (key, id(next), id(place))
        frame = self._frames.get(where)
        if frame is None:
            frame = self._frames[where] = Frame(node, next, place, copies, key, bracket)
        return frame

    def advance(
        self, streams: Shapes, frame: Frame | None, trace: Observer | None = None
    ) -> Waiting | tuple[Shapes, Cost]:
        """Run to the next site, or to the end: the final streams and, of a finite grammar, the
        cost on the way.

        Raises ShapeError where an operator cannot take what arrives.
        """
        if not self.finite:
            return self._advance(streams, frame, trace)
        state = (streams, frame)
        if state not in self._runs:
            events = Recording()
            try:
                self._runs[state] = events, self._advance(streams, frame, events)
            except ShapeError as error:
                self._runs[state] = events, error
        events, result = self._runs[state]
        if trace:
            events.tell(trace)
        if isinstance(result, ShapeError):
            raise result
        return result

    def _advance(
        self, streams: Shapes, frame: Frame | None, trace: Observer | None
    ) -> Waiting | tuple[Shapes, Cost]:
        cost = NOTHING
        while frame is not None:
            node = frame.node
            self.spend(1)
            if isinstance(node, Decision):
                self.at = node.rule or self.at
                return Waiting(node, frame, streams, cost, self)
            if isinstance(node, Operation):
                outputs = node.on(streams)
                if self.finite:
                    cost = cost + Cost(1, *node.price(streams)) * frame.copies
                if trace:
                    trace.apply(node, frame.place, frame.copies, streams)
                streams, frame = outputs, frame.next
            elif isinstance(node, Fork | Multiple):
                # what follows is chosen before the branches: then they know what will take them
                after = frame.next
                if after is not None and isinstance(after.node, Decision):
                    return Waiting(after.node, after, streams, cost, self, frame)
                enter = self._fork if isinstance(node, Fork) else self._multiple
                streams, frame = enter(frame, streams, trace)
            elif isinstance(node, Join):
                streams, frame = self._join(frame, streams, trace)
            elif isinstance(node, Capture):
                way: Way = (("", node.on(streams)),)
                frame = self.push(way, frame.next, frame.place, frame.copies)
            elif isinstance(node, Copied):
                if trace:
                    trace.copy(node.n, frame.place)
                streams, frame = streams * node.n, frame.next
            else:
                assert isinstance(node, Fault)
                raise ShapeError(node.reason)
        return streams, cost

    def _fork(
        self, frame: Frame, streams: Shapes, trace: Observer | None
    ) -> tuple[Shapes, Frame | None]:
        fork = frame.node
        assert isinstance(fork, Fork)
        if len(streams) != fork.width:
            raise ShapeError(f"{fork.text} has {fork.width} branches, {len(streams)} arrive")
        twins = not self.finite and fork.alike and streams.count(streams[0]) == len(streams)
        if trace:
            trace.open(len(streams) if twins else 0)
        inner = frame.copies * fork.width if twins else frame.copies
        return streams[:1], self._branch(frame, Bracket(streams[1:], (), twins), 0, inner)

    def _branch(self, place: Frame, bracket: Bracket, index: int, copies: int) -> Frame | None:
        """The branch at `index`, and then the joining of its results to the others.

        The first of twins is charged for all of them.
        """
        fork = place.node.fork if isinstance(place.node, Join) else place.node
        assert isinstance(fork, Fork)
        if fork not in self._joins:
            self._joins[fork] = Join(fork)
        outer = place.copies
        join = self._frame(self._joins[fork], place.next, place.place, outer, bracket)
        return self.push(fork.way(index), join, place.place, copies)

    def _join(
        self, join: Frame, streams: Shapes, trace: Observer | None
    ) -> tuple[Shapes, Frame | None]:
        bracket = join.bracket
        assert bracket is not None
        assert isinstance(join.node, Join)
        done, waiting = bracket.done + streams, bracket.waiting
        finished = join.node.fork.width - len(waiting)
        if trace:
            trace.branch(finished, join, done)
        if not waiting:
            if trace:
                trace.close()
            return done, join.next
        rest = Bracket(waiting[1:], done, bracket.twins)
        return waiting[:1], self._branch(join, rest, finished, join.copies)

    def _multiple(
        self, frame: Frame, streams: Shapes, trace: Observer | None
    ) -> tuple[Shapes, Frame | None]:
        node = frame.node
        assert isinstance(node, Multiple)
        if node.width != len(streams) or streams.count(streams[0]) != len(streams):
            shapes = " ".join(map(str, streams))
            raise ShapeError(
                f"{node.text} wants {node.width} streams of one shape, {shapes} arrive"
            )
        place = self._place(frame.place, node.child)
        if trace:
            trace.open(0)
        if node.width not in self._copied:
            self._copied[node.width] = Copied(node.width)
        end = self._frame(self._copied[node.width], frame.next, place, frame.copies)
        return streams[:1], self.push(node.way(), end, place, frame.copies * node.width)
