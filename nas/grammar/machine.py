"""The abstract machine behind every derivation: typed streams, and what is still to be derived.

A state is (streams, copies, frame): the shapes at hand, how often what comes next is
instantiated, and a linked list of frames holding the rest of the derivation. `advance` runs a
state to its next site, where something must be chosen, or to the end. A frame's `key` is equal
for equal futures whatever their path, so what is known of a state is known for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

from nas.grammar.grammar import Grammar
from nas.grammar.rules import (
    CAPTURED, Call, Choice, Copies, Elastic, Env, Repeat, Streams, Term, evaluate, number,
)  # fmt: skip
from nas.op import Args, Operator, Shape, ShapeError, Shapes, Value, infer

T = TypeVar("T")


class Option(NamedTuple):
    """One thing that may be chosen. `weight` is None where it shares what given weights leave."""

    label: str
    weight: float | None = None


class Site(NamedTuple):
    """A place where something is chosen. `name` is unique in a derivation; `rule` made it."""

    name: str
    rule: str


class Cost(NamedTuple):
    """What instantiating costs: operators (copies counted), parameters and FLOPs."""

    terminals: int = 0
    params: int = 0
    flops: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, n: int) -> Cost:
        return Cost(self.terminals * n, self.params * n, self.flops * n)

    def over(self, n: int) -> Cost:
        return Cost(self.terminals // n, self.params // n, self.flops // n)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """Something still to be derived, then `next`. The kind says how the other fields are read."""

    kind: str
    next: Frame | None
    key: int
    path: str = ""
    env: Env = ()
    terms: tuple[Term, ...] = ()  # todo: the terms from `at` on
    at: int = 0
    term: Term | None = None  # repeat, fork, join, copies
    call: Call | None = None  # bind: the call whose arguments are being found
    values: tuple[Value, ...] = ()
    choice: Choice | None = None  # pick
    rule: str = ""
    waiting: Shapes = ()  # join: streams whose branches are not yet derived
    done: Shapes = ()
    consumer: tuple[Operator, tuple[tuple[str, Value], ...]] | None = None
    outer: int = 1  # copies outside the bracket
    twins: bool = False


class Waiting(NamedTuple):
    """A machine stopped at a site: each option leads to the frame beside it."""

    site: Site
    options: tuple[Option, ...]
    frames: tuple[Frame | None, ...]
    streams: Shapes
    copies: int
    cost: Cost


class Trace(Protocol):
    """Told what a machine does on its way, in order."""

    def apply(self, operator: Operator, args: Args, path: str, cost: Cost) -> None: ...
    def open(self, twins: int) -> None: ...
    def branch(self, finished: int) -> None: ...
    def close(self) -> None: ...
    def copy(self, n: int, path: str) -> None: ...


class _Events:
    """A trace kept to be told again."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def apply(self, operator: Operator, args: Args, path: str, cost: Cost) -> None:
        self.told.append(("apply", (operator, args, path, cost)))

    def open(self, twins: int) -> None:
        self.told.append(("open", (twins,)))

    def branch(self, finished: int) -> None:
        self.told.append(("branch", (finished,)))

    def close(self) -> None:
        self.told.append(("close", ()))

    def copy(self, n: int, path: str) -> None:
        self.told.append(("copy", (n, path)))


