"""`derive`: one walk through a grammar, led by one function `choose(site, options) -> index`."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate

from nas.grammar.derivation import Derivation, Input
from nas.grammar.error import GrammarError
from nas.grammar.frames import Site
from nas.grammar.grammar import Grammar, bounded
from nas.grammar.limits import OPEN_GRAMMAR_TERMINALS, UNLIMITED, Limits
from nas.grammar.options import Option, Options
from nas.grammar.sizes import Interval, Sizes
from nas.grammar.tokens import Token, written_out
from nas.grammar.walk import Choose, OpenWalk, Walk, memory_of
from nas.op import Shape, Shapes

Weigh = Callable[[Site, Sequence[Option]], Sequence[float]]  # the probability of each option
Size = int | tuple[int, int] | Interval

DRAWS = 1_000  # of which one must be as it is asked for


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


@bounded
def derive(
    grammar: Grammar,
    choose: Choose,
    /,
    *,
    input: Input,
    limits: Limits | None = None,
    size: Size | None = None,
) -> Derivation:
    """The derivation that `choose` leads to; a `Guide` hears of it before and after.

    At every site only options are offered from which the derivation can be completed within
    `limits`. A grammar that can recurse without end has a limit of 256 operators by default.
    With a `size` the options' weights are conditioned on it, so that a choice by weights most
    likely instantiates so many operators, or a number within the interval.
    Raises GrammarError when nothing can be derived for the input at all.
    """
    sizing = _sizing(grammar, size, limits.depth if limits else None)
    if limits is None:
        most = max(OPEN_GRAMMAR_TERMINALS, sizing[1].high if sizing else 0)
        limits = UNLIMITED if grammar.finite else Limits(most)
    shape = Shape.of(input)
    known = choose.begin(grammar, shape, limits) if isinstance(choose, Guide) else None
    if grammar.finite:
        walked = Walk(grammar, (shape,), limits, sizing).run(choose)
    else:
        path: tuple[str, ...] = ()
        if known is not None and known.input == shape and limits.allow(known.cost):
            path = known.labels
        walked = OpenWalk(grammar, (shape,), limits, sizing, path).run(choose)
    derivation = Derivation(grammar, shape, *walked)
    if isinstance(choose, Guide):
        choose.end(derivation)
    return derivation


@bounded
def derive_fixed(grammar: Grammar, streams: Shapes) -> tuple[Token, ...]:
    """The operators of a grammar without choices, for any number of streams: a task's head.

    Raises GrammarError where something is left to choose or a shape does not fit.
    """

    def choose(site: Site, options: Sequence[Option]) -> int:
        raise GrammarError(f"{grammar.name} leaves {site.name} to choose, and nothing may be")

    return tuple(written_out(Walk(grammar, streams, None).run(choose).tokens))


def sample(
    grammar: Grammar,
    rng: random.Random,
    /,
    *,
    input: Input,
    limits: Limits | None = None,
    size: Size | None = None,
    where: Callable[[Derivation], bool] | None = None,
    weigh: Weigh | None = None,
) -> Derivation:
    """A random derivation: given weights are kept and the others share what they leave; or as
    `weigh` says.

    With a `size` it has so many operators as instantiated, or a number within the interval: the
    draw follows the grammar's own distribution there, as far as shapes allow. It is drawn again
    where shapes miss the interval at the last, or it is none of those `where` asks for, as
    `nas.nontrivial`. Raises GrammarError where a thousand draws give none.
    """
    choose = choose_at_random(rng, weigh)
    wanted = None if size is None else Interval.of(size)
    for _ in range(DRAWS):
        derivation = derive(grammar, choose, input=input, limits=limits, size=wanted)
        if (wanted is None or derivation.size in wanted) and (where is None or where(derivation)):
            return derivation
    asked = [f"{wanted} operators"] if wanted else []
    asked += ["what `where` asks for"] if where else []
    raise GrammarError(
        f"{grammar.name} gave nothing with {' and '.join(asked)} in {DRAWS:,} draws for an input "
        f"of {Shape.of(input)}: ask for less"
    )


def choose_at_random(rng: random.Random, weigh: Weigh | None = None) -> Choose:
    """A choice by the options' weights, or by the probabilities that `weigh` gives them."""
    if not isinstance(rng, random.Random):
        raise TypeError(f"rng is a random.Random, as random.Random(0), and this is {rng!r}")

    def choose(site: Site, options: Sequence[Option]) -> int:
        if weigh is not None:
            return bisect(list(accumulate(weigh(site, options)))[:-1], rng.random())
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


def _sizing(
    grammar: Grammar, size: Size | None, depth: int | None
) -> tuple[Sizes, Interval] | None:
    if size is None:
        return None
    wanted = Interval.of(size)
    memory = memory_of(grammar, depth)
    if wanted.high not in memory.sizes:
        memory.sizes[wanted.high] = Sizes(memory.machine.root, wanted.high)
    sizes = memory.sizes[wanted.high]
    if not sizes.after(memory.machine.start()).sizes[wanted.low :].any():
        raise GrammarError(f"{grammar.name} has no derivation with {wanted} operators")
    return sizes, wanted
