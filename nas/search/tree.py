"""`TreeSampler`: NSGA-II on derivations."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from optuna import Study
from optuna.samplers import BaseGASampler
from optuna.trial import FrozenTrial, TrialState

from nas.dominance import crowding, sorted_fronts
from nas.grammar import Derivation, Grammar
from nas.grammar.derive import Size
from nas.search.breed import DerivationSampler
from nas.search.told import losses, text_of, violation


class TreeSampler(DerivationSampler, BaseGASampler):
    """Typed crossover and mutation of derivations, ranked by NSGA-II, as an Optuna sampler.

    Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm:
    NSGA-II", IEEE Trans. Evol. Comput. 6 (2002): constrained domination, crowding and binary
    tournaments. A trial's generation is its number divided by the population's size. Parents are
    the best of all finished before their generation. In a study:

        study = optuna.create_study(sampler=nas.TreeSampler(seed=0))
        nas.derive(grammar, nas.choose_with(trial), input=(3, 32, 32))  # in the objective
    """

    def __init__(
        self,
        seed: int = 0,
        population_size: int = 20,
        crossover_prob: float = 0.5,
        start: Sequence[Derivation] = (),
        key: Callable[[Derivation], str] | None = None,
        size: Size | None = None,
    ):
        if population_size < 2:
            raise ValueError(f"a population has at least 2 trials, and this is {population_size}")
        DerivationSampler.__init__(self, seed, start, key, size)
        BaseGASampler.__init__(self, population_size)
        self.crossover_prob = crossover_prob

    @property
    def _size(self) -> int:
        assert self.population_size is not None
        return self.population_size

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return int(trial.number // self._size)

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [t for t in finished if self.get_trial_generation(study, t) == generation]

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The best trials of all generations before this one, as many as a population."""
        before = generation * self._size
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        bred = [t for t in finished if t.number < before and _bred(t)]
        return ranked(study, bred, self._size)

    def population(self, study: Study, grammar: Grammar) -> list[FrozenTrial]:
        trials = len(study.get_trials(deepcopy=False))
        return self.select_parent(study, -(-trials // self._size))

    def parents(
        self, study: Study, grammar: Grammar, number: int, rng: random.Random
    ) -> Iterator[list[FrozenTrial]]:
        elite = self.get_parent_population(study, number // self._size)
        best = ranked(study, [t for t in elite if text_of(t, grammar)], len(elite))
        while best:
            first = _tournament(best, rng)
            others = [trial for trial in best if trial is not first]
            crossed = others and rng.random() < self.crossover_prob
            yield [first, _tournament(others, rng)] if crossed else [first]


def ranked(study: Study, trials: Sequence[FrozenTrial], most: int) -> list[FrozenTrial]:
    """The best trials, best first, at most so many."""
    ordered = sorted(trials, key=lambda t: t.number)
    points = [losses(study, trial) for trial in ordered]
    return [ordered[i] for i in best_first(points, list(map(violation, ordered)), most)]


def best_first(
    points: Sequence[Sequence[float]], violations: Sequence[float], most: int
) -> list[int]:
    """Indices of the best points, at most so many: those without a violation, by fronts and in a
    front by crowding, then the others, the least violation first."""
    kept = [i for i, violated in enumerate(violations) if not violated]
    wrong = sorted((v, i) for i, v in enumerate(violations) if v)
    best: list[int] = []
    for front in sorted_fronts([points[i] for i in kept]):
        distances = crowding([points[kept[i]] for i in front])
        pairs = sorted(zip(distances, front, strict=True), key=lambda pair: -pair[0])
        best += [kept[i] for _, i in pairs]
        if len(best) >= most:
            break
    return [*best, *(i for _, i in wrong)][:most]


def _bred(trial: FrozenTrial) -> bool:
    return any(name.startswith("derivation:") for name in trial.user_attrs)


def _tournament(best: Sequence[FrozenTrial], rng: random.Random) -> FrozenTrial:
    """The better of two, drawn from trials that are in order."""
    return best[min(rng.randrange(len(best)), rng.randrange(len(best)))]
