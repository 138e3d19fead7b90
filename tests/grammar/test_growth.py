"""How grammars grow, against branching processes whose answers are known."""

from __future__ import annotations

import random
import statistics

import pytest

from nas.grammar import Grammar, Limits, sample
from nas.grammar.growth import growth


@pytest.mark.parametrize(
    ("text", "derivation", "instantiation"),
    [
        ("net = m\nm = 0.75: relu | m m", 0.5, 0.5),
        ("net = m\nm = 0.75: relu | clone(2) [m; m] add", 0.5, 0.5),
        ("net = m\nm = 0.75: relu | clone(4) [m * 4] add", 0.25, 1.0),
        ("net = a\na = relu b\nb = 0.5: tanh | a a a", 1.5, 1.5),
        ("net = m\nm = 0.5: relu | many(2) | many(4)\nmany(n) = clone(n) [m * n] add", 0.5, 1.5),
        ("net = m\nm = 0.6: relu | m{0..3}", 0.6, 0.6),
        ("net = conv({4, 8}){1..3}", 0.0, 0.0),
    ],
)
def test_spectral_radii_are_those_worked_out_by_hand(
    text: str, derivation: float, instantiation: float
) -> None:
    found = growth(Grammar.parse(text))
    assert found.by_derivation == pytest.approx(derivation)
    assert found.by_instantiation == pytest.approx(instantiation)


def test_einspace_is_as_its_published_rules_say() -> None:
    """0.2267 of each of sequence, branching and routing: two, 14/3 or 4/3, and one module."""
    share, found = 0.68 / 3, growth(Grammar.load("einspace"))
    assert found.by_derivation == pytest.approx(share * (2 + 4 / 3 + 1))
    assert found.by_instantiation == pytest.approx(share * (2 + 14 / 3 + 1))
    assert found.tighten == "module"
    assert found.size == float("inf")


def test_a_mean_size_is_that_of_many_draws() -> None:
    grammar = Grammar.parse("net = m\nm = 0.75: relu | m tanh m")
    drawn = [
        sample(grammar, random.Random(i), input=(2, 4, 4), limits=Limits(10_000))
        for i in range(4000)
    ]
    mean = statistics.mean(one.size for one in drawn)
    assert growth(grammar).size == pytest.approx(2.0)
    assert mean == pytest.approx(2.0, abs=0.15)


def test_rules_of_endlessly_many_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="endlessly many arguments"):
        growth(Grammar.parse("net = deep(1)\ndeep(c) = 0.9: conv(c) | deep(c + 1) relu"))
