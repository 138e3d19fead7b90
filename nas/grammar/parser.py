"""From text to rules. Errors carry file, line, column, caret, reason and a hint."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

from lark import Token
from lark.exceptions import UnexpectedInput, UnexpectedToken

from nas.grammar.bounds import NAME, oversized
from nas.grammar.error import GrammarError
from nas.grammar.rules import Rule, Where
from nas.grammar.syntax import Misplaced, parser

SHOWN = 160  # letters of a line that an error shows


def fault(text: str, name: str, where: Where, reason: str) -> GrammarError:
    """The error for a place in a text: `file:line:column: reason`, the line, and a caret."""
    lines = text.splitlines()
    shown = ""
    if 0 < where.line <= len(lines):
        line, column = lines[where.line - 1].expandtabs(1), where.column
        if len(line) > SHOWN:
            start = max(0, column - SHOWN // 2)
            line, column = f"…{line[start : start + SHOWN]}…", column - start + 1
        shown = f"\n    {line}\n    {' ' * (column - 1)}^"
    return GrammarError(f"{name}:{where.line}:{where.column}: {reason}{shown}")


SHARES = ("path", "tasks", "index", "stage", "operator")


class Import(NamedTuple):
    """`import name`, or `use target as name`."""

    name: str
    where: Where
    target: str = ""


def parse(text: str, name: str) -> tuple[list[Rule], list[Import], list[Import], str]:
    """Rules, imported grammars, used operators, and by what weights are shared, "" where it is not
    said; raises GrammarError."""
    _check_size(text, name)
    try:
        statements: Any = parser().parse(text)
    except Misplaced as error:
        raise fault(text, name, error.where, str(error)) from None
    except UnexpectedInput as error:
        raise fault(text, name, _place(error), _reason(error, text)) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise GrammarError(f"{name}: {error}") from None
    rules = [replace(s, source=name, text=text) for s in statements if isinstance(s, Rule)]
    imports, uses, share = [], [], ""
    for token in statements:
        if isinstance(token, Token):
            words, where = token.split(), Where(token.line or 0, token.column or 0)
            if token.type == "IMPORT":
                imports.append(Import(words[1], where))
            elif token.type == "SHARE":
                share = _policy(text, name, words[1], where, share)
            else:
                target = " ".join(words[1:-2]).strip('"')
                uses.append(Import(words[-1], where, target))
    return rules, imports, uses, share


def _policy(text: str, name: str, policy: str, where: Where, before: str) -> str:
    """By what a statement shares weights; raises GrammarError."""
    if policy not in SHARES:
        known = ", ".join(SHARES)
        raise fault(text, name, where, f"weights are shared by {known}, and {policy!r} is none")
    if before:
        raise fault(text, name, where, f"weights are shared by {before} already: say it once")
    return policy


def _check_size(text: str, name: str) -> None:
    """Raise GrammarError where a text is larger, or nested deeper, than anyone writes."""
    if fault_at := oversized(text):
        at, reason = fault_at
        line = text.count("\n", 0, at) + 1
        column = at - (text.rfind("\n", 0, at) + 1) + 1
        raise fault(text, name, Where(line, column), reason)


_READABLE = {
    "_NL": "end of line",
    "CALL": "a call",
    "NAME": "a name",
    "NUMBER": "a number",
    "EQUAL": "'='",
    "VBAR": "'|'",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "LSQB": "'['",
    "RSQB": "']'",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "SEMICOLON": "';'",
    "COLON": "':'",
    "STAR": "'*'",
    "SLASH": "'/'",
    "SIGN": "'+' or '-'",
    "__ANON_0": "'..'",
    "$END": "the end",
    "IMPORT": "import",
    "USE": "use",
    "SHARE": "share",
    "_SEED": "seed",
}


def _place(error: UnexpectedInput) -> Where:
    """Where the text does not fit: at the token, or after the last one where the text ends."""
    token = error.token if isinstance(error, UnexpectedToken) else None
    if token is not None and token.type == "$END" and token.end_line and token.end_column:
        return Where(token.end_line, token.end_column)
    return Where(error.line, error.column)


def _reason(error: UnexpectedInput, text: str) -> str:
    if not isinstance(error, UnexpectedToken):
        return "this character means nothing in a grammar; comments begin with '#'"
    token = error.token
    found = "the end of the line" if token.type in ("_NL", "$END") else f"'{token[:NAME]}'"
    expected = sorted({_READABLE.get(t, t) for t in error.expected})
    before = (text[: token.start_pos] if token.start_pos is not None else text)[-200:]
    called = re.search(r"([A-Za-z_]\w*)[ \t]+\([^()|\n]*$", before + ("(" if token == "(" else ""))
    hint = ""
    if called:
        hint = (
            f"; a call's parenthesis is written right after its name, {called[1]}(…), "
            "a group's after a space"
        )
    return f"{found} does not fit here: expected {', '.join(expected)}{hint}"
