"""Which evaluator a run should use, and why: the greatest expected gain for the seconds it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from nas.evaluate import BASELINES, EVALUATORS, SHARED, TRUTH
from nas.journal import finite
from nas.trust.statistics import against_all, expected_gain, pairwise
from nas.trust.table import Calibration, Estimate, Row, ahead, ceiling, rows

FEWEST = 8  # architectures of which anything is told
ELIGIBLE = tuple(name for name, evaluator in EVALUATORS.items() if evaluator.begins)


@dataclass(frozen=True)
class Gain:
    """What an evaluator is expected to bring: the truth of the best of `evaluations` by it, in
    standard deviations of the truth above a random architecture; averaged over the tasks."""

    value: float
    tau: float  # its lower bound, against the mean of all stand-alone seeds
    evaluations: float
    scores: Mapping[str, str]  # by which each task is ranked: its metric or nll
    wide: Estimate | None  # the interval that tells too little, where one does


@dataclass(frozen=True)
class Verdict:
    """The evaluator to use, why in words, and what every other would have brought."""

    evaluator: str
    reason: str
    warning: str = ""
    gains: Mapping[str, Gain] = field(default_factory=dict)


def judge(
    calibration: Calibration,
    *,
    default: str,
    left_s: Mapping[str, float],
    most: Mapping[str, float],
    workers: int = 1,
    scores: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Verdict, dict[str, list[Row]]]:
    """The verdict of a calibration, and the rows of its table by task.

    left_s: the seconds that each evaluator would have for its evaluations, of those that may be
    chosen; most: how many architectures each could evaluate at all; scores: by what
    a task's trials may be ranked, by default its metric or NLL, whichever has the greater lower
    bound of τ. Evaluators are compared by that bound; where the interval of the best is wider than
    ±0.3, or the bound not above 0, or training from scratch outdone by shared weights, the
    verdict is the default.
    """
    table = {task: rows(calibration, task) for task in calibration.metrics}
    gains = {}
    for name in (name for name in left_s if name in calibration.evaluators):
        fitting = workers * max(0.0, left_s[name]) / max(calibration.mean(name, "seconds"), 1e-9)
        gains[name] = _gain(name, table, calibration, min(most[name], fitting), scores)
    best = max(gains, key=lambda name: gains[name].value)
    doubt = outdone(calibration) or _doubt(best, gains[best])
    reason = f"{doubt}, so the space's default is used" if doubt else _why(best, gains)
    reason = f"on {len(calibration.derivations)} architectures {reason}"
    return Verdict(default if doubt else best, reason, _warning(table), gains), table


def _why(best: str, gains: Mapping[str, Gain]) -> str:
    """The gain of the best in words, and beside it those of the others."""
    gain = gains[best]
    others = [
        f"{EVALUATORS[name].words}{_by(other)} {other.value:.2f} (τ at least {other.tau:.2f}, "
        f"the best of {other.evaluations:,.0f})"
        for name, other in gains.items()
        if name != best
    ]
    return (
        f"its τ{_by(gain)} is at least {gain.tau:.2f}, and the best of {gain.evaluations:,.0f} is "
        f"expected {gain.value:.2f} standard deviations better than a random one"
    ) + "".join(f"; {one}" for one in others)


def _by(gain: Gain) -> str:
    return " by NLL" if "nll" in gain.scores.values() else ""


def outdone(calibration: Calibration) -> str:
    """Why training from scratch is not the truth, "" where nothing says so: subnets of the shared
    weights are better. Then it ranks networks by how fast they learn, and a still shorter training
    agrees with that for the same reason."""
    for task, metric in calibration.metrics.items():
        if len(calibration.derivations) >= FEWEST and ahead(calibration, task).low > 0:
            alone, shared = (
                abs(float(calibration.scores(task, name, metric).mean()))
                for name in (TRUTH, SHARED)
            )
            return (
                f"training from scratch came to {metric} {alone:.3f} for {task}, and subnets of "
                f"the shared weights to {shared:.3f}: it does not tell how good networks become "
                "(standalone.epochs makes it longer, and --epochs of nas trust)"
            )
    return ""


def _doubt(name: str, gain: Gain) -> str:
    """Why an evaluator's gain says too little to choose by it, "" where it says enough."""
    if gain.wide is not None:
        return f"τ of {EVALUATORS[name].words} is {gain.wide}: not enough to tell"
    if gain.value <= 0:
        return "no evaluator is sure to bring more than a random choice: not enough to tell"
    return ""


def said(verdict: Verdict) -> str:
    """The verdict in words, for a terminal."""
    text = f"The evaluator to use is {EVALUATORS[verdict.evaluator].words}: {verdict.reason}."
    return f"{text} {verdict.warning}" if verdict.warning else text


def facts(
    calibration: Calibration, verdict: Verdict, table: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """All of it as plain values: what `trust.json` holds. Undefined numbers are null."""
    whole = {
        "architectures": list(calibration.derivations),
        "seeds": calibration.seeds,
        "verdict": {**asdict(verdict), "says": said(verdict)},
        "tasks": {
            task: {
                "metric": metric,
                "ceiling": ceiling(calibration, task),
                "truth": calibration.truth(task).mean(1).tolist(),
                "rows": [
                    {
                        **asdict(row),
                        "words": EVALUATORS[row.evaluator].words,
                        "scores": calibration.scores(task, row.evaluator, row.score)
                        .mean(1)
                        .tolist(),
                    }
                    for row in table[task]
                ],
            }
            for task, metric in calibration.metrics.items()
        },
    }
    return cast("dict[str, Any]", finite(whole, lambda value: None))


def _gain(
    name: str,
    table: Mapping[str, list[Row]],
    calibration: Calibration,
    n: float,
    scores: Mapping[str, Sequence[str]] | None,
) -> Gain:
    """The expected gain of an evaluator, each task ranked by the score that is surer."""
    lows, by, wide = [], {}, None
    for task, task_rows in table.items():
        allowed = (scores or {}).get(task, (calibration.metrics[task], "nll"))
        mine = [row for row in task_rows if row.evaluator == name and row.score in allowed]
        row = max(mine, key=lambda row_of: _low(row_of.tau))
        by[task], low = row.score, _low(row.tau)
        wide = row.tau if row.tau.wide else wide
        if name == TRUTH:
            low = against_all(low, pairwise(calibration.truth(task)), calibration.seeds)
        lows.append(low)
    value = sum(expected_gain(low, n) for low in lows) / len(lows)
    return Gain(value, sum(lows) / len(lows), n, by, wide)


def _low(tau: Estimate) -> float:
    """The lower bound; where there is no interval, as of nothing known."""
    return tau.low if tau.low == tau.low else -1.0


def _warning(table: Mapping[str, list[Row]]) -> str:
    """Plain words where counting ranks a task as well as anything that was measured."""
    lost = [task for task, task_rows in table.items() if not any(_above(row) for row in task_rows)]
    if not lost:
        return ""
    where = f" for {', '.join(lost)}" if len(table) > 1 else ""
    return f"No evaluator was shown to rank better than counting FLOPs or params{where}."


def _above(row: Row) -> bool:
    """Whether an evaluator's τ is surely above those of FLOPs and params, on the same draws."""
    counts = row.evaluator in BASELINES
    return not counts and row.over_flops.low > 0 and row.over_params.low > 0
