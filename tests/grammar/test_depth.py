"""How deep rules may be nested: a limit that every offer keeps."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas.grammar import (
    Apply,
    Derivation,
    Grammar,
    GrammarError,
    Limits,
    choose_at_random,
    derive,
    mutate,
    replay,
    sample,
)
from nas.grammar.count import enumerate_all

CALLS = "net = a\na = relu | b tanh\nb = gelu | clone(2) [c; relu] add\nc = tanh | d\nd = relu relu"
OPEN = Grammar.parse(
    "net = m\nm = relu | m m | clone(2) [m; m] add | clone(2) [m * 2] add | deep\n"
    "deep = deeper\ndeeper = tanh | m tanh"
)


def depth(derivation: Derivation) -> int:
    """Rules around an operator, the start among them, by its path; what a bracket adds is none."""
    paths = (term.path for term in derivation.terms if isinstance(term, Apply))
    return max(len([p for p in path.split("/") if not re.match(r"copies", p)]) for path in paths)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 9])
def test_a_finite_grammar_offers_just_what_is_nested_no_deeper(most: int) -> None:
    grammar = Grammar.parse(CALLS)
    shallow = {d.labels for d in enumerate_all(grammar, input=(4,)) if depth(d) <= most}
    if not shallow:
        with pytest.raises(GrammarError, match=f"depth at most {most}: its rules nest 2 deep at"):
            sample(grammar, random.Random(0), input=(4,), limits=Limits(depth=most))
        return
    found = {
        sample(grammar, random.Random(seed), input=(4,), limits=Limits(depth=most)).labels
        for seed in range(100)
    }
    assert found == shallow


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 60))
def test_a_recursive_derivation_never_nests_deeper_than_it_may(
    seed: int, most: int, terminals: int
) -> None:
    limits = Limits(terminals, depth=most)
    choose = choose_at_random(random.Random(seed))
    found = derive(OPEN, choose, input=(4, 4, 4), limits=limits)
    assert depth(found) <= most
    assert found.size <= terminals
    assert replay(OPEN, found.labels, input=(4, 4, 4)) == found
    assume(found.size > 1)
    child = mutate(found, random.Random(seed), limits=limits).derivation
    assert depth(child) <= most


def test_einspace_is_drawn_and_varied_within_a_depth() -> None:
    grammar = Grammar.load("einspace")
    limits, deepest = Limits(300, depth=9), 0
    for seed in range(40):
        found = sample(grammar, random.Random(seed), input=(3, 16, 16), limits=limits)
        deepest = max(deepest, depth(found))
        assert replay(grammar, found.labels, input=(3, 16, 16)) == found
    assert deepest == 9
    free = sample(grammar, random.Random(3), input=(3, 16, 16), size=(150, 300))
    assert depth(free) > 9


def test_a_size_can_be_asked_for_within_a_depth() -> None:
    for seed in range(10):
        found = sample(OPEN, random.Random(seed), input=(4, 4, 4), limits=Limits(depth=7), size=12)
        assert found.size == 12
        assert depth(found) <= 7
    with pytest.raises(GrammarError, match="nest 2 deep"):
        sample(OPEN, random.Random(0), input=(4, 4, 4), limits=Limits(depth=1), size=12)
    with pytest.raises(GrammarError, match="no derivation with 500 operators"):
        sample(OPEN, random.Random(0), input=(4, 4, 4), limits=Limits(depth=4), size=500)


def test_a_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="depth counts rules from 1, and this is 0"):
        Limits(depth=0)
