"""A predictor of what architectures come to, from those that were measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from nas.grammar import Derivation
from nas.grammar.frames import Cost
from nas.grammar.tokens import Apply
from nas.lazy import distance, stats

Facts = Mapping[str, float]
Array = np.ndarray[Any, np.dtype[np.float64]]
FEWEST = 15  # measured architectures, of which a predictor may be made
CHANCE = 0.05  # the chance at most that predictions agree as much by chance
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # at which likeness falls with distance, over the mean distance
SHARES = (0.0, 0.3, 0.6, 0.9)  # of what a linear model explains
NOISES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)  # shares of the variance


class Seen:
    """What is seen of architectures (`facts_of`), and how alike they are: by what was chosen at
    their sites, or how often there is what in them, and by what they cost."""

    def __init__(self, facts: Sequence[Facts]):
        names = sorted({name for entry in facts for name in entry})
        self.costs = [name for name in names if name in Cost._fields]
        self.others = [name for name in names if name not in Cost._fields]
        self.facts = facts
        costs, others = _matrix(facts, self.costs), _matrix(facts, self.others)
        self.mean, self.deviation = costs.mean(0), costs.std(0) + 1e-9
        self.middle = others.mean(0)
        self.spread = float(((others - self.middle) ** 2).sum(1).mean()) + 1e-9
        self.here = others, self._straight(costs, others)

    def _straight(self, costs: Array, others: Array) -> Array:
        """What a linear model sees: costs and what there is, alike in weight."""
        scaled = (costs - self.mean) / self.deviation / math.sqrt(2 * max(1, costs.shape[1]))
        there = (others - self.middle) / math.sqrt(2 * self.spread)
        return np.concatenate([scaled, there], axis=1)

    @cached_property
    def apart(self) -> tuple[Array, float]:
        """Distances by what there is, and their mean, where they are not 0."""
        apart = distance.cdist(self.here[0], self.here[0], "cityblock")
        return apart, float(apart[apart > 0].mean()) if apart.any() else 1.0

    @cached_property
    def spectra(self) -> dict[tuple[float, float], tuple[Array, Array]]:
        """Eigenvalues and eigenvectors of the kernel at each rate and share: they serve any
        losses of these architectures."""
        linear, (apart, mean) = self.here[1] @ self.here[1].T, self.apart
        spectra = {}
        for rate, share in product(RATES, SHARES):
            kernel = (1 - share) * np.exp(-rate * apart / mean) + share * linear
            values, vectors = np.linalg.eigh(kernel)
            spectra[rate, share] = values.clip(min=0), vectors
        return spectra

    def kernel(self, facts: Sequence[Facts], rate: float, share: float) -> tuple[Array, Array]:
        """How alike other architectures are to these, (others, these), and each to itself."""
        others = _matrix(facts, self.others)
        apart = distance.cdist(others, self.here[0], "cityblock") / self.apart[1]
        straight = self._straight(_matrix(facts, self.costs), others)
        alike: Array = (1 - share) * np.exp(-rate * apart) + share * (straight @ self.here[1].T)
        itself: Array = 1 - share + share * (straight**2).sum(1)
        return alike, itself


class Fit(NamedTuple):
    """What a Gaussian process comes to."""

    likelihood: float
    rate: float
    share: float
    noise: float
    variance: float
    weights: Array  # (architectures,)
    spread: Array  # (architectures,) of the covariance along its eigenvectors
    left_out: Array  # what is predicted of each architecture from the others


@dataclass(frozen=True)
class Predictor:
    """Predicts how good an architecture is, as the normal score of its loss's rank. `agreement`:
    Kendall's τ of measured losses with what is predicted of each without it."""

    seen: Seen
    process: Fit
    scores: Array  # normal scores, in order
    losses: Array  # the losses that have these
    agreement: float

    @staticmethod
    def fit(seen: Seen, losses: Sequence[float]) -> Predictor | None:
        """A predictor of the losses of what is seen; None where too few are finite, where all are
        one, or where what it says of those left out agrees no better than by chance.

        A Gaussian process (Rasmussen and Williams 2006) of the normal scores of ranks, so that how
        bad the bad ones are does not matter. Architectures are alike as exp(-distance), and by a
        linear model of what is in them and of the logarithms of what they cost; rate, share and
        noise are those of the highest marginal likelihood (equation 5.8) on a grid. What is said of
        each architecture without it is had in closed form (equation 5.12).
        """
        known = [i for i, loss in enumerate(losses) if math.isfinite(loss)]
        y = np.array([losses[i] for i in known])
        if len(y) < FEWEST or y.std() == 0:
            return None
        if len(known) < len(losses):
            seen = Seen([seen.facts[i] for i in known])
        scores = stats.norm.ppf((stats.rankdata(y) - 0.5) / len(y))
        best = max(
            (_fitted(seen, scores, rate, share) for rate, share in seen.spectra),
            key=attrgetter("likelihood"),
        )
        tau, chance = stats.kendalltau(best.left_out, y)
        if not (tau > 0 and chance < CHANCE):
            return None
        return Predictor(seen, best, np.sort(scores), np.sort(y), float(tau))

    def __call__(self, facts: Sequence[Facts]) -> list[float]:
        """What is predicted of the architectures of which these facts are known: less is better."""
        if not facts:
            return []
        given = self.process
        alike, _ = self.seen.kernel(facts, given.rate, given.share)
        scores: list[float] = ((1 - given.noise) * (alike @ given.weights)).tolist()
        return scores

    def improves(self, facts: Sequence[Facts]) -> Array:
        """(architectures,) the logarithm of how probable it is that each is measured as better than
        the best of those that were (Kushner 1964)."""
        given, free = self.process, 1 - self.process.noise
        alike, itself = self.seen.kernel(facts, given.rate, given.share)
        _, vectors = self.seen.spectra[given.rate, given.share]
        known = ((alike @ vectors) ** 2 / given.spread).sum(1) * free**2
        variance = given.variance * ((free * itself - known).clip(min=0) + given.noise)
        better = self.scores[0] - free * (alike @ given.weights)
        chances: Array = stats.norm.logcdf(better / np.sqrt(variance))
        return chances

    def values(self, facts: Sequence[Facts]) -> list[float]:
        """The same as losses, within those that were measured."""
        values: list[float] = np.interp(self(facts), self.scores, self.losses).tolist()
        return values


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


def _fitted(seen: Seen, scores: Array, rate: float, share: float) -> Fit:
    """The process of the likeliest noise at a rate and share; rates near 1 are the likelier."""
    values, vectors = seen.spectra[rate, share]
    turned, n = vectors.T @ scores, len(scores)
    spread = (1 - np.array(NOISES))[:, None] * values + np.array(NOISES)[:, None]
    variance = (turned**2 / spread).mean(1) + 1e-12
    likelihood = -n * np.log(variance) - np.log(spread).sum(1) - math.log(rate) ** 2
    best = int(likelihood.argmax())
    weights = vectors @ (turned / spread[best])
    precision = (vectors**2 / spread[best]).sum(1)
    left_out = scores - weights / precision
    found = float(likelihood[best]), rate, share, NOISES[best], float(variance[best])
    return Fit(*found, weights, spread[best], left_out)


def _matrix(facts: Sequence[Facts], columns: Sequence[str]) -> Array:
    rows = [[entry.get(name, 0.0) for name in columns] for entry in facts]
    return np.array(rows, dtype=float).reshape(len(facts), len(columns))
