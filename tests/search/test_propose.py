"""Proposals: Optuna's, on a space of ours."""

from __future__ import annotations

import random

import optuna
import pytest

from nas.dominance import hypervolume, nondominated
from nas.front import Limit, Objective
from nas.grammar import Derivation, Grammar, derive, sample
from nas.grammar.count import extreme
from nas.plan import plan
from nas.search import choose_with
from nas.search.columns import Aim, counted
from nas.search.problem import OPEN_SIZE, within
from nas.search.propose import Proposer, resolved
from nas.supernet import Space

MOBILE = Grammar.load("mobile")
INPUT = (1, 8, 8)
EINSPACE = Grammar.load("einspace")
SAMPLERS = ["random", "tpe", "nsga2", "gp", "tree", "evolution", "predicted"]
OBJECTIVES = (Objective("worth", True), Objective("flops", False))


def space(grammar: Grammar, limits: tuple[Limit, ...]) -> Space:
    """As a run draws from it."""
    if grammar.finite:
        return Space(grammar, INPUT)
    return Space(grammar, INPUT, within(counted(limits)), OPEN_SIZE)


def worth(derivation: Derivation) -> float:
    """A planted optimum: kernels of 5 early, of 3 late, and depth wherever it is cheap."""
    score = 0.0
    for site, label in derivation.by_site.items():
        early = site.startswith("stage.0")
        score += (label == "kernel=5") == early if ":kernel" in site else 0.5 * (label == "x1")
    return score


def volume(sampler: str, seed: int, trials: int = 200) -> float:
    proposer = Proposer(Space(MOBILE, INPUT), sampler, [Aim(OBJECTIVES)], seed=seed, population=20)
    points = []
    for _ in range(trials // 20):
        asked = [proposer.ask() for _ in range(20)]
        for proposal in asked:
            values = {
                "worth": worth(proposal.derivation),
                "flops": plan(proposal.derivation).flops / 3e6,
            }
            points.append((-values["worth"], values["flops"]))
            proposer.tell(proposal, values)
    front = [points[i] for i in nondominated(points)]
    return hypervolume(front, (0.0, 1.0))


def test_evolution_really_evolves_on_a_planted_optimum() -> None:
    chance = [volume("random", seed) for seed in range(5)]
    for sampler, seeds in (("nsga2", 5), ("tree", 5), ("predicted", 2)):  # which takes long
        assert sum(volume(sampler, seed) > chance[seed] for seed in range(seeds)) >= 0.8 * seeds


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_told_the_same_proposes_the_same(sampler: str) -> None:
    def go() -> list[str]:
        proposer = Proposer(Space(MOBILE, INPUT), sampler, [Aim(OBJECTIVES)], seed=5, population=4)
        texts = []
        for _ in range(2 if sampler == "gp" else 4):  # it takes long to propose
            asked = [proposer.ask() for _ in range(4)]
            for proposal in asked:
                texts.append(str(proposal.derivation))
                proposer.tell(proposal, {"worth": worth(proposal.derivation), "flops": 1.0})
        return texts

    assert go() == go()


def test_a_failed_trial_is_told_and_never_the_best() -> None:
    proposer = Proposer(Space(MOBILE, INPUT), "nsga2", [Aim(OBJECTIVES)], seed=0, population=4)
    proposer.tell(proposer.ask(), None)
    proposer.tell(proposer.ask(), {"worth": 1.0, "flops": 2.0})
    states = [t.state for t in proposer.study.trials]
    assert states == [optuna.trial.TrialState.FAIL, optuna.trial.TrialState.COMPLETE]


def test_limits_reach_optuna_as_constraints() -> None:
    limits = (Limit("flops", 1.0),)
    proposer = Proposer(
        Space(MOBILE, INPUT), "nsga2", [Aim(OBJECTIVES, limits)], seed=0, population=4
    )
    proposer.tell(proposer.ask(), {"worth": 1.0, "flops": 3.0})
    proposer.tell(proposer.ask(), {"worth": 1.0, "flops": 0.5})
    assert [t.constraints for t in proposer.study.trials] == [{"flops": 2.0}, {"flops": -0.5}]


@pytest.mark.parametrize("name", ["mobile", "einspace"])
def test_a_plain_optuna_study_drives_a_derivation(name: str) -> None:
    grammar = Grammar.load(name)

    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("batch", 1, 3)
        return depth + len(derive(grammar, choose_with(trial), input=INPUT).choices)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=8)
    assert len(study.trials) == 8


