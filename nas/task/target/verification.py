"""How well scores tell pairs of one speaker from pairs of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import np

if TYPE_CHECKING:
    from nas.task.samples import Array

PRIOR = 0.01  # of a pair of one speaker, in the cost of detection (VoxCeleb's, NIST SRE 2010's)


def error_rates(
    scores: Array,  # (pairs,) the more, the more alike
    same: Array,  # (pairs,) whether a pair is of one speaker
) -> tuple[Array, Array]:
    """The share of pairs of two speakers that are accepted, and that of pairs of one that are
    refused, at every threshold, from that which accepts none."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    right = np.cumsum(same[order])[ends]
    accepted, refused = (ends + 1 - right) / (~same).sum(), 1 - right / same.sum()
    return np.append(0.0, accepted), np.append(1.0, refused)


def equal_error_rate(accepted: Array, refused: Array) -> float:
    """Where both errors are equal, on straight lines between thresholds; NaN where a kind of pairs
    is missing."""
    if not (np.isfinite(accepted).all() and np.isfinite(refused).all()):
        return float("nan")
    after = int(np.argmax(accepted >= refused))
    before = refused[after - 1] - accepted[after - 1]
    behind = accepted[after] - refused[after]
    share = before / (before + behind)
    return float(accepted[after - 1] + share * (accepted[after] - accepted[after - 1]))


def least_cost(accepted: Array, refused: Array) -> float:
    """The least cost of detection over thresholds, where a pair of one speaker has a probability of
    0.01, over that of accepting none or all (NIST SRE; minDCF)."""
    costs = PRIOR * refused + (1 - PRIOR) * accepted
    return float(costs.min() / min(PRIOR, 1 - PRIOR))
