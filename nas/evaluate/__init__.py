"""How good an architecture is: one record an evaluator, in one table."""

from __future__ import annotations

from nas.evaluate.alone import Inherited, Short, Standalone, fit, network_of
from nas.evaluate.base import Conditions, Evaluated, Evaluator, Fidelity
from nas.evaluate.baseline import Flops, Params, Synflow
from nas.evaluate.scoring import network_scores, statistics_inputs
from nas.evaluate.shared import Finetuned, Shared
from nas.grammar import Grammar

EVALUATORS: dict[str, Evaluator] = {
    evaluator.name: evaluator
    for evaluator in (
        Shared(),
        Finetuned(),
        Inherited(),
        Short(),
        Standalone(),
        Flops(),
        Params(),
        Synflow(),
    )
}
SHARED, INHERITED, SHORT = Shared.name, Inherited.name, Short.name
TRUTH = Standalone.name  # what the others' rankings are held against
BANKED = tuple(name for name, evaluator in EVALUATORS.items() if evaluator.needs_bank)
BASELINES = tuple(name for name, evaluator in EVALUATORS.items() if not evaluator.trains)


def usual(grammar: Grammar) -> Evaluator:
    """A space's default: shared weights where it is finite and there is more than one network to
    share them, training from scratch where not."""
    return EVALUATORS[Shared.name if grammar.finite and not grammar.fixed else TRUTH]


__all__ = [
    "BANKED",
    "BASELINES",
    "EVALUATORS",
    "INHERITED",
    "SHARED",
    "SHORT",
    "TRUTH",
    "Conditions",
    "Evaluated",
    "Evaluator",
    "Fidelity",
    "fit",
    "network_of",
    "network_scores",
    "statistics_inputs",
    "usual",
]
