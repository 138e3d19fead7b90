"""How many streams leave each rule, told before any shape is known."""

from __future__ import annotations

from collections.abc import Mapping

from nas.grammar.bounds import NESTED as NESTING
from nas.grammar.bounds import VISITS
from nas.grammar.error import GrammarError
from nas.grammar.parser import fault
from nas.grammar.rules import (
    CAPTURED,
    Call,
    Choice,
    Copies,
    Elastic,
    Repeat,
    Rule,
    Streams,
    Term,
    calls_in,
    evaluate,
    names_in,
)
from nas.op import Operator, Value

NESTED = 3  # times that a rule is followed into itself


def rule_fault(rule: Rule, at: Rule | Call, reason: str) -> GrammarError:
    return fault(rule.text, rule.source or "grammar", at.where, reason)


class Arity:
    """How many streams leave each rule, by arguments and streams entering; None is unknown yet.
    A rule is followed into itself NESTED times: its arguments may grow without end."""

    def __init__(self, rules: Mapping[str, Rule], operators: Mapping[str, Operator]):
        self.rules, self.operators = rules, operators
        self.inside: list[str] = []
        self.visits = self.deep = 0
        self.known: dict[tuple[str, tuple[tuple[str, Value], ...], int], int | None] = {}

    def of_start(self, start: str, streams: int) -> None:
        before = -1
        while before != sum(v is not None for v in self.known.values()):
            before = sum(v is not None for v in self.known.values())
            self.settled = {k: v for k, v in self.known.items() if v is not None}
            self.known = {}
            self.rule(Call(start), (), streams, self.rules[start])

    def rule(
        self, call: Call, env: tuple[tuple[str, Value], ...], streams: int, caller: Rule
    ) -> int | None:
        rule = self.rules[call.name]
        given = dict(
            zip([n for n, _ in rule.params], [v for n, v in call.args if not n], strict=False)
        ) | {n: v for n, v in call.args if n}
        inner: dict[str, Value] = {}
        for name, default in rule.params:
            value = given.get(name)
            inner[name] = _value(value, env) if value is not None else _value(default, inner)
        key = (call.name, tuple(inner.items()), streams)
        if key not in self.known:
            if self.inside.count(call.name) == NESTED:
                return None
            self.known[key] = self.settled.get(key)
            self._enter(rule)
            self.inside.append(call.name)
            self.known[key] = self.choice(rule.body, key[1], streams, rule, call.name)
            self.inside.pop()
            self.deep -= 1
        return self.known[key]

    def _enter(self, rule: Rule) -> None:
        self.visits, self.deep = self.visits + 1, self.deep + 1
        if self.deep > NESTING:
            raise rule_fault(
                rule, rule, f"rules and brackets are nested deeper than {NESTING} here"
            )
        if self.visits > VISITS:
            raise rule_fault(
                rule,
                rule,
                f"{rule.name!r} is called with too many arguments: {VISITS:,} ways to "
                "call a rule were followed",
            )

    def choice(
        self,
        choice: Choice,
        env: tuple[tuple[str, Value], ...],
        streams: int,
        rule: Rule,
        name: str,
    ) -> int | None:
        outs = {self.sequence(a.terms, env, streams, rule) for a in choice.alternatives} - {None}
        if len(outs) > 1:
            counts = sorted(n for n in outs if n is not None)
            raise rule_fault(
                rule,
                rule,
                f"the alternatives of {name!r} leave {counts} streams; all must leave equally many",
            )
        return outs.pop() if outs else None

    def sequence(
        self,
        terms: tuple[Term, ...],
        env: tuple[tuple[str, Value], ...],
        streams: int | None,
        rule: Rule,
    ) -> int | None:
        for term in terms:
            if streams is None:
                return None
            streams = self.term(term, env, streams, rule)
        return streams

    def term(
        self, term: Term, env: tuple[tuple[str, Value], ...], streams: int, rule: Rule
    ) -> int | None:
        if isinstance(term, Call):
            follow = self.rule if term.name in self.rules else self.operator
            return follow(term, env, streams, rule)
        self._enter(rule)
        out = self._bracket(term, env, streams, rule)
        self.deep -= 1
        self.visits -= 1
        return out

    def _bracket(
        self,
        term: Choice | Repeat | Streams | Copies,
        env: tuple[tuple[str, Value], ...],
        streams: int,
        rule: Rule,
    ) -> int | None:
        match term:
            case Choice():
                return self.choice(term, env, streams, rule, rule.name)
            case Repeat():
                out = self.term(term.body, env, streams, rule)
                if out is not None and out != streams:
                    where = calls_in(term.body)[0]
                    raise rule_fault(
                        rule, where, f"{term} repeats what takes {streams} streams and leaves {out}"
                    )
                return out
            case Streams():
                return self.branches(term, env, streams, rule)
            case Copies():
                n = _value(term.n, dict(env))
                if isinstance(n, int | float) and n != streams:
                    raise rule_fault(
                        rule, calls_in(term)[0], f"{term} wants {n} streams, {streams} arrive"
                    )
                out = self.sequence(term.body, env, 1, rule)
                return None if out is None else out * streams

    def branches(
        self, term: Streams, env: tuple[tuple[str, Value], ...], streams: int, rule: Rule
    ) -> int | None:
        if len(term.branches) != streams:
            raise rule_fault(
                rule,
                calls_in(term)[0],
                f"{term} has {len(term.branches)} branches, and "
                f"{streams} streams arrive: put clone({len(term.branches)}) before it?",
            )
        outs = [self.sequence(branch, env, 1, rule) for branch in term.branches]
        return None if None in outs else sum(n for n in outs if n is not None)

    def operator(
        self, call: Call, env: tuple[tuple[str, Value], ...], streams: int, rule: Rule
    ) -> int | None:
        operator = self.operators[call.name]
        if operator.streams_in is not None and operator.streams_in != streams:
            raise rule_fault(
                rule,
                call,
                f"{call.name} takes {operator.streams_in} "
                f"stream{'s' * (operator.streams_in > 1)}, {streams} arrive",
            )
        values = [(n, _value(v, env)) for n, v in call.args]
        if any(value == "?" for _, value in values):
            return None if operator.splits else operator.streams_out(streams, {})
        try:
            bound = operator.bind(
                tuple(v for n, v in values if not n), {n: v for n, v in values if n}
            )
        except ValueError as error:
            raise rule_fault(rule, call, str(error)) from None
        return operator.streams_out(streams, bound)


def _value(expression: object, env: object) -> Value:
    """An argument's value, or "?" where only a derivation will know (elastic, captured)."""
    if isinstance(expression, Elastic):
        expression = expression.values[0]
    if expression is None or names_in(expression) & set(CAPTURED):  # type: ignore[arg-type]
        return "?"
    known = dict(env)  # type: ignore[call-overload]
    if any(known.get(name) == "?" for name in names_in(expression)):  # type: ignore[arg-type]
        return "?"
    try:
        return evaluate(expression, known)  # type: ignore[arg-type]
    except ValueError:
        return "?"
