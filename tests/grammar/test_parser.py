"""Text to rules and back, imports, and errors of syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.grammar import Grammar, GrammarError, shipped_spaces
from nas.grammar.parser import parse, parser
from nas.grammar.rules import Repeat


def rules(text: str) -> list[Any]:
    return parse(text, "test")[0]


def printed(text: str) -> str:
    return "\n".join(map(str, rules(text)))


def test_syntax_has_no_conflict() -> None:
    parser.__wrapped__(strict=True)


names = st.sampled_from(["a", "b", "c2", "_d", "net", "imports", "used", "Block", "min", "height"])
numbers = st.one_of(
    st.integers(0, 4096).map(str), st.floats(0, 10, allow_subnormal=False).map(lambda x: f"{x:.7f}")
)
expressions = st.recursive(
    numbers | numbers.map("-{}".format) | names,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)
        | st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner)
    ),
    max_leaves=4,
)
chances = st.lists(st.floats(1e-6, 9).map(lambda x: f"{x:.7f}"), max_size=3).map(" ".join)
chances = chances.map(lambda text: f": {text}" if text else "")
elastic = st.builds(
    lambda v, weights: f"{{{', '.join(v)}{weights}}}",
    st.lists(expressions, min_size=2, max_size=4),
    chances,
)
values = expressions | elastic
calls = st.builds(
    lambda name, args: f"{name}({', '.join(args)})" if args else name,
    names,
    st.lists(values | st.builds("{}={}".format, names, values), max_size=3),
)


def sequences(terms: Any) -> Any:
    return st.lists(terms, min_size=1, max_size=2).map(" ".join)


def choices(terms: Any) -> Any:
    weighted = st.builds(
        lambda weight, terms: f"{weight}: {terms}" if weight else terms,
        st.none() | st.floats(1e-6, 1).map(lambda x: f"{x:.8f}"),
        sequences(terms),
    )
    return st.lists(weighted, min_size=1, max_size=3).map(" | ".join)


def compound(terms: Any) -> Any:
    group = choices(terms).map("({})".format)
    streams = st.lists(sequences(terms), min_size=1, max_size=2).map(lambda b: f"[{'; '.join(b)}]")
    copies = st.builds("[{} * {}]".format, sequences(terms), expressions)
    once = group | streams | copies
    times = st.builds("{}{{{}}}".format, once | calls, expressions)
    between = st.builds("{}{{{}..{}{}}}".format, once | calls, expressions, expressions, chances)
    return once | times | between


bodies = choices(st.recursive(calls, compound, max_leaves=4))
heads = st.builds(
    lambda name, params: f"{name}({', '.join(params)})" if params else name,
    names,
    st.lists(names | st.builds("{}={}".format, names, expressions), max_size=2),
)
texts = st.lists(st.builds("{} = {}".format, heads, bodies), min_size=1, max_size=3).map("\n".join)


@settings(max_examples=20, deadline=None)
@given(texts)
def test_printed_rules_parse_to_equal_rules(text: str) -> None:
    read = rules(text)
    assert rules(printed(text)) == read
    assert [str(rule) for rule in rules(printed(text))] == [str(rule) for rule in read]


@settings(max_examples=12, deadline=None)
@given(texts, st.data())
def test_layout_means_nothing(text: str, data: Any) -> None:
    layout = st.sampled_from([" ", "\n  ", "\n\t", " # said\n  ", "\n# said\n   ", "\r\n  "])
    laid_out = "".join(
        data.draw(layout) if c == " " and not before.endswith(("import", "use")) else c
        for c, before in zip(text, (text[:i] for i in range(len(text))), strict=True)
    )
    assert rules(laid_out) == rules(text)


@pytest.mark.parametrize("name", shipped_spaces())
def test_shipped_space_is_the_same_when_its_text_is_read_again(name: str) -> None:
    grammar = Grammar.load(name)
    again = Grammar.parse(grammar.text, name=name)
    assert again.rules == grammar.rules
    assert again.text == grammar.text
    assert again.hash == grammar.hash


def test_line_ends_of_windows_are_read() -> None:
    text = "net = a | b\n\nb = conv(3)\n  relu\na = conv(5)\n"
    assert rules(text.replace("\n", "\r\n")) == rules(text)


def test_comments_stand_between_alternatives_and_rules() -> None:
    text = """
