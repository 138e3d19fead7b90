"""Which network of a front is taken."""

from __future__ import annotations

import pytest

from nas.archive import Measurement, Trial
from nas.front import Objective, ParetoFront
from nas.search import RunError
from nas.search.pick import knee, picked


def trial(number: int, accuracy: float, flops: float) -> Trial:
    costs = {"flops": flops, "params": 100.0 - number}
    measurements = (
        Measurement("accuracy", accuracy, task="t", split="valid"),
        *(Measurement(name, value) for name, value in costs.items()),
    )
    return Trial(
        number, f"t{number}", {"": f"s@0 1: {number}"}, "finished", measurements=measurements
    )


OBJECTIVES = (Objective("accuracy", True), Objective("flops", False))
FRONT = ParetoFront.of(
    [trial(0, 0.99, 1e8), trial(1, 0.98, 1e6), trial(2, 0.5, 1e5), trial(3, 0.4, 9e4)], OBJECTIVES
)


def test_the_knee_is_where_more_costs_much_and_less_loses_much() -> None:
    assert knee(FRONT).id == "t1"
    assert knee(ParetoFront(OBJECTIVES, FRONT.trials[:1])).id == "t0"


def test_best_and_least_are_of_those_that_keep_limits() -> None:
    assert picked(FRONT, "best").id == "t0"
    assert picked(FRONT, "best", ["flops<=2M"]).id == "t1"
    assert picked(FRONT, "flops").id == "t3"
    assert picked(FRONT, "flops", ["accuracy>=0.45"]).id == "t2"
    assert picked(FRONT, "params").id == "t3"


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(RunError, match="no network on the front that keeps flops<=1k"):
        picked(FRONT, "best", ["flops<=1k"])
    with pytest.raises(ValueError, match="is no known column"):
        picked(FRONT, "flop")
    with pytest.raises(RunError, match="no network on the front yet"):
        picked(ParetoFront(OBJECTIVES, ()), "knee")
