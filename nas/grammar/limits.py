"""What a derivation may cost at most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nas.grammar.frames import Cost, Price

OPEN_GRAMMAR_TERMINALS = 256


@dataclass(frozen=True)
class Limits:
    """The most a derivation may instantiate, copies counted; None is no limit.

    terminals: operators; params: trained numbers; flops and activations (numbers that operators
    write, identities and clones apart): for a batch of one; depth: rules nested in each other.
    """

    terminals: int | None = None
    params: int | None = None
    flops: int | None = None
    activations: int | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        if self.depth is not None and self.depth < 1:
            raise ValueError(f"depth counts rules from 1, and this is {self.depth}")

    def allow(self, cost: Price) -> bool:
        most = self._most
        if isinstance(cost, int):
            return most[0] is None or cost <= most[0]
        return (
            (most[0] is None or cost[0] <= most[0])
            and (most[1] is None or cost[1] <= most[1])
            and (most[2] is None or cost[2] <= most[2])
            and (most[3] is None or cost[3] <= most[3])
        )

    @cached_property
    def _most(self) -> tuple[int | None, ...]:
        return (self.terminals, self.params, self.flops, self.activations)

    def scale(self, cost: Price) -> float:
        """The share of the limits that a cost takes, summed: what a completion should keep low."""
        a, b, c, d = self._scales
        if isinstance(cost, int):
            return cost * a
        return cost[0] * a + cost[1] * b + cost[2] * c + cost[3] * d

    @cached_property
    def _scales(self) -> tuple[float, ...]:
        return tuple(0.0 if most is None else 1 / max(most, 1) for most in self._most)

    @property
    def priced(self) -> bool:
        """Whether more than operators is limited."""
        return any(most is not None for most in self._most[1:])

    def __str__(self) -> str:
        named = zip((*Cost._fields, "depth"), (*self._most, self.depth), strict=True)
        return ", ".join(f"{name} at most {most:,}" for name, most in named if most is not None)


UNLIMITED = Limits()
