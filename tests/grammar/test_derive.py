"""What is offered can always be completed, limits are exact, and derivations read back."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas.grammar import (
    Apply,
    Derivation,
    Grammar,
    GrammarError,
    Limits,
    Option,
    Site,
    derive,
    replay,
    sample,
    shipped_spaces,
)
from nas.grammar.count import enumerate_all
from nas.grammar.options import probabilities
from nas.plan import plan

COSTS = ("terminals", "params", "flops", "activations")
INPUT = (2, 5, 5)
SIMPLE = [
    "relu",
    "identity",
    "conv(2)",
    "conv({2, 3})",
    "conv(3, stride=2)",
    "max_pool(3)",
    "conv(2, kernel={1, 3}, padding=0)",
    "mbconv(2, expand={1, 2})",
    "upsample",
    "half",
]
JOINS = ["add", "concat", "(add | concat(2))", "concat({1, 3})", "matmul", "upsample_add"]
PIECES = [
    "{0} {1}",
    "({0} | {1})",
    "({0}){{0..2}}",
    "({0} {1}){{2}}",
    "clone(2) [{0}; {1}] {join}",
    "clone(2) [{0} * 2] {join}",
    "clone(2) [{0}; {0}] {join}",
    "group(2) [{0}; {1}] {join}",
    "clone(3) [{0}; {1}; relu] add",
    "clone(2) [{0}; {1}]{{1..2}} {join}",
]

terms = st.recursive(
    st.sampled_from(SIMPLE),
    lambda inner: st.builds(
        lambda piece, a, b, join: piece.format(a, b, join=join),
        st.sampled_from(PIECES),
        inner,
        inner,
        st.sampled_from(JOINS),
    ),
    max_leaves=5,
)


@st.composite
def finite_grammars(draw: Any) -> Grammar:
    body = draw(terms)
    half = "\nhalf = conv(2, stride=2) | conv(4, stride=2)" if "half" in body else ""
    return Grammar.parse(f"net = {body} output(coarse){half}")


MODULES = [
    "m m",
    "conv(3)",
    "conv(4, stride=2)",
    "relu m",
    "clone(2) [m; m] pair",
    "clone(2) [m * 2] add",
    "clone(3) [m * 3] concat(2)",
    "group(2) [m; m] pair",
    "upsample",
    "clone(2) [m relu; conv(2) m] pair",
    "conv({2, 4})",
    "deep(2)",
    "clone(3) [m; m; m] add",
    "tokens m col2im(height, width)",
    "m pair2",
]


@st.composite
def open_grammars(draw: Any) -> Grammar:
    modules = draw(st.lists(st.sampled_from(MODULES), min_size=1, max_size=5, unique=True))
    ends = draw(st.sampled_from(["relu", "conv(2)", "conv({2, 3})", "conv(2, stride=2)"]))
    body = " | ".join([ends, *modules]) + (" | m m" if "m m" not in modules else "")
    pair2 = "\npair2 = clone(2) [relu; m] matmul" if "pair2" in body else ""
    paired = "pair" in body.replace("pair2", "")
    pair = "\npair = add | matmul | concat | concat(3)" if paired else ""
    deep = "\ndeep(c) = conv(c) | conv(c) deep(c * 2)" if "deep" in body else ""
    start = draw(st.sampled_from(["m", "m m", "clone(2) [m; m] add", "conv(4) m m conv(3)"]))
    return Grammar.parse(f"net = {start}\nm = {body}{pair2}{pair}{deep}")


def cost(derivation: Derivation) -> dict[str, int]:
    costs = plan(derivation)
    operators = sum(isinstance(term, Apply) for term in derivation.terms)
    return {
        "terminals": operators,
        "params": costs.params,
        "flops": costs.flops,
        "activations": costs.activations,
    }


def every_derivation(grammar: Grammar, at_most: int = 150) -> list[Derivation]:
    """All derivations, by trying every label and throwing away what does not fit."""
    found: list[Derivation] = []
    tried, todo = 0, list[tuple[str, ...]]([()])
    while todo:
        labels = todo.pop()
        tried += 1
        assume(tried < 4 * at_most and len(found) < at_most)
        try:
            found.append(replay(grammar, labels, input=INPUT))
        except GrammarError as error:
            if ends := re.search(r"the labels end at .*; there are (.*)$", str(error)):
                todo += [(*labels, label) for label in ends[1].split(", ")[::-1]]
    return found


class Offers:
    """A random choice that remembers what was offered after which labels."""

    def __init__(self, seed: int):
        self.rng, self.labels = random.Random(seed), list[str]()
        self.offered: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def __call__(self, site: Site, options: Sequence[Option]) -> int:
        names = tuple(option.label for option in options)
        self.offered.append((tuple(self.labels), names))
        index = self.rng.randrange(len(options))
        self.labels.append(names[index])
        return index


def offers(grammar: Grammar, limits: Limits | None = None) -> Iterator[tuple[Offers, Any]]:
    """Some walks, each with its derivation, or None where the grammar is refused."""
    for seed in range(4):
        choose = Offers(seed)
        try:
            yield choose, derive(grammar, choose, input=INPUT, limits=limits)
        except GrammarError:
            assert not choose.offered, "refused after something was offered"
            yield choose, None


@settings(max_examples=60, deadline=None)
@given(finite_grammars())
def test_finite_grammar_offers_exactly_what_can_be_completed(grammar: Grammar) -> None:
    wanted = {d.labels for d in every_derivation(grammar)}
    for choose, derivation in offers(grammar):
        if derivation is None:
            assert not wanted
            continue
        assert derivation.labels in wanted
        for before, names in choose.offered:
            completed = {w[len(before)] for w in wanted if w[: len(before)] == before}
            assert set(names) == completed
            assert len(set(names)) == len(names)


@settings(max_examples=60, deadline=None)
@given(finite_grammars(), st.sampled_from(COSTS), st.floats(0, 1))
def test_offers_within_one_limit_are_exact(grammar: Grammar, name: str, share: float) -> None:
    everything = every_derivation(grammar)
    assume(everything)
    costs = {d.labels: cost(d)[name] for d in everything}
    low, high = min(costs.values()), max(costs.values())
    most = int(low + share * (high - low))
    within = {labels for labels, value in costs.items() if value <= most}
    for choose, derivation in offers(grammar, Limits(**{name: most})):
        assert derivation is not None
        assert derivation.labels in within
        for before, names in choose.offered:
            assert set(names) == {w[len(before)] for w in within if w[: len(before)] == before}
    for _, derivation in offers(grammar, Limits(**{name: low - 1})):
        assert derivation is None


@settings(max_examples=40, deadline=None)
@given(finite_grammars(), st.floats(0, 1), st.floats(0, 1))
def test_several_limits_are_never_exceeded(grammar: Grammar, a: float, b: float) -> None:
    costs = [cost(d) for d in every_derivation(grammar)]
    assume(costs)
    params, flops = (max(c[name] for c in costs) for name in ("params", "flops"))
    limits = Limits(params=int(a * params), flops=int(b * flops))
    for _, derivation in offers(grammar, limits):
        if derivation is not None:
            spent = cost(derivation)
            assert spent["params"] <= limits.params
            assert spent["flops"] <= limits.flops


@settings(max_examples=100, deadline=None)
@given(open_grammars(), st.integers(1, 40), st.sampled_from([None, "params", "activations"]))
def test_recursive_grammar_never_leads_into_a_dead_end(
    grammar: Grammar, most: int, also: str | None
) -> None:
    limits = Limits(most, **({also: 2000} if also else {}))
    for _, derivation in offers(grammar, limits):
        if derivation is not None:
            spent = cost(derivation)
            assert spent["terminals"] <= most
            assert not also or spent[also] <= 2000
            assert Derivation.read(str(derivation), grammar) == derivation


@settings(max_examples=60, deadline=None)
@given(st.one_of(finite_grammars(), open_grammars()), st.integers(0, 99))
def test_derivation_reads_back_equal_with_the_same_operators(grammar: Grammar, seed: int) -> None:
    try:
        derivation = sample(grammar, random.Random(seed), input=INPUT, limits=Limits(40))
    except GrammarError:
        return
    again = Derivation.read(str(derivation), grammar)
    assert again == derivation
    assert hash(again) == hash(derivation)
    assert str(again) == str(derivation)
    assert again.terms == derivation.terms
    assert [c.site for c in again.choices] == [c.site for c in derivation.choices]


@settings(max_examples=60, deadline=None)
@given(st.one_of(finite_grammars(), open_grammars()), st.integers(0, 99))
def test_names_of_sites_and_parameters_are_unique(grammar: Grammar, seed: int) -> None:
    try:
        derivation = sample(grammar, random.Random(seed), input=INPUT, limits=Limits(40))
    except GrammarError:
        return
    sites = [choice.site.name for choice in derivation.choices]
    assert len(set(sites)) == len(sites)
    assert len(derivation.by_site) == len(sites)
    paths = [term.path for term in derivation.terms if isinstance(term, Apply)]
    assert len(set(paths)) == len(paths)
    steps = plan(derivation).steps
    slots = [step.slot for step in steps if step.params]
    assert len(set(slots)) == len(slots)
    assert len({step.name for step in steps}) == len(steps)
    assert all(step.name.isidentifier() for step in steps)


def test_second_branch_need_not_repeat_one_that_its_join_refuses() -> None:
    grammar = Grammar.parse(
        "net = clone(2) [m; m] matmul\nm = 0.5: linear(3) | m m | linear(7) | permute(132)"
    )
    for seed in range(60):
        derivation = sample(grammar, random.Random(seed), input=(2, 3, 7), limits=Limits(12))
        plan(derivation)


def test_second_branch_may_turn_the_shape_where_one_operator_turns_it_back() -> None:
    grammar = Grammar.parse("net = clone(2) [m; m] add\nm = linear(8) | linear(16) | relu | m m")
    offered: list[set[str]] = []

    def choose(site: Site, options: Sequence[Option]) -> int:
        names = [option.label for option in options]
        offered.append(set(names))
        return names.index(["relu", "m+", "linear(16)", "linear(8)"][len(offered) - 1])

    made = derive(grammar, choose, input=(3, 8), limits=Limits(20))
    assert made.network_text == "clone [ relu ; linear(out=16) linear(out=8) ] add"
    assert "linear(16)" not in offered[1], "nothing comes after it that could turn it back"
    assert offered[3] == {"linear(8)"}


@pytest.mark.parametrize("join", ["add", "concat(2)", "matmul"])
def test_what_a_bracket_inside_a_branch_makes_fits_the_branch_beside(join: str) -> None:
    """The outer sum asks for a shape, and the inner join is turned round to see what makes it."""
    grammar = Grammar.parse(
        "net = clone(2) [m; relu] add\nm = linear(4) | linear(8) | permute(21) | inner | m m\n"
        f"inner = clone(2) [m; m] {join}"
    )
    made = [
        sample(grammar, random.Random(seed), input=(8, 8), limits=Limits(16)) for seed in range(60)
    ]
    assert all(plan(derivation).shapes[-1].dims == (8, 8) for derivation in made)
    assert sum("inner" in derivation.labels for derivation in made) > 5


@settings(max_examples=60, deadline=None)
@given(st.one_of(finite_grammars(), open_grammars()), st.integers(0, 99))
def test_costs_counted_without_a_plan_are_the_plans(grammar: Grammar, seed: int) -> None:
    try:
        derivation = sample(grammar, random.Random(seed), input=INPUT, limits=Limits(40))
    except GrammarError:
        return
    counted = derivation.cost
    everything = cost(derivation)
    assert counted.terminals == everything["terminals"]
    assert counted.params >= everything["params"], "a plan leaves out what no result reads"
    assert counted.flops >= everything["flops"]
    if not brackets(derivation):
        assert counted == tuple(everything.values())


def brackets(derivation: Derivation) -> bool:
    return any(isinstance(term, str) for term in derivation.terms)


def test_copies_share_the_derivation_and_not_the_weights() -> None:
    grammar = Grammar.parse("net = clone(3) [block * 3] add\nblock = conv({2, 4}) relu{0..2}")
    derivation = replay(grammar, ["out=4", "x2"], input=INPUT)
    assert derivation.network_text == (
        "clone(n=3) [ conv(out=4) relu relu ; conv(out=4) relu relu ; conv(out=4) relu relu ] add"
    )
    steps = [step for step in plan(derivation).steps if step.params]
    assert len({step.slot for step in steps}) == len({step.name for step in steps}) == 3
    assert len(derivation.choices) == 2


def test_sizes_that_come_out_equal_are_one_option() -> None:
    grammar = Grammar.parse("net = sub({2, 4})\nsub(c) = conv({c, 4, 2 * c})")
    made = [d.network_text for d in enumerate_all(grammar, input=INPUT)]
    assert sorted(made) == ["conv(out=2)", "conv(out=4)", "conv(out=4)", "conv(out=8)"]
    with pytest.raises(GrammarError, match=r"'out=2' is no option at .*; there are out=4, out=8"):
        replay(grammar, ["c=4", "out=2"], input=INPUT)


def test_bracket_repeated_keeps_its_weights_apart() -> None:
    grammar = Grammar.parse("net = clone(2) [conv(2); conv(2)]{2} add")
    steps = [s for s in plan(replay(grammar, [], input=INPUT)).steps if s.params]
    assert len({step.slot for step in steps}) == 4


def test_shares_are_what_given_weights_leave() -> None:
    options = [Option("a", 0.4), Option("b"), Option("c"), Option("d", 0.2)]
    assert probabilities(options) == pytest.approx([0.4, 0.2, 0.2, 0.2])
    assert probabilities([Option("a", 2.0), Option("b", 6.0)]) == [0.25, 0.75]
    assert probabilities([Option("a"), Option("b")]) == [0.5, 0.5]


def test_weights_are_the_frequencies_of_samples() -> None:
    grammar = Grammar.parse("net = 0.7: relu | gelu | silu")
    rng = random.Random(1)
    made = [sample(grammar, rng, input=INPUT).labels[0] for _ in range(2000)]
    assert made.count("relu") / 2000 == pytest.approx(0.7, abs=0.03)
    assert made.count("gelu") / 2000 == pytest.approx(0.15, abs=0.03)


MOBILE = Grammar.load("mobile")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("what is this", "'what is this' is no derivation: it begins as"),
        ("mobile@beef 1x8x8: out=8", "mobile has changed: its hash is"),
        (f"mobile@{MOBILE.hash} 1xx8: out=8", "is no derivation"),
        (f"mobile@{MOBILE.hash} 0x8x8: out=8", "is no derivation"),
        (f"mobile@{MOBILE.hash} 1x8x8: out=9", "'out=9' is no option at stem.*there are out=4"),
        (f"mobile@{MOBILE.hash} 1x8x8: out=8", "the labels end at stage.0:c; there are c=4"),
        (f"mobil@{'0' * 12} 1x8x8: out=8", "Did you mean 'mobile'"),
    ],
)
def test_text_that_does_not_fit_says_why(text: str, reason: str) -> None:
    with pytest.raises(GrammarError, match=reason):
        Derivation.read(text)


def test_labels_left_over_and_another_grammar_are_refused() -> None:
    derivation = sample(MOBILE, random.Random(0), input=(1, 8, 8))
    with pytest.raises(GrammarError, match="1 labels are left over, from 'x9' on"):
        Derivation.read(f"{derivation} x9")
    with pytest.raises(GrammarError, match="read it with the grammar that made it"):
        Derivation.read(str(derivation), Grammar.load("einspace"))


def test_choice_out_of_range_is_an_error() -> None:
    with pytest.raises(IndexError, match="choose gave 7 at stem"):
        derive(MOBILE, lambda site, options: 7, input=(1, 8, 8))


@pytest.mark.parametrize(
    ("text", "limits", "reason"),
    [
        ("net = conv(4, kernel=9, padding=0)", None, "nothing is left of the shape"),
        ("net = conv(4, kernel=9, padding=0) | linear(3) tokens tokens", None, "no option of net"),
        ("net = conv(64)", Limits(params=10), "with params at most 10: the only derivation"),
        ("net = conv({16, 64})", Limits(params=10), "least completion found at conv:out costs"),
    ],
)
def test_grammar_that_never_fits_is_refused_at_once(
    text: str, limits: Limits | None, reason: str
) -> None:
    with pytest.raises(GrammarError, match=reason):
        sample(Grammar.parse(text), random.Random(0), input=INPUT, limits=limits)


def test_same_seed_gives_the_same_derivations_in_any_process() -> None:
    program = (
        "import random\nfrom nas.grammar import Grammar, sample\n"
        f"for space in {list(shipped_spaces())}:\n"
        "    for seed in range(6):\n"
        "        d = sample(Grammar.load(space), random.Random(seed), input=(3, 32, 32))\n"
        "        print(d, d.network_text)\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert said.pop().count("\n") == 6 * len(shipped_spaces())


def test_earlier_derivations_do_not_change_later_ones() -> None:
    grammar = Grammar.load("einspace")
    alone = str(sample(grammar, random.Random(5), input=(3, 8, 8)))
    for seed in range(5):
        sample(grammar, random.Random(seed), input=(3, 8, 8))
    assert str(sample(grammar, random.Random(5), input=(3, 8, 8))) == alone


def test_a_random_stream_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"rng is a random.Random, as random.Random\(0\)"):
        sample(Grammar.load("mobile"), 0, input=INPUT)  # type: ignore[arg-type]


def test_limits_that_nothing_fits_are_said_in_words() -> None:
    reason = "with terminals at most 2: the least completion found at .* costs 3 terminals"
    with pytest.raises(GrammarError, match=reason):
        sample(Grammar.load("einspace"), random.Random(0), input=INPUT, limits=Limits(2))


@pytest.mark.parametrize(
    "text",
    [
        "net = m\nm = a | relu m | conv(3) m\na = b | conv(2)\nb = a | relu",
        "net = clone(2) [m; m] add\nm = relu{0..1} | m m | conv({2, 3})",
    ],
)
def test_what_was_derived_before_makes_no_difference(text: str) -> None:
    """What is remembered of a grammar only saves time, also where rules lead in a circle."""
    worn = Grammar.parse(text)
    for seed in range(40):
        sample(worn, random.Random(1000 + seed), input=INPUT, limits=Limits(20))
    for seed in range(20):
        fresh = Grammar.parse(text)
        a, b = (
            sample(g, random.Random(seed), input=INPUT, limits=Limits(20)) for g in (worn, fresh)
        )
        assert a == b
        assert [c.options for c in a.choices] == [c.options for c in b.choices]


def test_einspace_is_derived_alike_whatever_was_derived_before() -> None:
    worn, inputs = Grammar.load("einspace"), [(3, 32, 32), (4, 64), (12, 8, 8)]
    for seed in range(60):
        sample(worn, random.Random(1000 + seed), input=inputs[seed % 3], limits=Limits(500))
    text = "\n\n".join(map(str, worn.rules.values()))
    for seed in range(12):
        fresh = Grammar.parse(text, name="einspace")
        a, b = (
            sample(g, random.Random(seed), input=inputs[seed % 3], limits=Limits(500))
            for g in (worn, fresh)
        )
        assert a.labels == b.labels
        assert [c.options for c in a.choices] == [c.options for c in b.choices]


def test_a_long_chain_of_what_cannot_do_nothing_is_no_matter() -> None:
    grammar = Grammar.parse("net = m\nm = 0.1: conv(2) | m m")
    derivation = sample(grammar, random.Random(0), input=INPUT, limits=Limits(2_000))
    assert sum(isinstance(term, Apply) for term in derivation.terms) == 2_000
    assert Derivation.read(str(derivation), grammar) == derivation


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("net = conv({4, 8: 0.2 0.6}) output(coarse)", {"out=4": 0.25, "out=8": 0.75}),
        ("net = conv({8..16 by 4: 1 1 2}) output(coarse)", {"out=8": 0.25, "out=16": 0.5}),
        ("net = relu{0..2: 0.5 0.3 0.2} output(coarse)", {"x0": 0.5, "x1": 0.3, "x2": 0.2}),
        ("net = relu{1..2: 3 1} output(coarse)", {"x1": 0.75, "x2": 0.25}),
        ("net = conv({4, 2 + 2, 8: 1 1 2}) output(coarse)", {"out=4": 0.5, "out=8": 0.5}),
    ],
)
def test_sizes_and_numbers_of_times_are_drawn_by_their_weights(
    text: str, wanted: dict[str, float]
) -> None:
    grammar, rng = Grammar.parse(text, name="w"), random.Random(0)
    drawn = [sample(grammar, rng, input=(3, 8, 8)).labels[0] for _ in range(4000)]
    for label, share in wanted.items():
        assert drawn.count(label) / len(drawn) == pytest.approx(share, abs=0.03)
    plain = Grammar.parse(re.sub(r":[ \d.]+}", "}", text), name="w")
    assert {d.labels for d in enumerate_all(plain, input=(3, 8, 8))} == {
        d.labels for d in enumerate_all(grammar, input=(3, 8, 8))
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net = conv({4, 8: 0.2}) output(coarse)", "0.2 are no weights of 2 sizes"),
        ("net = conv({4, 8: 0 1}) output(coarse)", "each has one, above 0"),
        ("net = relu{0..2: 1 1} output(coarse)", "1 1 are no weights of 3 sizes"),
        ("net = relu{0..2: 1 1 1 1} output(coarse)", "are no weights of 3 sizes"),
        ("net = a(2) output(coarse)\na(n) = relu{0..n: 1 1 1}", "and these are worked out"),
    ],
)
def test_weights_that_do_not_fit_sizes_are_refused(text: str, words: str) -> None:
    with pytest.raises(GrammarError, match=words):
        sample(Grammar.parse(text, name="w"), random.Random(0), input=(3, 8, 8))
