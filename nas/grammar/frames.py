"""What a machine is made of: sites and options, costs, and the frames still to be derived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nas.grammar.nodes import Copied, Decision, Node, Operation
from nas.grammar.options import Option
from nas.op import Shapes


class Place:
    """Where in a derivation: the calls that lead to it. Written out only when asked for."""

    __slots__ = ("_text", "child", "up")

    def __init__(self, up: Place | None, child: str):
        self.up, self.child = up, child
        self._text: str | None = None

    def __str__(self) -> str:
        if self._text is None:
            up = self.up
            if up is not None and up._text:
                self._text = f"{up._text}/{self.child}"
                return self._text
            parts, place = [], self
            while place.up is not None and place._text is None:
                parts.append(place.child)
                place = place.up
            if place._text:
                parts.append(place._text)
            self._text = "/".join(reversed(parts))
        return self._text


class Site:
    """A place where something is chosen. `name` is unique in a derivation; `rule` made it."""

    __slots__ = ("_name", "place", "rule", "suffix")

    def __init__(self, place: Place, suffix: str, rule: str):
        self.place, self.suffix, self.rule = place, suffix, rule
        self._name: str | None = None

    @property
    def name(self) -> str:
        if self._name is None:
            self._name = f"{self.place}{self.suffix}".lstrip(":/")
        return self._name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Site) and (self.name, self.rule) == (other.name, other.rule)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Site {self.name}>"


class Cost(NamedTuple):
    """What instantiating costs: operators (copies counted), parameters, and for a batch of one
    FLOPs and activations, the numbers that operators write."""

    terminals: int = 0
    params: int = 0
    flops: int = 0
    activations: int = 0

    @staticmethod
    def of(price: Price) -> Cost:
        return price if isinstance(price, Cost) else Cost(price)

    def __add__(self, other: Price) -> Cost:  # type: ignore[override]
        a, b, c, d = self
        if isinstance(other, int):
            return cost(Cost, (a + other, b, c, d))
        e, f, g, h = other
        return cost(Cost, (a + e, b + f, c + g, d + h))

    def __radd__(self, operators: int) -> Cost:
        return self + operators

    def __mul__(self, n: int) -> Cost:  # type: ignore[override]
        a, b, c, d = self
        return cost(Cost, (a * n, b * n, c * n, d * n))

    def __floordiv__(self, n: int) -> Cost:
        return Cost(*(part // n for part in self))

    def __str__(self) -> str:
        return ", ".join(f"{part:,} {name}" for part, name in zip(self, self._fields, strict=True))


cost = tuple.__new__  # of four numbers, in a third of the time
NOTHING = Cost()
Price = Cost | int  # an int is so many operators, where no more is limited or nothing more is known


class Bracket(NamedTuple):
    """An open bracket's streams: those whose branches wait and those done. `twins`: its branches
    are written alike and take one shape, so each may repeat the first."""

    waiting: Shapes
    done: Shapes
    twins: bool


class Frame:
    """A node still to be derived, then `next`; never changed once made.

    `copies` is how often the node is instantiated. `key` is equal for equal futures, whatever
    their place. `jump` is the next frame that cannot do nothing; `free` the operators up to it
    where all before do so. `axes` is the fewest axes with which any one stream can pass all that
    is left with nothing done, None where that is not known; `ending` the operators that it takes;
    `writes` how often they write the elements of the stream. `known`, `wanted` and `aims` are for
    whoever asks what may become of a frame, and not set before.
    """

    __slots__ = (
        "_jump",
        "_known",
        "aims",
        "axes",
        "bracket",
        "copies",
        "ending",
        "free",
        "key",
        "next",
        "node",
        "place",
        "wanted",
        "writes",
    )

    _jump: Frame | None
    axes: int | None
    wanted: tuple[Shapes, ...] | None
    aims: tuple[Shapes, ...] | None

    def __init__(
        self,
        node: Node,
        next: Frame | None,
        place: Place,
        copies: int,
        key: int = 0,
        bracket: Bracket | None = None,
    ):
        self.node, self.next, self.place = node, next, place
        self.copies, self.key, self.bracket = copies, key, bracket
        passes = node.passes
        if passes is None:
            self.axes = None
            self.free = self.ending = self.writes = 0
            if next is not None and (bracket is not None or isinstance(node, Copied)):
                self._join(next)
        elif next is None:
            self._jump, self.axes, self.writes = None, 0, 0
            self.free = self.ending = passes * copies
        else:
            own = passes * copies
            self._jump = next if next.node.passes is None else next._jump
            self.axes, self.writes = next.axes, next.writes
            self.free, self.ending = own + next.free, own + next.ending

    def _join(self, next: Frame) -> None:
        taken = self._taken(next.node)
        if taken is not None:
            (self.axes, times), after = taken, next.next
            self.ending, self.writes = next.copies, next.copies * times
            if after is not None:
                self.axes = None if after.axes is None else max(self.axes, after.axes)
                self.ending += after.ending
                self.writes += times * after.writes

    def turners(self) -> Iterator[Frame]:
        """The frames up to `jump`, of each node the first."""
        met, frame, end = set[Node](), self, self.jump
        while frame is not end and frame.next is not None:
            if frame.node not in met:
                met.add(frame.node)
                yield frame
            frame = frame.next

    @property
    def jump(self) -> Frame | None:
        """Never kept by the frame itself: a circle would wait for the garbage collector."""
        return self if self.node.passes is None else self._jump

    @property
    def known(self) -> dict[Any, Any]:
        try:
            return self._known
        except AttributeError:
            self._known: dict[Any, Any] = {}
            return self._known

    def _taken(self, taker: Node) -> tuple[int, int] | None:
        """The fewest axes of results that `taker` takes whatever their sizes, where this ends a
        branch that all others repeat, and how many times the elements of one it makes."""
        bracket, n = self.bracket, 0
        if isinstance(self.node, Copied):
            n = self.node.n
        elif bracket is not None and bracket.twins and not bracket.done:
            n = 1 + len(bracket.waiting)
        if not n or not isinstance(taker, Operation):
            return None
        return taker.operator.takes_equal(n, taker.args)


State = tuple[Shapes, Frame | None]


def same_frames(a: Frame | None, b: Frame | None) -> bool:
    """Whether all that is left to be derived is the same."""
    while a is not b:
        if a is None or b is None:
            return False
        if (a.node, a.copies, a.bracket) != (b.node, b.copies, b.bracket):
            return False
        a, b = a.next, b.next
    return True


@dataclass(slots=True, eq=False)
class Waiting:
    """A machine stopped at a site, after `cost`: `state(i)` is where option `i` leads."""

    decision: Decision
    frame: Frame
    streams: Shapes
    cost: Cost
    machine: Any
    fork: Frame | None = None
    entered: dict[int, State] | None = None
    _site: Site | None = None

    @property
    def site(self) -> Site:
        if self._site is None:
            self._site = Site(self.frame.place, self.decision.suffix, self.decision.rule)
        return self._site

    @property
    def options(self) -> tuple[Option, ...]:
        return self.decision.options

    def state(self, index: int) -> State:
        if not self.machine.finite:
            return self.streams, self.machine.enter(self, index)
        if self.entered is None:
            self.entered = {}
        state = self.entered.get(index)
        if state is None:
            state = self.entered[index] = self.streams, self.machine.enter(self, index)
        return state


class Observer(Protocol):
    """Told what a machine does on its way, in order; `streams` are those that arrive, `done` the
    results of a bracket's branches so far."""

    def apply(self, node: Operation, place: Place, copies: int, streams: Shapes) -> None: ...
    def open(self, twins: int) -> None: ...
    def branch(self, finished: int, join: Frame, done: Shapes) -> None: ...
    def close(self) -> None: ...
    def copy(self, n: int, place: Place) -> None: ...


class Recording:
    """A trace kept to be told again."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def apply(self, node: Operation, place: Place, copies: int, streams: Shapes) -> None:
        self.told.append(("apply", (node, place, copies, streams)))

    def open(self, twins: int) -> None:
        self.told.append(("open", (twins,)))

    def branch(self, finished: int, join: Frame, done: Shapes) -> None:
        self.told.append(("branch", (finished, join, done)))

    def close(self) -> None:
        self.told.append(("close", ()))

    def copy(self, n: int, place: Place) -> None:
        self.told.append(("copy", (n, place)))

    def tell(self, trace: Observer) -> None:
        for name, told in self.told:
            getattr(trace, name)(*told)
