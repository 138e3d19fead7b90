"""Evaluation in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.search.settings import Settings
from nas.search.worker import Evaluator, Job, Outcome


class LocalPool:
    """One evaluator in this process, one job after the other."""

    def __init__(self, folder: Path, settings: Settings, *, trust_code: bool = True):
        self.evaluator = Evaluator(folder, settings, trust_code=trust_code)

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield self.evaluator(job)

    def close(self) -> None:
        pass
