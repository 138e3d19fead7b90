"""A nested beginning: subnets compute what the smallest inside them does, and all of it learns."""

from __future__ import annotations

import random

import pytest
import torch

from nas.grammar import Grammar
from nas.op import BATCH
from nas.plan import plan, run
from nas.search.problem import Problem
from nas.search.settings import Settings
from nas.supernet import Bank, Space
from nas.task import Task
from nas.train import Recipe, Trainer, Turn

DIGITS = Task.load("digits")
ELASTIC = """
net      = conv({4, 8}, kernel={3, 5}) batchnorm relu stage({6, 12}) stage({8, 10}) output(coarse)
stage(c) = mbconv(c, kernel={1, 3, 5}, expand={1, 2, 4}, se=4) block(c){0..2}
block(c) = mbconv(c, kernel={3, 5}, expand={1, 3}) | identity | mixed(c)
mixed(c) = clone(2) [relu conv(c); identity] add
"""


def bank_of(grammar: Grammar, *, nested: bool = True) -> Bank:
    supernet = {"nested": nested}
    facts = {"space": "./net.grammar", "tasks": ["digits"], "supernet": supernet}
    return Problem(Settings.of(facts), grammar, (DIGITS,)).bank()


def spread_of(bank: Bank, grammar: Grammar) -> float:
    """The largest difference between the logits of some random subnets for one batch."""
    x, space = DIGITS.splits().train.x[:32], Space(grammar, DIGITS.input)
    found = []
    for seed in range(20):
        planned = plan(space.draw(random.Random(seed)), heads=[DIGITS])
        found.append(run(planned, bank.views(planned), x, BATCH)["digits"].detach())
    logits = torch.stack(found)
    return float((logits - logits[0]).abs().max())


@pytest.mark.parametrize("space", ["elastic", "fbnetv5-small"])
def test_before_training_all_subnets_compute_the_same(space: str) -> None:
    """Of streams that are fused too: a fusion that may be bypassed adds nothing at first."""
    grammar = Grammar.parse(ELASTIC) if space == "elastic" else Grammar.load(space)
    assert spread_of(bank_of(grammar), grammar) < 1e-4
    assert spread_of(bank_of(grammar, nested=False), grammar) > 0.1


@pytest.mark.parametrize("share", ["path", "index", "stage", "operator"])
def test_weights_that_the_smallest_reads_are_as_without_larger_ones(share: str) -> None:
    """Also those that steps of several widths share: the widest of the smallest is whole."""
    grammar = Grammar.parse(
        f"share {share}\nnet = conv(4) relu conv(16) relu conv({{16, 32}}) relu conv(16) "
        "output(coarse)"
    )
    bank, smallest = bank_of(grammar), Space(grammar, DIGITS.input).smallest
    for views in bank.views(plan(smallest, heads=[DIGITS])):
        assert all((value != 0).all() for name, value in views.items() if name == "weight")


def test_what_begins_at_zero_learns() -> None:
    grammar = Grammar.parse(ELASTIC)
    bank, space = bank_of(grammar), Space(grammar, DIGITS.input)
    before = {key: value == 0 for key, value in bank.tensors.items() if value.ndim > 1}
    trainer = Trainer(bank, [DIGITS], Recipe(lr=0.1, weight_decay=0, warmup=0), 60)
    for step in range(60):
        trainer.step(step, Turn((space.largest, space.draw(random.Random(step)))))
    still = sum(int((bank.tensors[key][zero] == 0).sum()) for key, zero in before.items())
    assert still < 0.05 * sum(int(zero.sum()) for zero in before.values())


@pytest.mark.parametrize("name", ["mobile", "fbnetv5-small", "vit"])
def test_the_smallest_subnet_of_a_shipped_space_has_its_weights_but_where_branches_end(
    name: str,
) -> None:
    grammar = Grammar.load(name)
    settings = Settings.of({"space": name, "tasks": ["digits"]})
    bank = Problem(settings, grammar, (DIGITS,)).bank()
    smallest = plan(Space(grammar, DIGITS.input).smallest, heads=[DIGITS])
    for step, views in zip(smallest.steps, bank.views(smallest), strict=True):
        for param in step.params:
            if param.init == "fan_in":
                kept = (views[param.name] != 0).all()
                assert kept or step.operator.name in ("attention", "linear"), step.name
