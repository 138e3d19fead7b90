"""NSGA-II among candidates that cost nothing to judge, and a batch taken from what it saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

from nas.dominance import sorted_fronts
from nas.grammar import Derivation, Grammar, Limits, derive, sample
from nas.grammar.count import follow_table, table
from nas.grammar.derive import Size
from nas.op import Shape
from nas.search.breed import vary
from nas.search.tree import best_first

GENERATIONS, POPULATION = 12, 50
CHANGES = 1.5  # sites of a child that change, on average
DRAWS = 10  # for each that is spread along their FLOPs
CROSSED = 0.5  # of the children in an open grammar


class Judged(NamedTuple):
    """A candidate: its losses, and how far it is beyond what is allowed."""

    derivation: Derivation
    losses: tuple[float, ...]
    beyond: float = 0.0


T = TypeVar("T")
Judge = Callable[[Sequence[Derivation]], Sequence[Judged]]


@dataclass(frozen=True)
class Variation:
    """Draws and children within limits. In a finite grammar a child takes each site from one of
    two parents and changes about 1.5; in another two are crossed or one is mutated."""

    grammar: Grammar
    input: Shape
    limits: Limits
    size: Size | None
    rng: random.Random

    def draw(self) -> Derivation:
        return sample(self.grammar, self.rng, input=self.input, limits=self.limits, size=self.size)

    def child(self, a: Derivation, b: Derivation) -> Derivation:
        if self.grammar.finite:
            return self._mixed(a, b)
        parents = [(0, a), (1, b)] if self.rng.random() < CROSSED else [(0, a)]
        child = vary(parents, self.rng, self.input, self.limits)
        return child.derivation if child else self.draw()

    @cached_property
    def _sites(self) -> dict[str, tuple[str, ...]]:
        return dict(table(self.grammar, input=self.input))

    def _mixed(self, a: Derivation, b: Derivation) -> Derivation:
        labels, rate = dict[str, str](), CHANGES / max(1, len(self._sites))
        for site, options in self._sites.items():
            first, second = (a, b) if self.rng.random() < 0.5 else (b, a)
            label = first.by_site.get(site, second.by_site.get(site))
            changed = label is None or self.rng.random() < rate
            labels[site] = self.rng.choice(options) if changed else label or ""
        choose = follow_table(labels)
        return derive(self.grammar, choose, input=self.input, limits=self.limits)


def explore(judge: Judge, parents: Sequence[Derivation], variation: Variation) -> list[Judged]:
    """All candidates that NSGA-II came by, from these parents on, in the order in which they were
    met. Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II"."""
    rng, seen = variation.rng, dict[Derivation, Judged]()

    def look(derivations: Sequence[Derivation]) -> None:
        fresh = [d for d in dict.fromkeys(derivations) if d not in seen]
        seen.update((judged.derivation, judged) for judged in judge(fresh))

    draws = [variation.draw() for _ in range(POPULATION - len(parents))]
    population = list(dict.fromkeys([*parents, *draws]))
    look(population)
    for _ in range(GENERATIONS):
        kept = [seen[d] for d in population]
        points, beyond = [j.losses for j in kept], [j.beyond for j in kept]
        population = [kept[i].derivation for i in best_first(points, beyond, POPULATION)]
        last = len(population) - 1

        def tournament(last: int = last) -> int:
            return min(rng.randint(0, last), rng.randint(0, last))

        pairs = [(tournament(), tournament()) for _ in range(POPULATION)]
        children = [variation.child(population[i], population[j]) for i, j in pairs]
        look(children)
        population = list(dict.fromkeys([*population, *children]))
    return list(seen.values())


def batch_along(candidates: Sequence[Judged], n: int, along: int) -> list[Derivation]:
    """So many of the candidates: of those that keep what is allowed front by front, and of the last
    front evenly along one of the losses; then those least beyond it."""
    taken: list[Judged] = []
    kept = [judged for judged in candidates if not judged.beyond]
    for front in sorted_fronts([judged.losses for judged in kept]):
        ordered = sorted((kept[i] for i in front), key=lambda judged: judged.losses[along])
        taken += evenly_spaced(ordered, min(n - len(taken), len(ordered)))
        if len(taken) == n:
            break
    wrong = sorted((j for j in candidates if j.beyond), key=lambda judged: judged.beyond)
    return [judged.derivation for judged in [*taken, *wrong][:n]]


def first_batch(variation: Variation, n: int) -> list[Derivation]:
    """So many random draws, evenly along their FLOPs: draws alone crowd around the middle."""
    draws = list(dict.fromkeys(variation.draw() for _ in range(DRAWS * n)))
    ordered = sorted(draws, key=lambda derivation: derivation.cost.flops)
    return evenly_spaced(ordered, min(n, len(ordered)))


def evenly_spaced(ordered: Sequence[T], n: int) -> list[T]:
    """So many of a sequence, evenly, its ends among them; of one the middle."""
    if n == 1:
        return [ordered[len(ordered) // 2]]
    return [ordered[round(i * (len(ordered) - 1) / (n - 1))] for i in range(n)]
