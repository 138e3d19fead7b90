"""A calibration, architectures with what every evaluator said of each, and what it tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.archive import Measurement
from nas.evaluate import BASELINES, SHARED, TRUTH
from nas.task import METRICS
from nas.trust.statistics import (
    Array,
    counted,
    interval,
    left_out,
    partial,
    regret,
    resampled,
    taus,
)

WIDE = 0.3  # half an interval: one that is wider tells too little


@dataclass(frozen=True)
class Scored:
    """What one evaluator said of one architecture; `reason` says why where it failed."""

    derivation: str
    evaluator: str
    seed: int
    measurements: tuple[Measurement, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    cpu_s: float = 0.0


class Estimate(NamedTuple):
    """A statistic and its 90 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    @property
    def wide(self) -> bool:
        """Whether the interval is wider than ±0.3, or there is none."""
        return not self.high - self.low <= 2 * WIDE

    def __str__(self) -> str:
        if self.value != self.value:
            return "–"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Row:
    """How well one evaluator, ranking by one score, agrees with training from scratch on a task.

    τ is with the mean of all stand-alone seeds; of `standalone` itself that of one seed with the
    others. Of an evaluator with several seeds statistics are means over them. Regrets are in units
    of the metric. cpu_s, seconds: of one evaluation, on average.
    """

    task: str
    evaluator: str
    score: str  # the metric's name, nll, or of a baseline its own
    tau: Estimate
    given_flops: Estimate
    given_params: Estimate
    given_both: Estimate
    regret_1: Estimate
    regret_5: Estimate
    behind: Estimate  # τ of the best (but standalone) less this τ, on the same draws
    over_flops: Estimate  # this τ less that of counting FLOPs
    over_params: Estimate
    less: Mapping[str, Estimate]  # this τ less that of every other row, by its `label`
    cpu_s: float
    seconds: float
    before_s: float


def label(evaluator: str, score: str) -> str:
    """What a row is called among others: "shared by nll", "flops"."""
    return evaluator if evaluator == score else f"{evaluator} by {score}"


@dataclass(frozen=True)
class Calibration:
    """Architectures trained from scratch with several seeds, and scored by every evaluator."""

    derivations: tuple[str, ...]
    scored: tuple[Scored, ...]
    metrics: Mapping[str, str]  # each task's primary metric
    before_s: Mapping[str, float]

    @staticmethod
    def of(
        scored: Iterable[Scored], metrics: Mapping[str, str], before_s: Mapping[str, float]
    ) -> Calibration:
        """What is whole of some scores: an architecture counts that was trained with as many
        seeds as any, for every task with a number for its metric."""
        known = tuple(scored)
        seeds = len({score.seed for score in known if score.evaluator == TRUTH})
        whole: dict[str, int] = {}
        for score in known:
            values = [_value(score, task, metric) for task, metric in metrics.items()]
            if score.evaluator == TRUTH and np.isfinite(values).all():
                whole[score.derivation] = whole.get(score.derivation, 0) + 1
        kept = dict.fromkeys(text for text, trained in whole.items() if trained == seeds)
        mine = tuple(score for score in known if score.derivation in kept)
        return Calibration(tuple(kept), mine, metrics, before_s)

    @cached_property
    def seeds(self) -> int:
        return len({score.seed for score in self.scored if score.evaluator == TRUTH})

    @property
    def evaluators(self) -> list[str]:
        """Those that scored something, `standalone` last before the baselines."""
        met = dict.fromkeys(score.evaluator for score in self.scored)
        first = [name for name in met if name not in (TRUTH, *BASELINES)]
        return [*first, TRUTH, *(name for name in BASELINES if name in met)]

    def judging(self, task: str) -> list[str]:
        """What an evaluator may rank by: the task's metric, and the likelihood where it has one."""
        measured = {m.name for scored in self.scored for m in scored.measurements if m.task == task}
        return [self.metrics[task], *(["nll"] if "nll" in measured else [])]

    def truth(self, task: str) -> Array:
        """(architectures, seeds): the metric after training from scratch."""
        return self.scores(task, TRUTH, self.metrics[task])

    def scores(self, task: str, evaluator: str, score: str) -> Array:
        """(architectures, seeds), larger is better; where it failed, worse than any other."""
        place = {text: i for i, text in enumerate(self.derivations)}
        mine = [entry for entry in self.scored if entry.evaluator == evaluator]
        seeds = {seed: i for i, seed in enumerate(sorted({entry.seed for entry in mine}))}
        found = np.full((len(place), len(seeds)), np.nan)
        for entry in mine:
            value = _value(entry, task, score)
            found[place[entry.derivation], seeds[entry.seed]] = value * _sign(score)
        worst = np.nanmin(found) if np.isfinite(found).any() else 0.0
        return np.where(np.isfinite(found), found, worst - 1.0)

    def mean(self, evaluator: str, field: str) -> float:
        """Mean `seconds` or `cpu_s` of an evaluation."""
        spent = [getattr(score, field) for score in self.scored if score.evaluator == evaluator]
        return float(np.mean(spent)) if spent else 0.0


