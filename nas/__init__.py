"""Neural architecture search: a grammar in, a Pareto front out, plain PyTorch to take home.

The names here are loaded when first used, so that `import nas` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.lazy import loaded_late

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

__getattr__ = loaded_late(
    __name__,
    {
        "Grammar": "grammar",
        "Derivation": "grammar",
        "Limits": "grammar",
        "derive": "grammar",
        "sample": "grammar",
        "mutate": "grammar",
        "cross": "grammar",
        "read_network": "grammar",
        "seed": "grammar",
        "Network": "network",
        "Bank": "supernet",
        "Task": "task",
        "ParetoFront": "front",
        "Run": "search",
        "search": "search",
        "resume": "search",
        "load": "search",
        "choose_with": "search",
        "TreeSampler": "search",
        "EvolutionSampler": "search",
        "nontrivial": "plan",
        "space_of": "around",
        "plot_architecture": "report",
        "plot_front": "report",
        "plot_history": "report",
    },
)

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


def __dir__() -> list[str]:
    return sorted(__all__)
