"""The search: proposals, evaluation here or on Ray, the archive as the only truth, and the run."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from nas.search.breed import choose_with
from nas.search.choose_evaluator import trust
from nas.search.evolve import EvolutionSampler
from nas.search.folder import RunError
from nas.search.loop import resume, search
from nas.search.parts import SettingsError
from nas.search.predicted import PredictedSampler
from nas.search.run import Run, load
from nas.search.settings import Settings
from nas.search.tree import TreeSampler

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


class _Callable(ModuleType):
    """`nas.search` is this package and also the function that users call: importing the package
    binds its name in `nas`, so the package itself can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Run:
        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