# first
net = conv(3)  # one
    # two
    | conv(5)
# three
    | relu
# four

sub = gelu
"""
    assert printed(text) == "net = conv(3) | conv(5) | relu\nsub = gelu"


def test_lines_go_on_by_indent_or_a_leading_bar() -> None:
    assert printed("net = conv(3)\n| conv(5)\n  relu\n\n| gelu\nx = y") == (
        "net = conv(3) | conv(5) relu | gelu\nx = y"
    )


def test_numbers_do_not_swallow_a_range() -> None:
    (rule,) = rules("net = conv(3){0..3} (relu){1..n - 1}")
    first, second = rule.body.alternatives[0].terms
    assert isinstance(first, Repeat)
    assert isinstance(second, Repeat)
    assert (str(first.low), str(first.high)) == ("0", "3")
    assert (str(second.low), str(second.high)) == ("1", "(n - 1)")


def test_a_range_of_sizes_is_all_of_them() -> None:
    assert rules("a = b({16..40 by 8})") == rules("a = b({16, 24, 32, 40})")
    assert rules("a = b(k={1..2 by 1}) by") == rules("a = b(k={1, 2}) by")  # which stays a name


@pytest.mark.parametrize(
    "sizes", ["{16..40 by 7}", "{4..4 by 1}", "{8..4 by 2}", "{8..16 by 0}", "{0..999 by 1}"]
)
def test_a_range_that_is_none_is_refused(sizes: str) -> None:
    with pytest.raises(GrammarError, match=r"1:8: .* is no range: it goes up"):
        rules(f"a = b({sizes})")


def test_weights_and_small_numbers_print_in_full() -> None:
    assert printed("net = 0.00000012: relu | 0.1234567890123: gelu | own(0.00001)") == (
        "net = 0.00000012: relu | 0.1234567890123: gelu | own(0.00001)"
    )


def test_labels_tell_alternatives_apart() -> None:
    (rule,) = rules("net = conv(3) relu | conv(3) gelu | conv(3) | conv({3, 5}) | conv")
    labels = [a.label for a in rule.body.alternatives]
    assert labels == ["conv(3)+", "conv(3)+#2", "conv(3)", "conv", "conv#2"]


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("net = conv(3", "1:13", "the end of the line does not fit here"),
        ("net = conv(3))", "1:14", "')' does not fit here"),
        ("net = conv(,)", "1:12", "',' does not fit here: expected"),
        ("net = [conv(3); ]", "1:17", "']' does not fit here"),
        ("net = | conv(3)", "1:7", "'|' does not fit here"),
        ("net = conv(3)\nsub conv(5)", "2:5", "expected '=' "),
        ("net = conv(3)\nsub = relu $", "2:12", "this character means nothing"),
        ("net =", "1:6", "the end of the line does not fit here"),
        ("net = conv (3)", "1:14", "a call's parenthesis is written right after its name, conv(…)"),
        ("net = conv (out=3)", "1:16", "right after its name, conv(…)"),
        ("net = relu block (3, 5)", "1:20", "right after its name, block(…)"),
        ("block (c) = conv(c)", "1:7", "right after its name, block(…)"),
        ("net = conv({3})", "1:14", "'}' does not fit here"),
        ("net = relu{1...2}", "1:15", "this character means nothing"),
    ],
)
def test_error_of_syntax_says_where_and_why(text: str, place: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar.parse(text, name="my.grammar")
    message = str(caught.value)
    assert message.startswith(f"my.grammar:{place}: ")
    assert reason.strip() in message
    assert "Token(" not in message
    line, column = map(int, place.split(":"))
    shown, caret = message.splitlines()[-2:]
    assert shown.strip() == text.splitlines()[line - 1].strip()
    assert caret.index("^") == column - 1 + 4


def test_plain_group_after_a_name_is_no_call() -> None:
    assert printed("net = conv(3) (relu | gelu) (conv(5) | relu)") == (
        "net = conv(3) (relu | gelu) (conv(5) | relu)"
    )


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.grammar").write_text(text)
    return folder / f"{next(iter(texts))}.grammar"


def test_rule_of_the_importer_wins_whole_with_its_weights(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        mine="import ./base.grammar\nnet = stem block\nblock = 0.9: relu | gelu",
        base="other = stem block\nstem = conv(3)\nblock = 0.2: silu | tanh | deep\ndeep = relu",
    )
    assert Grammar.load(path).text == (
        "net = stem block\nblock = 0.9: relu | gelu\nstem = conv(3)\n"
    )


def test_grammar_extended_without_a_start_of_its_own_keeps_the_imported_start(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path,
        mine="import base.grammar\nblock = 0.9: relu | gelu",
        base="net = stem block\nstem = conv(3)\nblock = silu | tanh",
    )
    grammar = Grammar.load(path)
    assert grammar.start == "net"
    assert str(grammar.rules["block"]) == "block = 0.9: relu | gelu"


def test_imported_rules_that_nothing_reaches_are_dropped(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        mine="import base.grammar\nnet = stem",
        base="all = stem rest\nstem = conv(3)\nrest = relu | rest relu",
    )
    grammar = Grammar.load(path)
    assert list(grammar.rules) == ["net", "stem"]
    assert grammar.finite
    assert Grammar.parse(grammar.text).hash == grammar.hash


def test_shipped_space_is_imported_by_its_bare_name(tmp_path: Path) -> None:
    path = write(tmp_path, mine="import mobile\nblock(c, s) = conv(c, stride=s) relu")
    grammar = Grammar.load(path)
    assert grammar.start == "net"
    assert "mbconv" not in grammar.text


def test_operators_of_ones_own_are_imported_with_their_grammar(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ops.py").write_text("def twice(x):\n    return x * 2\n")
    (tmp_path / "sub" / "base.grammar").write_text("use ./ops.py:twice as twice\nbase = twice")
    path = write(tmp_path, mine="import ./sub/base.grammar\nnet = relu base")
    assert list(Grammar.load(path, trust_code=True).used) == ["twice"]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"a": "import a.grammar\nnet = relu"}, "a.grammar:1:1: 'a.grammar' leads back to itself"),
        (
            {"a": "import ./b.grammar\nnet = sub", "b": "sub = relu\nimport ././a.grammar"},
            "b.grammar:2:1: '././a.grammar' leads back to itself: a.grammar imports b.grammar "
            "imports a.grammar",
        ),
        (
            {"a": "net = relu\nimport ./none.grammar"},
            "a.grammar:2:1: './none.grammar' cannot be read: No such file",
        ),
        (
            {"a": "import mobil\nnet = relu"},
            "a.grammar:1:1: 'mobil' is no shipped space. Did you mean 'mobile'?",
        ),
        ({"a": "import b.grammar\nnet = sub", "b": "sub = conv (3)"}, "b.grammar:1:14: ')' does"),
        ({"a": "import b.grammar\nnet = sub", "b": "sub = conf(3)"}, "b.grammar:1:7: 'conf' has"),
    ],
)
def test_faulty_import_says_where(tmp_path: Path, texts: dict[str, str], reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar.load(write(tmp_path, **texts))
    assert reason in str(caught.value)


def test_two_files_may_import_the_same_third(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        mine="import left.grammar\nimport right.grammar\nnet = l r",
        left="import base.grammar\nl = b relu",
        right="import base.grammar\nr = b gelu",
        base="b = conv(3)",
    )
    assert set(Grammar.load(path).rules) == {"net", "l", "r", "b"}


def test_unknown_space_is_named_with_a_suggestion() -> None:
    with pytest.raises(GrammarError, match=r"'einspce' is no shipped space. Did you mean 'einspa"):
        Grammar.load("einspce")
    with pytest.raises(GrammarError, match=r"no/such.grammar: cannot be read: No such file"):
        Grammar.load("no/such.grammar")


def test_empty_text_is_refused() -> None:
    with pytest.raises(GrammarError, match="there is no rule; write one such as"):
        Grammar.parse("# nothing\n")


@pytest.mark.parametrize("deep", [100, 10_000])
def test_brackets_nested_without_end_are_refused_before_the_stack_is(deep: int) -> None:
    text = f"net = {'(' * deep}relu{')' * deep}"
    with pytest.raises(GrammarError, match=r"deep:1:67: brackets are nested deeper than 60"):
        Grammar.parse(text, name="deep")
    Grammar.parse(f"net = {'(' * 50}relu{')' * 50}")
