"""Evaluation in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.search.settings import Settings
from nas.search.worker import Job, Outcome, RunEvaluator


class LocalPool:
    """One evaluator in this process, one job after the other."""

    workers = 1

    def __init__(self, folder: Path, settings: Settings, *, trust_code: bool):
        self.evaluator = RunEvaluator(folder, settings, trust_code=trust_code)

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            yield self.evaluator(job)

    def close(self) -> None:
        pass
