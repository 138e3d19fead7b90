from __future__ import annotations

import random
from collections import Counter
from math import prod

import numpy as np
import pytest

import nas
from nas.grammar import Derivation, Grammar, GrammarError, Limits, derive, probabilities, sample
from nas.grammar.count import enumerate_all
from nas.grammar.sizes import Interval, Sizes
from nas.grammar.walk import memory_of

FINITE = """
net = part{0..2} clone(2) [part; tanh] add clone(4) [part * 4] concat
part = 0.5: relu | tanh relu | clone(2) [relu{0..1}; relu] add
"""
RECURSIVE = "net = m\nm = 0.6: relu | m tanh m | clone(2) [m * 2] add | clone(2) [m; m] add"


def sizes_of(grammar: Grammar, most: int) -> np.ndarray:
    machine = memory_of(grammar).machine
    found: np.ndarray = Sizes(machine.root, most).after(machine.start()).sizes
    return found


def test_the_probability_of_each_size_is_that_of_all_derivations_of_that_size() -> None:
    grammar = Grammar.parse(FINITE)
    wanted = np.zeros(60)
    for derivation in enumerate_all(grammar, input=(4, 4, 4)):
        shares = (probabilities(c.options)[c.index] for c in derivation.choices)
        wanted[derivation.size] += prod(shares)
    assert wanted.sum() == pytest.approx(1)
    assert sizes_of(grammar, 59) == pytest.approx(wanted)


def test_the_probability_of_each_size_of_a_recursive_grammar_is_that_of_many_draws() -> None:
    grammar, most = Grammar.parse(RECURSIVE), 12
    drawn = Counter(
        sample(grammar, random.Random(i), input=(4, 4, 4), limits=Limits(100_000)).size
        for i in range(4_000)
    )
    found = sizes_of(grammar, most)
    assert found[1] == pytest.approx(0.6)
    for size in range(most + 1):
        assert drawn[size] / 4_000 == pytest.approx(found[size], abs=0.02)


@pytest.mark.parametrize("size", [(5, 12), (9, 9)])
def test_draws_within_an_interval_follow_the_grammars_own_distribution(
    size: tuple[int, int],
) -> None:
    grammar = Grammar.parse(RECURSIVE)
    whole = sizes_of(grammar, 12)[size[0] : size[1] + 1]
    drawn = Counter(
        derive(
            grammar, nas.grammar.choose_at_random(random.Random(i)), input=(4, 4, 4), size=size
        ).size
        for i in range(2_000)
    )
    assert set(drawn) <= set(range(size[0], size[1] + 1))
    for at, share in zip(range(*size), whole / whole.sum(), strict=False):
        assert drawn[at] / 2_000 == pytest.approx(share, abs=0.035)


@pytest.mark.parametrize("size", [17, 40, (100, 120)])
def test_einspace_is_drawn_with_just_the_size_that_is_asked_for(
    size: int | tuple[int, int],
) -> None:
    grammar = Grammar.load("einspace")
    for seed in range(5):
        found = sample(grammar, random.Random(seed), input=(3, 32, 32), size=size)
        assert found.size in Interval.of(size)
        assert nas.grammar.replay(grammar, found.labels, input=(3, 32, 32)) == found


def test_an_interval_does_not_crowd_at_its_end_as_a_cap_does() -> None:
    grammar, cap = Grammar.load("einspace"), 60
    capped = [
        sample(grammar, random.Random(i), input=(3, 32, 32), limits=Limits(cap)).size
        for i in range(100)
    ]
    led = [
        sample(grammar, random.Random(i), input=(3, 32, 32), size=(1, cap)).size for i in range(100)
    ]
    assert sum(n > 0.9 * cap for n in capped) >= 15
    assert sum(n > 0.9 * cap for n in led) <= 8


def test_a_draw_may_be_asked_for_something_to_learn() -> None:
    grammar = Grammar.load("einspace")

    def draw(seed: int, asked: bool) -> Derivation:
        where = nas.nontrivial if asked else None
        return sample(grammar, random.Random(seed), input=(3, 8, 8), limits=Limits(30), where=where)

    assert not all(nas.nontrivial(draw(seed, False)) for seed in range(40))
    assert all(nas.nontrivial(draw(seed, True)) for seed in range(40))


def test_a_size_that_nothing_has_is_refused_at_once() -> None:
    with pytest.raises(GrammarError, match="has no derivation with 1 operators"):
        sample(Grammar.load("einspace"), random.Random(0), input=(3, 32, 32), size=1)


def test_draws_that_never_come_to_what_is_asked_end_with_an_error() -> None:
    with pytest.raises(GrammarError, match="gave nothing with what `where` asks for in 1,000"):
        sample(Grammar.parse(RECURSIVE), random.Random(0), input=(4,), where=nas.nontrivial)


@pytest.mark.parametrize("size", [0, (5, 4), (-1, 3)])
def test_a_size_that_is_no_interval_is_refused(size: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a size is an interval from 1 on"):
        sample(Grammar.parse(RECURSIVE), random.Random(0), input=(4, 4, 4), size=size)
