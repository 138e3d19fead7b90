"""Claims about costs: what each is named, counted as, and which way it is better."""

from __future__ import annotations

import random

import pytest

from nas.front import Limit, Objective
from nas.grammar import Grammar, sample
from nas.measure import COSTS, costs
from nas.measure.cost import cost_named
from nas.measure.energy import energy_uj
from nas.plan import plan

SPACE = Grammar.parse("net = conv({4, 8}, stride=2) batchnorm relu output(coarse)", name="small")


@pytest.mark.parametrize("name", COSTS)
def test_less_of_a_cost_is_better_on_whatever_device(name: str) -> None:
    for column in (name, f"{name}@pi4"):
        assert not Objective.named(column, [column]).maximize
        assert cost_named(column) is COSTS[name]
        assert Limit.parse(f"{column}<=3", [column]).keeps({column: 3.0})
        with pytest.raises(ValueError, match="bounded from above"):
            Limit.parse(f"{column}>=3", [column])


def test_a_metric_is_no_cost() -> None:
    assert cost_named("accuracy") is None
    assert Objective.named("digits_accuracy", ["digits_accuracy"]).maximize


def test_the_exact_costs_of_a_plan_are_those_that_it_counts() -> None:
    network = plan(sample(SPACE, random.Random(0), input=(1, 8, 8)))
    exact = [cost for cost in COSTS.values() if cost.of is not None]
    measured = {m.name: m for m in costs(network)}
    assert set(measured) == {cost.name for cost in exact}
    for cost in exact:
        measurement = measured[cost.name]
        assert (measurement.unit, measurement.evaluator) == (cost.unit, cost.source)
        if cost.counted:  # what limits of a derivation count, in units of the cost
            assert measurement.value * cost.per == getattr(network, cost.counted)


def test_energy_is_that_of_multiply_adds_and_bytes_by_hand() -> None:
    """conv 3x3 from 2 to 4 channels on 8x8: 72 weights, 8 * 8 * 72 multiply-adds, 256 written."""
    text = "net = conv(4) output(coarse)"
    planned = plan(sample(Grammar.parse(text), random.Random(0), input=(2, 8, 8)))
    assert (planned.params, planned.flops, planned.activations) == (72, 2 * 64 * 72, 256)
    wanted_pj = 64 * 72 * 4.6 + 72 * 4 * 162.5 + 2 * 256 * 4 * 12.5
    assert energy_uj(planned) == pytest.approx(wanted_pj / 1e6)


def test_a_network_in_integers_takes_less_energy() -> None:
    floats, integers = (
        plan(sample(Grammar.parse(text), random.Random(0), input=(2, 8, 8)))
        for text in (
            "net = conv(4) relu output(coarse)",
            "net = precision(8) conv(4) relu output(coarse)",
        )
    )
    assert energy_uj(integers) < 0.4 * energy_uj(floats)
