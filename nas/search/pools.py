"""Where a run's settings have evaluations done: in this process, or on Ray."""

from __future__ import annotations

from pathlib import Path

from nas.search.job import Pool
from nas.search.local import LocalPool
from nas.search.settings import Settings


def make_pool(folder: Path, settings: Settings, *, trust_code: bool) -> Pool:
    """The pool that evaluates a run's jobs; Ray is imported where it is asked for."""
    if settings.on == "local":
        return LocalPool(folder, settings, trust_code=trust_code)
    from nas.search.ray import RayPool

    return RayPool(folder, settings, trust_code=trust_code)
