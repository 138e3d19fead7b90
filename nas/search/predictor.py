"""A predictor of what architectures come to, from those that were measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from nas.grammar import Derivation
from nas.grammar.tokens import Apply

Facts = Mapping[str, float]
Array = np.ndarray[Any, np.dtype[np.float64]]
FEWEST = 15  # measured architectures, of which a predictor may be made
LINEAR = 80  # with fewer a linear predictor is the better one
SEEN = 2  # measured architectures in which something must occur to be looked at
CHANCE = 0.05  # the chance at most that predictions agree as much by chance
TAIL = 0.9  # quantile beyond which, as far again from the median, all losses are as bad


@dataclass(frozen=True)
class Predictor:
    """Predicts a loss. `agreement`: Kendall's τ of predictions with the measured losses of
    architectures that were held out, each part of them once."""

    columns: tuple[str, ...]
    model: Any
    mean: float
    deviation: float
    agreement: float

    @staticmethod
    def fit(facts: Sequence[Facts], losses: Sequence[float]) -> Predictor | None:
        """A predictor of losses, from what is seen of their architectures (`facts_of`); None where
        there are too few, where all are one, or where what it says of those held out agrees no
        better than by chance.

        The worst losses are drawn in, since how bad they are does not matter. Ridge regression
        below 80 architectures, from there boosted trees with leaves of 4: predictors as light as
        those of LINAS (arXiv 2205.10358) and SimQ-NAS (arXiv 2312.13301).
        """
        known = [i for i, loss in enumerate(losses) if math.isfinite(loss)]
        y = np.array([losses[i] for i in known])
        if len(y) < FEWEST:
            return None
        middle, high = np.quantile(y, [0.5, TAIL])
        y = np.minimum(y, 2 * high - middle)
        mean, deviation = float(y.mean()), float(y.std())
        if deviation == 0:
            return None
        y = (y - mean) / deviation
        met = Counter(name for i in known for name in facts[i])
        columns = tuple(sorted(name for name, times in met.items() if times >= SEEN))
        x = _matrix([facts[i] for i in known], columns)
        model, parts = _model(len(y))
        folds = KFold(parts, shuffle=True, random_state=0)
        tau, chance = kendalltau(cross_val_predict(model, x, y, cv=folds), y)
        if not (tau > 0 and chance < CHANCE):
            return None
        return Predictor(columns, model.fit(x, y), mean, deviation, float(tau))

    def __call__(self, facts: Sequence[Facts]) -> list[float]:
        """Predicted losses of the architectures of which these facts are known."""
        if not facts:
            return []
        predicted = self.model.predict(_matrix(facts, self.columns))
        losses: list[float] = (self.mean + self.deviation * predicted).tolist()
        return losses


def facts_of(derivation: Derivation) -> Facts:
    """What a predictor sees of an architecture: the logarithms of what it costs; and of a finite
    grammar what was chosen at each site that it has, of another how often there is each operator
    and each pair of them in a row."""
    costs = {name: math.log1p(cost) for name, cost in derivation.cost._asdict().items()}
    if derivation.grammar.finite:
        return costs | {f"{site}={label}": 1.0 for site, label in derivation.by_site.items()}
    applied = [term for term in derivation.terms if isinstance(term, Apply)]
    called = [f"{term.operator.name} {dict(term.args)}" for term in applied]
    pairs = [f"{a.operator.name} {b.operator.name}" for a, b in pairwise(applied)]
    return costs | {name: float(times) for name, times in Counter(called + pairs).items()}


def _matrix(facts: Sequence[Facts], columns: Sequence[str]) -> Array:
    return np.array([[entry.get(name, 0.0) for name in columns] for entry in facts])


def _model(architectures: int) -> tuple[Any, int]:
    """What is fitted to so many, and in how many parts these are held out: trees take longer."""
    if architectures < LINEAR:
        return RidgeCV(np.logspace(-2, 3, 11)), 5
    trees = HistGradientBoostingRegressor(
        max_iter=120, min_samples_leaf=4, learning_rate=0.08, max_leaf_nodes=8, random_state=0
    )
    return trees, 3
