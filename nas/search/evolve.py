"""`EvolutionSampler`: regularised evolution on derivations; and random search beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from nas.grammar import Derivation, Grammar
from nas.grammar.derive import Size
from nas.search.breed import DerivationSampler
from nas.search.told import losses, text_of, violation


class EvolutionSampler(DerivationSampler):
    """Regularised evolution, as an Optuna sampler: each trial mutates the best of a tournament,
    and the population is the trials finished last, so that the oldest goes, not the worst.

    Real, Aggarwal, Huang and Le, "Regularized evolution for image classifier architecture search",
    AAAI 2019, algorithm 1. Only the first objective counts, and that constraints are kept.
    """

    def __init__(
        self,
        seed: int = 0,
        population_size: int = 100,
        tournament: int = 10,
        start: Sequence[Derivation] = (),
        key: Callable[[Derivation], str] | None = None,
        size: Size | None = None,
    ):
        super().__init__(seed, start, key, size)
        self.population_size, self.tournament = population_size, tournament

    def population(self, study: Study, grammar: Grammar) -> list[FrozenTrial]:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        bred = (trial for trial in reversed(finished) if text_of(trial, grammar))
        return list(islice(bred, self.population_size))

    def parents(
        self, study: Study, grammar: Grammar, number: int, rng: random.Random
    ) -> Iterator[list[FrozenTrial]]:
        population = self.population(study, grammar)
        while len(population) == self.population_size:
            rivals = rng.choices(population, k=self.tournament)
            yield [min(rivals, key=lambda t: (violation(t), losses(study, t)[0], -t.number))]


class RandomDerivations(DerivationSampler):
    """Random derivations by the grammar's weights, each once: an Optuna sampler without memory."""

    def __init__(
        self,
        seed: int = 0,
        start: Sequence[Derivation] = (),
        key: Callable[[Derivation], str] | None = None,
        size: Size | None = None,
    ):
        super().__init__(seed, start, key, size)

    def population(self, study: Study, grammar: Grammar) -> list[FrozenTrial]:
        return []

    def parents(
        self, study: Study, grammar: Grammar, number: int, rng: random.Random
    ) -> Iterator[list[FrozenTrial]]:
        return iter(())
