"""Evaluators that train each architecture with weights of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING

from nas.evaluate.base import Conditions, Evaluated, Evaluator, Fidelity
from nas.evaluate.scoring import network_scores, statistics_inputs
from nas.grammar import Derivation
from nas.plan import plan
from nas.supernet import Bank, Subnet, inherit
from nas.train import Recipe, Trainer, TrainingError, Turn, train

if TYPE_CHECKING:
    from nas.network import Network

STATISTICS = 2048  # training inputs from which a network of its own has its batch statistics
PARTS = 20  # of a training, of each of which the mean loss is kept


class Standalone(Evaluator):
    """Training from scratch by the conditions' recipe."""

    name, words = "standalone", "stand-alone training"
    means = "trained alone, from scratch"

    def recipe(self, conditions: Conditions) -> Recipe:
        return conditions.recipe

    def fidelity(self, conditions: Conditions) -> Fidelity:
        return Fidelity(epochs=conditions.recipe.epochs)

    def measure(self, derivation: Derivation, conditions: Conditions) -> Evaluated:
        losses = list[float]()
        given = replace(conditions, recipe=self.recipe(conditions))
        network, fidelity = fit(derivation, given, losses), self.fidelity(conditions)
        measured = network_scores(network, conditions, evaluator=self.name, fidelity=fidelity)
        return Evaluated(measured, losses=brief(losses))


class Short(Standalone):
    """The same cut to a few steps."""

    name, words = "short", "short training"
    means = "trained alone, from scratch, for a few steps"

    def recipe(self, conditions: Conditions) -> Recipe:
        return conditions.recipe.lasting(conditions.short_steps, conditions.tasks)

    def fidelity(self, conditions: Conditions) -> Fidelity:
        return Fidelity(steps=conditions.short_steps)


class Inherited(Evaluator):
    """Trained on from the weights of its parents; an architecture without any from scratch."""

    name, words = "inherited", "inherited weights"
    means = "trained on from the weights of its parents"
    begins = False

    def fidelity(self, conditions: Conditions) -> Fidelity:
        given = conditions
        return Fidelity(epochs=given.going_on if given.parents else given.recipe.epochs)

    def measure(self, derivation: Derivation, conditions: Conditions) -> Evaluated:
        fidelity, parents = self.fidelity(conditions), conditions.parents
        recipe = replace(conditions.recipe, epochs=fidelity.epochs or 0.0)
        planned = plan(derivation, heads=conditions.tasks)
        weights = Bank.of(
            [planned], seed=recipe.seed, device=conditions.device, optimizer=recipe.optimizer
        )
        if parents:
            inherit(weights, derivation, planned, parents, conditions.origin)
        given, losses = replace(conditions, recipe=recipe), list[float]()
        network = trained_network(weights, derivation, given, losses=losses)
        name = self.name if parents else Standalone.name
        measured = network_scores(network, conditions, evaluator=name, fidelity=fidelity)
        return Evaluated(measured, weights, brief(losses))


def brief(losses: Sequence[float]) -> tuple[float, ...]:
    """Of the losses of a training's steps the means of so many parts of it, or fewer."""
    parts = min(PARTS, len(losses))
    bounds = [len(losses) * part // parts for part in range(parts + 1)] if parts else [0]
    return tuple(float(f"{mean(losses[a:b]):.4g}") for a, b in pairwise(bounds))


def fit(
    derivation: Derivation, conditions: Conditions, losses: list[float] | None = None
) -> Network:
    """A network trained from scratch; its weights are a bank that holds it alone, and the loss of
    each of its steps is put to `losses`.

    Raises TrainingError where the loss is no number, or training takes longer than the limit.
    """
    recipe = conditions.recipe
    weights = Bank.of(
        [plan(derivation, heads=conditions.tasks)],
        seed=recipe.seed,
        device=conditions.device,
        optimizer=recipe.optimizer,
    )
    return trained_network(weights, derivation, conditions, losses=losses)


def trained_network(
    weights: Bank,
    derivation: Derivation,
    conditions: Conditions,
    samples: int = STATISTICS,
    losses: list[float] | None = None,
) -> Network:
    """A derivation trained on a bank that holds it, as a network with batch statistics from so many
    inputs; `losses` and errors are as of `fit`."""
    limit_s, recipe = conditions.limit_s, conditions.recipe
    ends = float("inf") if limit_s is None else time.perf_counter() + limit_s

    def on_step(done: int, value: float) -> None:
        if time.perf_counter() > ends:
            raise TrainingError(f"it took longer than {limit_s:g} s, at step {done}")
        if losses is not None:
            losses.append(value)

    steps = recipe.steps(conditions.tasks)
    trainer = Trainer(weights, conditions.tasks, recipe, steps, conditions.device)
    train(trainer, lambda step: Turn((derivation,)), on_step=on_step)
    return network_of(weights, derivation, conditions, samples)


def network_of(bank: Bank, derivation: Derivation, conditions: Conditions, samples: int) -> Network:
    """A derivation's subnet as a module of its own, with statistics from `samples` inputs that are
    drawn by the recipe's seed."""
    tasks, device = list(conditions.tasks), conditions.device
    x = statistics_inputs(tasks, samples, conditions.recipe.seed).to(device)
    return Subnet.of(bank, derivation, tasks, x).extract(tasks).to(device)
