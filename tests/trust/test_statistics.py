"""Claims about agreement of rankings, on answers that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nas.trust.statistics import (
    against_all,
    counted,
    expected_gain,
    interval,
    largest_normal,
    left_out,
    pairwise,
    partial,
    regret,
    resampled,
    tau,
    taus,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("levels", [3, 8, 1000])
def test_tau_is_scipys_with_and_without_ties(levels: int) -> None:
    for n in (5, 17, 40):
        x, y = RNG.integers(0, levels, (2, n)).astype(float)
        assert tau(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


def test_tau_of_known_rankings() -> None:
    rank = np.arange(6.0)
    assert tau(rank, rank**3) == pytest.approx(1)
    assert tau(rank, -rank) == pytest.approx(-1)
    assert tau(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)
    assert math.isnan(tau(rank, np.ones(6)))


def test_a_replicate_by_weights_is_tau_of_the_architectures_drawn() -> None:
    columns = RNG.integers(0, 6, (3, 12)).astype(float)
    drawn = resampled(12, RNG, 20)
    weighted = taus(columns, counted(drawn))
    for one, indices in zip(weighted, drawn, strict=True):
        assert one == pytest.approx(taus(columns[:, indices])[0], nan_ok=True)


def test_partial_tau_follows_kendalls_formula_also_with_ties() -> None:
    columns = RNG.integers(0, 5, (3, 20)).astype(float)
    xy, xz, yz = (
        stats.kendalltau(columns[i], columns[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))
    )
    wanted = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial(taus(columns))[0] == pytest.approx(wanted)


def test_partial_tau_given_two_is_partial_tau_given_one_after_the_other() -> None:
    columns = RNG.normal(size=(4, 30))

    def given_third(i: int, j: int) -> float:
        return float(partial(taus(columns[[i, j, 2]]))[0])

    xy, xz, yz = given_third(0, 1), given_third(0, 3), given_third(1, 3)
    wanted = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial(taus(columns))[0] == pytest.approx(wanted)


def test_partial_tau_vanishes_where_a_covariate_explains_all_and_is_none_given_itself() -> None:
    z = np.repeat(np.arange(40.0), 20)
    x, y = z + 0.9 * RNG.random(800), z + 0.9 * RNG.random(800)
    assert tau(x, y) > 0.95
    assert abs(partial(taus(np.stack([x, y, z])))[0]) < 0.3
    assert math.isnan(partial(taus(np.stack([z, y, z])))[0])


def test_regret_is_what_the_first_k_miss() -> None:
    truth = np.array([0.9, 0.5, 0.8, 0.7])
    score = np.array([1.0, 4.0, 2.0, 3.0])  # ranks 1, 3, 2, 0
    assert [float(regret(score, truth, k)[0]) for k in (1, 2, 3, 4)] == pytest.approx(
        [0.4, 0.2, 0.1, 0.0]
    )
    drawn = np.array([[1, 2, 2, 3]])
    assert regret(score, truth, 1, drawn) == pytest.approx([0.3])


def test_the_interval_holds_the_true_tau_about_as_often_as_it_says() -> None:
    rho, hits = 0.7, 0
    true = 2 / math.pi * math.asin(rho)
    for _ in range(200):
        x = RNG.normal(size=24)
        y = rho * x + math.sqrt(1 - rho**2) * RNG.normal(size=24)
        weights = counted(resampled(24, RNG, 300))
        low, high = interval(taus(np.stack([x, y]), weights)[:, 0, 1])
        hits += low <= true <= high
    assert 0.82 <= hits / 200 <= 0.97


def test_differences_are_paired_so_two_good_evaluators_are_told_apart() -> None:
    """Both agree with the truth but for noise of their own; the truth's own noise cancels."""
    truth = RNG.normal(size=60)
    near, far = truth + 0.2 * RNG.normal(size=60), truth + 1.2 * RNG.normal(size=60)
    found = taus(np.stack([near, far, truth]), counted(resampled(60, RNG)))
    low, high = interval(found[:, 0, 2] - found[:, 1, 2])
    apart = [interval(found[:, i, 2]) for i in (0, 1)]
    assert 0 < low < high
    assert high - low < sum(b - a for a, b in apart)


def test_an_interval_needs_replicates_that_are_numbers() -> None:
    assert interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    assert all(map(math.isnan, interval(np.array([1.0, math.nan]))))


def test_the_ceiling_of_two_seeds_is_their_tau() -> None:
    truth = RNG.normal(size=(20, 2))
    assert left_out(truth, truth)[0] == pytest.approx(tau(truth[:, 0], truth[:, 1]))


@pytest.mark.parametrize("seeds", [2, 3])
def test_one_training_against_the_mean_of_all_is_foretold(seeds: int) -> None:
    """Seeds of a known noise: τ with the mean of as many others is what is foretold."""
    n, quality = 1000, RNG.normal(size=(1000, 1))
    truth = quality + 0.7 * RNG.normal(size=(n, seeds))
    other = (quality + 0.7 * RNG.normal(size=(n, seeds))).mean(1)
    between = pairwise(truth)
    foretold = against_all(float(left_out(truth, truth)[0]), between, seeds)
    assert foretold == pytest.approx(tau(truth[:, 0], other), abs=0.03)
    assert foretold > between


@pytest.mark.parametrize(
    ("n", "wanted"),
    [
        (1, 0.0),
        (2, 1 / math.sqrt(math.pi)),
        (3, 1.5 / math.sqrt(math.pi)),
        (10, 1.538752730835),
        (100, 2.507593639),
        (1000, 3.241435777),
    ],
)
def test_the_largest_of_n_normals_is_as_tabled(n: int, wanted: float) -> None:
    assert largest_normal(n) == pytest.approx(wanted, abs=1e-7)


def test_the_largest_of_a_thousand_million_is_as_the_inverse_distribution_says() -> None:
    """E = ∫ isf(1 - u^(1/n)) du, by its own quadrature in t = -log u."""
    t = np.exp(np.linspace(-40, 4, 400_001))
    grid = stats.norm.isf(-np.expm1(-t / 1e9)) * np.exp(-t) * t
    wanted = float(grid.sum() * 44 / 400_000)
    assert largest_normal(1e9) == pytest.approx(wanted, abs=1e-6)
    assert largest_normal(0) == 0


def test_the_gain_is_what_choosing_the_best_of_n_brings() -> None:
    rho, n = 0.6, 50
    score = RNG.normal(size=(20_000, n))
    truth = rho * score + math.sqrt(1 - rho**2) * RNG.normal(size=score.shape)
    brought = np.take_along_axis(truth, score.argmax(1)[:, None], 1).mean()
    assert expected_gain(2 / math.pi * math.asin(rho), n) == pytest.approx(brought, abs=0.03)
    assert expected_gain(-0.2, n) < 0 == expected_gain(0.9, 1)