def _value(scored: Scored, task: str, name: str) -> float:
    """The measurement of a name, for the task or for all of them; NaN where there is none."""
    values = [m.value for m in scored.measurements if m.name == name and m.task in (task, None)]
    return values[-1] if values and not scored.reason else float("nan")


def _sign(score: str) -> int:
    metric = METRICS.get(score)
    return 1 if metric is None or metric.larger_is_better else -1


def rows(calibration: Calibration, task: str) -> list[Row]:
    """A row for each evaluator and score, in the order of `Calibration.evaluators`."""
    n = len(calibration.derivations)
    drawn = _drawn(n)
    draws = _Draws(calibration, task, drawn, counted(drawn))
    wanted = [
        (name, score)
        for name in calibration.evaluators
        for score in ([name] if name in BASELINES else calibration.judging(task))
    ]
    replicates = {pair: draws.of(*pair) for pair in wanted}
    rivals = {
        pair: statistics["tau"] for pair, statistics in replicates.items() if pair[0] != TRUTH
    }
    best = max(rivals.values(), key=lambda tau: float(np.nan_to_num(tau[0], nan=-2.0)))
    nothing = np.full(len(drawn), np.nan)
    flops, params = (rivals.get((name, name), nothing) for name in ("flops", "params"))
    result = []
    for (name, score), statistics in replicates.items():
        own = statistics["tau"]
        compared = {"behind": best - own, "over_flops": own - flops, "over_params": own - params}
        less = {
            label(*pair): _estimate(own - other["tau"])
            for pair, other in replicates.items()
            if pair != (name, score)
        }
        result.append(
            Row(
                task,
                name,
                score,
                **{k: _estimate(v) for k, v in (statistics | compared).items()},
                less=less,
                cpu_s=calibration.mean(name, "cpu_s"),
                seconds=calibration.mean(name, "seconds"),
                before_s=calibration.before_s.get(name, 0.0),
            )
        )
    return result


def ceiling(calibration: Calibration, task: str) -> Estimate:
    """τ of one stand-alone seed with the mean of the others; with two, of one with the other."""
    truth, n = calibration.truth(task), len(calibration.derivations)
    return _estimate(left_out(truth, truth, counted(_drawn(n))))


def ahead(calibration: Calibration, task: str) -> Estimate:
    """By how much subnets of the shared weights are better than the same architectures trained from
    scratch, on average and in units of the metric; NaN where no weights are shared."""
    if SHARED not in calibration.evaluators:
        return _estimate(np.full(2, np.nan))
    truth = calibration.truth(task).mean(1)
    gained = calibration.scores(task, SHARED, calibration.metrics[task]).mean(1) - truth
    return _estimate(gained[_drawn(len(gained))].mean(1))


def _drawn(n: int) -> NDArray[np.intp]:  # (1 + replicates, n)
    """The whole set of n architectures, then its bootstrap replicates: the same on every call."""
    return np.concatenate([np.arange(n)[None], resampled(n, np.random.default_rng(0))])


def _estimate(replicates: Array) -> Estimate:
    """Of replicates whose first is the whole."""
    return Estimate(float(replicates[0]), *interval(replicates[1:]))


class _Draws(NamedTuple):
    """Bootstrap replicates of one task, the whole set first; every evaluator sees the same."""

    calibration: Calibration
    task: str
    drawn: NDArray[np.intp]
    weights: Array

    def of(self, evaluator: str, score: str) -> dict[str, Array]:
        """Each statistic's replicates; of an evaluator with several seeds, averaged over them."""
        truth = self.calibration.truth(self.task)
        given = self.calibration.scores(self.task, evaluator, score)
        others = [
            np.delete(truth, s, 1) if evaluator == TRUTH else truth for s in range(given.shape[1])
        ]
        statistics = [
            self._statistics(given[:, s], other.mean(1)) for s, other in enumerate(others)
        ]
        return {
            name: np.mean([by_seed[name] for by_seed in statistics], axis=0)
            for name in statistics[0]
        }

    def _statistics(self, score: Array, truth: Array) -> dict[str, Array]:
        flops, params = (self.calibration.scores(self.task, c, c)[:, 0] for c in BASELINES[:2])
        every_tau = taus(np.stack([score, truth, flops, params]), self.weights)

        def given(columns: Sequence[int]) -> Array:
            places = [0, 1, *columns]
            return partial(every_tau[:, places][:, :, places])

        return {
            "tau": every_tau[:, 0, 1],
            "given_flops": given([2]),
            "given_params": given([3]),
            "given_both": given([2, 3]),
            "regret_1": regret(score, truth, 1, self.drawn),
            "regret_5": regret(score, truth, 5, self.drawn),
        }
