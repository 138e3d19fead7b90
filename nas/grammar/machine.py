"""The abstract machine behind every derivation: typed streams, and what is still to be derived.

A state is (streams, copies, frame): the shapes at hand, how often what comes next is
instantiated, and a linked list of frames holding the rest of the derivation. `advance` runs a
state to its next site, where something must be chosen, or to the end. A frame's `key` is equal
for equal futures whatever their path, so what is known of a state is known for good.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nas.grammar.check import sequence_size, term_size
from nas.grammar.frames import (
    Bracket,
    Cost,
    Events,
    Frame,
    Head,
    Option,
    Site,
    State,
    Trace,
    Waiting,
)  # fmt: skip
from nas.grammar.grammar import Grammar
from nas.grammar.rules import (
    CAPTURED,
    Call,
    Choice,
    Copies,
    Elastic,
    Env,
    Repeat,
    Rule,
    Streams,
    Term,
    evaluate,
    number,
)  # fmt: skip
from nas.op import Args, Operator, Shape, ShapeError, Shapes, Value, infer


class Machine:
    """Runs one grammar. `copy_twins` lets a later branch repeat an earlier one of the same term
    and shape unseen: what a recursive grammar needs to know of its brackets."""

    def __init__(self, grammar: Grammar):
        self.grammar = grammar
        self.copy_twins = not grammar.finite
        self._refusal = ""
        self._start = Call(grammar.start)
        self._keys: dict[Any, int] = {}
        self._frames: dict[Any, Frame] = {}
        self._runs: dict[State, tuple[Events, Waiting | tuple[Shapes, Cost] | ShapeError]] = {}
        self._bound: dict[tuple[int, tuple[Value, ...]], tuple[Operator, Args]] = {}
        self._same: dict[int, bool] = {}
        self._picks: dict[int, tuple[tuple[Option, ...], tuple[int, ...]]] = {}

    def refused(self, error: ValueError) -> None:
        """Remember why a way was closed, to say it where none is left."""
        self._refusal = str(error)

    @property
    def refusal(self) -> str:
        """The last refusal by an operator, if any was met."""
        return self._refusal or "every way was tried"

    def start(self) -> Frame:
        return self._frame("bind", None, self._start)

    def _frame(
        self, kind: str, next: Frame | None, body: Any, path: str = "", rule: str = "",
        env: Env = (), *, at: int = 0, values: tuple[Value, ...] = (),
        bracket: Bracket | None = None,
    ) -> Frame:  # fmt: skip
        identity = (kind, next.key if next else -1, id(body), at, env, values, bracket)
        key = self._keys.setdefault(identity, len(self._keys))
        if self.copy_twins:
            return Frame(kind, next, key, body, at, env, values, bracket, path, rule)
        place = (key, id(next), path, rule)
        frame = self._frames.get(place)
        if frame is None:
            frame = Frame(kind, next, key, body, at, env, values, bracket, path, rule)
            self._frames[place] = frame
        return frame

    def advance(
        self, streams: Shapes, copies: int, frame: Frame | None, trace: Trace | None = None
    ) -> Waiting | tuple[Shapes, Cost]:
        """Run to the next site, or to the end: the final streams and the cost on the way.

        Raises ShapeError where an operator cannot take what arrives. Runs of a finite grammar
        are kept and only told again.
        """
        if self.copy_twins:
            return self._advance(streams, copies, frame, trace)
        state = (streams, copies, frame)
        if state not in self._runs:
            events = Events()
            try:
                self._runs[state] = events, self._advance(streams, copies, frame, events)
            except (ShapeError, ValueError) as error:
                self._runs[state] = events, ShapeError(str(error))
        events, result = self._runs[state]
        if trace:
            events.tell(trace)
        if isinstance(result, ShapeError):
            raise result
        return result

    def _advance(
        self, streams: Shapes, copies: int, frame: Frame | None, trace: Trace | None
    ) -> Waiting | tuple[Shapes, Cost]:
        cost = Cost()
        while frame is not None:
            kind = frame.kind
            if kind == "todo":
                frame = self._todo(frame)
            elif kind == "bind":
                step = self._bind(frame, streams)
                if isinstance(step, Frame):
                    frame = step
                elif isinstance(step, Head):
                    return Waiting(step, streams, copies, cost)
                else:
                    operator, args = step
                    inferred = infer(operator, streams, args)
                    spent = Cost(copies, inferred.params * copies, inferred.flops * copies)
                    cost = cost.plus(spent)
                    if trace:
                        trace.apply(operator, args, frame.path, spent, streams)
                    streams, frame = inferred.outputs, frame.next
            elif kind == "pick":
                if len(frame.body.alternatives) > 1:
                    return Waiting(self._pick(frame), streams, copies, cost)
                frame = self._chosen(frame, 0)
            elif kind == "repeat":
                return Waiting(self._repeat(frame), streams, copies, cost)
            elif kind == "fork":
                settled = self._settle(frame)
                if isinstance(settled, Head):
                    return Waiting(settled, streams, copies, cost)
                streams, copies, frame = self._fork(settled, streams, copies, trace)
            elif kind == "copies":
                streams, copies, frame = self._copies(frame, streams, copies, trace)
            elif kind == "copied":
                if trace:
                    trace.copy(frame.at, frame.path)
                assert frame.bracket is not None
                streams, copies, frame = streams * frame.at, frame.bracket.outer, frame.next
            else:
                streams, copies, frame = self._join(frame, streams, copies, trace)
        return streams, cost

    def _todo(self, frame: Frame) -> Frame | None:
        """The frame of the term at `at`, before that of the terms after it."""
        at, rest = frame.at + 1, frame.next
        if at < len(frame.body):
            rest = self._frame("todo", rest, frame.body, frame.path, frame.rule, frame.env, at=at)
        return self._enter(frame.body[at - 1], frame, rest)

    def _enter(self, term: Term, place: Frame, rest: Frame | None, index: str = "") -> Frame | None:
        path, rule, env = place.path, place.rule, place.env
        if index or isinstance(term, Call):
            path = f"{path}/{term.child}{index}" if path else f"{term.child}{index}"
        match term:
            case Call():
                return self._frame("bind", rest, term, path, rule, env)
            case Choice():
                return self._frame("pick", rest, term, path, rule, env)
            case Repeat():
                low, high = number(term.low, env), number(term.high, env)
                if low > high:
                    raise ShapeError(f"{term} repeats {low} to {high} times")
                if low == high:
                    return self._times(term, low, place, rest)
                return self._frame("repeat", rest, term, path, rule, env, values=(low, high))
            case Streams():
                return self._frame("fork", rest, term, path, rule, env)
            case Copies():
                return self._frame("copies", rest, term, path, rule, env)

    def _times(self, term: Repeat, n: int, place: Frame, rest: Frame | None) -> Frame | None:
        for i in reversed(range(n)):
            rest = self._enter(term.body, place, rest, f".{i}")
        return rest

    def _repeat(self, frame: Frame) -> Head:
        """The site of how often."""
        term, (low, high) = frame.body, (int(v) for v in frame.values)
        size = term_size(term.body, self.grammar.least)
        counts = range(low, high + 1)
        return Head(
            Site(f"{frame.path}/{term.child}:repeat".lstrip("/"), frame.rule),
            tuple(Option(f"x{n}") for n in counts), tuple(n * size for n in counts),
            lambda index: self._times(term, low + index, frame, frame.next),
        )  # fmt: skip

    def _bind(self, frame: Frame, streams: Shapes) -> Frame | tuple[Operator, Args] | Head:
        """The next unknown argument's site, or an operator bound, or the rule entered."""
        call: Call = frame.body
        values = frame.values
        while len(values) < len(call.args):
            value = call.args[len(values)][1]
            if isinstance(value, Elastic):
                return self._elastic(frame, values, value)
            values = (*values, evaluate(value, frame.env))
        rule = self.grammar.rules.get(call.name)
        if rule is None:
            return self._operator(call, values)
        return self._enter_rule(frame, rule, *_given(call, values), streams)

    def _operator(self, call: Call, values: tuple[Value, ...]) -> tuple[Operator, Args]:
        key = (id(call), values)
        if key not in self._bound:
            operator = self.grammar.operators[call.name]
            try:
                self._bound[key] = operator, operator.bind(*_given(call, values))
            except ValueError as error:
                raise ShapeError(str(error)) from None
        return self._bound[key]

    def _elastic(self, frame: Frame, values: tuple[Value, ...], elastic: Elastic) -> Head:
        """The site of an elastic argument; sizes that come out equal are one option."""
        call: Call = frame.body
        at = len(values)
        name, callee = call.args[at][0], self.grammar.rules.get(call.name)
        if not name:
            name = callee.params[at][0] if callee else (
                self.grammar.operators[call.name].args[at].name
            )  # fmt: skip
        sizes = tuple(dict.fromkeys(evaluate(v, frame.env) for v in elastic.values))
        least = self.grammar.least.get(call.name, 1)
        return Head(
            Site(f"{frame.path}:{name}", frame.rule),
            tuple(Option(f"{name}={v}") for v in sizes), (least,) * len(sizes),
            lambda index: self._frame(
                "bind", frame.next, call, frame.path, frame.rule, frame.env,
                values=(*values, sizes[index]),
            ),
        )  # fmt: skip

    def _enter_rule(
        self, frame: Frame, rule: Rule, positional: tuple[Value, ...], named: Args, streams: Shapes
    ) -> Frame:
        given = dict(zip((name for name, _ in rule.params), positional, strict=False)) | dict(named)
        env: Env = ()
        for name, default in rule.params:
            if name not in given:
                assert default is not None
                given[name] = evaluate(default, env)
            env = (*env, (name, given[name]))
        if rule.captures:
            if len(streams) != 1:
                raise ShapeError(f"{rule.name} asks the size of one stream, {len(streams)} arrive")
            env = (*env, *_captured(streams[0]))
        return self._frame("pick", frame.next, rule.body, frame.path, rule.name, env)

    def _pick(self, frame: Frame) -> Head:
        """The site of an alternative."""
        choice: Choice = frame.body
        known = self._picks.get(id(choice))
        if known is None:
            options = tuple(Option(a.label, a.weight) for a in choice.alternatives)
            least = self.grammar.least
            sizes = tuple(sequence_size(a.terms, least) for a in choice.alternatives)
            known = self._picks[id(choice)] = options, sizes
        site = Site(f"{frame.path}:{choice.child or frame.rule}".lstrip(":"), frame.rule)
        return Head(site, *known, lambda index: self._chosen(frame, index))

    def _chosen(self, frame: Frame, index: int) -> Frame:
        terms = frame.body.alternatives[index].terms
        return self._frame("todo", frame.next, terms, frame.path, frame.rule, frame.env)

    def _settle(self, fork: Frame) -> Frame | Head:
        """What follows a bracket is chosen before its branches, down to one operator bound:
        then the branches know what shapes they are wanted in."""
        head = fork.next
        while head is not None:
            if head.kind == "todo" and isinstance(head.body[head.at], Call | Choice):
                head = self._todo(head)
            elif head.kind == "bind":
                rule = self.grammar.rules.get(head.body.name)
                if rule is not None and rule.captures:
                    break
                step = self._bind(head, ())
                if isinstance(step, Head):
                    return self._refork(fork, step)
                if not isinstance(step, Frame):
                    operator, args = step
                    consumer = (operator, tuple(args.items()))
                    return replace(fork, next=head, bracket=Bracket((), (), consumer, 1, False))
                head = step
            elif head.kind == "pick":
                if len(head.body.alternatives) > 1:
                    return self._refork(fork, self._pick(head))
                head = self._chosen(head, 0)
            else:
                break
        return replace(fork, next=head)

    def _refork(self, fork: Frame, head: Head) -> Head:
        enter = head.enter
        return replace(
            head,
            enter=lambda index: self._frame(
                "fork", enter(index), fork.body, fork.path, fork.rule, fork.env
            ),
        )

    def _fork(
        self, fork: Frame, streams: Shapes, copies: int, trace: Trace | None
    ) -> tuple[Shapes, int, Frame | None]:
        term: Streams = fork.body
        if len(streams) != len(term.branches):
            raise ShapeError(f"{term} has {len(term.branches)} branches, {len(streams)} arrive")
        twins = self.copy_twins and len(set(streams)) == 1 and self._alike(term)
        if trace:
            trace.open(len(streams) if twins else 0)
        consumer = fork.bracket.consumer if fork.bracket else None
        bracket = Bracket(streams[1:], (), consumer, copies, twins)
        inner = copies * len(streams) if twins else copies
        return streams[:1], inner, self._branch(fork, bracket, 0)

    def _alike(self, term: Streams) -> bool:
        """Whether all branches are written alike."""
        if id(term) not in self._same:
            self._same[id(term)] = len({" ".join(map(str, b)) for b in term.branches}) == 1
        return self._same[id(term)]

    def _branch(self, place: Frame, bracket: Bracket, index: int) -> Frame:
        """The branch at `index`, and then the joining of its results to the others."""
        term: Streams = place.body
        join = self._frame(
            "join", place.next, term, place.path, place.rule, place.env, bracket=bracket
        )
        return self._frame("todo", join, term.branches[index], place.path, place.rule, place.env)

    def _join(
        self, join: Frame, streams: Shapes, copies: int, trace: Trace | None
    ) -> tuple[Shapes, int, Frame | None]:
        bracket = join.bracket
        assert bracket is not None
        waiting, done = bracket.waiting, bracket.done + streams
        finished = len(join.body.branches) - len(waiting)
        copied: State | None = None
        if bracket.twins and waiting:
            results = done + done[: len(done) // finished] * len(waiting)
            if bracket.wants(results):
                copied = results, bracket.outer, join.next
        if copied and not trace:
            return copied
        if not bracket.wants(done):
            shapes = " ".join(map(str, done)) if trace else "the branches"
            raise ShapeError(f"{shapes} do not fit what joins them")
        if trace:
            trace.branch(finished, copied)
        if not waiting:
            if trace:
                trace.close()
            return done, bracket.outer, join.next
        rest = bracket._replace(waiting=waiting[1:], done=done)
        return waiting[:1], bracket.outer, self._branch(join, rest, finished)

    def _copies(
        self, frame: Frame, streams: Shapes, copies: int, trace: Trace | None
    ) -> tuple[Shapes, int, Frame | None]:
        term: Copies = frame.body
        n = number(term.n, frame.env)
        if n != len(streams) or len(set(streams)) != 1:
            shapes = " ".join(map(str, streams))
            raise ShapeError(f"{term} wants {n} streams of one shape, {shapes} arrive")
        path = f"{frame.path}/{term.child}".lstrip("/")
        if trace:
            trace.open(0)
        bracket = Bracket((), (), None, copies, False)
        copied = self._frame("copied", frame.next, None, path, at=n, bracket=bracket)
        body = self._frame("todo", copied, term.body, path, frame.rule, frame.env)
        return streams[:1], copies * n, body


def _given(call: Call, values: tuple[Value, ...]) -> tuple[tuple[Value, ...], Args]:
    """A call's values, positional and named."""
    named = {name: value for (name, _), value in zip(call.args, values, strict=True) if name}
    return values[: len(values) - len(named)], named


def _captured(x: Shape) -> Env:
    space = x.space
    sizes = (x.channels, space[0] if space else 1, space[-1] if len(space) > 1 else 1)
    return tuple(zip(CAPTURED, sizes, strict=True))
