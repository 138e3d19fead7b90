"""What is wrong with a grammar before any shape is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from nas.grammar.arity import Arity, rule_fault
from nas.grammar.bounds import LEAST, REPEATS
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
    names_in,
)
from nas.op import Operator

INFINITE = 10**9


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
            raise rule_fault(
                rule,
                rule,
                f"{rule.name!r} comes to {least[rule.name]:,} operators at least, and "
                f"{LEAST:,} are allowed: repeat less",
            )
        if least[rule.name] >= INFINITE and _recursive(rules, rule.name):
            raise rule_fault(
                rule,
                rule,
                f"{rule.name!r} cannot end: every alternative leads back to it; "
                "add one that does not",
            )
    Arity(rules, operators).of_start(start, streams)


def _check_counts(rule: Rule) -> None:
    """Raise GrammarError where a rule repeats something more often than anyone would."""
    for count in counts_in(rule.body):
        if isinstance(count, Number) and count.value > REPEATS:
            raise rule_fault(
                rule,
                rule,
                f"{rule.name!r} repeats something {count} times, and {REPEATS} are "
                "allowed: repeat a rule that repeats",
            )


def check_seeds(seeds: Mapping[str, Rule], operators: Mapping[str, Operator]) -> None:
    """Raise GrammarError where a network of the space is called as an operator is."""
    for seed in seeds.values():
        if seed.name in operators:
            reason = f"{seed.name!r} is an operator; give the rule another name"
            raise rule_fault(seed, seed, reason)


def _check_names(rule: Rule, rules: Mapping[str, Rule], operators: Mapping[str, Operator]) -> None:
    if rule.name in operators:
        raise rule_fault(rule, rule, f"{rule.name!r} is an operator; give the rule another name")
    if rule.params and rule is next(iter(rules.values())):
        for name, default in rule.params:
            if default is None:
                raise rule_fault(rule, rule, f"the start rule's parameter {name!r} needs a default")
    for call in calls_in(rule.body):
        if call.name not in rules and call.name not in operators:
            close = get_close_matches(call.name, [*rules, *operators], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            if call.name in _numbers(rule):
                hint = (
                    " It is a number here: a call's parenthesis is written right after its "
                    "name, a group's after a space."
                )
            raise rule_fault(rule, call, f"{call.name!r} has no rule and is no operator.{hint}")
        _check_arguments(rule, call, rules, operators)
    for count in counts_in(rule.body):
        unknown = names_in(count) - _numbers(rule)
        if unknown:
            raise rule_fault(rule, rule, _no_number(rule, min(unknown)))
    for choice in _choices(rule.body):
        _check_weights(rule, choice)
    for term in (t for choice in _choices(rule.body) for a in choice.alternatives for t in a.terms):
        for repeat in _repeats(term):
            low, high = repeat.low, repeat.high
            if repeat.weights and not (isinstance(low, Number) and isinstance(high, Number)):
                reason = f"{repeat}: weights are for numbers, and these are worked out"
                raise rule_fault(rule, rule, reason)
            if isinstance(low, Number) and isinstance(high, Number):
                _check_chances(rule, rule, repeat.weights, int(high.value) - int(low.value) + 1)


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
            raise rule_fault(rule, call, str(error)) from None
        names = [arg.name for arg in args]
        needed = [arg.name for arg in args if arg.default is None]
        words = {arg.name for arg in args if arg.type == "word"}
    given: list[str] = []
    for position, (name, value) in enumerate(call.args):
        if not name and position >= len(names):
            raise rule_fault(
                rule, call, f"{call.name} takes {len(names)} arguments, {len(call.args)} given"
            )
        if not name and any(n for n, _ in call.args[:position]):
            raise rule_fault(
                rule, call, f"{call.name}: {value} comes after a named argument; name it"
            )
        name = name or names[position]
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" It has {', '.join(names)}."
            raise rule_fault(rule, call, f"{call.name} has no argument {name!r}.{hint}")
        if name in given:
            raise rule_fault(rule, call, f"{call.name} is given {name!r} twice")
        given.append(name)
        unknown = names_in(value) - _numbers(rule)
        if unknown and name not in words and call.name not in rules:
            raise rule_fault(rule, call, _no_number(rule, min(unknown)))
        if isinstance(value, Elastic) and len(set(map(str, value.values))) < len(value.values):
            raise rule_fault(rule, call, f"{value} names a size twice")
        if isinstance(value, Elastic):
            _check_chances(rule, call, value.weights, len(value.values))
    missing = [name for name in needed if name not in given]
    if missing:
        raise rule_fault(rule, call, f"{call.name} needs the argument {missing[0]!r}")


def _check_chances(rule: Rule, at: Rule | Call, weights: tuple[float, ...], sizes: int) -> None:
    if weights and (min(weights) <= 0 or len(weights) != sizes):
        raise rule_fault(
            rule,
            at,
            f"{' '.join(f'{w:g}' for w in weights[:8])} are no weights of {sizes} sizes: each has "
            "one, above 0",
        )


def _check_weights(rule: Rule, choice: Choice) -> None:
    weights = [a.weight for a in choice.alternatives if a.weight is not None]
    shared = len(weights) < len(choice.alternatives)
    if any(weight <= 0 for weight in weights) or (shared and sum(weights) >= 1):
        raise rule_fault(
            rule,
            rule,
            f"the weights of {rule.name!r} sum to {sum(weights):g}: they must be "
            "above 0 and leave something below 1 to the alternatives without a weight",
        )


def _repeats(term: Term) -> list[Repeat]:
    """The repetitions of a term, outside of groups in it."""
    match term:
        case Repeat(body=body):
            return [term, *_repeats(body)]
        case Streams(branches=branches):
            return [r for branch in branches for t in branch for r in _repeats(t)]
        case Copies(body=terms):
            return [r for t in terms for r in _repeats(t)]
    return []


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
            raise rule_fault(
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
