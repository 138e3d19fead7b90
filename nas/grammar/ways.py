"""What the options of a site make of some streams where all else does nothing: kept for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from nas.grammar.frames import Cost, Price
from nas.grammar.labels import Labels
from nas.grammar.nodes import Decision, Fork, Multiple
from nas.grammar.outcomes import Outcomes
from nas.grammar.results import Result, Results
from nas.op import Shapes

NONE: Results = {}


class Terms(NamedTuple):
    """How options make what they make, which most shapes share: each in its own way, None where
    it makes nothing or several things; the labels after each; and the most that any costs once."""

    results: tuple[Result | None, ...]
    labels: dict[int, Labels]
    most: Price


class Ways:
    """The result of each option that makes one, those of options that make several; the fewest
    axes of any result where all are one stream, else -1, and the most elements of a stream."""

    __slots__ = ("_alike", "axes", "elements", "many", "reached", "terms")

    def __init__(
        self,
        reached: tuple[Shapes | None, ...],
        many: dict[int, Results],
        terms: Terms,
        priced: bool,
    ):
        self.reached, self.many, self.terms = reached, many, terms
        self._alike: tuple[tuple[int, ...], ...] | None = None
        every = [z for z in reached if z is not None]
        if many:
            every += [z for some in many.values() for z in some]
        self.axes = min([len(z[0][1]) if len(z) == 1 else -1 for z in every], default=-1)
        self.elements = max((z[0].elements for z in every), default=0) if priced else 0

    @property
    def alike(self) -> tuple[tuple[int, ...], ...]:
        """The options that make one thing, those together that make the same at the same cost."""
        if self._alike is None:
            groups: dict[tuple[Shapes, Price], list[int]] = {}
            for i, (z, outcome) in enumerate(zip(self.reached, self.terms.results, strict=True)):
                if z is not None and outcome is not None:
                    groups.setdefault((z, outcome.cost), []).append(i)
            self._alike = tuple([tuple(options) for options in groups.values()])
        return self._alike

    def results(self, index: int) -> Results:
        """What an option makes."""
        z, outcome = self.reached[index], self.terms.results[index]
        if z is None or outcome is None:
            return self.many.get(index, NONE)
        return {z: outcome}


class Sites:
    """The ways of every site that was asked for."""

    def __init__(self, outcomes: Outcomes):
        self.outcomes = outcomes
        self._ways: dict[Any, dict[Shapes, Ways]] = {}
        self._uneven: dict[Any, Ways] = {}
        self._terms: dict[tuple[int, ...], Terms] = {}

    @property
    def kept(self) -> int:
        """How much is remembered."""
        return sum(map(len, self._ways.values())) + len(self._uneven)

    def ways(self, decision: Decision, fork: Fork | Multiple | None, streams: Shapes) -> Ways:
        """What the options of a site make, behind the fork that they follow."""
        key = (decision, fork) if fork else decision
        known = self._ways.get(key)
        if known is None:
            known = self._ways[key] = {}
        ways_of = known.get(streams)
        if ways_of is None:
            count, option = len(decision.options), self.outcomes.option
            able = range(count) if fork else self.outcomes.begins.able(decision, streams)
            results = ((i, option(decision, i, streams, fork)) for i in able)
            ways_of = known[streams] = self._told(count, results)
        return ways_of

    def uneven(self, decision: Decision, fork: Fork, streams: Shapes) -> Ways:
        """The same, with products of two branches of which one is turned so that they fit."""
        key = (decision, fork, streams)
        found = self._uneven.get(key)
        if found is None:
            ways, uneven = self.ways(decision, fork, streams), self.outcomes.uneven
            count = len(decision.options)
            by_option = [(i, ways.results(i)) for i in range(count)]
            found = self._uneven[key] = (
                ways
                if len(ways.terms.labels) == count
                else self._told(
                    count,
                    (
                        (i, some or uneven(fork, decision.parts(i), streams))
                        for i, some in by_option
                    ),
                )
            )
        return found

    def _told(self, count: int, each: Iterable[tuple[int, Results]]) -> Ways:
        """What is known of so many options by what each of them makes."""
        reached: list[Shapes | None] = [None] * count
        single: list[Result | None] = [None] * count
        many: dict[int, Results] = {}
        for i, some in each:
            if len(some) == 1:
                ((reached[i], single[i]),) = some.items()
            elif some:
                many[i] = some
        return Ways(tuple(reached), many, self._shared(single, many), self.outcomes.priced)

    def _shared(self, single: list[Result | None], many: dict[int, Results]) -> Terms:
        """How options make what they make, as known before if it is the same."""
        if many or self.outcomes.priced:
            return _terms(single, many)
        key = tuple(map(id, single))  # what is kept keeps those objects
        if key not in self._terms:
            self._terms[key] = _terms(single, many)
        return self._terms[key]


def _terms(single: list[Result | None], many: dict[int, Results]) -> Terms:
    labels: dict[int, Labels] = {}
    costs = []
    for i, outcome in enumerate(single):
        every = (outcome,) if outcome is not None else tuple(many.get(i, NONE).values())
        if every:
            labels[i] = (every[0].labels, None)
            costs += [some.cost for some in every]
    return Terms(tuple(single), labels, _most(costs))


def _most(costs: list[Price]) -> Price:
    """The most of everything."""
    operators = [cost for cost in costs if isinstance(cost, int)]
    if len(operators) == len(costs):
        return max(operators, default=0)
    return Cost(*map(max, zip(*map(Cost.of, costs), strict=True)))
