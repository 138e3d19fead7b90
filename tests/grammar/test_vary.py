"""Variation: children are valid, differ from their parents, and say where their parts come from."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.grammar import Derivation, Grammar, GrammarError, Limits, cross, mutate, replay, sample
from nas.plan import plan

INPUT = (3, 16, 16)
LIMITS = Limits(120)
EINSPACE = Grammar.load("einspace")
MOBILE = Grammar.load("mobile")


def drawn(grammar: Grammar, seed: int) -> Derivation:
    limits = None if grammar.finite else LIMITS
    return sample(grammar, random.Random(seed), input=INPUT, limits=limits)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([EINSPACE, MOBILE]), st.integers(0, 10**6))
def test_a_mutant_is_valid_within_limits_and_never_its_parent(grammar: Grammar, seed: int) -> None:
    parent = drawn(grammar, seed)
    child = mutate(parent, random.Random(seed), limits=LIMITS if not grammar.finite else None)
    assert child.derivation != parent
    again = replay(grammar, child.derivation.labels, input=INPUT)
    assert again == child.derivation
    operators = sum(not isinstance(term, str) for term in child.derivation.terms)
    assert grammar.finite or operators <= 120
    plan(child.derivation)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([EINSPACE, MOBILE]), st.integers(0, 10**6))
def test_a_cross_is_valid_and_neither_parent(grammar: Grammar, seed: int) -> None:
    a, b = drawn(grammar, seed), drawn(grammar, seed + 1)
    try:
        child = cross(a, b, random.Random(seed), limits=LIMITS if not grammar.finite else None)
    except GrammarError:
        return
    assert child.derivation not in (a, b)
    plan(child.derivation)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_every_part_of_a_child_is_its_parents_or_new(seed: int) -> None:
    """A site that continues one of the parent has its label wherever that was offered."""
    parent = drawn(EINSPACE, seed)
    child = mutate(parent, random.Random(seed), limits=LIMITS)
    for chosen in child.derivation.choices:
        found = child.origin(chosen.site.name)
        if found is None or child.kind == "swap":
            continue
        label = parent.by_site.get(found[1].lstrip(":/"))
        offered = [option.label for option in chosen.options]
        set_anew = child.kind in ("insert", "delete")
        assert label is None or label not in offered or label == chosen.label or set_anew


def test_the_same_stream_varies_the_same() -> None:
    parent = drawn(EINSPACE, 3)
    children = [mutate(parent, random.Random(5), limits=LIMITS).derivation for _ in range(2)]
    assert children[0] == children[1]


def test_a_child_does_not_hang_on_those_drawn_before_it() -> None:
    """What is kept of a parent, to resume it, changes nothing of what its children become."""
    parents = [drawn(EINSPACE, seed) for seed in range(4)]
    cases = [(parent, seed) for parent in parents for seed in range(8)]
    there = [mutate(parent, random.Random(seed), limits=LIMITS) for parent, seed in cases]
    EINSPACE.memory.clear()
    back = [mutate(parent, random.Random(seed), limits=LIMITS) for parent, seed in cases[::-1]]
    assert [one.derivation.terms for one in there] == [one.derivation.terms for one in back[::-1]]


def test_every_site_of_a_derivation_is_reached_by_mutation() -> None:
    parent = drawn(MOBILE, 0)
    changed = set[str]()
    rng = random.Random(0)
    for _ in range(600):
        child = mutate(parent, rng).derivation.by_site
        changed |= {site for site, label in parent.by_site.items() if child.get(site) != label}
    assert changed == set(parent.by_site)


def test_insertion_keeps_what_was_there_inside_the_new() -> None:
    for seed in range(200):
        parent = drawn(EINSPACE, seed)
        child = mutate(parent, random.Random(seed), limits=LIMITS)
        if child.kind != "insert":
            continue
        here, _, there = child.moves[0]
        inside = [c for c in child.derivation.choices if str(c.site.place).startswith(here)]
        assert inside
        assert len(here) > len(there)


def test_what_a_swap_leaves_as_it_was_is_the_parents_own() -> None:
    modules = [
        "compute norm",
        "compute leaky_relu",
        "routing reorder+ identity compute softmax identity",
        "branching split(2)+ clone(b) add compute norm compute softmax",
    ]
    labels = " sequence ".join(["", *modules * 10]).split() + ["compute", "norm"]
    parent = replay(EINSPACE, labels, input=INPUT)
    swapped = 0
    for seed in range(60):
        child = mutate(parent, random.Random(seed), limits=Limits(400)).derivation
        assert replay(EINSPACE, child.labels, input=INPUT).terms == child.terms
        differing = [(a, b) for a, b in zip(parent.choices, child.choices, strict=False) if a != b]
        if len(child.choices) == len(parent.choices) and len(differing) == 1:
            swapped += 1
            assert differing[0][0].site == differing[0][1].site
    assert swapped > 5


def test_a_child_keeps_within_smaller_limits_than_its_parent() -> None:
    for seed in range(40):
        parent = drawn(EINSPACE, seed)
        child = mutate(parent, random.Random(seed), limits=Limits(30)).derivation
        assert sum(not isinstance(term, str) for term in child.terms) <= 30


def test_what_cannot_vary_is_refused() -> None:
    only = Grammar.parse("net = relu m\nm = relu | conv(4, kernel=9, padding=0)")
    with pytest.raises(GrammarError, match="can be otherwise"):
        mutate(sample(only, random.Random(0), input=(2, 4, 4)), random.Random(0))
