"""Imported when first used: names of packages, and torch, numpy and parts of scipy.

Shapes and costs are read without torch, and most searches need no statistics.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import numpy as np
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from scipy import optimize, special, stats
    from scipy.spatial import distance
    from torch import nn
else:
    np = _Lazy("numpy")
    torch = _Lazy("torch")
    F = _Lazy("torch.nn.functional")
    dist = _Lazy("torch.distributed")
    nn = _Lazy("torch.nn")
    distance = _Lazy("scipy.spatial.distance")
    optimize = _Lazy("scipy.optimize")
    special = _Lazy("scipy.special")
    stats = _Lazy("scipy.stats")


def loaded_late(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The __getattr__ (PEP 562) of a package whose names are imported, each from its home, when
    they are first used: what looks at one thing need not wait for all."""

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute


__all__ = [
    "F",
    "dist",
    "distance",
    "loaded_late",
    "nn",
    "np",
    "optimize",
    "special",
    "stats",
    "torch",
]
