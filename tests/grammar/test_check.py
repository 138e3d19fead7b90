"""What is wrong with a grammar is said before anything is derived, with the place and a hint."""

from __future__ import annotations

import pytest

from nas.grammar import Derivation, Grammar, GrammarError, derive

FAULTS = [
    ("net = conv5(3)", "1:7", "'conv5' has no rule and is no operator. Did you mean 'conv'?"),
    ("net = blok\nblock = relu", "1:7", "'blok' has no rule and is no operator. Did you mean"),
    ("net = zzz", "1:7", "'zzz' has no rule and is no operator."),
    ("net = sub(3)\nsub(c) = conv(c) (c)", "2:19", "parenthesis is written right after its name"),
    ("net = conv(3, kernl=5)", "1:7", "conv has no argument 'kernl'. Did you mean 'kernel'?"),
    ("net = relu(3)", "1:7", "relu takes 0 arguments, 1 given"),
    ("net = conv", "1:7", "conv needs the argument 'out'"),
    ("net = conv(3, out=5)", "1:7", "conv is given 'out' twice"),
    ("net = conv(out=3, 5)", "1:7", "conv: 5 comes after a named argument; name it"),
    ("net = conv(0)", "1:7", "conv(out=0) wants at least 1"),
    ("net = conv(3, stride=0)", "1:7", "conv(stride=0) wants at least 1"),
    ("net = conv(1.5)", "1:7", "conv(out=1.5) wants a number of type int"),
    ("net = conv({3, 5, 3})", "1:7", "{3, 5, 3} names a size twice"),
    ("net = sub(3)\nsub(c) = conv(d)", "2:10", "'d' is no parameter of 'sub': it has c"),
    ("net = sub(3)\nsub(c) = relu{n}", "2:1", "'n' is no parameter of 'sub': it has c"),
    ("net = clone(2) [relu * m] add", "1:1", "'m' is no parameter of 'net': it has none"),
    ("net = sub(3)\nsub(c, d) = conv(c)", "1:7", "sub needs the argument 'd'"),
    ("net = sub(3, 4)\nsub(c) = conv(c)", "1:7", "sub takes 1 arguments, 2 given"),
    ("net(c) = conv(c)", "1:1", "the start rule's parameter 'c' needs a default"),
    ("net = relu\nlost = relu\n", "2:1", "no derivation from 'net' reaches 'lost'"),
    ("net = sub\nsub = relu sub", "2:1", "'sub' cannot end: every alternative leads back to it"),
    ("net = relu a\na = b relu | b\nb = a", "2:1", "'a' cannot end"),
    ("net = relu\nrelu = relu gelu", "2:1", "'relu' cannot end: every alternative leads back"),
    ("net = relu\n\n# second\nnet = gelu", "4:1", "'net' has two rules; the first is at line 1"),
    ("net = 0.7: relu | 0.5: gelu | tanh", "1:1", "the weights of 'net' sum to 1.2"),
    ("net = 1: relu | gelu", "1:1", "leave something below 1"),
    ("net = relu (0: gelu | tanh)", "1:1", "must be above 0"),
    ("net = clone(2) relu", "1:16", "relu takes 1 stream, 2 arrive"),
    ("net = matmul", "1:7", "matmul takes 2 streams, 1 arrive"),
    ("net = [relu; gelu] add", "1:8", "2 branches, and 1 streams arrive: put clone(2) before it?"),
    ("net = clone(3) [relu * 2] add", "1:17", "wants 2 streams, 3 arrive"),
    ("net = relu | clone(2)", "1:1", "leave [1, 2] streams; all must leave equally many"),
    ("net = clone(2){2} add", "1:7", "repeats what takes 1 streams and leaves 2"),
]


@pytest.mark.parametrize(("text", "place", "reason"), FAULTS)
def test_fault_says_where_why_and_what_to_do(text: str, place: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar.parse(text, name="my.grammar")
    message = str(caught.value)
    assert message.startswith(f"my.grammar:{place}: ")
    assert reason in message
    shown, caret = message.splitlines()[-2:]
    line, column = map(int, place.split(":"))
    assert shown.strip() == text.splitlines()[line - 1].strip()
    assert caret.index("^") == column - 1 + 4


@pytest.mark.parametrize(
    "text",
    [
        "net = clone(2) [relu; clone(2) [gelu; tanh] add] add",
        "net = split(4) add\nsplit(b) = clone(b) | group(b)",
        "net = clone(2) pair\npair = matmul | add",
        "net = fork [relu * 2] add\nfork(n=2) = clone(n)",
        "net = clone(3) fuse [relu; relu; relu] add",
        "grow = conv(3) | conv(3) grow",
        "net = grow(4)\ngrow(c) = conv(c) | conv(c) grow(c * 2)",
        "net = a(1)\na(n) = relu | b(n + 1)\nb(n) = gelu a(n + 1) | a(n * 2) b(n)",
        "net = conv({4, 8}){0..height} relu",
        "net = 2: relu | 6: gelu",
        "net = patch(4)\npatch(k) = conv(channels, kernel=k, stride=k)",
    ],
)
def test_sound_grammar_is_accepted(text: str) -> None:
    assert Grammar.parse(text).rules


def test_repetition_may_depend_on_the_size_that_arrives() -> None:
    from nas.grammar import replay

    grammar = Grammar.parse("net = max_pool(2){height / 4}")
    made = replay(grammar, [], input=(1, 8, 8))
    assert made.network_text == "max_pool(kernel=2) max_pool(kernel=2)"


@pytest.mark.parametrize(
    ("text", "finite"),
    [
        ("net = a b\na = relu | gelu\nb = a{1..3}", True),
        ("net = a\na = relu | relu a", False),
        ("net = a\na = relu | b\nb = gelu a", False),
    ],
)
def test_grammar_is_finite_unless_a_rule_leads_back_to_itself(text: str, finite: bool) -> None:
    assert Grammar.parse(text).finite is finite


def test_a_rule_of_a_space_goes_before_an_operator_of_its_name() -> None:
    """So a space reads as it did when operators are added."""
    own = Grammar.parse("net = conv(4) item pool\nitem = relu | gelu")
    other = Grammar.parse("net = conv(4) act pool\nact = relu | gelu")
    for index in (0, 1):
        networks = [
            derive(grammar, lambda site, options, index=index: index, input=(3, 8, 8))
            for grammar in (own, other)
        ]
        assert len({str(derivation).partition(":")[2] for derivation in networks}) == 1
        assert Derivation.read(str(networks[0]), own) == networks[0]
