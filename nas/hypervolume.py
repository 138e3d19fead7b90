"""The volume that some points dominate, by which fronts are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.front import nondominated


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
