"""Claims about what a calibration tells, on scores whose agreement is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nas.archive import Measurement
from nas.trust.statistics import expected_gain, tau
from nas.trust.table import Calibration, Scored, ceiling, label, rows
from nas.trust.verdict import Verdict, judge

SECONDS = {"standalone": 10.0, "short": 1.0, "shared": 0.1}


def scored(
    noise: Mapping[str, float],
    *,
    n: int = 40,
    seed_noise: float = 0.3,
    sized: float = 0.3,
    before_s: Mapping[str, float] | None = None,
    shared_ahead: float = -100.0,
) -> Calibration:
    """Architectures of normal quality, and evaluators that see it with so much noise; `sized` is
    the noise with which FLOPs do. Shared weights are better by `shared_ahead` in accuracy."""
    rng = np.random.default_rng(3)
    quality = rng.normal(size=n)
    found: list[Scored] = []

    def say(name: str, seed: int, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        for i in range(n):
            measured = tuple(
                Measurement(k, float(v[i]), task="t" if k in ("accuracy", "nll") else None)
                for k, v in values.items()
            )
            took = SECONDS.get(name, 0.0)
            found.append(Scored(f"d{i}", name, seed, measured, seconds=took, cpu_s=took))

    def seen(much: float) -> np.ndarray[Any, Any]:
        return quality + much * rng.normal(size=n)

    for seed in (1, 2):
        say("standalone", seed, {"accuracy": seen(seed_noise), "nll": -seen(seed_noise)})
    for name, much in noise.items():
        more = shared_ahead if name == "shared" else 0.0
        say(name, 0, {"accuracy": more + seen(2 * much), "nll": -seen(much)})
    for name in ("flops", "params"):
        say(name, 0, {name: np.exp(seen(sized))})
    return Calibration.of(found, {"t": "accuracy"}, before_s or {})


def left(seconds: float, *names: str) -> dict[str, float]:
    return dict.fromkeys(names or ("shared", "short", "standalone"), seconds)


def upto(n: float) -> dict[str, float]:
    return dict.fromkeys(("shared", "short", "standalone"), n)


def test_a_row_for_every_evaluator_and_score_with_what_they_come_to() -> None:
    calibration = scored({"shared": 0.5, "short": 0.2}, before_s={"shared": 60.0})
    table = rows(calibration, "t")
    assert [(row.evaluator, row.score) for row in table] == [
        ("shared", "accuracy"),
        ("shared", "nll"),
        ("short", "accuracy"),
        ("short", "nll"),
        ("standalone", "accuracy"),
        ("standalone", "nll"),
        ("flops", "flops"),
        ("params", "params"),
    ]
    by = {(row.evaluator, row.score): row for row in table}
    mean = calibration.truth("t").mean(1)
    shared = by["shared", "nll"]
    assert shared.tau.value == pytest.approx(
        tau(calibration.scores("t", "shared", "nll")[:, 0], mean)
    )
    assert shared.tau.low < shared.tau.value < shared.tau.high
    assert (shared.before_s, shared.cpu_s, by["short", "nll"].cpu_s) == (60.0, 0.1, 1.0)
    assert shared.regret_5.value <= shared.regret_1.value
    assert by["short", "nll"].behind == (0, 0, 0)
    assert by["shared", "accuracy"].behind.low > 0
    assert by["flops", "flops"].given_flops.value != by["flops", "flops"].given_flops.value
    assert by["standalone", "accuracy"].tau == ceiling(calibration, "t")


def test_the_best_for_much_time_is_not_the_best_for_little() -> None:
    """Stand-alone training ranks best, shared weights cost a hundredth of it."""
    calibration = scored({"shared": 0.9, "short": 0.9}, seed_noise=0.1)
    for seconds, wanted in ((1e7, "standalone"), (25.0, "shared")):
        verdict, _ = judge(calibration, default="shared", left_s=left(seconds), most=upto(1e4))
        assert verdict.evaluator == wanted, verdict.reason
        best = verdict.gains[wanted]
        assert best.value == pytest.approx(expected_gain(best.tau, best.evaluations))
        assert best.evaluations == pytest.approx(min(1e4, seconds / SECONDS[wanted]))


def test_a_small_space_is_worth_its_better_ranking() -> None:
    calibration = scored({"shared": 0.45, "short": 0.2})
    one, _ = judge(
        calibration, default="shared", left_s=left(100, "shared", "short"), most=upto(50)
    )
    assert one.evaluator == "short"
    assert one.gains["shared"].evaluations == one.gains["short"].evaluations == 50
    many, _ = judge(
        calibration, default="shared", left_s=left(2, "shared", "short"), most=upto(50), workers=2
    )
    assert many.gains["short"].evaluations == 4
    assert many.evaluator == "shared"
    chained, _ = judge(
        scored({"shared": 0.2}), default="shared", left_s=left(1e6), most=upto(1e4) | {"shared": 3}
    )
    assert chained.gains["shared"].evaluations == 3
    assert chained.evaluator == "standalone"


def test_too_few_architectures_do_not_tell_and_the_default_is_used() -> None:
    verdict, _ = judge(
        scored({"shared": 1.5, "short": 1.5}, n=9),
        default="shared",
        left_s=left(100, "shared", "short"),
        most=upto(1e9),
    )
    assert verdict.evaluator == "shared"
    assert "not enough to tell" in verdict.reason
    assert "on 9 architectures" in verdict.reason
    assert "so the space's default is used" in verdict.reason


def test_what_is_not_sure_to_beat_chance_is_not_chosen() -> None:
    verdict, _ = judge(
        scored({"shared": 30.0, "short": 30.0}, n=50),
        default="shared",
        left_s=left(100, "shared", "short"),
        most=upto(1e9),
    )
    assert verdict.evaluator == "shared"
    assert "no evaluator is sure to bring more" in verdict.reason


def test_counting_that_ranks_as_well_is_warned_of() -> None:
    warned, _ = judge(
        scored({"shared": 0.5}, sized=0.1), default="shared", left_s=left(9, "shared"), most=upto(9)
    )
    assert "better than counting FLOPs or params" in warned.warning
    clear, _ = judge(
        scored({"shared": 0.1}, sized=2.0), default="shared", left_s=left(9, "shared"), most=upto(9)
    )
    assert not clear.warning
    alone, _ = judge(  # training from scratch counts too
        scored({"shared": 2.0}, seed_noise=0.05, sized=2.0),
        default="shared",
        left_s=left(1e6),
        most=upto(1e4),
    )
    assert alone.evaluator == "standalone"
    assert not alone.warning


def test_by_training_from_scratch_that_shared_weights_outdo_nothing_is_chosen() -> None:
    def verdict(more: float, n: int = 40) -> Verdict:
        calibration = scored({"shared": 0.5, "short": 0.1}, shared_ahead=more, n=n)
        found, _ = judge(
            calibration, default="shared", left_s=left(100, "shared", "short"), most=upto(100)
        )
        return found

    assert [verdict(more).evaluator for more in (0.5, 0.0, -0.5)] == ["shared", "short", "short"]
    assert "it does not tell how good networks become" in verdict(0.5).reason
    assert verdict(9.0, n=7).evaluator == "short"  # so few do not show it


def test_every_two_rows_are_compared_on_the_same_draws() -> None:
    by = {
        label(row.evaluator, row.score): row
        for row in rows(scored({"shared": 0.4, "short": 0.4}), "t")
    }
    for name, row in by.items():
        assert list(row.less) == [other for other in by if other != name]
        for other, less in row.less.items():
            back = by[other].less[name]
            assert less.value == pytest.approx(row.tau.value - by[other].tau.value)
            assert (less.low, less.high) == pytest.approx((-back.high, -back.low))
    shared, short = by["shared by nll"], by["short by nll"]
    alone = shared.tau.high - shared.tau.low + short.tau.high - short.tau.low
    assert shared.less["short by nll"].high - shared.less["short by nll"].low < alone


def test_each_task_is_ranked_by_the_surer_score_of_those_that_are_allowed() -> None:
    calibration = scored({"shared": 0.4, "short": 0.4})
    free, _ = judge(calibration, default="shared", left_s=left(9), most=upto(9))
    assert free.gains["short"].scores == {"t": "nll"}
    assert "by NLL" in free.reason
    bound, _ = judge(
        calibration, default="shared", left_s=left(9), most=upto(9), scores={"t": ["accuracy"]}
    )
    assert bound.gains["short"].scores == {"t": "accuracy"}
    assert bound.gains["short"].tau < free.gains["short"].tau


def test_an_architecture_that_failed_alone_is_left_out_and_a_failed_score_is_the_worst() -> None:
    whole = scored({"short": 0.2}, n=10)
    broken = [
        Scored(one.derivation, one.evaluator, one.seed, reason="it diverged")
        if (one.derivation, one.evaluator) in {("d3", "standalone"), ("d4", "short")}
        else one
        for one in whole.scored
    ]
    found = Calibration.of(broken, {"t": "accuracy"}, {})
    assert len(found.derivations) == 9
    assert "d3" not in found.derivations
    values = found.scores("t", "short", "nll")[:, 0]
    assert values.argmin() == found.derivations.index("d4")
    assert np.isfinite(values).all()