class Machine:
    """Runs one grammar. `copy_twins` lets a later branch repeat an earlier one of the same term
    and shape unseen: what a recursive grammar needs to know of its brackets."""

    def __init__(self, grammar: Grammar):
        self.grammar = grammar
        self.copy_twins = not grammar.finite
        self._start = Call(grammar.start)
        self._keys: dict[Any, int] = {}
        self._frames: dict[Any, Frame] = {}
        self._runs: dict[Any, tuple[_Events, Waiting | tuple[Shapes, Cost] | ShapeError]] = {}

    def start(self) -> Frame:
        return self._frame("bind", None, call=self._start, path="")

    def _frame(self, kind: str, next: Frame | None, **fields: Any) -> Frame:
        identity = tuple(
            id(value) if name in ("terms", "term", "call", "choice") else value
            for name, value in fields.items()
            if name not in ("path", "rule")
        )
        key = (kind, next.key if next else -1, identity)
        number = self._keys.setdefault(key, len(self._keys))
        if self.copy_twins:
            return Frame(kind, next, number, **fields)
        place = (number, id(next), fields.get("path"), fields.get("rule"))
        frame = self._frames.get(place)
        if frame is None:
            frame = self._frames[place] = Frame(kind, next, number, **fields)
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
            events = _Events()
            try:
                self._runs[state] = events, self._advance(streams, copies, frame, events)
            except (ShapeError, ValueError) as error:
                self._runs[state] = events, ShapeError(str(error))
        events, result = self._runs[state]
        if trace:
            for tell, told in events.told:
                getattr(trace, tell)(*told)
        if isinstance(result, ShapeError):
            raise result
        return result

    def _advance(
        self, streams: Shapes, copies: int, frame: Frame | None, trace: Trace | None
    ) -> Waiting | tuple[Shapes, Cost]:
        cost = Cost()
        while frame is not None:
            if frame.kind == "todo":
                frame = self._todo(frame, streams)
            elif frame.kind == "bind":
                step = self._bind(frame, streams)
                if isinstance(step, tuple):
                    operator, args = step
                    inferred = infer(operator, streams, args)
                    spent = Cost(1, inferred.params, inferred.flops).times(copies)
                    cost = cost.plus(spent)
                    if trace:
                        trace.apply(operator, args, frame.path, spent)
                    streams, frame = inferred.outputs, frame.next
                elif isinstance(step, Frame):
                    frame = step
                else:
                    return Waiting(*step.head, streams, copies, cost)
            elif frame.kind == "pick":
                assert frame.choice is not None
                if len(frame.choice.alternatives) > 1:
                    return Waiting(*self._pick_site(frame), streams, copies, cost)
                frame = self._chosen(frame, 0)
            elif frame.kind == "repeat":
                site = self._repeat_site(frame)
                return Waiting(*site, streams, copies, cost)
            elif frame.kind == "fork":
                settled = self._settle(frame)
                if isinstance(settled, _Stop):
                    return Waiting(*settled.head, streams, copies, cost)
                streams, copies, frame = self._fork(settled, streams, copies, trace)
            elif frame.kind == "copies":
                streams, copies, frame = self._copies(frame, streams, copies, trace)
            elif frame.kind == "copied":
                if trace:
                    trace.copy(frame.at, frame.path)
                streams, copies, frame = streams * frame.at, frame.outer, frame.next
            else:
                streams, copies, frame = self._join(frame, streams, copies, trace)
        return streams, cost

    def _todo(self, frame: Frame, streams: Shapes) -> Frame | None:
        term = frame.terms[frame.at]
        last = frame.at + 1 == len(frame.terms)
        rest = frame.next if last else self._frame(
            "todo", frame.next, terms=frame.terms, at=frame.at + 1, path=frame.path,
            env=frame.env, rule=frame.rule,
        )  # fmt: skip
        return self._enter(term, frame.env, frame.path, frame.rule, rest)

    def _enter(
        self, term: Term, env: Env, path: str, rule: str, rest: Frame | None, index: str = ""
    ) -> Frame | None:
        match term:
            case Call():
                inside = f"{path}/{term.child}{index}" if path else f"{term.child}{index}"
                return self._frame("bind", rest, call=term, path=inside, env=env, rule=rule)
            case Choice():
                inside = f"{path}/{term.child}{index}" if index else path
                return self._frame(
                    "pick", rest, choice=term, path=inside, env=env, rule=rule
                )
            case Repeat():
                low, high = number(term.low, env), number(term.high, env)
                if low > high:
                    raise ShapeError(f"{term} repeats {low} to {high} times")
                if low < high:
                    return self._frame(
                        "repeat", rest, term=term, path=path, env=env, rule=rule,
                        values=(low, high),
                    )  # fmt: skip
                return self._times(term, low, env, path, rule, rest)
            case Streams():
                return self._frame("fork", rest, term=term, path=path, env=env, rule=rule)
            case Copies():
                return self._frame("copies", rest, term=term, path=path, env=env, rule=rule)

    def _times(
        self, term: Repeat, n: int, env: Env, path: str, rule: str, rest: Frame | None
    ) -> Frame | None:
        for i in reversed(range(n)):
            rest = self._enter(term.body, env, path, rule, rest, f".{i}")
        return rest

    def _repeat_site(self, frame: Frame) -> tuple[Site, tuple[Option, ...], tuple[Any, ...]]:
        term = frame.term
        assert isinstance(term, Repeat)
        low, high = (int(v) for v in frame.values)
        frames = tuple(
            self._times(term, n, frame.env, frame.path, frame.rule, frame.next)
            for n in range(low, high + 1)
        )
        site = Site(f"{frame.path}/{term.child}:repeat".lstrip("/"), frame.rule)
        return site, tuple(Option(f"x{n}") for n in range(low, high + 1)), frames

    def _bind(self, frame: Frame, streams: Shapes) -> Frame | tuple[Operator, Args] | _Stop:
        """The next unknown argument's site, or an operator bound, or the rule entered."""
        call = frame.call
        assert call is not None
        at = len(frame.values)
        if at < len(call.args):
            name, value = call.args[at]
            if isinstance(value, Elastic):
                return self._elastic_site(frame, name, value)
            return self._bound(frame, [evaluate(value, frame.env)])[0]
        given = [(name, value) for (name, _), value in zip(call.args, frame.values, strict=True)]
        positional = tuple(value for name, value in given if not name)
        named = {name: value for name, value in given if name}
        if call.name not in self.grammar.rules:
            operator = self.grammar.operators[call.name]
            try:
                return operator, operator.bind(positional, named)
            except ValueError as error:
                raise ShapeError(str(error)) from None
        return self._enter_rule(frame, call, positional, named, streams)

    def _bound(self, frame: Frame, values: Iterable[Value]) -> list[Frame]:
        return [
            self._frame(
                "bind", frame.next, call=frame.call, path=frame.path, env=frame.env,
                rule=frame.rule, values=(*frame.values, value),
            )
            for value in values
        ]  # fmt: skip

    def _elastic_site(self, frame: Frame, name: str, value: Elastic) -> _Stop:
        assert frame.call is not None
        if not name:
            callee = self.grammar.rules.get(frame.call.name)
            at = len(frame.values)
            args = self.grammar.operators[frame.call.name].args if callee is None else ()
            name = callee.params[at][0] if callee else args[at].name
        values = [evaluate(v, frame.env) for v in value.values]
        site = Site(f"{frame.path}:{name}", frame.rule)
        options = tuple(Option(f"{name}={v}") for v in values)
        return _Stop((site, options, tuple(self._bound(frame, values))))

    def _enter_rule(
        self, frame: Frame, call: Call, positional: tuple[Value, ...], named: Args, streams: Shapes
    ) -> Frame:
        rule = self.grammar.rules[call.name]
        given = dict(zip((name for name, _ in rule.params), positional, strict=False)) | dict(named)
        env: Env = ()
        for name, default in rule.params:
            if name not in given:
                assert default is not None
                given[name] = evaluate(default, env)
            env = (*env, (name, given[name]))
        if rule.captures:
            if len(streams) != 1:
                raise ShapeError(f"{rule.name} asks for the size of one stream: {len(streams)} arrive")
            env = (*env, *_captured(streams[0]))
        return self._frame(
            "pick", frame.next, choice=rule.body, path=frame.path, env=env, rule=rule.name
        )

    def _pick_site(self, frame: Frame) -> tuple[Site, tuple[Option, ...], tuple[Frame, ...]]:
        assert frame.choice is not None
        alternatives = frame.choice.alternatives
        options = tuple(Option(a.label, a.weight) for a in alternatives)
        frames = tuple(self._chosen(frame, i) for i in range(len(alternatives)))
        suffix = frame.choice.child or frame.rule
        return Site(f"{frame.path}:{suffix}".lstrip(":"), frame.rule), options, frames

    def _chosen(self, frame: Frame, index: int) -> Frame:
        assert frame.choice is not None
        terms = frame.choice.alternatives[index].terms
        return self._frame(
            "todo", frame.next, terms=terms, at=0, path=frame.path, env=frame.env, rule=frame.rule
        )

    def _settle(self, fork: Frame) -> Frame | _Stop:
        """What follows a bracket is chosen before its branches, down to one operator bound:
        then the branches know what shapes they are wanted in."""
        head = fork.next
        while head is not None:
            if head.kind == "todo" and isinstance(head.terms[head.at], Call | Choice):
                head = self._todo(head, ())
            elif head.kind == "bind":
                assert head.call is not None
                rule = self.grammar.rules.get(head.call.name)
                if rule is not None and rule.captures:
                    break
                step = self._bind(head, ())
                if isinstance(step, _Stop):
                    return self._refork(fork, step.head)
                if isinstance(step, tuple):
                    operator, args = step
                    return replace(fork, next=head, consumer=(operator, tuple(args.items())))
                head = step
            elif head.kind == "pick":
                assert head.choice is not None
                if len(head.choice.alternatives) > 1:
                    return self._refork(fork, self._pick_site(head))
                head = self._chosen(head, 0)
            else:
                break
        return replace(fork, next=head)

    def _refork(self, fork: Frame, head: tuple[Site, tuple[Option, ...], tuple[Any, ...]]) -> _Stop:
        site, options, frames = head
        forks = tuple(
            self._frame(
                "fork", f, term=fork.term, path=fork.path, env=fork.env, rule=fork.rule
            )
            for f in frames
        )
        return _Stop((site, options, forks))

    def _fork(
        self, fork: Frame, streams: Shapes, copies: int, trace: Trace | None
    ) -> tuple[Shapes, int, Frame | None]:
        term = fork.term
        assert isinstance(term, Streams)
        if len(streams) != len(term.branches):
            raise ShapeError(f"{term} has {len(term.branches)} branches, {len(streams)} arrive")
        same = all(_text(b) == _text(term.branches[0]) for b in term.branches)
        twins = self.copy_twins and same and len(set(streams)) == 1
        if trace:
            trace.open(len(streams) if twins else 0)
        join = self._frame(
            "join", fork.next, term=fork.term, path=fork.path, env=fork.env, rule=fork.rule,
            waiting=streams[1:], done=(), consumer=fork.consumer, outer=copies, twins=twins,
        )  # fmt: skip
        inner = copies * len(streams) if twins else copies
        return streams[:1], inner, self._branch(term, 0, join)

    def _branch(self, term: Streams, index: int, join: Frame) -> Frame:
        return self._frame(
            "todo", join, terms=term.branches[index], at=0, path=join.path, env=join.env,
            rule=join.rule,
        )  # fmt: skip

    def _join(
        self, join: Frame, streams: Shapes, copies: int, trace: Trace | None
    ) -> tuple[Shapes, int, Frame | None]:
        done = join.done + streams
        if join.twins and trace is None and join.waiting:
            copied = done + done[:1] * len(join.waiting)
            if self._wanted(join, copied):
                return copied, join.outer, join.next
        if not self._wanted(join, done):
            raise ShapeError(f"{' '.join(map(str, done))} do not fit what joins them")
        term = join.term
        assert isinstance(term, Streams)
        index = len(term.branches) - len(join.waiting)
        if trace:
            trace.branch(index)
        if not join.waiting:
            if trace:
                trace.close()
            return done, join.outer, join.next
        rest = self._frame(
            "join", join.next, term=join.term, path=join.path, env=join.env, rule=join.rule,
            waiting=join.waiting[1:], done=done, consumer=join.consumer, outer=join.outer,
            twins=join.twins,
        )  # fmt: skip
        return join.waiting[:1], join.outer, self._branch(term, index, rest)

    @staticmethod
    def _wanted(join: Frame, known: Shapes) -> bool:
        if join.consumer is None:
            return True
        operator, args = join.consumer
        return operator.accepts(known, dict(args))

    def _copies(
        self, frame: Frame, streams: Shapes, copies: int, trace: Trace | None
    ) -> tuple[Shapes, int, Frame | None]:
        term = frame.term
        assert isinstance(term, Copies)
        n = number(term.n, frame.env)
        if n != len(streams) or len(set(streams)) != 1:
            shapes = " ".join(map(str, streams))
            raise ShapeError(f"{term} wants {n} streams of one shape, {shapes} arrive")
        path = f"{frame.path}/{term.child}".lstrip("/")
        if trace:
            trace.open(0)
        copied = self._frame("copied", frame.next, at=n, path=path, outer=copies)
        body = self._frame(
            "todo", copied, terms=term.body, at=0, path=path, env=frame.env, rule=frame.rule
        )
        return streams[:1], copies * n, body


