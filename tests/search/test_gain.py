"""Claims about what a search says of its sampler."""

from __future__ import annotations

import random

import pytest

from nas.archive import Measurement, Trial
from nas.front import Limit, Objective
from nas.search.columns import Aim
from nas.search.gain import gain

OBJECTIVES = (Objective("accuracy", True), Objective("flops", False))


def trial(number: int, accuracy: float, flops: float, drawn: bool) -> Trial:
    figures = (Measurement("accuracy", accuracy), Measurement("flops", flops))
    text = {"": f"d{number}"}
    return Trial(number, f"{number:08x}", text, "finished", measurements=figures, drawn=drawn)


def trials(better: float, seed: int = 0, n: int = 100) -> list[Trial]:
    """A tenth drawn; the others better by so much in accuracy."""
    rng = random.Random(seed)
    return [
        trial(i, rng.random() + better * (i % 10 != 9), rng.random(), i % 10 == 9) for i in range(n)
    ]


def test_a_sampler_that_is_better_is_said_to_be() -> None:
    found = gain(trials(1.0), [Aim(OBJECTIVES)])
    assert found is not None
    assert found.share > found.low > 0.5
    assert "the sampler is better than random draws" in str(found)
    assert (found.proposed, found.drawn) == (90, 10)


def test_a_sampler_that_brings_nothing_is_said_to_bring_nothing() -> None:
    covered = 0
    for seed in range(40):
        found = gain(trials(0.0, seed), [Aim(OBJECTIVES)])
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert covered >= 30  # of an interval of 90 %


def test_a_sampler_that_is_worse_is_said_to_be() -> None:
    assert "worse" in str(gain(trials(-1.0), [Aim(OBJECTIVES)]))


def test_what_fails_or_breaks_a_limit_comes_last() -> None:
    ok = [trial(i, 0.5, 1.0, drawn=True) for i in range(3)]
    over = [trial(3 + i, 0.9, 9.0, drawn=False) for i in range(5)]
    found = gain([*ok, *over], [Aim(OBJECTIVES, (Limit("flops", 2.0),))])
    assert found is not None
    assert found.share == 0.0
    assert found.drawn_on_front == 3


def test_ties_are_halves() -> None:
    same = [trial(i, 0.5, 1.0, drawn=i < 3) for i in range(8)]
    found = gain(same, [Aim(OBJECTIVES)])
    assert found is not None
    assert found.share == pytest.approx(0.5)


def test_of_too_few_draws_nothing_is_said() -> None:
    assert gain(trials(1.0, n=20), [Aim(OBJECTIVES)]) is None
