"""Claims about what tasks learn of options: importance, gradients, budgets, planted optima."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.grammar import Grammar, derive
from nas.grammar.count import enumerate_all, table
from nas.op import BATCH
from nas.plan import plan, run
from nas.supernet import Bank, Space, strategy_of
from nas.supernet.by_task import Distributions, Learner, Scored, gradient
from nas.task import load_tasks, loss
from nas.train import Recipe, StepError, Trainer, Turn

# a site that only some architectures have, and one of three options
SMALL = Grammar.parse(
    "net = a b output(coarse)\na = relu | tanh c\nb = relu | gelu | silu\nc = relu | gelu"
)
ROW = Grammar.parse("net = e{10} output(coarse)\ne = identity | relu | gelu")
ARCHITECTURES = list(enumerate_all(SMALL, input=(8,)))
TASKS = load_tasks(["scenes-classify", "scenes-segment"])
SCENES = Grammar.parse(
    "net = conv({4, 8}, stride=2) batchnorm relu output(fine)\n"
    "      conv({8, 12}, stride=2) batchnorm relu output(middle)\n"
    "      (conv(8) relu | identity) conv(8, stride=2) batchnorm relu output(coarse)\n"
)


def distributions(tasks: int, seed: int, grammar: Grammar = SMALL) -> Distributions:
    made = Distributions(table(grammar, input=(8,)), tasks)
    made.move(np.random.default_rng(seed).normal(0, 1.5, made.logits.shape))
    return made


def probabilities(known: Distributions) -> Any:
    """(architectures, tasks)"""
    return np.exp([known.log_probability(known.taken(d)) for d in ARCHITECTURES])


@given(tasks=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_importance_makes_draws_from_the_mean_a_tasks_own(tasks: int, seed: int) -> None:
    known = distributions(tasks, seed)
    p = probabilities(known)
    assert p.sum(0) == pytest.approx(1)
    weights = np.array([known.importance(known.taken(d)) for d in ARCHITECTURES])
    assert (weights >= 0).all()
    assert (weights <= tasks + 1e-9).all()
    assert weights.sum(1) == pytest.approx(tasks)
    q = p.mean(1)
    assert (q[:, None] * weights).sum(0) == pytest.approx(1)
    effective = (q[:, None] * weights).sum(0) ** 2 / (q[:, None] * weights**2).sum(0)
    assert (effective >= 1 / tasks - 1e-9).all()  # of as many draws


def test_draws_follow_the_distribution() -> None:
    known, rng = distributions(2, 3), random.Random(0)
    p = probabilities(known)[:, 1]
    drawn = [derive(SMALL, known.choose(1, rng), input=(8,)) for _ in range(3_000)]
    shares = np.array([drawn.count(d) for d in ARCHITECTURES]) / len(drawn)
    assert np.abs(shares - p).max() < 0.03
    most = derive(SMALL, known.choose_most(1), input=(8,))
    assert all(
        known(1)[site][label] == max(known(1)[site].values())
        for site, label in most.by_site.items()
    )


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_gradient_is_that_of_the_expected_value(tasks: int) -> None:
    """Over all pairs that can be drawn, whatever the linear model says; by finite differences."""
    known, rng = distributions(tasks, 1), np.random.default_rng(2)
    values = rng.normal(size=(len(ARCHITECTURES), tasks))
    theta = rng.normal(size=known.logits.shape)
    taken = [known.taken(d) for d in ARCHITECTURES]
    q = probabilities(known).mean(1)
    expected = sum(
        q[i] * q[j] * gradient(known, [taken[i], taken[j]], values[[i, j]], theta)
        for i, j in product(range(len(taken)), repeat=2)
    )

    def mean() -> Any:
        return (probabilities(known) * values).sum(0)

    for task, option in product(range(tasks), range(known.logits.shape[1])):
        sides = []
        for step in (1e-5, -2e-5):
            known.logits[task, option] += step
            sides.append(mean()[task])
        known.logits[task, option] += 1e-5
        assert expected[task, option] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-6)


def learned(
    tasks: int, steps: int, seed: int, cost: Any = lambda code, best: np.zeros(len(best))
) -> tuple[Learner, Any, Any]:
    """A learner, the best option of each task at each site, and every ω there was."""
    rng, chance = np.random.default_rng(seed), random.Random(seed)
    sites = table(ROW, input=(8,))
    best = rng.integers(0, 3, (tasks, len(sites)))
    learner, seen = Learner(Distributions(sites, tasks)), []
    known = learner.distributions
    for step in range(steps):
        scored, noise = [], rng.normal(0, 2, tasks)  # of the batch that all see
        for i in range(4):
            derivation = derive(ROW, known.choose((step + i) % tasks, chance), input=(8,))
            code = np.array([sites[s].index(label) for s, label in derivation.by_site.items()])
            wrong = code != best
            losses = wrong.sum(1) + 0.5 * (wrong[:, ::2] & wrong[:, 1::2]).sum(1) + noise
            taken = known.taken(derivation)
            seen.append(known.importance(taken))
            scored.append(Scored(taken, losses, cost(code, best)))
        learner.hear(scored)
    return learner, best, np.array(seen)


@pytest.mark.parametrize("tasks", [1, 2, 4, 8])
def test_every_task_finds_its_planted_optimum(tasks: int) -> None:
    learner, best, weights = learned(tasks, 250, seed=tasks)
    for task in range(tasks):
        derivation = derive(ROW, learner.distributions.choose_most(task), input=(8,))
        sites = table(ROW, input=(8,))
        code = [sites[site].index(label) for site, label in derivation.by_site.items()]
        assert code == best[task].tolist()
    error = weights.std(0) / np.sqrt(len(weights))
    assert (np.abs(weights.mean(0) - 1) <= 4 * error + 1e-9).all()


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_expected_cost_comes_to_the_budget(tasks: int) -> None:
    """Each site's best option costs something, and all of them are twice the budget."""
    dear = np.linspace(0.02, 0.38, 10)  # which comes to 2
    learner, best, _ = learned(tasks, 800, 0, cost=lambda code, best: dear @ (code == best).T)
    known, rng, sites = learner.distributions, random.Random(1), table(ROW, input=(8,))
    for task in range(tasks):
        costs = []
        for _ in range(200):
            derivation = derive(ROW, known.choose(task, rng), input=(8,))
            code = np.array([sites[s].index(label) for s, label in derivation.by_site.items()])
            costs.append(dear @ (code == best[task]))
        assert np.mean(costs) == pytest.approx(1, abs=0.12)


