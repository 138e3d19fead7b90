"""`Space`: what strategies and samplers draw from."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from nas.grammar import (
    Choose,
    Derivation,
    Grammar,
    GrammarError,
    Limits,
    choose_at_random,
    derive,
    sample,
)
from nas.grammar.count import extreme
from nas.grammar.derivation import Input
from nas.grammar.derive import Size
from nas.plan import nontrivial
from nas.supernet.chain import shrinking
from nas.task import Task

TIGHTER = 16  # steps in which limits are drawn in where what must be kept besides is missed


@dataclass(frozen=True)
class Space:
    """The derivations of a grammar for an input, within limits.

    size: the operators of random derivations of a recursive grammar; there, those with nothing to
    learn are passed over. keeps: what a derivation of a finite grammar must keep besides, which its
    own cost does not tell, as limits on a whole network with the heads of its tasks.

    tasks: those that its networks serve. budgets: the FLOPs that a network for each task alone may
    have, () where nothing is asked for.
    """

    grammar: Grammar
    input: Input
    limits: Limits | None = None
    size: Size | None = None
    keeps: Callable[[Derivation], bool] | None = None
    tasks: tuple[Task, ...] = ()
    budgets: tuple[float, ...] = ()

    def draw(self, rng: random.Random) -> Derivation:
        """A random derivation, every site by its options' weights."""
        if self.grammar.finite:
            return self.derive(choose_at_random(rng))
        return sample(
            self.grammar,
            rng,
            input=self.input,
            limits=self.limits,
            size=self.size,
            where=nontrivial,
        )

    def derive(self, choose: Choose) -> Derivation:
        """The derivation that `choose` leads to, within the limits. Where what is kept besides is
        missed `choose` is asked again within tighter limits, and in the end it is the smallest."""
        for limits in self._tighter:
            derivation = derive(
                self.grammar, choose, input=self.input, limits=limits, size=self.size
            )
            if self.keeps is None or self.keeps(derivation):
                return derivation
        return self.smallest

    @cached_property
    def _tighter(self) -> tuple[Limits | None, ...]:
        """No limits at first, the limits, and some that end at the smallest derivation's cost."""
        if self.keeps is None:
            return (self.limits,)
        if self.limits is None:
            return (None,) * TIGHTER
        least = self.smallest.cost  # what no head reads counts in a derivation's own cost
        ends = {
            name: most
            for name in ("params", "flops", "activations")
            if (most := getattr(self.limits, name)) is not None
        }
        return None, *(
            replace(
                self.limits,
                **{
                    name: most - max(0, most - getattr(least, name)) * step // TIGHTER
                    for name, most in ends.items()
                },
            )
            for step in range(TIGHTER)
        )

    @cached_property
    def largest(self) -> Derivation:
        """The derivation with the most parameters, of those the one with the most FLOPs; of a
        space with limits, the largest that they allow on an even way from there to the smallest.

        Raises GrammarError for a recursive grammar, which has none.
        """
        top = extreme(self.grammar, input=self.input, of="params")
        for derivation in chain([top], shrinking(top, nested=False)):
            if self.allows(derivation):
                return derivation
        return self.smallest

    @cached_property
    def smallest(self) -> Derivation:
        """The derivation with the fewest parameters, of those the one with the fewest FLOPs; where
        limits exclude it, the one with the least of something else that they allow.

        Raises GrammarError where they allow none of these.
        """
        for cost in ("params", "flops", "activations"):
            derivation = extreme(self.grammar, input=self.input, of=cost, largest=False)
            if self.allows(derivation):
                return derivation
        raise GrammarError(f"{self.grammar.name} has no architecture with {self.limits}")

    def ends(self) -> Iterator[Derivation]:
        """The smallest and the largest derivation by FLOPs, as far as limits allow."""
        for largest in (False, True):
            derivation = extreme(self.grammar, input=self.input, largest=largest)
            yield (
                derivation
                if self.allows(derivation)
                else (self.largest if largest else self.smallest)
            )

    def allows(self, derivation: Derivation) -> bool:
        """Whether a derivation is within the limits."""
        within = self.limits is None or self.limits.allow(derivation.cost)
        return within and (self.keeps is None or self.keeps(derivation))
