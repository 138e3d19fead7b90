"""A choice that wants to know what is derived hears of it before and after."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nas.grammar import Derivation, Grammar, GrammarError, Guide, Limits, Option, Site, derive
from nas.op import Shape

OPEN = Grammar.parse("net = relu | tanh net")


class Listening(Guide):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def begin(self, grammar: Grammar, input: Shape, limits: Limits) -> None:
        self.heard.append((grammar, input, limits))

    def __call__(self, site: Site, options: Sequence[Option]) -> int:
        self.heard.append(site.name)
        return 0

    def end(self, derivation: Derivation) -> None:
        self.heard.append(derivation)


def test_a_guide_hears_what_is_derived_then_the_sites_then_the_derivation() -> None:
    guide = Listening()
    derivation = derive(OPEN, guide, input=(2, 4, 4), limits=Limits(7))
    sites = [chosen.site.name for chosen in derivation.choices]
    assert guide.heard == [(OPEN, Shape.of((2, 4, 4)), Limits(7)), *sites, derivation]


def test_a_guide_is_told_the_limits_that_hold_by_default() -> None:
    guide = Listening()
    derive(OPEN, guide, input=(2, 4, 4))
    assert guide.heard[0] == (OPEN, Shape.of((2, 4, 4)), Limits(256))


def test_what_cannot_be_derived_has_no_end() -> None:
    guide = Listening()
    with pytest.raises(GrammarError):
        derive(OPEN, guide, input=(2, 4, 4), limits=Limits(0))
    assert len(guide.heard) == 1
