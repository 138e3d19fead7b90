"""The same grammar with other weights: what was learned as text, and what is alike without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nas.grammar.grammar import Grammar
from nas.grammar.rules import Call, Choice, Copies, Elastic, Number, Repeat, Rule, Streams, Term

Shares = Callable[[str, str], Mapping[str, float]]  # of a rule and a site's suffix, by label
DIGITS = 3  # behind the point of a weight as it is written


def weighted(grammar: Grammar, shares: Shares) -> Grammar:
    """The grammar in which every option is as probable as `shares` says for its rule and its site's
    suffix, where they know all of a site's options; what is worked out of arguments stays alike."""
    rules = [_Weights(grammar, name, shares).rule(rule) for name, rule in grammar.rules.items()]
    name = f"{grammar.name}-learned"
    return Grammar.parse(grammar.written(rules), name=name, alone=True, trust_code=True)


def structure(grammar: Grammar) -> str:
    """The rules without weights, and the user's code that they use: the same of two grammars that
    hold the same."""
    nothing = _Weights(grammar, "", lambda rule, suffix: {})
    return "\n".join([*grammar.uses, *(str(nothing.rule(r)) for r in grammar.rules.values())])


class _Weights:
    """The terms of a rule with the weights that shares give, or without any."""

    def __init__(self, grammar: Grammar, rule: str, shares: Shares):
        self.grammar, self.name, self.shares = grammar, rule, shares

    def rule(self, rule: Rule) -> Rule:
        return replace(rule, body=self.choice(rule.body, rule.name))

    def choice(self, choice: Choice, name: str) -> Choice:
        labels = [alternative.label for alternative in choice.alternatives]
        weights = self._weights(f":{name}", labels) if len(labels) > 1 else ()
        return replace(
            choice,
            alternatives=tuple(
                replace(a, terms=tuple(map(self.term, a.terms)), weight=weight)
                for a, weight in zip(
                    choice.alternatives, weights or (None,) * len(labels), strict=True
                )
            ),
        )

    def term(self, term: Term) -> Any:
        match term:
            case Call():
                args = ((n, self._argument(term, i, v)) for i, (n, v) in enumerate(term.args))
                return replace(term, args=tuple(args))
            case Repeat(low=low, high=high):
                weights: tuple[float, ...] = ()
                if isinstance(low, Number) and isinstance(high, Number) and low != high:
                    labels = [f"x{n}" for n in range(int(low.value), int(high.value) + 1)]
                    weights = self._weights(f"/{term.child}:repeat", labels)
                return replace(term, body=self.term(term.body), weights=weights)
            case Streams(branches=branches):
                return replace(term, branches=tuple(tuple(map(self.term, b)) for b in branches))
            case Copies(body=body):
                return replace(term, body=tuple(map(self.term, body)))
            case Choice():
                return self.choice(term, term.child)

    def _argument(self, call: Call, at: int, value: Any) -> Any:
        if not isinstance(value, Elastic):
            return value
        if not all(isinstance(size, Number) for size in value.values):
            return replace(value, weights=())
        name = call.args[at][0]
        if not name:
            callee = self.grammar.rules.get(call.name)
            params = [n for n, _ in callee.params] if callee else None
            name = params[at] if params else self.grammar.operators[call.name].args[at].name
        labels = [f"{name}={size}" for size in value.values]
        return replace(value, weights=self._weights(f":{name}", labels))

    def _weights(self, suffix: str, labels: list[str]) -> tuple[float, ...]:
        """Of each label a share that is above 0 as it is written; () where one is unknown."""
        known = self.shares(self.name, suffix)
        if not labels or not known.keys() >= set(labels):
            return ()
        total = sum(known[label] for label in labels)
        return tuple(max(10**-DIGITS, round(known[label] / total, DIGITS)) for label in labels)
