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

Array = np.ndarray[Any, np.dtype[np.float64]]
FEWEST = 15  # measured architectures, of which a predictor may be made
LINEAR = 80  # with fewer a linear predictor is the better one
FOLDS = {False: 5, True: 3}  # of a linear predictor and of trees, which take longer to fit
SEEN = 2  # measured architectures in which something must occur to be looked at
CHANCE = 0.05  # the chance at most that predictions agree as much by chance
TAIL = 0.9  # quantile beyond which, as far again from the median, all losses are as bad
COSTS = ("params", "flops", "activations", "terminals")


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
    def fit(derivations: Sequence[Derivation], losses: Sequence[float]) -> Predictor | None:
        """A predictor of these losses; None where there are too few, where all are one, or where
        what it says of those held out agrees no better than by chance.

        The worst losses are drawn in, since how bad they are does not matter. Ridge regression
        below 80 architectures, boosted trees with leaves of 4 from there (Nair et al. 2022,
        "LINAS", and Cummings et al. 2023, "SimQ-NAS", who use such predictors).
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
        facts = [facts_of(derivations[i]) for i in known]
        met = Counter(name for entry in facts for name in entry)
        columns = tuple(sorted(name for name, times in met.items() if times >= SEEN))
        x = _matrix(facts, columns)
        folds = KFold(FOLDS[len(y) >= LINEAR], shuffle=True, random_state=0)
        tau, chance = kendalltau(cross_val_predict(_model(len(y)), x, y, cv=folds), y)
        if not (tau > 0 and chance < CHANCE):
            return None
        return Predictor(columns, _model(len(y)).fit(x, y), mean, deviation, float(tau))

    def __call__(self, derivations: Sequence[Derivation]) -> list[float]:
        """Predicted losses."""
        if not derivations:
            return []
        facts = [facts_of(derivation) for derivation in derivations]
        predicted = self.model.predict(_matrix(facts, self.columns))
        losses: list[float] = (self.mean + self.deviation * predicted).tolist()
        return losses


def facts_of(derivation: Derivation) -> Mapping[str, float]:
    """What a predictor sees of an architecture: the logarithms of what it costs; and of a finite
    grammar what was chosen at each site that it has, of another how often there is each operator
    and each pair of them in a row."""
    costs = {name: math.log1p(getattr(derivation.cost, name)) for name in COSTS}
    if derivation.grammar.finite:
        return costs | {f"{site}={label}": 1.0 for site, label in derivation.by_site.items()}
    names = [term.operator.name for term in derivation.terms if isinstance(term, Apply)]
    called = [
        f"{term.operator.name} {dict(term.args)}"
        for term in derivation.terms
        if isinstance(term, Apply)
    ]
    pairs = [" ".join(pair) for pair in pairwise(names)]
    return costs | {name: float(times) for name, times in Counter(called + pairs).items()}


def _matrix(facts: Sequence[Mapping[str, float]], columns: Sequence[str]) -> Array:
    return np.array([[entry.get(name, 0.0) for name in columns] for entry in facts])


def _model(architectures: int) -> Any:
    if architectures < LINEAR:
        return RidgeCV(np.logspace(-2, 3, 11))
    return HistGradientBoostingRegressor(
        max_iter=120, min_samples_leaf=4, learning_rate=0.08, max_leaf_nodes=8, random_state=0
    )
