"""Networks made by hand are read as derivations, or the error says where no rule fits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nas.grammar import Apply, Derivation, Grammar, GrammarError, read_network, replay, sample

IMAGE = (3, 32, 32)


def operators(derivation: Derivation) -> list[Any]:
    """What a derivation comes to, without paths."""
    return [(t.operator, dict(t.args)) if isinstance(t, Apply) else t for t in derivation.terms]


@pytest.mark.parametrize(
    ("name", "input"),
    [
        ("einspace", IMAGE),
        ("einspace", (1, 8, 8)),
        ("einspace", (4, 64)),
        ("einspace", (2, 6, 6, 6)),
        ("mobile", IMAGE),
        ("mobile", (1, 8, 8)),
        ("fbnetv5-small", IMAGE),
        ("fbnetv5-small", (1, 8, 8)),
        ("vit", (1, 8, 8)),
    ],
)
def test_what_a_grammar_derives_it_reads_back_from_its_operators(
    name: str, input: tuple[int, ...]
) -> None:
    grammar = Grammar.load(name)
    read = 0
    for seed in range(25):
        one = sample(grammar, random.Random(seed), input=input)
        if len(one.terms) > 150:
            continue
        again = read_network(grammar, one.network_text, input=input)
        assert operators(again) == operators(one)
        assert replay(grammar, again.labels, input=input) == again
        read += 1
    assert read >= 10


def test_network_may_be_written_in_rules_with_repetitions_and_copies() -> None:
    text = """
# two residuals
net       = residual(16){2} output(coarse)   # by name
residual(c) = clone(2) [grid(c) norm; [identity * 1]] concat(1)
  linear(c)
grid(c)   = im2col(3, 1, 1) linear(c) col2im(height, width)
"""
    with pytest.raises(GrammarError, match="at the bracket after operator 5, on 3x8x8; there it"):
        read_network(Grammar.load("einspace"), text, input=(3, 8, 8))
    plain = text.replace("[identity * 1]", "identity")
    found = read_network(Grammar.load("einspace"), plain, input=(3, 8, 8))
    assert found.network_text.startswith(
        "clone [ im2col(padding=1) linear(out=16) col2im(height=8, width=8) norm ; identity ] "
        "concat linear(out=16) clone ["
    )


@pytest.mark.parametrize("rule", ["", "net = ", "# of norms\nnet(c=3) = "])
def test_comments_stand_before_a_network(rule: str) -> None:
    text = f"\n{'#' * 60}\n  {'# ' * 30}\n\n{rule}norm norm output(coarse) # twice\n"
    found = read_network(Grammar.load("einspace"), text, input=IMAGE)
    assert found.network_text == "norm norm output(name=coarse)"


def test_copies_are_one_derivation_on_every_stream() -> None:
    grammar = Grammar.load("einspace")
    found = read_network(grammar, "clone(4) [linear(16) norm * 4] add output(coarse)", input=IMAGE)
    assert "many(4)" in found.labels
    assert found.labels.count("linear(16)") == 1
    with pytest.raises(GrammarError, match=r"there it takes a bracket of 4 equal branches"):
        read_network(
            grammar, "clone(4) [norm; norm; norm; identity] add output(coarse)", input=IMAGE
        )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "im2col(3, 1, 1) linear(48) col2im(32, 32) output(coarse)",
            "no rule of einspace fits mine at operator 2, linear(out=48), on sequence:1024x27; "
            "there it takes clone, group, identity, leaky_relu, linear(out=1024), linear(out=128)",
        ),
        (
            "linear(64) relu output(coarse)",
            "at operator 2, relu, on 3x32x64; there it takes clone, group, identity, im2col",
        ),
        ("linear(64) norm", "at its end after operator 2, with 3x32x64; there it takes clone"),
        (
            "clone [linear(16); im2col(1, 1, 0)] [identity; col2im(32, 32) linear(16)] add "
            "output(coarse)",
            "at the end of a branch after operator 3, with sequence:1024x3; there it takes",
        ),
        (
            "clone [norm linear(48); linear(48) norm] add output(coarse)",
            "at operator 3, linear(out=48), on 3x32x32; there it takes clone",
        ),
        ("norm output(fine)", "operator 2, output(name=fine), on 3x32x32; there it takes clone"),
        (
            "norm norm output(coarse) norm",
            "at operator 4, norm, on 3x32x32; there it takes nothing more",
        ),
        (
            "im2col(3) linear(16) col2im(32, 32) output(coarse)",
            "mine does not fit an input of 3x32x32: operator 3, col2im cannot take "
            "sequence:900x16: 900 positions",
        ),
        ("norm conf(3)", "mine:1:16: 'conf' has no rule and is no operator"),
        ("(norm | relu) output(coarse)", "mine leaves group0 open, norm, relu: a network"),
        ("linear({16, 32}) output(coarse)", "open, out=16, out=32: a network has no choices"),
    ],
)
def test_error_says_where_no_rule_fits_and_what_would(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        read_network(Grammar.load("einspace"), text, input=IMAGE, name="mine")
    assert reason in str(caught.value)


def test_long_network_nests_as_a_balanced_tree() -> None:
    text = "net = (linear(16) leaky_relu){64} output(coarse)"
    found = read_network(Grammar.load("einspace"), text, input=IMAGE)
    assert sum(label == "compute" for label in found.labels) == 128
    deepest = max(choice.site.name.count("/sequence/") for choice in found.choices)
    assert deepest == 7
    assert max(len(choice.site.name) for choice in found.choices) < 200


def test_rule_that_leads_straight_to_itself_does_no_harm() -> None:
    grammar = Grammar.parse("net = a\na = b | relu | a a\nb = a | gelu | b{0..2} norm")
    found = read_network(grammar, "relu gelu norm relu", input=IMAGE)
    assert found.network_text == "relu gelu norm relu"


def test_repetition_that_may_be_none_is_read_as_none() -> None:
    grammar = Grammar.parse("net = norm{0..2} (gelu | relu){2} norm{0..1}")
    found = read_network(grammar, "relu gelu", input=IMAGE)
    assert found.labels == ("x0", "relu", "gelu", "x0")


def test_operators_of_ones_own_are_read_as_the_space_names_them(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text("def twice(x):\n    return x * 2\n")
    (tmp_path / "own.grammar").write_text("use ./ops.py:twice as twice\nnet = (twice | relu){1..3}")
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    assert read_network(grammar, "twice relu", input=IMAGE).labels == ("x2", "twice", "relu")
