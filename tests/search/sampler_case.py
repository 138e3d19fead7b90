"""The claims that every sampler which breeds derivations inherits."""

from __future__ import annotations

import random
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, TrialState

from nas.grammar import Derivation, Grammar, GrammarError, Limits, Variation, derive, sample
from nas.plan import Plan, plan
from nas.search.breed import DerivationSampler, Lineage
from nas.search.suggest import choose_with
from nas.search.told import attribute

TOY = Grammar.parse(
    """
net   = part output(coarse)
part  = 0.5: leaf | part part | clone(2) [part; part] add
leaf  = relu | sigmoid | tanh | silu | linear(4) | linear(8)
""",
    name="toy",
)
SMALL = Grammar.parse(
    "net = part part part part output(coarse)\npart = 0.9: relu | tanh | silu", name="small"
)
INPUT = (8, 4)
LIMITS = Limits(40)
PLANTED = Counter(
    {
        "input linear": 1,
        "linear relu": 2,
        "relu linear": 2,
        "linear add": 1,
        "relu add": 1,
        "add tanh": 1,
        "add sigmoid": 1,
        "tanh add": 2,
        "sigmoid add": 2,
    }
)


def distance(one: Plan) -> float:
    """How far a plan is from the planted one: pairs of operators that follow each other."""
    made, pairs = {0: "input"}, Counter[str]()
    for step in one.steps:
        pairs.update(f"{made[i]} {step.operator.name}" for i in step.inputs)
        made |= dict.fromkeys(step.outputs, step.operator.name)
    return sum(abs(pairs[pair] - PLANTED[pair]) for pair in {*pairs, *PLANTED})


def objective(trial: optuna.trial.BaseTrial) -> float:
    return distance(plan(derive(TOY, choose_with(trial), input=INPUT, limits=LIMITS)))


def study_of(
    sampler: optuna.samplers.BaseSampler, n: int = 0, storage: BaseStorage | None = None
) -> optuna.Study:
    """The study of the toy space, begun or carried on by n trials."""
    study = optuna.create_study(
        storage=storage, sampler=sampler, study_name="toy", load_if_exists=True
    )
    if n:
        study.optimize(objective, n_trials=n)
    return study


@cache
def by_chance(seed: int) -> float:
    """The distance that as many random trials come to."""
    return float(study_of(optuna.samplers.RandomSampler(seed=seed), 200).best_value)


