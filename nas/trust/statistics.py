"""How well one ranking agrees with another, and how sure that is: pure functions on arrays.

Kendall's τ-b is the cosine of two sign matrices, s[p, q] = sign(x[p] - x[q]) (Daniels, "The
relation between measures of correlation in the universe of sample permutations", Biometrika 33
(1944)). So a bootstrap replicate is the same sums with weights, and all τ of some columns come at
once; a pair that is tied in a column adds nothing to that column's length.
"""

from __future__ import annotations

from math import asin, pi, sin, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.lazy import special

Array: TypeAlias = NDArray[np.float64]

LEVEL = 0.9  # of the intervals
REPLICATES = 2000


def taus(
    columns: Array,  # (columns, architectures)
    weights: Array | None = None,  # (replicates, architectures): how often each is there
) -> Array:  # (replicates, columns, columns)
    """Kendall's τ-b of every two columns, in every replicate; NaN with a column of one value."""
    columns = np.asarray(columns, dtype=np.float64)
    weights = np.ones((1, columns.shape[1])) if weights is None else weights
    signs = np.sign(columns[:, :, None] - columns[:, None, :])
    products = np.empty((len(weights), len(columns), len(columns)))
    for i, signs_i in enumerate(signs):
        for j, other in enumerate(signs[: i + 1]):
            products[:, i, j] = products[:, j, i] = ((weights @ (signs_i * other)) * weights).sum(1)
    lengths = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
    lengths[lengths == 0] = np.nan
    cosines: Array = products / (lengths[:, :, None] * lengths[:, None, :])
    return cosines


def tau(x: Array, y: Array) -> float:
    """Kendall's τ-b of two columns (architectures,)."""
    return float(taus(np.stack([x, y]))[0, 0, 1])


def partial(taus: Array) -> Array:
    """Partial τ of the first two columns given all others, from `taus`: (replicates,).

    With one other it is (τxy - τxz τyz) / √((1 - τxz²) (1 - τyz²)) (Kendall, "Partial rank
    correlation", Biometrika 32 (1942)); with several -p₀₁ / √(p₀₀ p₁₁) of the inverse p of their
    matrix. NaN where the others determine one of the two.
    """
    result = np.full(len(taus), np.nan)
    whole = np.flatnonzero(np.isfinite(taus).all((1, 2)))
    whole = whole[np.linalg.det(taus[whole]) > 1e-9]
    inverse = np.linalg.inv(taus[whole])
    result[whole] = -inverse[:, 0, 1] / np.sqrt(inverse[:, 0, 0] * inverse[:, 1, 1])
    return result


def regret(
    score: Array, truth: Array, k: int, drawn: NDArray[np.intp] | None = None
) -> Array:  # (replicates,)
    """The best true value minus the best among the `k` ranked first, in units of the truth.

    drawn: (replicates, architectures) indices; without it there is one replicate, the whole. Of
    equal scores the earlier counts as the higher: architectures are in no order.
    """
    drawn = np.arange(len(score))[None] if drawn is None else drawn
    there, scores = truth[drawn], score[drawn]
    first = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    lost: Array = there.max(1) - np.take_along_axis(there, first, 1).max(1)
    return lost


def resampled(n: int, rng: np.random.Generator, replicates: int = REPLICATES) -> NDArray[np.intp]:
    """Indices of bootstrap replicates (replicates, n), with replacement.

    An architecture is drawn with all that is known of it: its scores, so that evaluators are
    compared on the same draws, and its stand-alone seeds, whose chance is thereby in the interval.
    Drawing seeds once more would count it twice, and widen the interval.
    """
    return rng.integers(0, n, (replicates, n))


def counted(drawn: NDArray[np.intp]) -> Array:
    """How often each index is in each replicate: the weights that `taus` takes."""
    counts = np.zeros(drawn.shape)
    np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1.0)
    return counts


def interval(replicates: Array, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of a statistic's replicates; NaN where a tenth of them are none."""
    known = replicates[np.isfinite(replicates)]
    if len(known) < 0.9 * len(replicates):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def left_out(
    scores: Array,  # (architectures, seeds) of one training each
    truth: Array,  # (architectures, seeds)
    weights: Array | None = None,
) -> Array:  # (replicates,)
    """τ of one seed's scores with the mean truth of the other seeds, averaged over the seeds.

    With the truth itself as scores it is the ceiling: what a second training from scratch reaches.
    """
    seeds = range(truth.shape[1])
    by_seed = [
        taus(np.stack([scores[:, s], np.delete(truth, s, 1).mean(1)]), weights)[:, 0, 1]
        for s in seeds
    ]
    mean: Array = np.mean(by_seed, axis=0)
    return mean


def pairwise(truth: Array) -> float:  # (architectures, seeds)
    """τ of one training with another, the mean over all pairs of seeds."""
    return float(taus(truth.T)[0][np.triu_indices(truth.shape[1], 1)].mean())


def against_all(tau: float, between: float, seeds: int) -> float:
    """What τ with the mean of seeds - 1 trainings comes to with the mean of all `seeds`.

    Evaluators are ranked against the mean of all seeds; one training can only be ranked against
    the others, which are noisier. With ρ = sin(πτ/2), and r that of the τ `between` two
    trainings, the mean of k has the reliability kr / (1 + (k - 1) r) (Spearman 1910, Brown 1910).
    """
    few, reliable = seeds - 1, max(0.0, sin(pi * between / 2))
    gain = sqrt((seeds / few) * (1 + (few - 1) * reliable) / (1 + few * reliable))
    return 2 / pi * asin(max(-1.0, min(1.0, sin(pi * tau / 2) * gain)))


def largest_normal(n: float) -> float:
    """E[max of n standard normals]: ∫ x n φ(x) Φ(x)ⁿ⁻¹ dx, right to 6 digits from 1 to 10⁹."""
    if n <= 1:
        return 0.0
    x, step = np.linspace(-12, 12, 24_001, retstep=True)
    log = np.log(n) - x**2 / 2 - np.log(2 * pi) / 2 + (n - 1) * special.log_ndtr(x)
    return float((x * np.exp(log)).sum() * step)


def expected_gain(tau: float, n: float) -> float:
    """How much better than the mean the best of n by an evaluator is, in standard deviations.

    Were score and truth bivariate normal, their correlation would be ρ = sin(πτ/2) (Greiner 1909;
    Kendall 1949), and the truth of an architecture ρ times its standardised score and independent
    noise of mean 0. So the one with the greatest of n scores has a truth of ρ E[max of n].
    """
    return sin(pi * tau / 2) * largest_normal(n)
