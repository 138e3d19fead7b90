"""A network as a plan, worked out once from a derivation, an input shape and the heads of tasks.

A Network runs it on its own parameters, a subnet on views of a bank; costs and code walk the same.
"""

from __future__ import annotations

from nas.plan.plan import FLOAT, Plan, Precision, Step, run
from nas.plan.writer import FEATURES, FEATURES_RESULT, nontrivial, own_output, plan

__all__ = [
    "FEATURES_RESULT",
    "FEATURES",
    "FLOAT",
    "Plan",
    "Precision",
    "Step",
    "nontrivial",
    "own_output",
    "plan",
    "run",
]
