"""Claims about predictors, the search among predictions, and the sampler made of both."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, norm

from nas.dominance import hypervolume, nondominated
from nas.front import Limit, Objective
from nas.grammar import UNLIMITED, Derivation, Grammar, Limits, derive, sample
from nas.grammar.count import extreme
from nas.op import Shape
from nas.search import PredictedSampler, choose_with
from nas.search.columns import Aim
from nas.search.inner import POPULATION, Judged, Variation, batch_along, explore
from nas.search.predictor import FEWEST, Predictor, Seen, facts_of
from nas.search.propose import Proposer
from nas.supernet import Space

MOBILE, INPUT = Grammar.load("mobile"), (1, 8, 8)
EINSPACE = Grammar.load("einspace")
SMALL = Limits(64, params=100_000, flops=5_000_000)
OBJECTIVES = (Objective("accuracy", True), Objective("flops", False))


def draws(grammar: Grammar, n: int, seed: int = 0) -> list[Derivation]:
    limits = None if grammar.finite else SMALL
    return [
        sample(grammar, random.Random(f"{seed}/{i}"), input=INPUT, limits=limits) for i in range(n)
    ]


def planted(derivation: Derivation) -> float:
    """A loss that hangs on what is chosen at some sites."""
    if not derivation.grammar.finite:
        return -float(derivation.network_text.count("linear"))
    return sum(
        ((label == "kernel=5") != site.startswith("stage.0")) if ":kernel" in site else 0.0
        for site, label in derivation.by_site.items()
    ) - 0.1 * len(derivation.by_site)


def fitted(derivations: Sequence[Derivation], losses: Sequence[float]) -> Predictor | None:
    return Predictor.fit(Seen(list(map(facts_of, derivations))), losses)


@pytest.mark.parametrize("grammar", [MOBILE, EINSPACE], ids=["finite", "open"])
@pytest.mark.parametrize("n", [40, 120])
def test_a_predictor_ranks_what_it_has_not_seen(grammar: Grammar, n: int) -> None:
    known, unseen = draws(grammar, n), draws(grammar, 60, seed=1)
    predictor = fitted(known, [planted(d) for d in known])
    assert predictor is not None
    tau = kendalltau(predictor(list(map(facts_of, unseen))), [planted(d) for d in unseen])[0]
    assert tau > 0.4
    assert abs(tau - predictor.agreement) < 0.3


def test_where_there_is_nothing_to_learn_there_is_no_predictor() -> None:
    known = draws(MOBILE, 60)
    chance = random.Random(1)
    assert fitted(known, [chance.random() for _ in known]) is None
    assert fitted(known, [1.0] * 60) is None
    assert fitted(known, [float("nan")] * 60) is None
    few = known[: FEWEST - 1]
    assert fitted(few, [planted(d) for d in few]) is None


def test_trials_without_a_figure_are_left_out() -> None:
    known = draws(MOBILE, 60)
    losses = [planted(d) if i % 3 else float("nan") for i, d in enumerate(known)]
    assert fitted(known, losses) is not None


points = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(st.lists(points, min_size=1, max_size=30), st.integers(1, 10))
def test_a_batch_is_of_the_first_fronts_and_holds_their_ends(
    losses: list[tuple[float, float]], n: int
) -> None:
    candidates = [Judged(i, loss) for i, loss in enumerate(losses)]  # type: ignore[arg-type]
    batch = batch_along(candidates, n, 1)
    assert len(batch) == len(set(batch)) == min(n, len(losses))
    front = nondominated(losses)
    assert set(batch) <= set(front) or set(front) <= set(batch)
    if len(batch) <= len(front) and len(batch) > 1:
        ends = [min(losses[i][1] for i in front), max(losses[i][1] for i in front)]
        costs = [losses[i][1] for i in batch]
        assert [min(costs), max(costs)] == ends


def test_what_is_beyond_a_bound_comes_last() -> None:
    candidates = [
        Judged(0, (0.0, 0.0), 0.5),  # type: ignore[arg-type]
        Judged(1, (0.9, 0.9)),  # type: ignore[arg-type]
        Judged(2, (0.0, 0.0), 0.1),  # type: ignore[arg-type]
    ]
    assert batch_along(candidates, 3, 0) == [1, 2, 0]


def test_the_search_among_predictions_comes_by_the_front_of_what_it_is_told() -> None:
    """Of a planted loss and exact FLOPs, against as many random draws."""

    def judge(derivations: Sequence[Derivation]) -> list[Judged]:
        return [Judged(d, (planted(d), float(d.cost.flops))) for d in derivations]

    variation = Variation(MOBILE, Shape.of(INPUT), UNLIMITED, None, random.Random(0))
    seen = explore(judge, [], variation)
    chance = judge(draws(MOBILE, len(seen)))
    best = min(j.losses[0] for j in seen)
    assert best < min(j.losses[0] for j in chance)
    front = nondominated([j.losses for j in [*seen, *chance]])
    assert sum(i < len(seen) for i in front) > 0.8 * len(front)
    assert len(seen) > 4 * POPULATION


@pytest.mark.parametrize("grammar", [MOBILE, EINSPACE], ids=["finite", "open"])
def test_children_keep_the_limits(grammar: Grammar) -> None:
    limits = Limits(64, params=100_000, flops=300_000 if grammar.finite else 2_000_000)
    variation = Variation(grammar, Shape.of(INPUT), limits, None, random.Random(0))
    parents = [variation.draw() for _ in range(4)]
    for i in range(40):
        assert limits.allow(variation.child(parents[i % 4], parents[(i + 1) % 4]).cost)


def asked(proposer: Proposer, batches: int) -> list[tuple[str, float, float]]:
    told = []
    for _ in range(batches):
        proposals = [proposer.ask() for _ in range(10)]
        for proposal in proposals:
            d = proposal.derivation
            values = {"accuracy": 1.0, "nll": planted(d), "flops": float(d.cost.flops)}
            told.append((str(d), planted(d), values["flops"]))
            proposer.tell(proposal, values)
    return told


def proposer_of(seed: int = 0, limits: Sequence[Limit] = ()) -> Proposer:
    space = Space(MOBILE, INPUT)
    return Proposer(space, "predicted", [Aim(OBJECTIVES, tuple(limits))], seed=seed, population=10)


def test_a_planted_loss_is_found_in_few_batches_by_the_finer_column() -> None:
    """Accuracy is the same for all: the likelihood alone tells."""
    volumes, by_chance = 0.0, 0.0
    for seed in range(3):
        proposer = proposer_of(seed)
        told = asked(proposer, 6)
        assert proposer.agreement["accuracy"] > 0.3
        chance = [(planted(d), d.cost.flops / 1e6) for d in draws(MOBILE, 60, seed)]
        ours = [(loss, flops / 1e6) for _, loss, flops in told]
        volumes += hypervolume(ours, (3.0, 1.0))
        by_chance += hypervolume(chance, (3.0, 1.0))
    assert volumes > 1.1 * by_chance


def test_where_the_quality_cannot_be_told_no_batch_is_of_the_cheapest_alone() -> None:
    """Latency can be predicted, accuracy is noise: the front of what is known is the smallest."""
    aims = (Objective("accuracy", True), Objective("flops", False), Objective("latency_ms", False))
    proposer = Proposer(Space(MOBILE, INPUT), "predicted", [Aim(aims)], seed=0, population=10)
    noise, largest = random.Random(0), []
    for _ in range(4):
        proposals = [proposer.ask() for _ in range(10)]
        for proposal in proposals:
            flops = float(proposal.derivation.cost.flops)
            values = {"accuracy": noise.random(), "flops": flops, "latency_ms": flops / 1e6}
            proposer.tell(proposal, values)
        largest.append(max(p.derivation.cost.flops for p in proposals))
    assert min(largest) > 5 * extreme(MOBILE, input=INPUT, largest=False).cost.flops


def test_a_latency_that_cannot_be_told_is_left_out() -> None:
    aims = (Objective("nll", False), Objective("flops", False), Objective("latency_ms", False))
    proposer = Proposer(Space(MOBILE, INPUT), "predicted", [Aim(aims)], seed=0, population=10)
    for _ in range(5):
        for proposal in [proposer.ask() for _ in range(10)]:
            d = proposal.derivation
            values = {"nll": planted(d), "flops": float(d.cost.flops), "latency_ms": 0.03}
            proposer.tell(proposal, values)
    assert set(proposer.agreement) == {"nll"}


def test_the_ends_of_a_batch_are_not_what_a_random_draw_takes_the_place_of() -> None:
    proposer = Proposer(Space(MOBILE, INPUT), "predicted", [Aim(OBJECTIVES)], seed=0, population=20)
    for _ in range(4):
        proposals = [proposer.ask() for _ in range(20)]
        for proposal in proposals:
            d = proposal.derivation
            values = {"accuracy": 1.0, "nll": planted(d), "flops": float(d.cost.flops)}
            proposer.tell(proposal, values)
        assert proposals[19].drawn
        if not proposer.agreement:
            continue  # the ends of the space begin
        (batch,) = proposer.study.sampler._batches.values()
        proposed = {str(p.derivation) for p in proposals}
        assert str(max(batch, key=lambda d: d.cost.flops)) in proposed
        assert str(min(batch, key=lambda d: d.cost.flops)) in proposed


def test_what_the_whole_network_costs_is_kept_by_every_proposal() -> None:
    """Heads of two tasks cost as much as a small trunk."""
    from nas.search.prepare import prepare
    from nas.search.settings import Settings

    facts = {
        "space": "mobile",
        "tasks": ["scenes-classify", "scenes-segment"],
        "limits": ["flops<=600k"],
    }
    problem = prepare(Settings.of(facts))
    for sampler in ("predicted", "tree"):
        proposer = Proposer(problem.space, sampler, problem.aims, seed=0, population=10)
        for i in range(30):
            proposal = proposer.ask()
            assert problem.keeps(proposal.derivation)
            columns = problem.costs(proposal.derivation)
            metrics = {o.name: i / 30 for o in problem.aims[0].objectives if o.name not in columns}
            proposer.tell(proposal, columns | metrics)


def test_a_few_diverged_networks_do_not_hide_the_rest() -> None:
    known, unseen = draws(MOBILE, 60), draws(MOBILE, 60, seed=1)
    losses = [planted(d) for d in known]
    losses[3], losses[20], losses[44] = 1e3, 1e3, 500.0
    predictor = fitted(known, losses)
    assert predictor is not None
    assert kendalltau(predictor(list(map(facts_of, unseen))), [planted(d) for d in unseen])[0] > 0.3


def test_a_new_sampler_of_the_same_seed_goes_on_as_one_would_have() -> None:
    whole = asked(proposer_of(), 5)
    again = proposer_of()
    for _, proposal in zip(whole[:25], iter(again.ask, None), strict=False):
        d = proposal.derivation
        again.tell(proposal, {"accuracy": 1.0, "nll": planted(d), "flops": float(d.cost.flops)})
    again.study.sampler._batches.clear()  # what it worked out is no state
    more = [str(again.ask().derivation) for _ in range(5)]
    assert more == [text for text, _, _ in whole[25:30]]


def test_no_two_proposals_are_alike_and_a_twentieth_are_drawn() -> None:
    proposer = proposer_of()
    proposals = []
    for _ in range(6):
        batch = [proposer.ask() for _ in range(10)]
        for proposal in batch:
            loss = planted(proposal.derivation)
            proposer.tell(proposal, {"accuracy": 1.0, "nll": loss, "flops": 1.0})
        proposals += batch
    assert len({str(p.derivation) for p in proposals}) == 60
    assert [i for i, p in enumerate(proposals) if p.drawn] == [19, 39, 59]


def test_without_anything_to_learn_it_breeds_as_the_tree_sampler_does() -> None:
    proposer = proposer_of()
    for i in range(40):
        proposal = proposer.ask()
        assert proposer.agreement == {}
        proposer.tell(proposal, {"accuracy": 0.5, "nll": 1.0, "flops": float(i)})


def test_a_bound_on_what_is_measured_is_predicted_too() -> None:
    proposer = proposer_of(limits=[Limit("latency_ms", 3.5)])
    seen = []
    for _ in range(6):
        for proposal in [proposer.ask() for _ in range(10)]:
            d = proposal.derivation
            ms = float(len(d.by_site)) / 4
            seen.append(ms)
            values = {"accuracy": 1.0, "nll": planted(d), "flops": 1.0, "latency_ms": ms}
            proposer.tell(proposal, values)
    early, late = seen[2:20], seen[40:]
    assert sum(ms <= 3.5 for ms in late) / len(late) > sum(ms <= 3.5 for ms in early) / len(early)


def test_in_a_plain_study_each_value_is_predicted() -> None:
    sampler = PredictedSampler(seed=0, batch=10)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        d = derive(EINSPACE, choose_with(trial), input=INPUT, limits=SMALL)
        return planted(d), float(d.cost.flops)

    study.optimize(objective, n_trials=50)
    assert set(sampler.agreement) == {"0", "1"}


@pytest.mark.parametrize(
    "text", ["net = conv(4) output(coarse)", "net = conv({4, 8}) output(coarse)"]
)
def test_a_space_of_one_site_or_none_is_gone_through_without_a_predictor(text: str) -> None:
    grammar = Grammar.parse(text, name="few")
    proposer = Proposer(Space(grammar, INPUT), "predicted", [Aim(OBJECTIVES)], seed=0, population=4)
    for i in range(30):
        proposal = proposer.ask()
        proposer.tell(proposal, {"accuracy": 1.0, "nll": float(i % 3), "flops": 1.0})
    tops = {str(extreme(grammar, input=INPUT, largest=end)) for end in (False, True)}
    assert tops <= {t.user_attrs[f"derivation:{grammar.name}"] for t in proposer.study.trials}


def test_the_probability_of_improvement_is_that_of_the_gaussian_process() -> None:
    """Against Rasmussen and Williams 2006, equations 2.25 and 2.26, worked out the long way."""
    known, others = draws(MOBILE, 50), draws(MOBILE, 20, seed=1)
    rng = np.random.default_rng(0)
    predictor = fitted(known, [planted(d) + 0.3 * rng.normal() for d in known])
    assert predictor is not None
    fit, facts = predictor.process, list(map(facts_of, others))
    kernel, _ = predictor.seen.kernel(predictor.seen.facts, fit.rate, fit.share)
    alike, itself = predictor.seen.kernel(facts, fit.rate, fit.share)
    free, n = 1 - fit.noise, len(known)
    inverse = np.linalg.inv(free * kernel + fit.noise * np.eye(n))
    spread = fit.variance * (free * itself - free**2 * (alike @ inverse * alike).sum(1) + fit.noise)
    better = predictor.scores[0] - np.array(predictor(facts))
    expected = norm.logcdf(better / np.sqrt(spread))
    chances = predictor.improves(facts)
    np.testing.assert_allclose(chances, expected, rtol=1e-5)
    assert chances.max() > chances.min() + 0.5


def test_several_tasks_of_one_objective_share_what_is_proposed() -> None:
    """Two planted losses that want opposite kernels: both are found, in the evaluations of one."""
    names = ("left", "right")
    aims = [Aim((Objective(f"{name}_accuracy", True),), task=name) for name in names]
    proposer = Proposer(Space(MOBILE, INPUT), "predicted", aims, seed=0, population=16)
    kernels = [0, 0]
    for _ in range(112):
        proposal = proposer.ask()
        large = sum(v == "kernel=5" for s, v in proposal.derivation.by_site.items() if ":k" in s)
        small = sum(v == "kernel=3" for s, v in proposal.derivation.by_site.items() if ":k" in s)
        kernels = [max(kernels[0], large - small), max(kernels[1], small - large)]
        columns = {"left_accuracy": float(large - small), "right_accuracy": float(small - large)}
        proposer.tell(proposal, columns)
    blocks = max(sum(":kernel" in site for site in d.by_site) for d in draws(MOBILE, 200, seed=5))
    assert min(kernels) >= blocks - 1


def test_of_one_objective_what_breaks_a_bound_is_not_proposed() -> None:
    aim = Aim((Objective("accuracy", True),), (Limit.parse("latency_ms<=3", ["latency_ms"]),))
    proposer = Proposer(Space(MOBILE, INPUT), "predicted", [aim], seed=0, population=20)
    kept = []
    for _ in range(80):
        proposal = proposer.ask()
        large = sum(label == "kernel=5" for label in proposal.derivation.by_site.values())
        proposer.tell(proposal, {"accuracy": float(large), "latency_ms": float(large)})
        kept.append(large)
    assert sum(large <= 3 for large in kept[40:]) >= 30
    assert 3 in kept[:60]
