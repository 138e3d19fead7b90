"""What is wrong with a grammar before any shape is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from nas.grammar.bounds import LEAST, REPEATS, VISITS
from nas.grammar.bounds import NESTED as NESTING
from nas.grammar.error import GrammarError
from nas.grammar.parser import fault
from nas.grammar.rules import (
    CAPTURED,
    Call,
    Choice,
    Copies,
    Elastic,
    Number,
    Repeat,
    Rule,
    Streams,
    Term,
    calls_in,
    counts_in,
    evaluate,
    names_in,
)
from nas.op import Operator, Value

INFINITE = 10**9
NESTED = 3


def check(
    rules: Mapping[str, Rule],
    operators: Mapping[str, Operator],
    start: str,
    streams: int = 1,
    source: str = "",
    seeds: Mapping[str, Rule] = MappingProxyType({}),
) -> None:
    """Raise GrammarError for the first fault: names, arguments, weights, reach, end, arity.
    A rule that nothing reaches, be it from a seed, is a fault in the text named `source`, not
    where it is imported. Seeds are checked as grammars of their own."""
    within = reachable(rules, start)
    for rule in rules.values():
        if rule.name in within or rule.source == source:
            _check_names(rule, rules, operators)
    _check_reach(rules, start, source, seeds)
    rules = {name: rule for name, rule in rules.items() if name in within}
    least = least_sizes(rules)
    for rule in rules.values():
        _check_counts(rule)
        if LEAST < least[rule.name] < INFINITE:
            raise _fault(
                rule,
                rule,
                f"{rule.name!r} comes to {least[rule.name]:,} operators at least, and "
                f"{LEAST:,} are allowed: repeat less",
            )
        if least[rule.name] >= INFINITE and _recursive(rules, rule.name):
            raise _fault(
                rule,
                rule,
                f"{rule.name!r} cannot end: every alternative leads back to it; "
                "add one that does not",
            )
    _Arity(rules, operators).of_start(start, streams)


def _fault(rule: Rule, at: Rule | Call, reason: str) -> GrammarError:
    return fault(rule.text, rule.source or "grammar", at.where, reason)


def _check_counts(rule: Rule) -> None:
    """Raise GrammarError where a rule repeats something more often than anyone would."""
    for count in counts_in(rule.body):
        if isinstance(count, Number) and count.value > REPEATS:
            raise _fault(
                rule,
                rule,
                f"{rule.name!r} repeats something {count} times, and {REPEATS} are "
                "allowed: repeat a rule that repeats",
            )


def _check_names(rule: Rule, rules: Mapping[str, Rule], operators: Mapping[str, Operator]) -> None:
    if rule.name in operators:
        raise _fault(rule, rule, f"{rule.name!r} is an operator; give the rule another name")
    if rule.params and rule is next(iter(rules.values())):
        for name, default in rule.params:
            if default is None:
                raise _fault(rule, rule, f"the start rule's parameter {name!r} needs a default")
    for call in calls_in(rule.body):
        if call.name not in rules and call.name not in operators:
            close = get_close_matches(call.name, [*rules, *operators], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            if call.name in _numbers(rule):
                hint = (
                    " It is a number here: a call's parenthesis is written right after its "
                    "name, a group's after a space."
                )
            raise _fault(rule, call, f"{call.name!r} has no rule and is no operator.{hint}")
        _check_arguments(rule, call, rules, operators)
    for count in counts_in(rule.body):
        unknown = names_in(count) - _numbers(rule)
        if unknown:
            raise _fault(rule, rule, _no_number(rule, min(unknown)))
    for choice in _choices(rule.body):
        _check_weights(rule, choice)


def _numbers(rule: Rule) -> set[str]:
    return {name for name, _ in rule.params} | set(CAPTURED)


def _no_number(rule: Rule, name: str) -> str:
    params = ", ".join(name for name, _ in rule.params) or "none"
    return f"{name!r} is no parameter of {rule.name!r}: it has {params}"


def _check_arguments(
    rule: Rule, call: Call, rules: Mapping[str, Rule], operators: Mapping[str, Operator]
) -> None:
    if call.name in rules:
        names = [name for name, _ in rules[call.name].params]
        needed = [name for name, value in rules[call.name].params if value is None]
        words: set[str] = set()
    else:
        try:
            args = operators[call.name].args
        except ValueError as error:
            raise _fault(rule, call, str(error)) from None
        names = [arg.name for arg in args]
        needed = [arg.name for arg in args if arg.default is None]
        words = {arg.name for arg in args if arg.type == "word"}
    given: list[str] = []
    for position, (name, value) in enumerate(call.args):
        if not name and position >= len(names):
            raise _fault(
                rule, call, f"{call.name} takes {len(names)} arguments, {len(call.args)} given"
            )
        if not name and any(n for n, _ in call.args[:position]):
            raise _fault(rule, call, f"{call.name}: {value} comes after a named argument; name it")
        name = name or names[position]
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" It has {', '.join(names)}."
            raise _fault(rule, call, f"{call.name} has no argument {name!r}.{hint}")
        if name in given:
            raise _fault(rule, call, f"{call.name} is given {name!r} twice")
        given.append(name)
        unknown = names_in(value) - _numbers(rule)
        if unknown and name not in words and call.name not in rules:
            raise _fault(rule, call, _no_number(rule, min(unknown)))
        if isinstance(value, Elastic) and len(set(map(str, value.values))) < len(value.values):
            raise _fault(rule, call, f"{value} names a size twice")
    missing = [name for name in needed if name not in given]
    if missing:
        raise _fault(rule, call, f"{call.name} needs the argument {missing[0]!r}")


def _check_weights(rule: Rule, choice: Choice) -> None:
    weights = [a.weight for a in choice.alternatives if a.weight is not None]
    shared = len(weights) < len(choice.alternatives)
    if any(weight <= 0 for weight in weights) or (shared and sum(weights) >= 1):
        raise _fault(
            rule,
            rule,
            f"the weights of {rule.name!r} sum to {sum(weights):g}: they must be "
            "above 0 and leave something below 1 to the alternatives without a weight",
        )


def _choices(term: Term) -> list[Choice]:
    match term:
        case Choice(alternatives=alternatives):
            return [term, *(c for a in alternatives for t in a.terms for c in _choices(t))]
        case Repeat(body=body):
            return _choices(body)
        case Streams(branches=branches):
            return [c for branch in branches for t in branch for c in _choices(t)]
        case Copies(body=terms):
            return [c for t in terms for c in _choices(t)]
    return []


def reachable(rules: Mapping[str, Rule], start: str) -> set[str]:
    """The names of the rules that some derivation from `start` may use."""
    reached, todo = {start}, [start]
    while todo:
        for call in calls_in(rules[todo.pop()].body):
            if call.name in rules and call.name not in reached:
                reached.add(call.name)
                todo.append(call.name)
    return reached


def _check_reach(
    rules: Mapping[str, Rule], start: str, source: str, seeds: Mapping[str, Rule]
) -> None:
    reached = reachable(rules, start)
    for seed in seeds:
        reached |= reachable({**rules, **seeds}, seed)
    for rule in rules.values():
        if rule.name not in reached and rule.source == source:
            raise _fault(
                rule,
                rule,
                f"no derivation from {start!r} reaches {rule.name!r}: use it or remove it",
            )


def is_finite(rules: Mapping[str, Rule], start: str) -> bool:
    """Whether no rule that `start` reaches leads back to itself."""
    left: dict[str, int] = {}  # calls of each rule that are still to be followed
    callers: dict[str, list[str]] = {}
    within = reachable(rules, start)
    for name in within:
        called = {call.name for call in calls_in(rules[name].body)} & within
        left[name] = len(called)
        for other in called:
            callers.setdefault(other, []).append(name)
    ended = [name for name in within if not left[name]]
    for name in ended:
        for caller in callers.get(name, ()):
            left[caller] -= 1
            if not left[caller]:
                ended.append(caller)
    return len(ended) == len(within)


def _recursive(rules: Mapping[str, Rule], name: str) -> bool:
    called = {call.name for call in calls_in(rules[name].body)} & set(rules)
    return any(name in reachable(rules, other) for other in called)


def least_sizes(
    rules: Mapping[str, Rule], operators: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The fewest operators each rule can end in, copies counted; INFINITE where it cannot.
    An operator counts as one, or as `operators` says."""
    least = dict(operators or {}) | dict.fromkeys(rules, INFINITE)
    callers: dict[str, set[str]] = {}
    for name, rule in rules.items():
        for call in calls_in(rule.body):
            callers.setdefault(call.name, set()).add(name)
    todo = deque(rules)
    waiting = set(todo)
    while todo:
        name = todo.pop()
        waiting.discard(name)
        size = term_size(rules[name].body, least)
        if size < least[name]:
            least[name] = size
            more = sorted(callers.get(name, set()) - waiting)
            todo.extend(more)
            waiting.update(more)
    return least


