"""Dominance among points: fronts, crowding, the volume that some dominate.

All is on tuples of numbers, and minimises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether a is nowhere larger than b and somewhere smaller (minimisation)."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


def nondominated(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices, ascending, of the points that none dominates; equal points all, NaN never."""
    order = [i for i, point in enumerate(points) if not any(map(math.isnan, point))]
    order.sort(key=lambda i: tuple(points[i]))  # a point comes after all that dominate it
    kept: list[int] = []
    for i in order:
        # Of two objectives the last kept has the least second one so far: it dominates if any does.
        rivals = kept[-1:] if len(points[i]) == 2 else kept
        if not any(dominates(points[j], points[i]) for j in rivals):
            kept.append(i)
    return sorted(kept)


def sorted_fronts(points: Sequence[Sequence[float]]) -> Iterator[list[int]]:
    """Indices front by front: what none dominates, then what none dominates of the rest, and so on.
    Points with NaN are on none.

    A point's front is the one after the last of those that dominate it, all of which come before it
    where points are sorted.
    """
    import numpy as np

    array = np.asarray(points, dtype=float).reshape(len(points), len(points[0]) if points else 1)
    kept = np.flatnonzero(~np.isnan(array).any(axis=1))
    order = kept[np.lexsort(array[kept].T[::-1])]
    rows, fronts = array[order], np.zeros(len(order), dtype=int)
    for i, row in enumerate(rows):
        dominating = (rows[:i] <= row).all(axis=1) & (rows[:i] < row).any(axis=1)
        if dominating.any():
            fronts[i] = fronts[:i][dominating].max() + 1
    for number in range(fronts.max(initial=-1) + 1):
        yield sorted(order[fronts == number].tolist())


def beyond_noise(
    points: Sequence[Sequence[float]], spreads: Sequence[Sequence[float]]
) -> list[int]:
    """Indices, ascending, of the points that are left where the first objective's best comes first
    and each other must be better than every one that is left before it in something, by more than
    the spreads of both together; spreads are 0 of what is exact."""
    if not any(map(any, spreads)):
        return list(range(len(points)))

    def replaces(i: int, j: int) -> bool:
        gains = False
        for a, b, x, y in zip(points[i], points[j], spreads[i], spreads[j], strict=True):
            if a - b > x + y:
                return False
            gains = gains or b - a > x + y
        return gains

    kept: list[int] = []
    for j in sorted(range(len(points)), key=lambda i: tuple(points[i])):
        if not any(replaces(i, j) for i in kept):
            kept.append(j)
    return sorted(kept)


def crowding(points: Sequence[Sequence[float]]) -> list[float]:
    """Crowding distance of each point of one front, infinite at the ends of each objective.

    Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm:
    NSGA-II", IEEE Trans. Evol. Comput. 6 (2002), section III-B: the sum over the objectives of the
    gap between both neighbours, as a fraction of the objective's range.
    """
    distances = [0.0] * len(points)
    for m in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: points[i][m])
        span = points[order[-1]][m] - points[order[0]][m]
        distances[order[0]] = distances[order[-1]] = math.inf
        if not 0 < span < math.inf:
            continue
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            distances[i] += (points[after][m] - points[before][m]) / span
    return distances


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume that the points dominate below a reference (minimisation), exact.

    The sum of exclusive volumes of While, Bradstreet and Barone, "A fast way of calculating exact
    hypervolumes", IEEE Trans. Evol. Comput. 16 (2012), section III: sorted by the last objective,
    so that each limited set has one dimension less. Points not below the reference add nothing.
    """
    if not reference or not all(map(math.isfinite, reference)):
        raise ValueError(f"a hypervolume needs a reference of finite numbers, not {reference}")
    inside = [tuple(p) for p in points if all(x < r for x, r in zip(p, reference, strict=True))]
    if any(-math.inf in point for point in inside):
        return math.inf
    return _volume(inside, tuple(reference))


def growth(points: Sequence[Sequence[float]], reference: Sequence[float]) -> list[float]:
    """The hypervolume after each of some points, each of which adds the volume that it dominates
    and none before it does (While et al. 2012, section III: the exclusive hypervolume)."""
    front, total, volumes = list[tuple[float, ...]](), 0.0, list[float]()
    for point in map(tuple, points):
        if not any(point == kept or dominates(kept, point) for kept in front):
            own = math.prod(max(0.0, r - x) for r, x in zip(reference, point, strict=True))
            total += own - hypervolume([tuple(map(max, point, kept)) for kept in front], reference)
            front = [kept for kept in front if not dominates(point, kept)] + [point]
        volumes.append(total)
    return volumes


def _volume(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    points = sorted({points[i] for i in nondominated(points)}, key=lambda p: p[-1], reverse=True)
    if len(reference) == 1:
        return sum(reference[0] - x for (x,) in points)  # one point, or none
    if len(reference) == 2:
        rights = [*(x for x, _ in points[1:]), reference[0]]
        steps = zip(rights, points, strict=False)
        return sum((right - x) * (reference[1] - y) for right, (x, y) in steps)
    total = 0.0
    for i, (*near, last) in enumerate(points):
        below = [tuple(map(max, near, point)) for point in points[i + 1 :]]
        own = math.prod(r - x for r, x in zip(reference, near, strict=False))
        total += (reference[-1] - last) * (own - _volume(below, reference[:-1]))
    return total
