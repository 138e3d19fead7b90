"""Costs known before anything is built: integer arithmetic over a plan."""

from __future__ import annotations

from nas.archive import Measurement
from nas.plan import Plan


def costs(plan: Plan) -> list[Measurement]:
    """FLOPs and activations for a batch of one (a multiply-add is 2 FLOPs), parameters, and
    megabytes as 32-bit floats, of trunk and heads together."""
    return [
        Measurement("flops", float(plan.flops), "FLOPs", evaluator="arithmetic"),
        Measurement("params", float(plan.params), "parameters", evaluator="arithmetic"),
        Measurement("activations", float(plan.activations), "numbers", evaluator="arithmetic"),
        Measurement("size_mb", plan.size_mb, "MB", evaluator="arithmetic"),
    ]
