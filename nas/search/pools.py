"""Where a run's settings have evaluations done: in this process, or on Ray."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from nas.search.job import Pool
from nas.search.local import LocalPool
from nas.search.settings import Settings

BANK_MB = 1000  # of shared weights, on their way to those that evaluate


def joined(settings: Settings) -> AbstractContextManager[None]:
    """Inside, Ray is there for training and evaluation, where both are done on it."""
    if settings.on == "local" or settings.processes < 2:
        return nullcontext()
    from nas.search.ray import connected

    most = max(settings.workers, settings.processes) if settings.workers else None
    return connected(settings.on, most, BANK_MB)


def make_pool(folder: Path, settings: Settings, *, trust_code: bool) -> Pool:
    """The pool that evaluates a run's jobs; Ray is imported where it is asked for."""
    if settings.on == "local":
        return LocalPool(folder, settings, trust_code=trust_code)
    from nas.search.ray import RayPool

    return RayPool(folder, settings, trust_code=trust_code)
