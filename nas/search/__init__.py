"""The search: proposals, evaluation here or on Ray, the archive as the only truth, and the run.

The names here are loaded when first used, so that what only looks at a run begins at once.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nas.lazy import loaded_late

if TYPE_CHECKING:
    from nas.search.choose_evaluator import trust
    from nas.search.error import RunError
    from nas.search.evolve import EvolutionSampler
    from nas.search.loop import resume, search
    from nas.search.parts import SettingsError
    from nas.search.predicted import PredictedSampler
    from nas.search.run import Run, load
    from nas.search.settings import Settings
    from nas.search.suggest import choose_with
    from nas.search.tree import TreeSampler

__getattr__ = loaded_late(
    __name__,
    {
        "EvolutionSampler": "evolve",
        "PredictedSampler": "predicted",
        "Run": "run",
        "RunError": "error",
        "Settings": "settings",
        "SettingsError": "parts",
        "TreeSampler": "tree",
        "choose_with": "suggest",
        "load": "run",
        "resume": "loop",
        "search": "loop",
        "trust": "choose_evaluator",
    },
)

__all__ = [
    "EvolutionSampler",
    "PredictedSampler",
    "Run",
    "RunError",
    "Settings",
    "SettingsError",
    "TreeSampler",
    "choose_with",
    "load",
    "resume",
    "search",
    "trust",
]


def __dir__() -> list[str]:
    return sorted(__all__)


class _Callable(ModuleType):
    """`nas.search` is this package and also the function that users call: importing the package
    binds its name in `nas`, so the package itself can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Run:
        from nas.search.loop import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
