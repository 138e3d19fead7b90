"""Samplers that breed derivations.

A child is planned as a whole when its derivation begins, and then suggested to Optuna site by site.
Whatever a sampler knows it reads in the study's trials, so that any storage, several processes and
a new sampler of the same seed go on as one would have.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from typing import Any, NamedTuple

from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import BaseTrial, FrozenTrial

from nas.dominance import sorted_fronts
from nas.grammar import (
    UNLIMITED,
    Derivation,
    Follow,
    Grammar,
    GrammarError,
    Limits,
    Variation,
    choose_at_random,
    cross,
    derive,
    mutate,
    sample,
)
from nas.grammar.count import enumerate_all
from nas.grammar.derive import Size, Weigh
from nas.grammar.vary import origin
from nas.op import Shape
from nas.search.told import attribute

# What is thought of for a trial at most: children, then random draws, then a small space's first.
CHILDREN, DRAWS, SMALL = 60, 40, 512
GENERATION = 20  # trials after which what was learned is weighed anew
FILTERED = 8  # children that are thought of for each that is proposed, where they are judged
Points = Sequence[tuple[float, ...]]  # of each derivation, of less the better
Judge = Callable[[Sequence[Derivation]], Points]


class Taught(NamedTuple):
    """What earlier runs say to a search as it is now: how options are weighted, and how good
    derivations will be; None for nothing."""

    weigh: Weigh | None = None
    judge: Judge | None = None


Learned = Callable[[int], Taught]  # by what was told of the trials before a number


@dataclass(frozen=True)
class Lineage:
    """Where a child comes from: its parents as text, and `moves` and `fresh` of its `Variation`."""

    parents: tuple[str, ...]
    moves: tuple[tuple[str, int, str], ...]
    fresh: str | None

    def origin(self, path: str) -> tuple[int, str] | None:
        """The parent's number and the path there that a path continues; None for what is new."""
        return origin(self.moves, self.fresh, path)

    @staticmethod
    def of(study: Study, trial: BaseTrial, grammar: Grammar) -> Lineage | None:
        """The lineage that a trial of the study was planned with; None where it has no parents."""
        written = trial.user_attrs.get(f"lineage:{grammar.name}")
        if written is None:
            return None
        trials = study.get_trials(deepcopy=False)
        parents = (trials[number].user_attrs[attribute(grammar)] for number in written["parents"])
        moves = ((here, parent, there) for here, parent, there in written["moves"])
        return Lineage(tuple(parents), tuple(moves), written["fresh"])


