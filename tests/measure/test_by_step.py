"""Claims about the share of a latency that each step takes."""

from __future__ import annotations

import random

import pytest

from nas.grammar import Grammar, sample
from nas.measure.by_step import latency_by_step
from nas.network import Network


@pytest.mark.parametrize("space", ["mobile", "vit", "fbnetv5-small"])
def test_shares_are_of_the_plans_steps_and_sum_to_one(space: str) -> None:
    derivation = sample(Grammar.load(space), random.Random(1), input=(3, 32, 32))
    network = Network(derivation).eval()
    shares = latency_by_step(network.plan, network.tensors())
    assert shares.keys() <= {step.name for step in network.plan.steps}
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0


def test_what_is_hundreds_of_times_dearer_takes_most_of_the_time() -> None:
    grammar = Grammar.parse("net = conv(8) relu conv(96, kernel=5) conv(4) output(coarse)")
    network = Network(sample(grammar, random.Random(0), input=(3, 48, 48))).eval()
    shares = latency_by_step(network.plan, network.tensors())
    dear = max(network.plan.steps, key=lambda step: step.flops)
    assert shares[dear.name] > 0.5
    assert max(shares, key=lambda name: shares[name]) == dear.name
