"""What a finite grammar holds: how many architectures, its extremes, its table of sites."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from operator import itemgetter
from typing import Any, TypeVar

from nas.grammar.derivation import Derivation, Input
from nas.grammar.derive import derive
from nas.grammar.error import GrammarError
from nas.grammar.fold import fold, key_of
from nas.grammar.frames import Cost, Recording, State, Waiting
from nas.grammar.grammar import Grammar, bounded
from nas.grammar.machine import Machine
from nas.grammar.nodes import Option
from nas.grammar.walk import Choose, memory_of
from nas.op import Shape

T = TypeVar("T")


def _finite(grammar: Grammar) -> Machine:
    if not grammar.finite:
        raise GrammarError(f"{grammar.name} is recursive: it holds architectures without end")
    machine = memory_of(grammar).machine
    machine.spent = 0
    return machine


def _kept(function: Callable[..., T]) -> Callable[..., T]:
    """With what was found of a grammar kept in its memory."""

    @wraps(function)
    def kept(grammar: Grammar, **words: Any) -> T:
        words["input"] = Shape.of(words["input"])
        key = (function.__name__, *sorted(words.items()))
        if key not in grammar.memory:
            grammar.memory[key] = function(grammar, **words)
        return grammar.memory[key]  # type: ignore[no-any-return]

    return kept


@_kept
@bounded
def count(grammar: Grammar, *, input: Input) -> int:
    """How many derivations a finite grammar has for an input, exactly."""
    machine, memo = _finite(grammar), dict[Any, int | None]()
    total = fold(
        machine,
        memo,
        ((Shape.of(input),), machine.start()),
        at_end=lambda streams, cost: 1,
        combine=lambda site, answers: sum(n for _, n in answers),
        order=lambda site: range(len(site.options)),
    )
    return total or 0


@_kept
@bounded
def extreme(
    grammar: Grammar, *, input: Input, of: str = "flops", largest: bool = True
) -> Derivation:
    """The derivation with the most (or fewest) `flops`, `params` or `terminals`, exactly; among
    those alike in it, the one with the most (or fewest) FLOPs, and then parameters."""
    machine, memo = _finite(grammar), dict[Any, tuple[Cost, int] | None]()
    by = itemgetter(*map(Cost._fields.index, (of, "flops", "params")))
    best = max if largest else min

    def combine(site: Waiting, answers: list[tuple[int, tuple[Cost, int]]]) -> tuple[Cost, int]:
        index, (cost, _) = best(answers, key=lambda pair: by(pair[1][0]))
        return site.cost + cost, index

    state: State = ((Shape.of(input),), machine.start())
    fold(
        machine,
        memo,
        state,
        at_end=lambda streams, cost: (cost, 0),
        combine=combine,
        order=lambda site: range(len(site.options)),
    )
    if memo[key_of(state)] is None:
        return derive(grammar, _begin([]), input=input)  # which says why there is none
    labels: list[str] = []
    while isinstance(waiting := machine.advance(*state), Waiting):
        answers = memo[key_of(state)]
        assert answers is not None
        labels.append(waiting.options[answers[1]].label)
        state = waiting.state(answers[1])
    return derive(grammar, _follow(labels, {}), input=input)


def _follow(labels: Iterable[str], usual: Mapping[str, str]) -> Choose:
    """A choice of the labels given, and then of each site's usual one, or the last."""
    left = iter(labels)
    return lambda site, options: _at(next(left, None) or usual.get(site.name), options)


def _at(label: str | None, options: Sequence[Option]) -> int:
    """The place of a label among the options; the last where it is none of them."""
    labels = [option.label for option in options]
    return labels.index(label) if label in labels else len(labels) - 1


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


@_kept
@bounded
def cover(grammar: Grammar, *, input: Input, largest: bool = True) -> Sequence[Derivation]:
    """Derivations among which every option of every site occurs, and every parameter's largest
    (or smallest) sizes: no derivation has a parameter larger (smaller) than the elementwise
    largest (smallest) of these.

    Every state of the grammar is visited once, those of the largest (smallest) derivation first.
    """
    machine, memo = _finite(grammar), dict[Any, bool | None]()
    first = extreme(grammar, input=input, of="params", largest=largest)
    usual, pick = first.by_site, max if largest else min
    covering, met, sizes = [first], set(usual.items()), dict[Any, tuple[int, ...]]()
    start: State = ((Shape.of(input),), machine.start())
    visited: set[State] = set()
    todo = deque[tuple[State, tuple[str, ...], tuple[str, str] | None]]([(start, (), None)])
    while todo:
        state, labels, pair = todo.popleft()
        events = Recording()
        waiting = machine.advance(*state, events)
        grew = state not in visited and _extend(sizes, events, pick)
        if (grew or (pair and pair not in met)) and labels != first.labels[: len(labels)]:
            covering.append(derive(grammar, _follow(labels, usual), input=input))
            met.update(covering[-1].by_site.items())
        if isinstance(waiting, Waiting) and state not in visited:
            name = waiting.site.name
            for label, following in _completed(machine, memo, waiting, usual.get(name)):
                todo.append((following, (*labels, label), (name, label)))
        visited.add(state)
    return tuple(covering)


def _completed(
    machine: Machine, memo: dict[Any, bool | None], waiting: Waiting, first: str | None
) -> list[tuple[str, State]]:
    """The labels of a site that can be completed, `first` before the others."""
    able = [
        (option.label, waiting.state(i))
        for i, option in enumerate(waiting.options)
        if fold(
            machine,
            memo,
            waiting.state(i),
            at_end=lambda streams, cost: True,
            combine=lambda site, able: True,
            order=lambda site: range(len(site.options)),
            enough=True,
        )
    ]
    return sorted(able, key=lambda pair: pair[0] != first)


def _extend(
    sizes: dict[Any, tuple[int, ...]], events: Recording, pick: Callable[[int, int], int]
) -> bool:
    """Whether operators applied on the way have a parameter that was not met before, or is larger
    (smaller, as `pick` says) in some axis than those met."""
    grew = False
    for kind, told in events.told:
        if kind != "apply":
            continue
        node, at, _, streams = told
        operator, args = node.operator, node.args
        kinds = {arg.name: arg.kind for arg in operator.args}
        place = [str(at), operator.name, *(v for k, v in args.items() if kinds[k] == "shape")]
        if operator.whole:
            place += streams
        for param in operator.params(streams, args):
            known = sizes.get((*place, param.name))
            now = param.shape if known is None else tuple(map(pick, known, param.shape))
            grew |= now != known
            sizes[*place, param.name] = now
    return grew


@_kept
def table(grammar: Grammar, *, input: Input) -> Mapping[str, tuple[str, ...]]:
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
    return lambda site, options: _at(values.get(site.name), options)
