"""The grammar language, read with lark straight to rules: no tree of a text is held."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer

from nas.grammar.bounds import EXPRESSION, RANGE
from nas.grammar.rules import (
    CAPTURED,
    Alternative,
    Arithmetic,
    Call,
    Choice,
    Copies,
    Elastic,
    Expression,
    Function,
    Name,
    Number,
    Repeat,
    Rule,
    Streams,
    Term,
    Where,
    calls_in,
    counts_in,
    names_in,
)

SYNTAX = r"""
start: _NL* (_statement _NL+)* _statement?
_statement: IMPORT | USE | SHARE | seed | rule
seed: _SEED NAME "=" choice
rule: NAME "=" choice | CALL param ("," param)* ")" "=" choice
param: NAME ["=" _sum]
choice: alternative ("|" alternative)*
alternative: [weight] term+
weight: NUMBER ":"
?term: _atom | repeat
repeat: _atom "{" _sum [".." _sum [chances]] "}"
_atom: call | group | streams | copies
group: "(" choice ")"
call: NAME | CALL ")" | CALL argument ("," argument)* ")"
argument: [NAME "="] (_sum | elastic)
elastic: "{" (range | _sum ("," _sum)+) [chances] "}"
chances: ":" NUMBER+
range: NUMBER ".." NUMBER "by" NUMBER
streams: "[" sequence (";" sequence)* "]"
copies: "[" sequence "*" _sum "]"
sequence: term+
_sum: add | _product
add: _sum SIGN _product
_product: multiply | _value
multiply: _product (STAR | SLASH) _value
_value: number | name | "(" _sum ")" | function
function: CALL _sum ("," _sum)+ ")"
number: NUMBER | SIGN NUMBER
name: NAME