def strategy(steps: int = 20, name: str = "by-task") -> Any:
    space = Space(SCENES, TASKS[0].input, tasks=tuple(TASKS), budgets=(4e5, 8e5))
    return strategy_of(name, space, steps)


def trained(made: Any, steps: Sequence[int], trainer: Trainer) -> None:
    for step in steps:
        turn = made(step, random.Random(step))
        made.hear(step, turn, trainer.step(step, turn))


def bank() -> Bank:
    return Bank.of(
        [
            plan(derivation, heads=TASKS)
            for derivation in enumerate_all(SCENES, input=TASKS[0].input)
        ]
    )


def test_as_in_the_paper_losses_are_weighted_by_importance_once_tasks_differ() -> None:
    paper, own = strategy(name="fbnetv5"), strategy()
    for made in (paper, own):
        made.distributions.logits[0, 0] -= 2.0
    turns = [made(19, random.Random(5)) for made in (paper, own)]
    assert turns[0].derivations == turns[1].derivations and not turns[1].weights
    known = paper.distributions
    weights = known.importance(known.taken(turns[0].derivations[0]))
    (given,) = turns[0].weights
    assert list(given.values()) == pytest.approx(weights) and weights[0] != pytest.approx(1)


def test_a_resumed_training_learns_what_it_would_have() -> None:
    held = bank()
    trainer, whole = Trainer(held, TASKS, Recipe(batch=8), 20), strategy()
    trained(whole, range(14), trainer)
    again = strategy()
    again.restore(whole.state())
    turns = [made(14, random.Random(14)) for made in (whole, again)]
    assert turns[0] == turns[1]
    losses = trainer.step(14, turns[0])
    for made in (whole, again):
        made.hear(14, turns[0], losses)
    assert whole.preferences() == again.preferences()
    assert whole.preferences().keys() == {"scenes-classify", "scenes-segment"}
    shares = whole.preferences()["scenes-segment"]
    assert shares != strategy().preferences()["scenes-segment"]


def test_what_is_scored_is_not_trained_and_what_weighs_nothing_neither() -> None:
    held = bank()
    before = {key: tensor.clone() for key, tensor in held.tensors.items()}
    first, last = (list(enumerate_all(SCENES, input=TASKS[0].input))[i] for i in (0, -1))
    weights = {"scenes-classify": 1.0, "scenes-segment": 0.0}
    trainer = Trainer(held, TASKS, Recipe(batch=8, weight_decay=0), 4)
    losses = trainer.step(0, Turn((first, last), weights=(weights,), scored=1))
    assert set(losses.by_derivation[1]) == {"scenes-classify", "scenes-segment"}
    alone = Bank.of([plan(first, heads=TASKS[:1])])
    touched = {key for key, tensor in held.tensors.items() if not torch.equal(tensor, before[key])}
    assert touched
    assert touched <= set(alone.tensors)


def test_scores_are_of_the_validation_split_and_the_weights_before_the_step() -> None:
    held, derivation = bank(), next(enumerate_all(SCENES, input=TASKS[0].input))
    planned, split = plan(derivation, heads=TASKS[:1]), TASKS[0].splits().valid
    trainer = Trainer(held, TASKS[:1], Recipe(batch=8, lr=1.0, label_smoothing=0), 4)
    at = trainer.feed.held[0].at(3)
    with torch.no_grad():
        logits = run(planned, held.views(planned), split.x_at(at), BATCH)["scenes-classify"]
    expected = float(loss(TASKS[0], logits, split.y_at(at)))
    losses = trainer.step(3, Turn((derivation, derivation), scored=1))
    assert losses.by_derivation[1]["scenes-classify"] == pytest.approx(expected, rel=1e-5)


def test_a_score_that_is_no_number_fails_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    derivation = next(enumerate_all(SCENES, input=TASKS[0].input))
    trainer = Trainer(bank(), TASKS[:1], Recipe(batch=8), 4)
    batches = trainer.feed.held_out(0)
    broken = [batch._replace(x=batch.x * float("nan")) for batch in batches]
    monkeypatch.setattr(trainer.feed, "held_out", lambda number: broken)
    with pytest.raises(StepError, match="a loss that is scored is nan"):
        trainer.step(0, Turn((derivation, derivation), scored=1))


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ({"scored": 1}, "trains one derivation at least"),
        ({"weights": ({}, {})}, "weights the losses of each"),
    ],
)
def test_turns_that_cannot_be_are_refused(words: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Turn((ARCHITECTURES[0],), **words)


def test_a_space_without_budgets_has_no_such_strategy() -> None:
    with pytest.raises(ValueError, match="within a budget"):
        strategy_of("by-task", Space(SCENES, TASKS[0].input, tasks=tuple(TASKS)), 10)
