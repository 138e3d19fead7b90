"""What a machine is made of: sites and options, costs, and the frames still to be derived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from nas.grammar.rules import Env
from nas.op import Args, Operator, Shapes, Value


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
        return Cost(
            self.terminals + other.terminals, self.params + other.params, self.flops + other.flops
        )

    def times(self, n: int) -> Cost:
        return Cost(self.terminals * n, self.params * n, self.flops * n)

    def over(self, n: int) -> Cost:
        return Cost(self.terminals // n, self.params // n, self.flops // n)


class Bracket(NamedTuple):
    """An open bracket's streams: those whose branches wait, those done, and who takes them."""

    waiting: Shapes
    done: Shapes
    consumer: tuple[Operator, tuple[tuple[str, Value], ...]] | None
    outer: int  # copies outside the bracket
    twins: bool

    def wants(self, known: Shapes) -> bool:
        """Whether what follows the bracket may take `known` as its first streams."""
        if self.consumer is None:
            return True
        operator, args = self.consumer
        return operator.accepts(known, dict(args))


@dataclass(slots=True, eq=False)
class Frame:
    """Something still to be derived, then `next`; never changed once made.

    `body` is what `kind` says: todo: a sequence of terms, to be entered from `at` on; bind: a
    call, whose first arguments have `values`; pick: a choice; repeat, fork, join, copies: such a
    term; copied: nothing. `key` is equal for equal futures, whatever their path.
    """

    kind: str
    next: Frame | None
    key: int
    body: Any
    at: int
    env: Env
    values: tuple[Value, ...]
    bracket: Bracket | None
    path: str
    rule: str


@dataclass(slots=True)
class Head:
    """A site with its options, the fewest operators each can begin with, and a way into each."""

    site: Site
    options: tuple[Option, ...]
    sizes: tuple[int, ...]
    enter: Callable[[int], Frame | None]


@dataclass(slots=True, eq=False)
class Waiting:
    """A machine stopped at a site, after `cost`: `frame(i)` is where option `i` leads."""

    head: Head
    streams: Shapes
    copies: int
    cost: Cost
    entered: dict[int, Frame | None] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        return self.head.site

    @property
    def options(self) -> tuple[Option, ...]:
        return self.head.options

    def frame(self, index: int) -> Frame | None:
        if index not in self.entered:
            self.entered[index] = self.head.enter(index)
        return self.entered[index]

    def state(self, index: int) -> State:
        return self.streams, self.copies, self.frame(index)


State = tuple[Shapes, int, Frame | None]


class Trace(Protocol):
    """Told what a machine does on its way, in order. `copied` is the state after a bracket whose
    branches left repeat the first, where they may; `streams` are those that arrive."""

    def apply(
        self, operator: Operator, args: Args, path: str, cost: Cost, streams: Shapes
    ) -> None: ...
    def open(self, twins: int) -> None: ...
    def branch(self, finished: int, copied: State | None) -> None: ...
    def close(self) -> None: ...
    def copy(self, n: int, path: str) -> None: ...


class Events:
    """A trace kept to be told again."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def apply(
        self, operator: Operator, args: Args, path: str, cost: Cost, streams: Shapes
    ) -> None:
        self.told.append(("apply", (operator, args, path, cost, streams)))

    def open(self, twins: int) -> None:
        self.told.append(("open", (twins,)))

    def branch(self, finished: int, copied: State | None) -> None:
        self.told.append(("branch", (finished, copied)))

    def close(self) -> None:
        self.told.append(("close", ()))

    def copy(self, n: int, path: str) -> None:
        self.told.append(("copy", (n, path)))

    def tell(self, trace: Trace) -> None:
        for name, told in self.told:
            getattr(trace, name)(*told)
