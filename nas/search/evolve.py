"""`EvolutionSampler`: regularised evolution on derivations."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from nas.grammar import Derivation, Grammar
from nas.search.breed import DerivationSampler, losses, text_of, violation


class EvolutionSampler(DerivationSampler):
    """Regularised evolution, as an Optuna sampler: each trial mutates the best of a tournament,
    and the population is the trials finished last, so that the oldest goes, not the worst.

    Real, Aggarwal, Huang and Le, "Regularized evolution for image classifier architecture search",
    AAAI 2019, algorithm 1. Only the first objective counts, and that constraints are kept.
    """

    def __init__(
        self, seed: int = 0, population_size: int = 100, tournament: int = 10,
        start: Sequence[Derivation] = (), key: Callable[[Derivation], str] | None = None,
    ):  # fmt: skip
        super().__init__(seed, start, key)
        self.population_size, self.tournament = population_size, tournament

    def parents(
        self, study: Study, grammar: Grammar, number: int, rng: random.Random
    ) -> Iterator[list[FrozenTrial]]:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        bred = (trial for trial in reversed(finished) if text_of(trial, grammar))
        population = list(islice(bred, self.population_size))
        while len(population) == self.population_size:
            rivals = rng.choices(population, k=self.tournament)
            yield [min(rivals, key=lambda t: (violation(t), losses(study, t)[0], -t.number))]
