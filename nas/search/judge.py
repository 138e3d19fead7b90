"""What candidates are judged by, and how good predictors say that they are."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from nas.grammar import Derivation
from nas.search.inner import Judged
from nas.search.predictor import Predictor, Seen, facts_of


@dataclass(frozen=True)
class Goal:
    """What candidates are judged by: an exact cost of theirs, or the predicted loss of a column."""

    column: str
    maximize: bool = False
    exact: str = ""  # its name in Derivation.cost
    spare: bool = False  # whether it is left out where it cannot be predicted
    along: bool = False  # whether batches are spread along it
    finer: str = ""  # a column of losses that ranks as this one and tells more, where there is one

    def loss(self, columns: Mapping[str, float]) -> float:
        if self.finer in columns:
            return columns[self.finer]
        value = columns.get(self.column, math.nan)
        if self.along:
            return math.log1p(value)
        return -value if self.maximize else value


@dataclass(frozen=True)
class Wanted:
    """What some proposals are for: goals, and the constraints of theirs that must be kept; None is
    all that there are."""

    goals: tuple[Goal, ...]
    constraints: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Predicted:
    """What judges candidates by what is wanted: exact costs, and predictors of the rest and of by
    how much constraints are broken."""

    want: Wanted
    predictors: Mapping[Goal, Predictor]
    bounds: Sequence[Predictor]

    @staticmethod
    def fit(
        seen: Seen,
        trials: Sequence[FrozenTrial],
        want: Wanted,
        losses: Mapping[Goal, Sequence[float]],
    ) -> Predicted | None:
        """From the losses of what was seen, by goal; None where a goal that must be is not
        predicted better than by chance."""
        fitted = {goal: Predictor.fit(seen, losses[goal]) for goal in want.goals if not goal.exact}
        if any(predictor is None and not goal.spare for goal, predictor in fitted.items()):
            return None
        predictors = {goal: predictor for goal, predictor in fitted.items() if predictor}
        return Predicted(want, predictors, _bounds(seen, trials, want.constraints))

    @property
    def single(self) -> Predictor | None:
        """What predicts the only goal where nothing bounds it, None otherwise."""
        alone = len(self.want.goals) == 1 and not self.bounds
        return self.predictors.get(self.want.goals[0]) if alone else None

    @property
    def agreement(self) -> dict[str, float]:
        """By column Kendall's τ of what was left out with what is predicted of it."""
        return {goal.column: predictor.agreement for goal, predictor in self.predictors.items()}

    def __call__(self, candidates: Sequence[Derivation]) -> list[Judged]:
        facts = list(map(facts_of, candidates))
        aims = [
            self.predictors[goal](facts) if goal in self.predictors else _known(goal, candidates)
            for goal in self.want.goals
        ]
        broken = [_beyond(bound.values(facts), bound) for bound in self.bounds]
        return [
            Judged(d, tuple(aim[i] for aim in aims), sum(bound[i] for bound in broken))
            for i, d in enumerate(candidates)
        ]


def improving_any(
    judges: Sequence[Predicted], candidates: Sequence[Derivation], n: int
) -> list[Derivation]:
    """So many candidates, those of which it is most probable that they better the best of some
    judge's only goal: 1 - Π_t (1 - p_t)."""
    if not candidates:
        return []
    facts = list(map(facts_of, candidates))
    misses, logs = np.zeros(len(facts)), np.full(len(facts), -np.inf)
    for judge in judges:
        assert judge.single is not None, "a judge by one goal"
        chances = judge.single.improves(facts)
        misses += np.log1p(-np.exp(chances).clip(max=1 - 1e-12))
        logs = np.logaddexp(logs, chances)  # tells apart what is all but impossible
    order = np.lexsort((-logs, misses))[:n]
    return [candidates[i] for i in order]


def _known(goal: Goal, candidates: Sequence[Derivation]) -> list[float]:
    """An exact cost of each candidate; of what cannot be told the same for all."""
    if not goal.exact:
        return [0.0] * len(candidates)
    return [float(getattr(candidate.cost, goal.exact)) for candidate in candidates]


def _beyond(excesses: Sequence[float], bound: Predictor) -> list[float]:
    """By how much a constraint is broken, in deviations of what was measured."""
    deviation = float(bound.losses.std())
    return [max(0.0, excess / deviation) for excess in excesses]


def _bounds(
    seen: Seen, trials: Sequence[FrozenTrial], among: Collection[str] | None
) -> list[Predictor]:
    """What predicts by how much constraints are broken, of those that some trial broke."""
    broken = {name for trial in trials for name, value in trial.constraints.items() if value > 0}
    names = broken if among is None else broken.intersection(among)
    fitted = (
        Predictor.fit(seen, [t.constraints.get(name, math.nan) for t in trials])
        for name in sorted(names)
    )
    return [predictor for predictor in fitted if predictor is not None]