def test_optuna_is_asked_for_every_site_of_a_finite_space() -> None:
    proposer = Proposer(Space(MOBILE, INPUT), "random", [Aim(OBJECTIVES)], seed=0, population=4)
    names = {frozenset(proposer.ask().trial.params) for _ in range(5)}
    assert names == {frozenset(proposer.sites)}
    assert len(proposer.sites) > 20


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_first_proposals_are_the_ends_of_a_finite_space(sampler: str) -> None:
    proposer = Proposer(Space(MOBILE, INPUT), sampler, [Aim(OBJECTIVES)], seed=0, population=4)
    found = [plan(proposer.ask().derivation).flops for _ in range(4)]
    ends = [plan(extreme(MOBILE, input=INPUT, largest=end)).flops for end in (False, True)]
    assert found[:2] == ends
    assert ends[0] < min(found[2:]) <= max(found[2:]) < ends[1]


@pytest.mark.parametrize("sampler", ["random", "tree", "evolution", "predicted"])
def test_an_open_grammar_is_proposed_within_the_runs_limits(sampler: str) -> None:
    limits = tuple(map(Limit, ("flops", "params", "activations"), (2e5, 2e4, 1e4)))
    proposer = Proposer(
        space(EINSPACE, limits), sampler, [Aim(OBJECTIVES, limits)], seed=0, population=4
    )
    for _ in range(15):
        proposal = proposer.ask()
        one = plan(proposal.derivation)
        assert one.flops <= 200_000
        assert one.params <= 20_000
        assert one.activations <= 10_000
        costs = {"flops": one.flops, "params": one.params, "activations": one.activations}
        proposer.tell(proposal, {"worth": 1.0, **costs})


def test_where_nothing_is_said_predictors_propose_unless_children_need_parents() -> None:
    assert resolved("auto") == "predicted"
    assert resolved("auto", inherits=True) == "tree"
    assert resolved("tpe", inherits=True) == "tpe"


@pytest.mark.parametrize("grammar", [MOBILE, EINSPACE])
def test_a_bred_proposal_says_its_parents_and_is_never_proposed_again(grammar: Grammar) -> None:
    proposer = Proposer(space(grammar, ()), "tree", [Aim(OBJECTIVES)], seed=0, population=6)
    found: list[str] = []
    for _ in range(4):
        asked = [proposer.ask() for _ in range(6)]
        for proposal in asked:
            lineage = proposal.lineage
            assert proposal.drawn == (len(found) == 19)
            assert (lineage is None) == (len(found) < 6 or proposal.drawn)
            assert lineage is None or set(lineage.parents) <= set(found[: len(found) // 6 * 6])
            found.append(str(proposal.derivation))
            proposer.tell(proposal, {"worth": 1.0, "flops": float(len(found))})
    assert len(set(found)) == 24


def test_what_shares_a_key_or_has_none_is_not_proposed() -> None:
    def key(derivation: Derivation) -> str:
        one = plan(derivation)
        return "" if one.trivial else one.fingerprint

    proposer = Proposer(
        space(EINSPACE, ()), "tree", [Aim(OBJECTIVES)], seed=0, population=5, key=key
    )
    found = []
    for _ in range(25):
        proposal = proposer.ask()
        found.append(key(proposal.derivation))
        proposer.tell(proposal, {"worth": 1.0, "flops": 1.0})
    assert len(set(found)) == 25
    assert "" not in found


def test_a_start_is_proposed_first() -> None:
    start = [sample(MOBILE, random.Random(seed), input=INPUT) for seed in range(3)]
    proposer = Proposer(
        Space(MOBILE, INPUT), "evolution", [Aim(OBJECTIVES)], seed=0, population=4, start=start
    )
    assert [proposer.ask().derivation for _ in range(3)] == start
