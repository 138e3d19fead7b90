"""`Space`: what a strategy draws from."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from nas.grammar import Choose, Derivation, Grammar, GrammarError, Limits, derive, sample
from nas.grammar.count import extreme
from nas.grammar.derive import Input, Size
from nas.grammar.trace import cost_of
from nas.plan import nontrivial
from nas.supernet.chain import shrinking


@dataclass(frozen=True)
class Space:
    """The derivations of a grammar for an input, within limits.

    size: the operators of random derivations of a recursive grammar; there, those with nothing to
    learn are passed over.
    """

    grammar: Grammar
    input: Input
    limits: Limits | None = None
    size: Size | None = None

    def draw(self, rng: random.Random) -> Derivation:
        """A random derivation, every site by its options' weights."""
        return sample(
            self.grammar, rng, input=self.input, limits=self.limits, size=self.size,
            where=None if self.grammar.finite else nontrivial,
        )  # fmt: skip

    def derive(self, choose: Choose) -> Derivation:
        """The derivation that `choose` leads to, within the limits."""
        return derive(self.grammar, choose, input=self.input, limits=self.limits, size=self.size)

    @cached_property
    def largest(self) -> Derivation:
        """The derivation with the most parameters, of those the one with the most FLOPs; of a
        space with limits, the largest that they allow on an even way from there to the smallest.

        Raises GrammarError for a recursive grammar, which has none.
        """
        top = extreme(self.grammar, input=self.input, of="params")
        for one in chain([top], shrinking(top, nested=False)):
            if self.limits is None or self.limits.allow(cost_of(one)):
                return one
        raise GrammarError(f"{self.grammar.name} has no architecture with {self.limits}")

    @cached_property
    def smallest(self) -> Derivation:
        """The derivation with the fewest parameters, of those the one with the fewest FLOPs."""
        return extreme(self.grammar, input=self.input, of="params", largest=False)
