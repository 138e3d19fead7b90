"""One ordered chain of architectures, each a part of the next (SortedNet, arXiv 2309.00255)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain as chain_of
from typing import TypeVar

from nas.grammar import Choose, Derivation, Option, Site, derive
from nas.plan import Plan, plan
from nas.supernet.sites import order
from nas.supernet.slots import keys

GOLDEN = 0.618033988749895
T = TypeVar("T")


def evenly(i: int) -> float:
    """The i-th of numbers in [0, 1) that lie evenly however many are taken: whole multiples of the
    golden ratio, less their whole parts (Sós 1958, the three-distance theorem)."""
    return i * GOLDEN % 1


def chain(top: Derivation, n: int | None = None) -> list[Derivation]:
    """Architectures from a small one to `top`, each inside the next: its slots are the next's, and
    its slices lie within the next's (arXiv 2309.00255, section 3).

    From one to the next, one site moves by one option; sites move in turn, so that all grow
    evenly. Parameters grow strictly, or FLOPs where parameters stay. Sites whose options are no
    sizes of one thing, or whose smaller slices are not inside the larger, stay as in `top`. With
    `n` as many are taken, evenly spread, the ends among them.
    """
    members = [top, *shrinking(top)][::-1]
    if n is None or n >= len(members):
        return members
    if n < 2:
        raise ValueError(f"a chain has two ends at least, and n is {n}")
    return [members[round(i * (len(members) - 1) / (n - 1))] for i in range(n)]


def shrinking(top: Derivation, *, nested: bool = True) -> Iterator[Derivation]:
    """Derivations from below `top` down to the smallest, a site by one option each time; with
    `nested` each is a part of the one before."""
    current = top
    while smaller := next(_smaller(current, nested), None):
        yield smaller
        current = smaller


def _smaller(current: Derivation, nested: bool) -> Iterator[Derivation]:
    """Derivations with one site of `current` a size down: the site that is largest first, but what
    a move would leave out shrinks before it does so."""
    moves = _moves(current)
    for name, label in moves.items():
        moved = _moved(current, name, label)
        gone = [inner for inner in moves if inner not in moved.by_site]
        for smaller in chain_of((_moved(current, inner, moves[inner]) for inner in gone), (moved,)):
            shrinks = smaller.cost[1:3] < current.cost[1:3]
            if shrinks and (not nested or inside(plan(smaller), plan(current))):
                yield smaller


def _moves(current: Derivation) -> dict[str, str]:
    """The next smaller label of every site that has one, the site that is largest first."""
    moves = []
    for place, chosen in enumerate(current.choices):
        ranks = order(chosen.site, chosen.options)
        at = ranks.index(chosen.index) if ranks else 0
        if ranks and at:
            level, label = (at - 0.5) / (len(ranks) - 1), chosen.options[ranks[at - 1]].label
            moves.append((-level, evenly(place), chosen.site.name, label))
    return {name: label for _, _, name, label in sorted(moves)}


def _moved(current: Derivation, name: str, label: str) -> Derivation:
    choose = follow({**current.by_site, name: label})
    return derive(current.grammar, choose, input=current.input)


def follow(labels: Mapping[str, str]) -> Choose:
    """A choice of the labels by site, and the largest option where a site has none on offer."""

    def choose(site: Site, options: Sequence[Option]) -> int:
        wanted = labels.get(site.name)
        known = [option.label for option in options]
        if wanted in known:
            return known.index(wanted)
        ranks = order(site, options)
        return ranks[-1] if ranks else 0

    return choose


def inside(part: Plan, whole: Plan) -> bool:
    """Whether every slot of `part` is one of `whole`, and its slices lie within that's."""
    there = {key: param for step in whole.steps for param, key in keys(step)}
    return all(
        key in there
        and len(param.shape) == len(there[key].shape)
        and all(a <= b for a, b in zip(param.shape, there[key].shape, strict=True))
        for step in part.steps
        for param, key in keys(step)
    )


def ends_first(members: Sequence[T]) -> list[T]:
    """The same in an order of which any first part is spread over all: the ends, and then those
    between them."""
    last = len(members) - 1
    between = (round(evenly(i) * last) for i in range(1, 4 * len(members)))
    numbers = dict.fromkeys([0, last, *between, *range(len(members))] if members else [])
    return [members[i] for i in numbers]
