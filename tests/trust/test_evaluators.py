"""Claims about what scores architectures."""

from __future__ import annotations

import math
import random

import pytest
import torch

from nas.evaluate import standalone
from nas.grammar import Grammar, derive, sample
from nas.network import Network
from nas.plan import plan
from nas.supernet import Bank
from nas.task import Task
from nas.train import Recipe
from nas.trust.evaluators import baseline, finetuned_on_bank, from_scratch, on_bank, synflow

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
    recipe = Recipe(epochs=1)
    bank = Bank.of([plan(derivation, heads=[DIGITS])])
    evaluators = [
        on_bank(bank, samples=64),
        finetuned_on_bank(bank, recipe, samples=64),
        from_scratch(recipe),
        from_scratch(recipe, steps=5),
        *map(baseline, ("flops", "params", "synflow")),
    ]
    assert [e.name for e in evaluators] == [
        "shared",
        "finetuned",
        "standalone",
        "short",
        "flops",
        "params",
        "synflow",
    ]
    for one in evaluators[:4]:
        found = {m.name: m for m in one.measure(derivation, [DIGITS]) if m.task}
        assert set(found) == {"accuracy", "nll"}
        assert {m.evaluator for m in found.values()} == {one.name}
    for one in evaluators[4:]:
        (only,) = one.measure(derivation, [DIGITS])
        assert only.name == one.name
        assert only.value > 0


def test_finetuning_begins_with_the_weights_shared_and_leaves_the_bank_alone() -> None:
    large, small = (derive(TINY, lambda site, options, i=i: i, input=INPUT) for i in (1, 0))
    bank = Bank.of([plan(large, heads=[DIGITS])])
    before = {key: value.clone() for key, value in bank.tensors.items()}
    still = finetuned_on_bank(bank, Recipe(epochs=1, lr=1e-12, seed=3), samples=64)
    alike = on_bank(bank, samples=64, seed=3).measure(small, [DIGITS])
    values = {m.name: m.value for m in still.measure(small, [DIGITS])}
    assert values == pytest.approx({m.name: m.value for m in alike})
    moved = finetuned_on_bank(bank, Recipe(epochs=5, lr=0.1, seed=3), samples=64)
    found = {m.name: m.value for m in moved.measure(small, [DIGITS])}
    assert found["nll"] < values["nll"] - 0.02
    assert all(torch.equal(value, before[key]) for key, value in bank.tensors.items())


def test_short_training_is_the_recipe_over_so_many_steps() -> None:
    derivation = sample(TINY, random.Random(0), input=INPUT)
    recipe = Recipe(epochs=9, seed=3)
    each = recipe.steps([DIGITS]) / 9
    found = from_scratch(recipe, steps=7).measure(derivation, [DIGITS])
    wanted = standalone(derivation, [DIGITS], Recipe(epochs=7 / each, seed=3))
    assert [m.value for m in found] == [m.value for m in wanted]
    assert {m.fidelity for m in found if m.task} == {"7 steps"}
