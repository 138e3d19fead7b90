"""Samplers that breed derivations: ours keep the claims of both their case and Optuna's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import optuna
import pytest
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from sampler_case import INPUT, LIMITS, TOY, SamplerCase, distance, objective, parents_of, study_of

from nas.dominance import hypervolume, nondominated
from nas.grammar import Derivation, derive
from nas.plan import plan
from nas.search import EvolutionSampler, TreeSampler, choose_with
from nas.search.tree import ranked

Key = Callable[[Derivation], str] | None

# Of Optuna's cases, RelativeSamplerTestCase does not apply, since no parameter is sampled relative
# to others: what is known of a derivation's sites is known when it begins, not when a trial does.
# SingleOnlySamplerTestCase is for samplers that refuse several objectives, and these take them.


class TestTree(SamplerCase, BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    def make(self, seed: int, start: Sequence[Derivation] = (), key: Key = None) -> TreeSampler:
        return TreeSampler(seed, 10, start=start, key=key)


class TestEvolution(SamplerCase, BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    def make(
        self, seed: int, start: Sequence[Derivation] = (), key: Key = None
    ) -> EvolutionSampler:
        return EvolutionSampler(seed, 20, 10, start=start, key=key)


def front(sampler: optuna.samplers.BaseSampler) -> float:
    """The hypervolume after 150 trials: near the planted optimum, and of few steps."""
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

    def both(trial: optuna.Trial) -> tuple[float, float]:
        one = plan(derive(TOY, choose_with(trial), input=INPUT, limits=LIMITS))
        return distance(one), float(len(one.steps))

    study.optimize(both, n_trials=150)
    points = [tuple(trial.values) for trial in study.trials]
    return hypervolume([points[i] for i in nondominated(points)], (14.0, 30.0))


def test_a_tree_sampler_finds_a_wider_front_than_chance() -> None:
    seeds = range(5)
    wins = [front(TreeSampler(s)) > front(optuna.samplers.RandomSampler(seed=s)) for s in seeds]
    assert sum(wins) >= 4


def test_ranking_is_by_feasibility_then_fronts_then_crowding() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    values = [(5, 5), (0, 4), (1, 4.5), (2, 5), (9, 1), (4, 5.5), (0, 9), (0, 10)]
    breaks = [0, 0, 0, 0, 0, 0, 2, 3]
    for pair, more in zip(values, breaks, strict=True):
        study.add_trial(
            optuna.create_trial(values=pair, system_attrs={"constraints:more": float(more)})
        )
    order = [trial.number for trial in ranked(study, study.trials, 8)]
    assert set(order[:2]) == {1, 5}  # the ends of the first front
    assert order == [1, 5, 3, 2, 0, 4, 6, 7]
    assert [trial.number for trial in ranked(study, study.trials, 3)] == order[:3]


def test_a_number_that_is_not_one_keeps_no_constraint() -> None:
    study = optuna.create_study()
    for value, broken in ((1.0, float("nan")), (2.0, 5.0)):
        study.add_trial(optuna.create_trial(value=value, system_attrs={"constraints:x": broken}))
    assert [trial.number for trial in ranked(study, study.trials, 2)] == [1, 0]


def test_a_generation_is_a_trials_number_by_the_population() -> None:
    sampler = TreeSampler(0, 10)
    study = study_of(sampler, 35)
    found = [sampler.get_trial_generation(study, trial) for trial in study.trials]
    assert found == [i // 10 for i in range(35)]
    assert [t.number for t in sampler.get_population(study, 2)] == list(range(20, 30))


def test_parents_are_the_best_of_all_before_their_generation() -> None:
    study = study_of(TreeSampler(0, 10), 40)
    before = sorted(study.trials[:30], key=lambda trial: (trial.value, trial.number))[:10]
    assert parents_of(study.trials[30:]) <= {trial.number for trial in before}
    kinds = {t.user_attrs["lineage:toy"]["kind"] for t in study.trials[10:]}
    assert {"cross", "regrow", "swap"} <= kinds


def test_in_regularised_evolution_the_oldest_leave_even_if_they_are_best() -> None:
    study = optuna.create_study(sampler=EvolutionSampler(0, 10, 5))
    for number in range(40):
        trial = study.ask()
        objective(trial)
        study.tell(trial, float(number))  # each is worse than all before
    for trial in study.trials[10:]:
        (parent,) = trial.user_attrs["lineage:toy"]["parents"]
        assert trial.number - 10 <= parent < trial.number
    assert all("lineage:toy" not in trial.user_attrs for trial in study.trials[:10])


def test_a_population_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        TreeSampler(population_size=1)
