"""torch, numpy and parts of scipy, imported when first touched: shapes and costs are read without
them, and most searches need no statistics."""

from __future__ import annotations

import importlib
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
    import torch.nn.functional as F
    from scipy import optimize, special, stats
    from scipy.spatial import distance
else:
    np = _Lazy("numpy")
    torch = _Lazy("torch")
    F = _Lazy("torch.nn.functional")
    distance = _Lazy("scipy.spatial.distance")
    optimize = _Lazy("scipy.optimize")
    special = _Lazy("scipy.special")
    stats = _Lazy("scipy.stats")

__all__ = ["F", "distance", "np", "optimize", "special", "stats", "torch"]
