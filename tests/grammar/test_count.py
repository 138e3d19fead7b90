"""Counting, extremes, covers and tables of finite grammars agree with brute force."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas.grammar import Derivation, Grammar, GrammarError, derive, sample
from nas.grammar.count import count, cover, enumerate_all, extreme, follow_table, table
from nas.plan import plan

INPUT = (1, 16, 16)
TINY = [
    "net = conv({4, 8}) relu{0..2}",
    "net = stage(4) stage({6, 8})\nstage(c) = conv(c, kernel={1, 3}) (relu | gelu)",
    "net = (conv(4) | conv(8, stride=2) | relu){1..2} (pointwise(3) | identity)",
    "net = clone(2) [b; b] add\nb = conv({2, 4}, stride=2) | max_pool(3) conv(4)",
    "net = clone(3) [b * 3] concat\nb = conv({2, 4}) relu{0..1}",
    "net = mbconv({8, 16}, expand={1, 2, 4}) b{1..3}\nb = mbconv(8, kernel={3, 5}) | identity",
    "net = 0.9: relu | conv(2, kernel=17, padding=0) | patch(4) | patch(3) linear(2)\n"
    "patch(k) = im2col(k, k) col2im(height / k, width / k)",
]
spaces = pytest.mark.parametrize("name", ["mobile", "fbnetv5-small", "vit"])


@pytest.mark.parametrize("text", TINY)
class TestTinyGrammar:
    def test_count_is_the_number_enumerated_all_distinct(self, text: str) -> None:
        grammar = Grammar.parse(text)
        derivations = list(enumerate_all(grammar, input=INPUT))
        assert count(grammar, input=INPUT) == len(derivations) == len(set(derivations))
        assert len({str(d) for d in derivations}) == len(derivations)

    @pytest.mark.parametrize("of", ["flops", "params", "terminals"])
    def test_extremes_are_those_of_brute_force(self, text: str, of: str) -> None:
        grammar = Grammar.parse(text)
        values = [value(d, of) for d in enumerate_all(grammar, input=INPUT)]
        for largest, best in ((True, max(values)), (False, min(values))):
            assert value(extreme(grammar, input=INPUT, of=of, largest=largest), of) == best

    def test_cover_and_table_hold_every_option_of_every_site(self, text: str) -> None:
        grammar = Grammar.parse(text)
        covering = cover(grammar, input=INPUT)
        everything = set(pairs(enumerate_all(grammar, input=INPUT)))
        assert set(pairs(covering)) == everything
        assert len(covering) <= 2 * len(everything) + 1
        sites = table(grammar, input=INPUT)
        assert {(site, label) for site in sites for label in sites[site]} == everything
        assert not shapes_beyond(covering, list(enumerate_all(grammar, input=INPUT)))

    def test_any_assignment_of_the_table_derives(self, text: str) -> None:
        grammar = Grammar.parse(text)
        sites = table(grammar, input=INPUT)
        rng = random.Random(0)
        for _ in range(20):
            values = {site: rng.choice(labels) for site, labels in sites.items()}
            derivation = derive(grammar, follow_table(values), input=INPUT)
            assert set(derivation.by_site) <= set(sites)


def value(derivation: Derivation, of: str) -> int:
    if of == "terminals":
        return sum(not isinstance(term, str) for term in derivation.terms)
    return int(getattr(plan(derivation), of))


def pairs(derivations: Any) -> list[tuple[str, str]]:
    return [(c.site.name, c.label) for d in derivations for c in d.choices]


def largest_shapes(derivations: list[Derivation]) -> dict[tuple[str, str], list[int]]:
    """The elementwise largest shape of each parameter of each slot."""
    largest: dict[tuple[str, str], list[int]] = defaultdict(list)
    for derivation in derivations:
        for step in plan(derivation).steps:
            for param in step.params:
                known = largest[step.slot, param.name]
                known[:] = map(max, known or param.shape, param.shape)
    return largest


def shapes_beyond(covering: list[Derivation], others: list[Derivation]) -> list[Any]:
    """Parameters of `others` that do not fit into the largest ones of `covering`."""
    largest = largest_shapes(covering)
    return [
        (key, shape)
        for key, shape in largest_shapes(others).items()
        if key not in largest or any(a > b for a, b in zip(shape, largest[key], strict=True))
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "conv({2, 4})",
                "relu{0..2}",
                "(gelu | conv(3) | conv(2, stride=2))",
                "max_pool(3, stride=2)",
                "clone(2) [conv({2, 3}); conv(2)] add",
                "clone(2) [(relu | gelu) * 2] add",
                "conv(2, kernel={1, 5}, padding=0)",
                "mbconv({2, 4}, expand={1, 2}){1..2}",
            ]
        ),
        min_size=1,
        max_size=3,
    )
)
def test_count_of_random_grammars_is_the_number_enumerated(terms: list[str]) -> None:
    grammar = Grammar.parse(f"net = {' '.join(terms)}")
    number = count(grammar, input=(1, 7, 7))
    assume(0 < number < 300)
    assert len(set(enumerate_all(grammar, input=(1, 7, 7)))) == number


@spaces
def test_cover_bounds_every_parameter_of_random_derivations(name: str) -> None:
    grammar, rng = Grammar.load(name), random.Random(0)
    covering = cover(grammar, input=(3, 32, 32))
    others = [sample(grammar, rng, input=(3, 32, 32)) for _ in range(300)]
    assert not shapes_beyond(covering, others)
    assert set(pairs(others)) <= set(pairs(covering))


@spaces
def test_table_lists_every_site_and_label_ever_met(name: str) -> None:
    grammar, rng = Grammar.load(name), random.Random(1)
    sites = table(grammar, input=(1, 8, 8))
    for _ in range(100):
        for chosen in sample(grammar, rng, input=(1, 8, 8)).choices:
            assert set(sites[chosen.site.name]) >= {option.label for option in chosen.options}
    for _ in range(100):
        values = {site: rng.choice(labels) for site, labels in sites.items()}
        derivation = derive(grammar, follow_table(values), input=(1, 8, 8))
        assert all(values[site] == label for site, label in derivation.by_site.items())


@spaces
def test_extremes_bound_random_derivations(name: str) -> None:
    grammar, rng = Grammar.load(name), random.Random(2)
    for of in ("flops", "params"):
        low, high = (
            value(extreme(grammar, input=(3, 32, 32), of=of, largest=largest), of)
            for largest in (False, True)
        )
        made = [value(sample(grammar, rng, input=(3, 32, 32)), of) for _ in range(30)]
        assert low <= min(made) <= max(made) <= high


def test_shipped_finite_spaces_hold_as_many_as_their_text_says() -> None:
    assert count(Grammar.load("fbnetv5-small"), input=(3, 32, 32)) == 2**34
    block = 2 * 3
    first, second = 3 * (block + block**2), 3 * (block + block**2 + block**3)
    expected = 3 * first * second**2
    assert count(Grammar.load("mobile"), input=(1, 8, 8)) == expected
    assert count(Grammar.load("mobile"), input=(1, 28, 28)) == 3 * expected
    block = 3 * 3
    assert count(Grammar.load("vit"), input=(1, 28, 28)) == 3 * (block + block**2) ** 3


def test_recursive_grammar_is_refused() -> None:
    grammar = Grammar.load("einspace")
    for ask in (count, extreme, cover, table):
        with pytest.raises(GrammarError, match="einspace is recursive"):
            ask(grammar, input=(1, 8, 8))
    with pytest.raises(GrammarError, match="einspace is recursive"):
        next(enumerate_all(grammar, input=(1, 8, 8)))


def test_grammar_that_never_fits_counts_none_and_has_no_extreme() -> None:
    grammar = Grammar.parse("net = conv({2, 4}, kernel=9, padding=0)")
    assert count(grammar, input=(1, 5, 5)) == 0
    for ask in (extreme, cover, table):
        with pytest.raises(GrammarError, match="cannot be derived for an input of 1x5x5"):
            ask(grammar, input=(1, 5, 5))