IMPORT.2: /import[ \t]+[^\s#]+/
_SEED.2: /seed(?=[ \t]+[A-Za-z_]\w*[ \t]*=)/
SHARE.2: /share[ \t]+[A-Za-z_]\w*/
USE.2: /use[ \t]+("[^"\n]+"|[^\s#"]+)[ \t]+as[ \t]+[A-Za-z_]\w*/
CALL: /[A-Za-z_]\w*\(/
NAME: /[A-Za-z_]\w*/
NUMBER: /\d+(\.\d+)?/
SIGN: /[+-]/
STAR: "*"
SLASH: "/"
_NL: /\r?\n(?![ \t|\r\n#])/
%ignore /[ \t]+/
%ignore /\r?\n(?=[ \t|\r\n#])/
%ignore /#[^\n]*/
"""


@lru_cache(maxsize=1)
def parser(strict: bool = False) -> Lark:
    """Reads a text straight to statements: no tree of it is held."""
    return Lark(SYNTAX, parser="lalr", strict=strict, transformer=_Build())


class Misplaced(ValueError):
    """A fault found while building, with its place."""

    def __init__(self, where: Where, reason: str):
        super().__init__(reason)
        self.where = where


class _Build(Transformer[Token, Any]):
    """Parse tree to rules. Children arrive already built."""

    def number(self, parts: list[Token]) -> Number:
        text = "".join(parts)
        return Number(float(text) if "." in text else int(text))

    def name(self, parts: list[Token]) -> Name:
        return Name(str(parts[0]))

    def add(self, parts: list[Any]) -> Arithmetic:
        left, sign, right = parts
        return Arithmetic(str(sign), left, right, _deeper(sign, left, right))

    multiply = add

    def function(self, parts: list[Any]) -> Function:
        token, *arguments = parts
        if str(token) not in ("min(", "max("):
            where = Where(token.line, token.column)
            raise Misplaced(where, f"{token}…) is no function of numbers: there are min and max")
        deep = _deeper(token, *arguments)
        return Function(str(token).rstrip("("), tuple(arguments), deep)

    def elastic(self, parts: list[Any]) -> Elastic:
        *sizes, chances = parts
        values = sizes[0] if isinstance(sizes[0], tuple) else tuple(sizes)
        return Elastic(values, chances or ())

    def chances(self, parts: list[Token]) -> tuple[float, ...]:
        return tuple(map(float, parts))

    def range(self, parts: list[Token]) -> tuple[Expression, ...]:
        """Whole numbers from the first to the last, both of them, so far apart."""
        first, last, apart = parts
        where = Where(first.line or 0, first.column or 0)
        if any("." in part for part in parts):
            raise Misplaced(where, "sizes between two are whole numbers: {128..512 by 8}")
        step = int(apart)
        sizes = range(int(first), int(last) + 1, step or 1)
        if not step or len(sizes) < 2 or sizes[-1] != int(last) or len(sizes) > RANGE:
            raise Misplaced(
                where,
                f"{{{first}..{last} by {apart}}} is no range: it goes up from the first to the "
                f"last in equal steps, of which there are at most {RANGE}",
            )
        return tuple(map(Number, sizes))

    def argument(self, parts: list[Any]) -> tuple[str, Expression | Elastic]:
        return (str(parts[0] or ""), parts[1])

    def call(self, parts: list[Any]) -> Call:
        token = parts[0]
        where = Where(token.line, token.column)
        return Call(str(token).rstrip("("), tuple(parts[1:]), where)

    def group(self, parts: list[Choice]) -> Choice:
        return parts[0]

    def sequence(self, parts: list[Term]) -> tuple[Term, ...]:
        return tuple(parts)

    def streams(self, parts: list[tuple[Term, ...]]) -> Streams:
        return Streams(tuple(parts))

    def copies(self, parts: list[Any]) -> Copies:
        return Copies(parts[0], parts[-1])

    def repeat(self, parts: list[Any]) -> Repeat:
        body, low, high, chances = [*parts, None, None][:4]
        return Repeat(body, low, low if high is None else high, chances or ())

    def weight(self, parts: list[Token]) -> float:
        return float(parts[0])

    def alternative(self, parts: list[Any]) -> Alternative:
        return Alternative(tuple(parts[1:]), parts[0])

    def choice(self, parts: list[Alternative]) -> Choice:
        return Choice(_labelled(parts))

    def param(self, parts: list[Any]) -> tuple[str, Expression | None]:
        return (str(parts[0]), parts[1] if len(parts) > 1 else None)

    def rule(self, parts: list[Any]) -> Rule:
        token, *params, body = parts
        name = str(token).rstrip("(")
        expressions = [*counts_in(body), *(v for call in calls_in(body) for _, v in call.args)]
        mentioned = set().union(*map(names_in, expressions))
        captures = bool(mentioned & set(CAPTURED) - {name for name, _ in params})
        where = Where(token.line, token.column)
        return Rule(name, tuple(params), _numbered(body), where, captures)

    def seed(self, parts: list[Any]) -> Rule:
        return replace(self.rule(parts), seed=True)

    def start(self, parts: list[Any]) -> list[Any]:
        return parts


def _deeper(token: Token, *inner: Expression) -> int:
    """How deep an expression is that holds others; raises Misplaced where that is too deep."""
    deep = 1 + max(getattr(expression, "deep", 0) for expression in inner)
    if deep > EXPRESSION:
        where = Where(token.line or 0, token.column or 0)
        raise Misplaced(where, f"an expression of more than {EXPRESSION} operations in a row")
    return deep


def _labelled(alternatives: list[Alternative]) -> tuple[Alternative, ...]:
    """Alternatives with labels without spaces or braces, unique among them."""
    seen: Counter[str] = Counter()
    labelled = []
    for alternative in alternatives:
        calls = [call for term in alternative.terms for call in calls_in(term)]
        first = calls[0]
        words = [str(v) for _, v in first.args if not isinstance(v, Elastic)]
        label = (first.name + (f"({','.join(words)})" if words else "")).replace(" ", "")
        label += "+" if len(alternative.terms) > 1 else ""
        seen[label] += 1
        label += f"#{seen[label]}" if seen[label] > 1 else ""
        labelled.append(replace(alternative, label=label))
    return tuple(labelled)


def _numbered(body: Choice) -> Choice:
    """The body with every term named uniquely in it: by its call, numbered where it recurs."""
    total = Counter(call.name for call in calls_in(body))
    seen: Counter[str] = Counter()
    groups: Counter[str] = Counter()

    def fresh(kind: str) -> str:
        groups[kind] += 1
        return f"{kind}{groups[kind] - 1}"

    def visit(term: Term) -> Any:
        match term:
            case Call():
                seen[term.name] += 1
                ordinal = f".{seen[term.name] - 1}" if total[term.name] > 1 else ""
                return replace(term, child=term.name + ordinal)
            case Repeat():
                inner = visit(term.body)
                return replace(term, body=inner, child=inner.child)
            case Streams():
                branches = tuple(tuple(map(visit, b)) for b in term.branches)
                return replace(term, branches=branches, child=fresh("streams"))
            case Copies():
                return replace(term, body=tuple(map(visit, term.body)), child=fresh("copies"))
            case Choice():
                return replace(visit_choice(term), child=fresh("group"))

    def visit_choice(choice: Choice) -> Choice:
        alternatives = (replace(a, terms=tuple(map(visit, a.terms))) for a in choice.alternatives)
        return replace(choice, alternatives=tuple(alternatives))

    return visit_choice(body)