@dataclass(frozen=True)
class _Stop:
    """A frame that cannot go on before something is chosen."""

    head: tuple[Site, tuple[Option, ...], tuple[Any, ...]]


def _text(terms: Sequence[Term]) -> str:
    return " ".join(map(str, terms))


def _captured(x: Shape) -> Env:
    space = x.space
    sizes = (x.channels, space[0] if space else 1, space[-1] if len(space) > 1 else 1)
    return tuple(zip(CAPTURED, sizes, strict=True))


def fold(
    machine: Machine,
    memo: dict[Any, T | None],
    state: tuple[Shapes, int, Frame | None],
    at_end: Callable[[Shapes, Cost], T | None],
    combine: Callable[[Waiting, list[tuple[int, T]]], T | None],
    order: Callable[[Waiting], Sequence[int]],
    enough: bool = False,
    fuel: int | None = None,
) -> T | None:
    """What holds of all completions of a state, computed from its options' (post-order, kept in
    `memo`); None where there is no completion. With `enough`, the first option that has one
    decides. Running out of `fuel` states is as if there were none. Never recurses."""
    result: T | None = None
    stack: list[tuple[Any, Waiting, list[int], list[tuple[int, T]]]] = []
    pending: tuple[Shapes, int, Frame | None] | None = state
    while True:
        if pending is not None:
            key = (pending[0], pending[1], pending[2].key if pending[2] else -1)
            if key in memo:
                result = memo[key]
            else:
                try:
                    waiting = machine.advance(*pending)
                except (ShapeError, ValueError):
                    waiting = None  # type: ignore[assignment]
                if fuel is not None:
                    fuel -= 1
                    if fuel < 0:
                        return None
                if isinstance(waiting, Waiting):
                    stack.append((key, waiting, list(order(waiting))[::-1], []))
                    pending = None
                    result = None
                    if not stack[-1][2]:
                        memo[key] = None
                        stack.pop()
                    else:
                        index = stack[-1][2][-1]
                        pending = (waiting.streams, waiting.copies, waiting.frames[index])
                        continue
                else:
                    result = at_end(*waiting) if waiting is not None else None
                    memo[key] = result
            pending = None
        if not stack:
            return result
        key, waiting, left, found = stack[-1]
        index = left.pop()
        if result is not None:
            found.append((index, result))
        if left and not (enough and found):
            pending = (waiting.streams, waiting.copies, waiting.frames[left[-1]])
            continue
        result = combine(waiting, found) if found else None
        memo[key] = result
        stack.pop()
