"""The search: proposals, evaluation here or on Ray, the archive as the only truth, and the run."""

from __future__ import annotations

from nas.search.loop import resume, search
from nas.search.propose import choose_with
from nas.search.run import Run, RunError, load
from nas.search.settings import Settings, SettingsError

__all__ = [
    "Run", "RunError", "Settings", "SettingsError", "choose_with", "load", "resume", "search",
]  # fmt: skip