def term_size(term: Term, least: Mapping[str, int]) -> int:
    """The fewest operators that a term can end in; unknown counts are taken as one."""
    match term:
        case Call(name=name):
            return least.get(name, 1)
        case Choice(alternatives=alternatives):
            return min(sequence_size(a.terms, least) for a in alternatives)
        case Repeat(body=body, low=low):
            times = int(low.value) if isinstance(low, Number) else 1
            return min(INFINITE, times * term_size(body, least))
        case Streams(branches=branches):
            return min(INFINITE, sum(sequence_size(b, least) for b in branches))
        case Copies(body=terms, n=n):
            times = int(n.value) if isinstance(n, Number) else 1
            return min(INFINITE, times * sequence_size(terms, least))


def sequence_size(terms: tuple[Term, ...], least: Mapping[str, int]) -> int:
    return min(INFINITE, sum(term_size(term, least) for term in terms))


class _Arity:
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
            raise _fault(rule, rule, f"rules and brackets are nested deeper than {NESTING} here")
        if self.visits > VISITS:
            raise _fault(
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
            raise _fault(
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
                    raise _fault(
                        rule, where, f"{term} repeats what takes {streams} streams and leaves {out}"
                    )
                return out
            case Streams():
                return self.branches(term, env, streams, rule)
            case Copies():
                n = _value(term.n, dict(env))
                if isinstance(n, int | float) and n != streams:
                    raise _fault(
                        rule, calls_in(term)[0], f"{term} wants {n} streams, {streams} arrive"
                    )
                out = self.sequence(term.body, env, 1, rule)
                return None if out is None else out * streams

    def branches(
        self, term: Streams, env: tuple[tuple[str, Value], ...], streams: int, rule: Rule
    ) -> int | None:
        if len(term.branches) != streams:
            raise _fault(
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
            raise _fault(
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
            raise _fault(rule, call, str(error)) from None
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
