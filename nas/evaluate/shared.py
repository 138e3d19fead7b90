"""Evaluators by shared weights: a trained bank's subnets, as they are or trained on alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nas.evaluate.alone import network_of, trained_network
from nas.evaluate.base import Conditions, Evaluated, Evaluator, Fidelity
from nas.evaluate.scoring import scores, statistics_inputs
from nas.grammar import Derivation
from nas.plan import plan
from nas.supernet import Bank, Subnet

if TYPE_CHECKING:
    from nas.network import Network


def _bank(conditions: Conditions) -> Bank:
    assert conditions.bank is not None, "an evaluator by shared weights is given a trained bank"
    return conditions.bank


def _supernet_steps(conditions: Conditions) -> int | None:
    bank = conditions.bank
    return conditions.supernet_steps if bank is None else bank.version


class Shared(Evaluator):
    """A subnet of the bank, with batch statistics of its own."""

    name, words = "shared", "shared weights"
    means = "weights shared with all trials; batch statistics of its own"
    needs_bank, keeps = True, True

    def fidelity(self, conditions: Conditions) -> Fidelity:
        return Fidelity(supernet_steps=_supernet_steps(conditions))

    def measure(self, derivation: Derivation, conditions: Conditions) -> Evaluated:
        tasks, bank = conditions.tasks, _bank(conditions)
        x = statistics_inputs(tasks, conditions.samples, conditions.seed).to(conditions.device)
        subnet = Subnet.of(bank, derivation, list(tasks), x)
        return Evaluated(
            scores(
                subnet.plan,
                subnet.tensors,
                conditions,
                evaluator=self.name,
                fidelity=self.fidelity(conditions),
                bank_version=bank.version,
                seed=conditions.seed,
            )
        )

    def network(self, derivation: Derivation, conditions: Conditions) -> Network:
        seeded = replace(conditions.recipe, seed=conditions.seed)
        given = replace(conditions, recipe=seeded)
        return network_of(_bank(given), derivation, given, given.samples)


class Finetuned(Evaluator):
    """A subnet of the bank, copied and trained on alone for a few steps."""

    name, words = "finetuned", "fine-tuned shared weights"
    means = "weights shared with all trials, then trained on alone for a few steps"
    needs_bank, keeps = True, True

    def fidelity(self, conditions: Conditions) -> Fidelity:
        supernet_steps = _supernet_steps(conditions)
        return Fidelity(steps=conditions.finetune_steps, supernet_steps=supernet_steps)

    def measure(self, derivation: Derivation, conditions: Conditions) -> Evaluated:
        network = self.network(derivation, conditions)
        return Evaluated(
            scores(
                network.plan,
                network.tensors(),
                conditions,
                evaluator=self.name,
                fidelity=self.fidelity(conditions),
                bank_version=_bank(conditions).version,
                seed=conditions.gentle.seed,
            )
        )

    def network(self, derivation: Derivation, conditions: Conditions) -> Network:
        recipe = conditions.gentle.lasting(conditions.finetune_steps, conditions.tasks)
        planned = plan(derivation, heads=conditions.tasks)
        weights = _bank(conditions).part(planned, optimizer=recipe.optimizer)
        given = replace(conditions, recipe=recipe)
        return trained_network(weights, derivation, given, conditions.samples)
