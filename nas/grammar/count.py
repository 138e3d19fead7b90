"""What a finite grammar holds: how many architectures, its extremes, its table of sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas.grammar.derivation import Derivation
from nas.grammar.derive import Choose, Input, derive
from nas.grammar.fold import fold, key_of
from nas.grammar.frames import Cost, Option, Site, Waiting
from nas.grammar.grammar import Grammar
from nas.grammar.machine import Machine
from nas.grammar.parser import GrammarError
from nas.op import Shape


def _finite(grammar: Grammar) -> Machine:
    if not grammar.finite:
        raise GrammarError(f"{grammar.name} is recursive: it holds architectures without end")
    return Machine(grammar)


def count(grammar: Grammar, *, input: Input) -> int:
    """How many derivations a finite grammar has for an input, exactly."""
    machine, memo = _finite(grammar), dict[Any, int | None]()
    total = fold(
        machine, memo, ((Shape.of(input),), 1, machine.start()),
        at_end=lambda streams, cost: 1,
        combine=lambda site, found: sum(n for _, n in found),
        order=lambda site: range(len(site.options)),
    )  # fmt: skip
    return total or 0


def extreme(
    grammar: Grammar, *, input: Input, of: str = "flops", largest: bool = True
) -> Derivation:
    """The derivation with the most (or fewest) `flops`, `params` or `terminals`, exactly."""
    machine, memo = _finite(grammar), dict[Any, tuple[Cost, int] | None]()
    at = Cost._fields.index(of)
    best = max if largest else min

    def combine(site: Waiting, found: list[tuple[int, tuple[Cost, int]]]) -> tuple[Cost, int]:
        index, (cost, _) = best(found, key=lambda pair: pair[1][0][at])
        return site.cost.plus(cost), index

    fold(
        machine, memo, ((Shape.of(input),), 1, machine.start()),
        at_end=lambda streams, cost: (cost, 0), combine=combine,
        order=lambda site: range(len(site.options)),
    )  # fmt: skip
    state: Any = ((Shape.of(input),), 1, machine.start())
    labels: list[str] = []
    while isinstance(waiting := machine.advance(*state), Waiting):
        found = memo[key_of(state)]
        assert found is not None
        labels.append(waiting.options[found[1]].label)
        state = waiting.state(found[1])
    return derive(grammar, _follow(labels), input=input)


def _follow(labels: list[str]) -> Choose:
    left = iter(labels)

    def choose(site: Site, options: Sequence[Option]) -> int:
        return [option.label for option in options].index(next(left))

    return choose


def enumerate_all(grammar: Grammar, *, input: Input) -> Iterator[Derivation]:
    """Every derivation of a finite grammar, each once, in the order its options are written."""
    _finite(grammar)
    prefix: list[int] = []
    while True:
        derivation = derive(grammar, _begin(prefix), input=input)
        yield derivation
        sizes = [len(chosen.options) for chosen in derivation.choices]
        prefix = [chosen.index for chosen in derivation.choices]
        while prefix and prefix[-1] + 1 == sizes[len(prefix) - 1]:
            prefix.pop()
        if not prefix:
            return
        prefix[-1] += 1


def _begin(prefix: list[int]) -> Choose:
    """A choice of the indices given, and then of the first option always."""
    left = iter(prefix)
    return lambda site, options: next(left, 0)


def cover(grammar: Grammar, *, input: Input) -> list[Derivation]:
    """Derivations among which every option of every site occurs, all else as large as it goes.

    The elementwise largest parameter of them is the largest there is, since each size depends on
    one choice. Their number is at most that of (site, option) pairs.
    """
    largest = extreme(grammar, input=input, of="params")
    found, seen = [largest], set[tuple[str, str]]()
    todo: list[tuple[dict[str, str], Derivation]] = [({}, largest)]
    while todo:
        forced, derivation = todo.pop()
        seen.update((c.site.name, c.label) for c in derivation.choices)
        for position, chosen in enumerate(derivation.choices):
            for option in chosen.options:
                if (chosen.site.name, option.label) in seen:
                    continue
                before = {c.site.name: c.label for c in derivation.choices[:position]}
                wanted = {**before, **forced, chosen.site.name: option.label}
                other = derive(grammar, _prefer(wanted, largest.by_site), input=input)
                seen.update((c.site.name, c.label) for c in other.choices)
                seen.add((chosen.site.name, option.label))
                found.append(other)
                todo.append((wanted, other))
    return found


def _prefer(wanted: dict[str, str], otherwise: dict[str, str]) -> Choose:
    def choose(site: Site, options: Sequence[Option]) -> int:
        labels = [option.label for option in options]
        for label in (wanted.get(site.name), otherwise.get(site.name)):
            if label in labels:
                return labels.index(label)
        return len(labels) - 1

    return choose


def table(grammar: Grammar, *, input: Input) -> dict[str, tuple[str, ...]]:
    """Every site of a finite grammar with all its labels, in the order first met."""
    sites: dict[str, dict[str, None]] = {}
    for derivation in cover(grammar, input=input):
        for chosen in derivation.choices:
            sites.setdefault(chosen.site.name, {}).update(
                dict.fromkeys(option.label for option in chosen.options)
            )
    return {name: tuple(labels) for name, labels in sites.items()}


def follow_table(values: Mapping[str, str]) -> Choose:
    """A choice by a full table of sites; a label that is not offered falls to the last that is."""

    def choose(site: Site, options: Sequence[Option]) -> int:
        labels = [option.label for option in options]
        wanted = values.get(site.name)
        return labels.index(wanted) if wanted in labels else len(labels) - 1

    return choose
