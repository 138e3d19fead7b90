"""Who is trained at each step: functions from a random stream to derivations."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from nas.grammar import Derivation, Grammar, Limits, sample
from nas.grammar.count import extreme
from nas.grammar.derive import Input

Strategy = Callable[[random.Random], Sequence[Derivation]]


def single_path(grammar: Grammar, *, input: Input, limits: Limits | None = None) -> Strategy:
    """One derivation at a step, drawn from the grammar (SPOS, Guo et al. 2020, section 3.2)."""
    return lambda rng: [sample(grammar, rng, input=input, limits=limits)]


def sandwich(
    grammar: Grammar, *, input: Input, limits: Limits | None = None, random_subnets: int = 2
) -> Strategy:
    """The largest, which teaches, the smallest, and some at random (BigNAS, Yu et al. 2020)."""
    largest = extreme(grammar, input=input, of="params")
    smallest = extreme(grammar, input=input, of="params", largest=False)
    return lambda rng: [
        largest, smallest,
        *(sample(grammar, rng, input=input, limits=limits) for _ in range(random_subnets)),
    ]  # fmt: skip


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "single-path": single_path,
    "sandwich": sandwich,
}
