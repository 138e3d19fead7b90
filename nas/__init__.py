"""Neural architecture search: a grammar in, a Pareto front out, plain PyTorch to take home.

The names here are loaded when first used, so that `import nas` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.around import space_of
    from nas.front import ParetoFront
    from nas.grammar import (
        Derivation,
        Grammar,
        Limits,
        cross,
        derive,
        mutate,
        read_network,
        sample,
        seed,
    )
    from nas.network import Network
    from nas.plan import nontrivial
    from nas.report import plot_architecture, plot_front, plot_history
    from nas.search import EvolutionSampler, Run, TreeSampler, choose_with, load, resume, search
    from nas.supernet import Bank
    from nas.task import Task

__version__ = "0.1.0"

_HOMES = {
    "Grammar": "nas.grammar",
    "Derivation": "nas.grammar",
    "Limits": "nas.grammar",
    "derive": "nas.grammar",
    "sample": "nas.grammar",
    "mutate": "nas.grammar",
    "cross": "nas.grammar",
    "read_network": "nas.grammar",
    "seed": "nas.grammar",
    "Network": "nas.network",
    "Bank": "nas.supernet",
    "Task": "nas.task",
    "ParetoFront": "nas.front",
    "Run": "nas.search",
    "search": "nas.search",
    "resume": "nas.search",
    "load": "nas.search",
    "choose_with": "nas.search",
    "TreeSampler": "nas.search",
    "EvolutionSampler": "nas.search",
    "nontrivial": "nas.plan",
    "space_of": "nas.around",
    "plot_architecture": "nas.report",
    "plot_front": "nas.report",
    "plot_history": "nas.report",
}

__all__ = [
    "Bank",
    "Derivation",
    "EvolutionSampler",
    "Grammar",
    "Limits",
    "Network",
    "ParetoFront",
    "Run",
    "Task",
    "TreeSampler",
    "__version__",
    "choose_with",
    "cross",
    "derive",
    "load",
    "mutate",
    "nontrivial",
    "plot_architecture",
    "plot_front",
    "plot_history",
    "read_network",
    "resume",
    "sample",
    "search",
    "seed",
    "space_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
