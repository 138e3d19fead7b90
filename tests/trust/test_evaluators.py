"""Claims about what scores architectures."""

from __future__ import annotations

import math
import random

import pytest
import torch

from nas.evaluate import EVALUATORS, Conditions, Fidelity
from nas.evaluate.baseline import synflow
from nas.grammar import Grammar, derive, sample
from nas.network import Network
from nas.plan import plan
from nas.supernet import Bank
from nas.task import Task
from nas.train import Recipe

DIGITS = Task.load("digits")
TINY = Grammar.parse("net = conv({4, 8}, stride=2) batchnorm relu output(coarse)")
INPUT = (1, 8, 8)


def first(text: str, input: tuple[int, ...]) -> Network:
    return Network(derive(Grammar.parse(text), lambda site, options: 0, input=input))


def test_synflow_of_a_linear_chain_is_counted_by_hand() -> None:
    """With |A| 3 × 2 and |B| 1 × 3, R is the sum of |B| |A| 1, and each layer's share is R."""
    network = first("net = linear(3) batchnorm linear(1)", (2,))
    a, norm, b = network.tensors()
    with torch.no_grad():
        a["weight"].copy_(torch.tensor([[1.0, -2.0], [0.5, 0.0], [-1.0, -1.0]]))
        b["weight"].copy_(torch.tensor([[2.0, -4.0, 1.0]]))
        for step in (a, b):
            if "bias" in step:
                step["bias"].zero_()
        norm["weight"].fill_(7.0)
        norm["running_var"].fill_(100.0)
    through = 2 * (1 + 2) + 4 * 0.5 + 1 * (1 + 1)
    assert synflow(network) == pytest.approx(2 * through)


def test_synflow_does_not_overflow_where_32_bits_do() -> None:
    deep = first("net = " + "conv(32) batchnorm relu " * 40 + "output(coarse)", INPUT)
    with torch.no_grad():
        for step in deep.tensors():
            if "weight" in step and step["weight"].ndim == 4:
                step["weight"].fill_(1.0)
    assert 1e50 < synflow(deep) < math.inf


def test_synflow_leaves_the_network_as_it_was() -> None:
    network = first("net = conv(4) batchnorm relu output(coarse)", INPUT)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    synflow(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_every_evaluator_answers_the_same_question() -> None:
    derivation = sample(TINY, random.Random(0), input=INPUT)
    bank = Bank.of([plan(derivation, heads=[DIGITS])])
    conditions = Conditions([DIGITS], Recipe(epochs=1), bank, Recipe(epochs=1), samples=64)
    for name, evaluator in EVALUATORS.items():
        assert evaluator.name == name and evaluator.words and evaluator.means
        measurements = evaluator.measure(derivation, conditions).measurements
        if evaluator.trains:
            metrics = {m.name: m for m in measurements if m.task}
            assert set(metrics) >= {"accuracy", "nll"}
            fidelity = str(evaluator.fidelity(conditions))
            assert {m.fidelity for m in metrics.values()} == {fidelity}
            assert {m.evaluator for m in metrics.values()} <= {name, "standalone"}
        else:
            (figure,) = measurements
            assert figure.name == name
            assert figure.value > 0


FIDELITIES = (
    Fidelity(),
    Fidelity(epochs=0.5),
    Fidelity(epochs=20),
    Fidelity(steps=80),
    Fidelity(supernet_steps=1500),
    Fidelity(steps=20, supernet_steps=1500),
)


@pytest.mark.parametrize("fidelity", FIDELITIES, ids=str)
def test_a_fidelity_prints_and_reads_back(fidelity: Fidelity) -> None:
    assert Fidelity.read(str(fidelity)) == fidelity


def test_finetuning_begins_with_the_weights_shared_and_leaves_the_bank_alone() -> None:
    large, small = (derive(TINY, lambda site, options, i=i: i, input=INPUT) for i in (1, 0))
    bank = Bank.of([plan(large, heads=[DIGITS])])
    before = {key: value.clone() for key, value in bank.tensors.items()}

    def measured(name: str, lr: float, steps: int) -> dict[str, float]:
        gentle = Recipe(lr=lr, seed=3)
        given = Conditions(
            [DIGITS], bank=bank, gentle=gentle, finetune_steps=steps, samples=64, seed=3
        )
        return {m.name: m.value for m in EVALUATORS[name].measure(small, given).measurements}

    still = measured("finetuned", 1e-12, 17)
    assert still == pytest.approx(measured("shared", 0.1, 1))
    assert measured("finetuned", 0.1, 85)["nll"] < still["nll"] - 0.02
    assert all(torch.equal(value, before[key]) for key, value in bank.tensors.items())


def test_short_training_is_the_recipe_over_so_many_steps() -> None:
    derivation = sample(TINY, random.Random(0), input=INPUT)
    recipe = Recipe(epochs=9, seed=3)
    each = recipe.steps([DIGITS]) / 9
    short = EVALUATORS["short"].measure(derivation, Conditions([DIGITS], recipe, short_steps=7))
    alike = Conditions([DIGITS], Recipe(epochs=7 / each, seed=3))
    wanted = EVALUATORS["standalone"].measure(derivation, alike)
    assert [m.value for m in short.measurements] == [m.value for m in wanted.measurements]
    assert {m.fidelity for m in short.measurements if m.task} == {"7 steps"}
