"""`derive`: one walk through a grammar, led by one function `choose(site, options) -> index`."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nas.grammar.derivation import Chosen, Derivation, Token
from nas.grammar.fold import fold
from nas.grammar.frames import Cost, Site, State, Waiting
from nas.grammar.grammar import Grammar
from nas.grammar.labels import Labels, next_label
from nas.grammar.machine import Machine
from nas.grammar.options import Option, Options
from nas.grammar.parser import GrammarError
from nas.grammar.sizes import Interval, Sizes
from nas.grammar.trace import Trace, cost_of
from nas.grammar.witness import HERE, IDLE, NEAR, Witnesses
from nas.op import Shape, ShapeError, Shapes

Choose = Callable[[Site, Sequence[Option]], int]
Input = tuple[int, ...] | Shape
Size = int | tuple[int, int] | Interval

OPEN_GRAMMAR_TERMINALS = 256
KEPT = 300_000
DRAWS = 1_000  # of which one must be as it is asked for
DETOURS = 12  # sites of one derivation at which ways are searched to turn a shape so that it fits


class Guide(ABC):
    """A choice that is told what is to be derived before its first site, and what came of it.

    A derivation that it gives then, of the same input and within the limits, may be followed to
    its end: each of its choices is offered as long as those before it were made.
    """

    @abstractmethod
    def begin(self, grammar: Grammar, input: Shape, limits: Limits) -> Derivation | None: ...

    @abstractmethod
    def __call__(self, site: Site, options: Sequence[Option], /) -> int: ...

    @abstractmethod
    def end(self, derivation: Derivation) -> None: ...


@dataclass(frozen=True)
class Limits:
    """The most a derivation may instantiate, copies counted; None is no limit.

    terminals: operators; params: trained numbers; flops: FLOPs for a batch of one.
    """

    terminals: int | None = None
    params: int | None = None
    flops: int | None = None

    def allow(self, cost: tuple[int, int, int]) -> bool:
        most = self._most
        return (
            (most[0] is None or cost[0] <= most[0])
            and (most[1] is None or cost[1] <= most[1])
            and (most[2] is None or cost[2] <= most[2])
        )

    @cached_property
    def _most(self) -> tuple[int | None, int | None, int | None]:
        return (self.terminals, self.params, self.flops)

    def scale(self, cost: Cost) -> float:
        """The share of the limits that a cost takes, summed: what a completion should keep low."""
        a, b, c = self._scales
        return cost[0] * a + cost[1] * b + cost[2] * c

    @cached_property
    def _scales(self) -> tuple[float, ...]:
        return tuple(0.0 if most is None else 1 / max(most, 1) for most in self._most)

    @property
    def priced(self) -> bool:
        """Whether parameters or FLOPs are limited."""
        return self.params is not None or self.flops is not None

    def __str__(self) -> str:
        named = zip(Cost._fields, self._most, strict=True)
        return ", ".join(f"{name} at most {most:,}" for name, most in named if most is not None)


UNLIMITED = Limits()


def derive(
    grammar: Grammar, choose: Choose, /, *, input: Input, limits: Limits | None = None,
    size: Size | None = None,
) -> Derivation:  # fmt: skip
    """The derivation that `choose` leads to; a `Guide` hears of it before and after.

    At every site only options are offered from which the derivation can be completed within
    `limits`. A grammar that can recurse without end has a limit of 256 operators by default.
    With a `size` the options' weights are conditioned on it, so that a choice by weights most
    likely instantiates so many operators, or a number within the interval.
    Raises GrammarError when nothing can be derived for the input at all.
    """
    sizing = _sizing(grammar, size)
    if limits is None:
        most = max(OPEN_GRAMMAR_TERMINALS, sizing[1].high if sizing else 0)
        limits = UNLIMITED if grammar.finite else Limits(most)
    shape = Shape.of(input)
    known = choose.begin(grammar, shape, limits) if isinstance(choose, Guide) else None
    if grammar.finite:
        derivation = _Walk(grammar, (shape,), limits, sizing).run(choose)
    else:
        derivation = OpenWalk(grammar, (shape,), limits, sizing, known).run(choose)
    if isinstance(choose, Guide):
        choose.end(derivation)
    return derivation


def derive_fixed(grammar: Grammar, streams: Shapes) -> tuple[Token, ...]:
    """The operators of a grammar without choices, for any number of streams: a task's head.

    Raises GrammarError where something is left to choose or a shape does not fit.
    """

    def choose(site: Site, options: Sequence[Option]) -> int:
        raise GrammarError(f"{grammar.name} leaves {site.name} to choose, and nothing may be")

    return _Walk(grammar, streams, None).run(choose).terms


def sample(
    grammar: Grammar, rng: random.Random, /, *, input: Input, limits: Limits | None = None,
    size: Size | None = None, where: Callable[[Derivation], bool] | None = None,
) -> Derivation:  # fmt: skip
    """A random derivation: given weights are kept and the others share what they leave.

    With a `size` it has so many operators as instantiated, or a number within the interval: the
    draw follows the grammar's own distribution there, as far as shapes allow. It is drawn again
    where shapes miss the interval at the last, or it is none of those `where` asks for, as
    `nas.nontrivial`. Raises GrammarError where a thousand draws give none.
    """
    choose = choose_at_random(rng)
    wanted = None if size is None else Interval.of(size)
    for _ in range(DRAWS):
        found = derive(grammar, choose, input=input, limits=limits, size=wanted)
        if (wanted is None or found.size in wanted) and (where is None or where(found)):
            return found
    asked = [f"{wanted} operators"] if wanted else []
    asked += ["what `where` asks for"] if where else []
    raise GrammarError(
        f"{grammar.name} gave nothing with {' and '.join(asked)} in {DRAWS:,} draws for an input "
        f"of {Shape.of(input)}: ask for less"
    )


def choose_at_random(rng: random.Random) -> Choose:
    if not isinstance(rng, random.Random):
        raise TypeError(f"rng is a random.Random, as random.Random(0), and this is {rng!r}")

    def choose(site: Site, options: Sequence[Option]) -> int:
        known = options if isinstance(options, Options) else Options(options)
        return bisect(known.cumulative, rng.random())

    return choose


class Follow(Guide):
    """The choices of a derivation at its sites, and `otherwise` where it has none that is offered.

    Of the same grammar and input, and within the limits, what is derived is the same.
    """

    def __init__(self, derivation: Derivation, otherwise: Choose):
        self.derivation, self.otherwise = derivation, otherwise

    def begin(self, grammar: Grammar, input: Shape, limits: Limits) -> Derivation:
        return self.derivation

    def __call__(self, site: Site, options: Sequence[Option], /) -> int:
        labels = [option.label for option in options]
        wanted = self.derivation.by_site.get(site.name)
        return labels.index(wanted) if wanted in labels else self.otherwise(site, options)

    def end(self, derivation: Derivation) -> None:
        pass


def replay(grammar: Grammar, labels: Iterable[str], /, *, input: Input) -> Derivation:
    """The derivation whose chosen labels are `labels`; only that every shape fits is checked.

    Raises GrammarError naming the site where a label is none of the options.
    """
    left = iter(labels)

    def choose(site: Site, options: Sequence[Option]) -> int:
        label = next(left, None)
        names = [option.label for option in options]
        if label not in names:
            said = "the labels end" if label is None else f"{label!r} is no option"
            raise GrammarError(f"{said} at {site.name}; there are {', '.join(names)}")
        return names.index(label)

    derivation = _Walk(grammar, (Shape.of(input),), None).run(choose)
    rest = list(left)
    if rest:
        raise GrammarError(f"{len(rest)} labels are left over, from {rest[0]!r} on")
    return derivation


class Memory:
    """What is known of a grammar for good: its machine, and completions within some limits."""

    def __init__(self, grammar: Grammar):
        self.machine = Machine(grammar)
        self.completions: dict[Limits, dict[Any, Any]] = {}
        self.witnesses: dict[Limits, Witnesses] = {}
        self.offers: dict[int, list[int]] = {}
        self.sizes: dict[int, Sizes] = {}

    @property
    def kept(self) -> int:
        return self.machine.compiler.kept + sum(w.kept for w in self.witnesses.values())


def memory_of(grammar: Grammar) -> Memory:
    """What is known of a grammar; forgotten where shapes without end have filled it."""
    known = grammar.memory.get("derive")
    if known is None or (not grammar.finite and known.kept > KEPT):
        grammar.memory["derive"] = Memory(grammar)
    return grammar.memory["derive"]  # type: ignore[no-any-return]


def _sizing(grammar: Grammar, size: Size | None) -> tuple[Sizes, Interval] | None:
    if size is None:
        return None
    wanted = Interval.of(size)
    memory = memory_of(grammar)
    if wanted.high not in memory.sizes:
        memory.sizes[wanted.high] = Sizes(memory.machine.root, wanted.high)
    sizes = memory.sizes[wanted.high]
    if not sizes.after(memory.machine.start()).sizes[wanted.low :].any():
        raise GrammarError(f"{grammar.name} has no derivation with {wanted} operators")
    return sizes, wanted


class _Walk:
    """One derivation in the making. `limits` None offers every option: a replay."""

    def __init__(
        self, grammar: Grammar, streams: Shapes, limits: Limits | None,
        sizing: tuple[Sizes, Interval] | None = None,
    ):  # fmt: skip
        self.grammar, self.streams, self.limits, self.sizing = grammar, streams, limits, sizing
        memory = memory_of(grammar)
        self.machine, self.offers = memory.machine, memory.offers
        self.memo = memory.completions.setdefault(limits or UNLIMITED, {})
        self.trace = Trace()
        self.cheapest: Cost | None = None

    def run(self, choose: Choose) -> Derivation:
        state: State = (self.streams, self.machine.start())
        while True:
            try:
                waiting = self.machine.advance(*state, self.trace)
            except ShapeError as error:
                raise self._impossible(str(error)) from None
            if not isinstance(waiting, Waiting):
                break
            state = self._choose(waiting, choose)
        if self.limits is not None and not self.limits.allow(self.trace.spent):
            raise self._impossible(f"the only derivation costs {self.trace.spent}")
        return self._made()

    def _choose(self, waiting: Waiting, choose: Choose) -> State:
        """Where the option leads that is chosen."""
        offered = self._offered(waiting)
        if not offered:
            raise self._impossible(self._refusal(waiting))
        site, options = waiting.site, waiting.decision.offer(offered)
        if self.sizing:
            sizes, wanted = self.sizing
            options = sizes.condition(waiting, offered, self.trace.size, wanted)
        index = choose(site, options)
        if not 0 <= index < len(options):
            raise IndexError(f"choose gave {index} at {site.name} of {len(options)}")
        self.trace.chose(Chosen(site, options, index))
        self._took(offered[index])
        return waiting.state(offered[index])

    def _made(self) -> Derivation:
        return Derivation(
            self.grammar, self.streams[0], tuple(self.trace.choices), tuple(self.trace.tokens)
        )

    def _took(self, index: int) -> None:
        """Told of every choice made."""

    def _refusal(self, waiting: Waiting) -> str:
        """Why no option of a site can be completed, as far as is known."""
        if self.cheapest is not None:
            return f"the least completion found at {waiting.site.name} costs {self.cheapest}"
        return f"no option of {waiting.site.name} fits; {self.machine.refusal}"

    def _impossible(self, reason: str) -> GrammarError:
        limits = f" with {self.limits}" if self.limits not in (None, UNLIMITED) else ""
        return GrammarError(
            f"{self.grammar.name} cannot be derived for an input of "
            f"{' '.join(map(str, self.streams))}{limits}: {reason}"
        )

    def _allows(self, cost: Cost) -> bool:
        assert self.limits is not None
        if self.limits.allow(cost):
            return True
        if self.cheapest is None or self.limits.scale(cost) < self.limits.scale(self.cheapest):
            self.cheapest = cost
        return False

    def _offered(self, waiting: Waiting) -> Sequence[int]:
        everything = range(len(waiting.decision.options))
        if self.limits is None:
            return everything
        if self.limits == UNLIMITED:
            if id(waiting) not in self.offers:
                self.offers[id(waiting)] = [
                    i for i in everything if self._completes(waiting.state(i))
                ]
            return self.offers[id(waiting)]
        return [i for i in everything if self._completes(waiting.state(i))]

    def _completes(self, state: State) -> bool:
        assert self.limits is not None
        limits = self.limits
        best = fold(
            self.machine, self.memo, state,
            at_end=lambda streams, cost: cost,
            combine=lambda site, found: min(
                (site.cost.plus(cost) for _, cost in found), key=limits.scale
            ),
            order=lambda site: range(len(site.options)), enough=limits == UNLIMITED,
        )  # fmt: skip
        return best is not None and self._allows(self.trace.spent.plus(best))


class OpenWalk(_Walk):
    """A derivation of a recursive grammar: every option offered has a witness."""

    def __init__(
        self, grammar: Grammar, streams: Shapes, limits: Limits,
        sizing: tuple[Sizes, Interval] | None = None, known: Derivation | None = None,
    ):  # fmt: skip
        super().__init__(grammar, streams, limits, sizing)
        memory = memory_of(grammar)
        if limits not in memory.witnesses:
            memory.witnesses[limits] = Witnesses(limits.scale, priced=limits.priced)
        self.witnesses = memory.witnesses[limits]
        witnesses = self.witnesses
        self.trace = Trace(lambda f, streams: witnesses.finish(f, streams, HERE), limits.priced)
        self.found: dict[int, Labels] = {}
        self.detours = DETOURS
        self.labels: Labels = None  # of the witness for where the walk is
        self.path: tuple[str, ...] = ()  # labels of a known derivation, as long as it is followed
        if known is not None and known.input == streams[0] and limits.allow(cost_of(known)):
            self.path = known.labels

    def _took(self, index: int) -> None:
        self.labels = self.found[index]
        made = self.trace.choices
        if self.path and made[-1].label != self.path[len(made) - 1]:
            self.path = ()

    def _offered(self, waiting: Waiting) -> Sequence[int]:
        offered = self._completed(waiting)
        if self.path:
            at = len(self.trace.choices)
            index = waiting.decision.index(self.path[at])
            if index not in self.found:
                self.found = {**self.found, index: (self.path[at + 1 :], None)}
                return sorted(self.found)
        return offered

    def _completed(self, waiting: Waiting) -> Sequence[int]:
        """The options for which a completion is known or found."""
        if self._known(waiting):
            return list(self.found)
        self.found = {}
        self._try(waiting, HERE if self.detours else IDLE)
        self.detours = max(0, self.detours - 1)
        self._follow(waiting.decision.options)
        self._keep(waiting.decision.options)
        if not self.found:
            self._try(waiting, NEAR)
        return sorted(self.found)

    def _known(self, waiting: Waiting) -> bool:
        """Whether every option fits that can be taken at all, and is found."""
        ways, after = self.witnesses.ways_at(waiting), waiting.frame.next
        if after is not None and (after.axes is None or ways.axes < after.axes):
            return False
        most = ways.most.times(waiting.frame.copies)
        terminals, params, flops = most.plus(self.trace.spent)
        ending = after.ending if after else 0
        if not self.limits.allow((terminals + ending, params, flops)):  # type: ignore[union-attr]
            return False
        self.found = ways.labels
        return True

    def _try(self, waiting: Waiting, effort: int) -> None:
        """Offer the options that can be completed with some effort."""
        for index, found in self.witnesses.completions(waiting, effort):
            if self._allows(self.trace.spent.plus(found.cost)):
                self.found[index] = found.labels

    def _follow(self, options: Sequence[Option]) -> None:
        """Offer what goes on as an earlier branch did."""
        labels = [option.label for option in options]
        for label, bracket in self.trace.following():
            if label in labels and self._allows(bracket.total):
                assert bracket.labels is not None
                index = labels.index(label)
                self.found.setdefault(index, (bracket.labels[bracket.at + 1 :], bracket.rest))

    def _keep(self, options: Sequence[Option]) -> None:
        """Offer the next step of the witness that the last choice was offered with."""
        label, rest = next_label(self.labels, self.trace.repeated)
        labels = [option.label for option in options]
        if label in labels:
            self.found.setdefault(labels.index(label), rest)
