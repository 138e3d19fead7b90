"""What a search's sampler brought: its proposals against the random draws of the same search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.archive import Trial
from nas.dominance import sorted_fronts
from nas.front import Limit, Objective, losses_of
from nas.search.columns import Aim

SAMPLES, LEVEL = 2_000, 0.9
FEWEST = 3  # random draws, of which something can be said


@dataclass(frozen=True)
class Gain:
    """In what share of pairs a proposal of the sampler is better than a random draw, ties as half,
    with a bootstrapped interval; 0.5 is no better. How many there are of both, and how many of
    the draws came to the front."""

    share: float
    low: float
    high: float
    proposed: int
    drawn: int
    drawn_on_front: int

    def __str__(self) -> str:
        verdict = "better" if self.low > 0.5 else "worse" if self.high < 0.5 else "no better"
        where = f"{self.drawn_on_front} of {self.drawn} draws on the front"
        return (
            f"the sampler is {verdict} than random draws: its proposals win {self.share:.0%} of "
            f"pairs [{self.low:.0%}, {self.high:.0%}], half by chance; {where}"
        )


def gain(trials: Sequence[Trial], aims: Sequence[Aim]) -> Gain | None:
    """What the sampler of a search brought; None where too few draws are among the trials.

    The better of two is on an earlier front, where those before are left out; what fails, breaks a
    limit or lacks an objective comes last. Of several aims the earliest of their fronts counts:
    what is proposed is for one of them.
    """
    by_aim = [_ranks(trials, aim.objectives, aim.limits) for aim in aims]
    ranks = [min(each) for each in zip(*by_aim, strict=True)]
    drawn = np.array([rank for rank, trial in zip(ranks, trials, strict=True) if trial.drawn])
    proposed = np.array([r for r, trial in zip(ranks, trials, strict=True) if not trial.drawn])
    if len(drawn) < FEWEST or not len(proposed):
        return None
    rng = np.random.default_rng(0)
    shares = [
        _share(rng.choice(proposed, len(proposed)), rng.choice(drawn, len(drawn)))
        for _ in range(SAMPLES)
    ]
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    share, first = _share(proposed, drawn), int((drawn == 0).sum())
    return Gain(share, float(low), float(high), len(proposed), len(drawn), first)


def _share(proposed: np.ndarray[Any, Any], drawn: np.ndarray[Any, Any]) -> float:
    ordered = np.sort(drawn)
    worse = len(ordered) - np.searchsorted(ordered, proposed, "right")
    equal = np.searchsorted(ordered, proposed, "right") - np.searchsorted(ordered, proposed)
    return float((worse + equal / 2).mean() / len(ordered))


def _ranks(
    trials: Sequence[Trial], objectives: Sequence[Objective], limits: Sequence[Limit]
) -> list[int]:
    """The number of the front that each trial is on."""
    kept, points = list[int](), list[tuple[float, ...]]()
    for i, trial in enumerate(trials):
        columns = trial.columns()
        if trial.state == "finished" and all(limit.keeps(columns) for limit in limits):
            kept.append(i)
            points.append(losses_of(columns, objectives))
    ranks = [len(trials)] * len(trials)
    for number, front in enumerate(sorted_fronts(points)):
        for i in front:
            ranks[kept[i]] = number
    return ranks
