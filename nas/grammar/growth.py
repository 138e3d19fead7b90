"""How a recursive grammar grows: its mean matrix, whether sizes have a mean, what to tighten.

Each rule with its arguments is a type of a branching process (Harris 1963, chapter 2): the mean
matrix says how many of each a rule calls. By derivation a copied branch counts once, by
instantiation as often as it is copied. Shapes and limits are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.grammar.derive import probabilities
from nas.grammar.grammar import Grammar
from nas.grammar.nodes import Option
from nas.grammar.rules import (
    CAPTURED,
    Call,
    Choice,
    Copies,
    Elastic,
    Env,
    Expression,
    Repeat,
    Rule,
    Streams,
    Term,
    evaluate,
    names_in,
)  # fmt: skip
from nas.op import Value

Type = tuple[str, Env]  # a rule with its arguments
TERMINAL: Type = ("", ())
MOST_TYPES = 2_000


@dataclass(frozen=True)
class Growth:
    """`by_derivation` and `by_instantiation` are spectral radii of the mean matrix: below 1 sizes
    have a mean, `size` operators as instantiated; else it is infinite and `tighten` names the
    rule that adds most to it."""

    by_derivation: float
    by_instantiation: float
    size: float
    tighten: str


def growth(grammar: Grammar) -> Growth:
    """How a grammar grows. Raises ValueError where its rules take endlessly many arguments."""
    import numpy as np

    radii, sizes, tighten = {}, {}, ""
    for copies in (False, True):
        types, means = _means(grammar, copies)
        matrix = np.zeros((len(types), len(types)))
        terminals = np.zeros(len(types))
        for i, one in enumerate(types):
            for called, mean in means[one].items():
                if called == TERMINAL:
                    terminals[i] += mean
                else:
                    matrix[i, types.index(called)] += mean
        cycles, kept = _cycles(matrix)
        loops = np.diag(cycles) if kept else np.zeros(1)
        radii[copies] = float(np.abs(np.linalg.eigvals(cycles)).max()) if kept else 0.0
        sizes[copies] = float("inf")
        if radii[copies] < 1 - 1e-9:
            sizes[copies] = float(np.linalg.solve(np.eye(len(types)) - matrix, terminals)[0])
        else:
            tighten = types[kept[int(np.argmax(loops))]][0]
    return Growth(radii[False], radii[True], sizes[True], tighten)


def _cycles(matrix: Any) -> tuple[Any, list[int]]:
    """The mean matrix of the types that lead straight back to themselves once all others are
    written out, and which types these are: what a generation is then does not hang on how many
    rules a grammar is written in."""
    import numpy as np

    kept = list(range(len(matrix)))
    callers = (matrix > 0).sum(axis=0)
    for t in sorted(kept, key=lambda t: (callers[t], -t)):
        if matrix[t, t] == 0:
            matrix = matrix + np.outer(matrix[:, t], matrix[t])
            kept.remove(t)
    return matrix[np.ix_(kept, kept)], kept


def _means(grammar: Grammar, copies: bool) -> tuple[list[Type], dict[Type, dict[Type, float]]]:
    """Every type reached from the start, and how many of each it calls on average."""
    start: Type = (grammar.start, _bound(grammar.rules[grammar.start], (), {}))
    types, means = [start], dict[Type, dict[Type, float]]()
    for one in types:
        if len(types) > MOST_TYPES:
            raise ValueError(f"the rules of {grammar.name} take endlessly many arguments")
        name, env = one
        found = means[one] = defaultdict(float)
        _add(grammar, grammar.rules[name].body, env, 1.0, copies, found)
        types += [t for t in found if t != TERMINAL and t not in types]
    return types, means


def _add(
    grammar: Grammar, term: Term, env: Env, times: float, copies: bool, found: dict[Type, float]
) -> None:
    """Add the mean number of each type in a term, `times` over."""
    match term:
        case Call():
            rule = grammar.rules.get(term.name)
            called = TERMINAL if rule is None else (rule.name, _bound(rule, term.args, dict(env)))
            found[called] += times
        case Choice(alternatives=alternatives):
            options = [Option(a.label, a.weight) for a in alternatives]
            for alternative, share in zip(alternatives, probabilities(options), strict=True):
                for part in alternative.terms:
                    _add(grammar, part, env, times * share, copies, found)
        case Repeat(body=body, low=low, high=high):
            mean = (_number(low, env) + _number(high, env)) / 2
            _add(grammar, body, env, times * mean, copies, found)
        case Streams(branches=branches):
            for part in (part for branch in branches for part in branch):
                _add(grammar, part, env, times, copies, found)
        case Copies(body=terms, n=n):
            for part in terms:
                _add(grammar, part, env, times * (_number(n, env) if copies else 1), copies, found)


def _bound(
    rule: Rule, given: tuple[tuple[str, Expression | Elastic], ...], env: Mapping[str, Value]
) -> Env:
    names = [name for name, _ in rule.params]
    said = dict(zip(names, (v for n, v in given if not n), strict=False))
    said |= {n: v for n, v in given if n}
    bound: dict[str, Value] = {}
    for name, default in rule.params:
        if name in said:
            bound[name] = _value(said[name], env)
        elif default is not None:
            bound[name] = _value(default, bound)
    return tuple(bound.items())


def _value(expression: Expression | Elastic, env: Mapping[str, Value]) -> Value:
    """An argument's value; "?" where only a derivation knows it."""
    if isinstance(expression, Elastic) or names_in(expression) & set(CAPTURED):
        return "?"
    try:
        return evaluate(expression, env)
    except ValueError:
        return "?"


def _number(expression: Expression, env: Env) -> float:
    value = _value(expression, dict(env))
    return 1.0 if isinstance(value, str) else float(value)