def bounded(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """A study of 60 trials, of which those of fewer than four steps break a constraint."""
    study = study_of(sampler)
    for _ in range(60):
        trial = study.ask()
        value = objective(trial)
        steps = len(plan(Derivation.read(trial.user_attrs[attribute(TOY)], TOY)).steps)
        trial.set_constraint("steps", 4.0 - steps)
        study.tell(trial, value + 100 * steps)  # by its value alone, small is best
    return study


def texts(study: optuna.Study) -> list[str]:
    return [trial.user_attrs[attribute(TOY)] for trial in study.trials]


def parents_of(trials: Sequence[optuna.trial.FrozenTrial]) -> set[int]:
    """The numbers of all trials that some of these were bred from."""
    found = (trial.user_attrs.get("lineage:toy", {"parents": ()}) for trial in trials)
    return {number for lineage in found for number in lineage["parents"]}


def drawn(seed: int) -> Derivation:
    return sample(TOY, random.Random(seed), input=INPUT, limits=LIMITS)


class SamplerCase(ABC):
    @abstractmethod
    def make(
        self,
        seed: int,
        start: Sequence[Derivation] = (),
        key: Callable[[Derivation], str] | None = None,
    ) -> DerivationSampler: ...

    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        return lambda: self.make(0)

    def test_a_planted_optimum_is_come_nearer_to_than_by_chance(self) -> None:
        ahead = [by_chance(s) - study_of(self.make(s), 200).best_value for s in range(5)]
        assert sum(by > 0 for by in ahead) >= 4
        assert min(ahead) >= 0

    def test_no_two_trials_have_the_same_derivation(self) -> None:
        assert len(set(texts(study_of(self.make(0), 120)))) == 120
        assert len(set(texts(study_of(optuna.samplers.RandomSampler(seed=0), 120)))) < 120

    def test_the_same_seed_makes_the_same_trials_and_another_others(self) -> None:
        one, same, other = (study_of(self.make(seed), 50) for seed in (3, 3, 4))
        assert [t.params for t in one.trials] == [t.params for t in same.trials]
        assert texts(one) == texts(same) != texts(other)

    def test_a_study_carried_on_elsewhere_has_the_trials_of_one_without_interruption(
        self, tmp_path: Path
    ) -> None:
        for n in (17, 13, 20):
            journal = JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
            interrupted = study_of(self.make(1), n, storage=journal)
        whole = study_of(self.make(1), 50)
        assert [t.params for t in interrupted.trials] == [t.params for t in whole.trials]
        assert texts(interrupted) == texts(whole)

    def test_two_processes_on_one_journal_finish_and_repeat_nothing(self, tmp_path: Path) -> None:
        file = tmp_path / "journal"
        study_of(self.make(0), storage=JournalStorage(JournalFileBackend(str(file))))
        code = (
            "import sys; sys.path[:0] = sys.argv[1].split(':')\n"
            f"from {type(self).__module__.split('.')[-1]} import {type(self).__name__} as Case\n"
            "from sampler_case import *\n"
            "journal = JournalStorage(JournalFileBackend(sys.argv[2]))\n"
            "study_of(Case().make(0), 25, storage=journal)"
        )
        tests = Path(__file__).parent
        here = f"{tests}:{tests.parents[1] / 'benchmarks'}"
        both = [subprocess.Popen([sys.executable, "-c", code, here, str(file)]) for _ in range(2)]
        assert [one.wait(timeout=120) for one in both] == [0, 0]
        study = study_of(self.make(0), storage=JournalStorage(JournalFileBackend(str(file))))
        assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 50
        assert len(set(texts(study))) == 50

    def test_two_threads_finish_and_repeat_nothing(self) -> None:
        study = study_of(self.make(0))
        study.optimize(objective, n_trials=50, n_jobs=2)
        assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 50
        assert len(set(texts(study))) == 50

    def test_a_trials_parameters_alone_derive_it_again(self) -> None:
        for trial in study_of(self.make(2), 40).trials:
            for again in (FixedTrial(trial.params), trial):
                found = derive(TOY, choose_with(again), input=INPUT, limits=LIMITS)
                assert str(found) == trial.user_attrs[attribute(TOY)]
            assert trial.params

    def test_names_of_deep_sites_stay_below_what_optuna_takes(self) -> None:
        grammar = Grammar.parse("net = nested output(coarse)\n" + DEEP, name="deep")
        study = optuna.create_study(sampler=self.make(0))
        trial = study.ask()
        found = derive(grammar, choose_with(trial), input=(4, 4), limits=Limits(300))
        assert max(len(chosen.site.name) for chosen in found.choices) > 512
        assert max(map(len, trial.params)) < 512

    def test_other_parameters_are_drawn_at_random(self) -> None:
        found: list[float] = []

        def both(trial: optuna.Trial) -> float:
            found.append(trial.suggest_float("rate", 0, 1))
            return objective(trial) + abs(found[-1] - 0.1)

        study = optuna.create_study(sampler=self.make(0))
        study.optimize(both, n_trials=100)
        tenths = Counter(int(rate * 10) for rate in found)
        assert len(tenths) == 10
        assert max(tenths.values()) < 25

    def test_the_start_comes_first_and_then_its_mutants(self) -> None:
        start = [drawn(4), drawn(6)]
        study = study_of(self.make(0, start=start), 8)
        assert texts(study)[:2] == list(map(str, start))
        for trial in study.trials[2:]:
            lineage = Lineage.of(study, trial, TOY)
            assert lineage is not None
            assert lineage.parents == (str(start[trial.number % 2]),)

    def test_a_start_of_another_version_of_the_grammar_is_refused(self) -> None:
        other = Grammar.parse("net = relu | tanh | silu", name="toy")
        start = [sample(other, random.Random(0), input=INPUT)]
        with pytest.raises(GrammarError, match="to start a search in"):
            objective(study_of(self.make(0, start=start)).ask())

    def test_a_childs_parts_are_where_its_lineage_says(self) -> None:
        study = study_of(self.make(0), 60)
        same = checked = 0
        for trial in study.trials:
            lineage = Lineage.of(study, trial, TOY)
            if lineage is None:
                continue
            parents = [Derivation.read(text, TOY) for text in lineage.parents]
            child = Derivation.read(trial.user_attrs[attribute(TOY)], TOY)
            how = Variation(child, "", lineage.moves, lineage.fresh)
            for site, label in child.by_site.items():
                origin = how.origin(site)
                before = origin and parents[origin[0]].by_site.get(origin[1].lstrip(":/"))
                if before:
                    checked += 1
                    same += before == label
            numbers = trial.user_attrs["lineage:toy"]["parents"]
            assert max(numbers) < trial.number
            assert [texts(study)[number] for number in numbers] == list(lineage.parents)
        assert checked > 100
        assert same > 0.8 * checked

    def test_no_two_trials_share_a_key_and_none_has_an_empty_one(self) -> None:
        def key(derivation: Derivation) -> str:
            size = len(plan(derivation).steps)
            return "" if size < 3 else f"{size}/{plan(derivation).params}"

        study = study_of(self.make(0, key=key), 40)
        found = [key(Derivation.read(text, TOY)) for text in texts(study)]
        assert "" not in found
        assert len(set(found)) == 40

    def test_what_another_process_plans_at_the_same_time_is_left_to_it(self) -> None:
        """Another trial takes a derivation after it was looked for and before it is written."""
        stolen: list[str] = []

        def key(derivation: Derivation) -> str:
            if not stolen:
                stolen.append(str(derivation))
                study.enqueue_trial({}, user_attrs={attribute(TOY): stolen[0]})
            return str(derivation)

        study = study_of(self.make(0, key=key))
        study.optimize(objective, n_trials=2)
        assert texts(study)[1] == stolen[0] != texts(study)[0]

    def test_a_derivation_that_is_enqueued_is_the_next_trials(self) -> None:
        study = study_of(self.make(0), 3)
        study.enqueue_trial({}, user_attrs={attribute(TOY): str(drawn(9))})
        study.optimize(objective, n_trials=1)
        assert texts(study)[3] == str(drawn(9))

    def test_a_finite_space_is_seen_whole_before_anything_comes_again(self) -> None:
        study = optuna.create_study(sampler=self.make(0))
        found = [str(derive(SMALL, choose_with(study.ask()), input=INPUT)) for _ in range(83)]
        assert len(set(found[:81])) == len(set(found)) == 81

    def test_failed_trials_are_nobodys_parents_and_do_not_come_again(self) -> None:
        study = study_of(self.make(0))
        for i in range(60):
            trial = study.ask()
            value = objective(trial)
            study.tell(trial, None if i % 2 else value, state=TrialState(3 if i % 2 else 1))
        assert len(set(texts(study))) == 60
        assert {number % 2 for number in parents_of(study.trials)} == {0}

    def test_who_breaks_a_constraint_is_no_parent_beside_who_keeps_it(self) -> None:
        study = bounded(self.make(0))
        kept = [t for t in study.trials if t.constraints["steps"] <= 0]
        parents = parents_of(study.trials[40:])
        assert len(kept) > 20
        assert parents
        assert parents <= {t.number for t in kept}

    def test_two_spaces_in_one_trial_are_bred_each_for_itself(self) -> None:
        def both(trial: optuna.Trial) -> float:
            small = derive(SMALL, choose_with(trial), input=INPUT)
            return objective(trial) + small.labels.count("relu")

        study = optuna.create_study(sampler=self.make(0))
        study.optimize(both, n_trials=8)
        assert len({trial.user_attrs[attribute(SMALL)] for trial in study.trials}) == 8
        assert len({trial.user_attrs[attribute(TOY)] for trial in study.trials}) == 8


DEEP = "nested = 0.01: end | nested_within_another_one_of_the_same_kind\n" + (
    "nested_within_another_one_of_the_same_kind = relu nested | tanh nested\nend = relu | tanh"
)
