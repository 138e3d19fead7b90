"""One network of a front, by what somebody wants of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from nas.archive import Trial
from nas.front import Limit, ParetoFront, losses_of
from nas.search.error import RunError


def picked(front: ParetoFront, how: str, limits: Sequence[str] = ()) -> Trial:
    """The `best` of a front by its first objective, the least by another (`flops`), or its `knee`,
    of those that keep `limits`, as flops<=2M. Raises RunError where there is none."""
    if limits:
        known = {name for trial in front.trials for name in trial.columns()}
        bounds = [Limit.parse(text, known) for text in limits]
        kept = (t for t in front.trials if all(b.keeps(t.columns()) for b in bounds))
        front = replace(front, trials=tuple(kept))
    if not front.trials:
        asked = f" that keeps {', '.join(limits)}" if limits else " yet"
        raise RunError(f"there is no network on the front{asked}: nas front shows what there is")
    if how == "knee":
        return knee(front)
    return front.trials[0] if how == "best" else front.sort(how).trials[0]


def knee(front: ParetoFront) -> Trial:
    """The trial of a front nearest to what is best in each objective, in shares of the objective's
    span on it; costs by their logarithms."""
    losses = [losses_of(trial.columns(), front.objectives) for trial in front.trials]
    scales = list[list[float]]()
    for column in zip(*losses, strict=True):
        values = [math.log(v) for v in column] if min(column) > 0 else list(column)
        span = max(values) - min(values) or 1.0
        scales.append([(value - min(values)) / span for value in values])
    distances = [math.hypot(*point) for point in zip(*scales, strict=True)]
    return front.trials[distances.index(min(distances))]
