"""What may be chosen at a site, and how probable each of it is."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple


class Option(NamedTuple):
    """One thing that may be chosen. `weight` is None where it shares what given weights leave."""

    label: str
    weight: float | None = None


class Options(tuple[Option, ...]):
    """What may be chosen at a site."""

    @cached_property
    def cumulative(self) -> tuple[float, ...]:
        """Cumulative probabilities, but for the last option's, which takes what is left."""
        return tuple(accumulate(probabilities(self)))[:-1]


def probabilities(options: Iterable[Option]) -> list[float]:
    """The probability of each option: its given weight, or an equal share of what is left."""
    weights = [option.weight for option in options]
    given = [weight for weight in weights if weight is not None]
    shares = len(weights) - len(given)
    if not shares:
        return [weight / sum(given) for weight in given]
    share = max(0.0, 1.0 - sum(given)) / shares
    return [share if weight is None else weight for weight in weights]