class DerivationSampler(BaseSampler, ABC):
    """An Optuna sampler that plans each trial's derivation; what it adds is who the parents are.

    seed: a trial's random stream comes from it and the trial's number. start: the derivations of
    the first trials, mutated in turn until there is a population. key: what no two trials may
    share, by default the derivation itself; one whose key is "" is never proposed. size: of those
    that are drawn, see `nas.sample`. learned: how earlier runs have options weighted in draws and
    mutations, and children judged: of some the best are proposed (Qin et al. 2025, arXiv
    2504.12971). Parameters that are no sites are drawn as Optuna's random sampler draws them.
    """

    def __init__(
        self,
        seed: int,
        start: Sequence[Derivation],
        key: Callable[[Derivation], str] | None,
        size: Size | None,
    ):
        self.seed, self.start, self.key, self.size = seed, tuple(start), key or str, size
        self.learned: Learned | None = None
        self._taught = Taught()  # for the proposal that is made
        self._keys: dict[str, str] = {}
        self._weighed: dict[int, Taught] = {}
        self._planned: dict[tuple[int, str], str] = {}

    @abstractmethod
    def parents(
        self, study: Study, grammar: Grammar, number: int, rng: random.Random
    ) -> Iterator[Sequence[FrozenTrial]]:
        """Whose child the trial of a number may be, drawn again and again: one trial to mutate, or
        two to cross, each finished and with a `text_of` the grammar; none before there is a
        population."""

    @abstractmethod
    def population(self, study: Study, grammar: Grammar) -> Sequence[FrozenTrial]:
        """The finished trials that may still become parents."""

    def propose(self, trial: Trial, grammar: Grammar, input: Shape, limits: Limits) -> Derivation:
        """The derivation of a trial, written into its user attributes with its lineage.

        No other trial of the study has one of the same key, unless none is found: then the space
        is about spent. A trial that was enqueued with a derivation keeps it.
        """
        rng = random.Random(f"{self.seed}/{trial.number}")
        given = trial.user_attrs.get(attribute(grammar))
        if given is not None:
            return _follow(Derivation.read(given, grammar), rng, input, limits)
        self._taught = self._weighing(trial.number)
        taken = self._taken(trial, grammar)
        for child in self._thoughts(trial, grammar, input, limits, rng):
            key = self._key(child.derivation)
            if key and key not in taken:
                trial.set_user_attr(attribute(grammar), str(child.derivation))
                taken = self._taken(trial, grammar)  # another process may have had the same idea
                if key not in taken:
                    break
        else:
            child = Child(sample(grammar, rng, input=input, limits=limits))
        if child.parents:
            trial.set_user_attr(f"lineage:{grammar.name}", child.lineage())
        return child.derivation

    def _thoughts(
        self, trial: Trial, grammar: Grammar, input: Shape, limits: Limits, rng: random.Random
    ) -> Iterator[Child]:
        """What the trial could be: its part of the start, children, draws, and what is left of a
        small space."""
        start = self._start(grammar)
        if trial.number < len(start):
            yield Child(_follow(start[trial.number], rng, input, limits))
        yield from self._best(self._children(trial, grammar, input, limits, rng))
        for _ in range(DRAWS):
            yield self._drawn(grammar, rng, input, limits)
        if grammar.finite and limits == UNLIMITED:
            yield from map(Child, islice(enumerate_all(grammar, input=input), SMALL))

    def _children(
        self, trial: Trial, grammar: Grammar, input: Shape, limits: Limits, rng: random.Random
    ) -> Iterator[Child]:
        """Children of those who may be parents, or of the start; draws where there are none."""
        start, name = self._start(grammar), attribute(grammar)
        draws = self.parents(trial.study, grammar, trial.number, rng)
        for drawn in islice(chain(draws, repeat(())), CHILDREN):
            parents = [(t.number, Derivation.read(t.user_attrs[name], grammar)) for t in drawn]
            if not parents and start:
                parents = _first(trial.study, start[trial.number % len(start)])
            child = vary(parents, rng, input, limits, self._taught.weigh)
            yield child or self._drawn(grammar, rng, input, limits)

    def _best(self, children: Iterator[Child]) -> Iterator[Child]:
        """The same, of some those of parents before draws, and those that are judged the best
        before the others."""
        judge = self._taught.judge
        if judge is None:
            yield from children
            return
        while some := list(islice(children, FILTERED)):
            bred = [child for child in some if child.parents]
            for front in sorted_fronts(judge([child.derivation for child in bred])):
                yield from (bred[i] for i in front)
            yield from (child for child in some if not child.parents)

    def _drawn(self, grammar: Grammar, rng: random.Random, input: Shape, limits: Limits) -> Child:
        weighed = partial(sample, grammar, rng, size=self.size, weigh=self._taught.weigh)
        return Child(weighed(input=input, limits=limits))

    def _weighing(self, number: int) -> Taught:
        """What is taught for a trial, by what was told of whole generations before."""
        first = number // GENERATION * GENERATION
        if self.learned and first not in self._weighed:
            self._weighed = {first: self.learned(first)}
        return self._weighed.get(first, Taught())

    def _start(self, grammar: Grammar) -> list[Derivation]:
        start = [derivation for derivation in self.start if derivation.grammar.name == grammar.name]
        for derivation in start:
            if derivation.grammar.hash != grammar.hash:
                raise GrammarError(
                    f"{derivation!r} is to start a search in {grammar.name}@{grammar.hash}: read "
                    "it with the grammar that is searched"
                )
        return start

    def _key(self, derivation: Derivation) -> str:
        text = str(derivation)
        if text not in self._keys:
            self._keys[text] = self.key(derivation)
        return self._keys[text]

    def _taken(self, trial: Trial, grammar: Grammar) -> set[str]:
        """The keys of all other trials of the study, finished or not."""
        name, head = attribute(grammar), f"{grammar.name}@{grammar.hash} "
        trials, number = trial.study.get_trials(deepcopy=False), trial.number
        texts = {t.user_attrs.get(name, "") for t in trials[:number] + trials[number + 1 :]}
        for text in texts.difference(self._keys):
            if text.startswith(head):
                self._key(Derivation.read(text, grammar))
        return {self._keys[text] for text in texts if text in self._keys}

    def suggest(self, trial: BaseTrial, name: str, labels: Sequence[str], planned: str) -> str:
        """What Optuna says at a site whose label is planned: that, unless the trial fixes it."""
        at = (trial.number, name)
        self._planned[at] = planned
        try:
            return str(trial.suggest_categorical(name, labels))
        finally:
            del self._planned[at]

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        planned = self._planned.get((trial.number, param_name))
        if planned is not None:
            return planned
        stream = hashlib.sha256(f"{self.seed}/{trial.number}/{param_name}".encode()).digest()
        chance = RandomSampler(seed=int.from_bytes(stream[:4], "big"))
        return chance.sample_independent(study, trial, param_name, param_distribution)


@dataclass(frozen=True)
class Child:
    """A derivation thought of, the numbers of its parents' trials, and how it came from them."""

    derivation: Derivation
    parents: tuple[int, ...] = ()
    variation: Variation | None = None

    def lineage(self) -> dict[str, Any]:
        assert self.variation is not None
        varied = self.variation
        return {
            "parents": self.parents,
            "kind": varied.kind,
            "moves": varied.moves,
            "fresh": varied.fresh,
        }


def _first(study: Study, derivation: Derivation) -> list[tuple[int, Derivation]]:
    """A derivation of the start as a parent, with the number of its trial."""
    name, text = attribute(derivation.grammar), str(derivation)
    trials = study.get_trials(deepcopy=False)
    return [(t.number, derivation) for t in trials if t.user_attrs.get(name) == text][:1]


def vary(
    parents: Sequence[tuple[int, Derivation]],
    rng: random.Random,
    input: Shape,
    limits: Limits,
    weigh: Weigh | None = None,
) -> Child | None:
    """A child of two parents or, where they do not cross, of the first; None if there is none."""
    numbers = tuple(number for number, _ in parents)
    try:
        if len(parents) == 2:
            (_, a), (_, b) = parents
            child = cross(a, b, rng, input=input, limits=limits, weigh=weigh)
            return Child(child.derivation, numbers, child)
    except GrammarError:
        pass
    try:
        if parents and parents[0][1].choices:
            child = mutate(parents[0][1], rng, input=input, limits=limits, weigh=weigh)
            return Child(child.derivation, numbers[:1], child)
    except GrammarError:
        pass
    return None


def _follow(derivation: Derivation, rng: random.Random, input: Shape, limits: Limits) -> Derivation:
    """The derivation, or where the limits or the input do not allow it what is near it."""
    choose = Follow(derivation, choose_at_random(rng))
    return derive(derivation.grammar, choose, input=input, limits=limits)
