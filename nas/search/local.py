"""Evaluation on this machine: in this process, or in one of its own where it may misbehave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nas.search.child import START_S, Child, Died
from nas.search.job import Job, Outcome, longest_s, risky
from nas.search.settings import Settings
from nas.search.worker import Worker


class LocalPool:
    """One worker, one job after the other.

    Networks that are trained alone, and those with operators of the user's own, are evaluated in a
    child: what hangs, crashes or exits there is a failed evaluation with its reason.
    """

    workers = 1

    def __init__(self, folder: Path, settings: Settings, *, trust_code: bool):
        self.worker = Worker(folder, settings, trust_code=trust_code)
        self.arguments = folder, settings, trust_code
        self.child: Child | None = None

    def evaluate(
        self,
        jobs: Sequence[Job],
        *,
        begun: Callable[[Job], None] = lambda job: None,
        ends: float = float("inf"),
    ) -> Iterator[Outcome]:
        for job in jobs:
            if time.monotonic() > ends:
                return
            if not risky(job, self.worker.problem.grammar):
                yield self.worker(job)
                continue
            begun(job)
            outcome = self._apart(job, ends)
            if outcome is None:
                return
            yield outcome

    def _apart(self, job: Job, ends: float) -> Outcome | None:
        """A job's outcome from a child; None where it would have come after the end of time."""
        limit_s, start = longest_s(self.arguments[1]), time.monotonic()
        try:
            if self.child is None:
                self.child = Child(_serve, *self.arguments)
                self.child.hear(min(start + START_S, ends), f"{START_S:g} s to begin")
                start = time.monotonic()
            self.child.send(job)
            outcome: Outcome = self.child.hear(min(start + limit_s, ends), f"{limit_s:g} s")
            return outcome
        except Died as death:
            self.child = None
            if time.monotonic() > ends:
                return None
            return Outcome(job.number, (), str(death), time.monotonic() - start)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child = None


def _serve(
    connection: Connection[Any, Any], folder: Path, settings: Settings, trust_code: bool
) -> None:
    worker = Worker(folder, settings, trust_code=trust_code)
    for task in worker.problem.tasks:
        task.splits()
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(worker(job))
