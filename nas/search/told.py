"""What the trials of a study hold: derivations as text, losses, how far constraints are broken."""

from __future__ import annotations

import math
from collections.abc import Collection

from optuna import Study
from optuna.trial import FrozenTrial

from nas.grammar import Grammar


def attribute(grammar: Grammar) -> str:
    """The name of the trial's user attribute that holds its derivation of this grammar, as text."""
    return f"derivation:{grammar.name}"


def text_of(trial: FrozenTrial, grammar: Grammar) -> str | None:
    """A trial's derivation of just this grammar; None where it has none, or of another version."""
    text: str | None = trial.user_attrs.get(attribute(grammar))
    return text if text and text.startswith(f"{grammar.name}@{grammar.hash} ") else None


def losses(study: Study, trial: FrozenTrial) -> tuple[float, ...]:
    """A finished trial's values, all to be minimised."""
    pairs = zip(study.directions, trial.values, strict=True)
    return tuple(-value if direction.name == "MAXIMIZE" else value for direction, value in pairs)


def violation(trial: FrozenTrial, among: Collection[str] | None = None) -> float:
    """By how much a trial breaks its constraints, or some of them, summed; 0 where it keeps them
    all. NaN is kept by none."""
    return sum(
        math.inf if math.isnan(value) else max(0.0, value)
        for name, value in trial.constraints.items()
        if among is None or name in among
    )
