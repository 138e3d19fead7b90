"""Evaluation on this machine: in this process, or in some of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from nas.search.child import START_S, Child, Died
from nas.search.error import RunError
from nas.search.job import Job, Outcome, longest_s, risky
from nas.search.settings import Settings
from nas.search.worker import Worker

TIMED = 3  # evaluations in this process, of which the quickest tells what one takes
WORTH_S = 8.0  # of evaluations that are expected, from which children are worth their beginning


class Call(NamedTuple):
    """What a child is doing: a job, or beginning; since when, and until when by
    `time.monotonic`."""

    child: Child
    job: Job | None
    begun: float
    until: float


class LocalPool:
    """Evaluates jobs in children side by side; few and quick ones in this process.

    Networks that are trained alone, and those with operators of the user's own, are always
    evaluated in a child: what hangs, crashes or exits there is a failed evaluation with its reason.
    """

    def __init__(self, folder: Path, settings: Settings, *, trust_code: bool):
        self.arguments, self.settings = (folder, settings, trust_code), settings
        self.workers = settings.workers or usual_workers(settings.resolved_device)
        self.limit_s = longest_s(settings)
        self.free: list[Child] = []
        self.calls: list[Call] = []
        self.took_s: list[float] = []  # by evaluations in this process

    @cached_property
    def worker(self) -> Worker:
        """What evaluates in this process."""
        folder, settings, trust_code = self.arguments
        return Worker(folder, settings, trust_code=trust_code)

    def evaluate(
        self,
        jobs: Sequence[Job],
        *,
        begun: Callable[[Job], None] = lambda job: None,
        ends: float = float("inf"),
    ) -> Iterator[Outcome]:
        """Outcomes as they come. Raises what a child raises on loading the run, and RunError where
        none can begin."""
        waiting = list(reversed(jobs))
        while waiting and not self._apart(waiting[-1]):
            if time.monotonic() > ends:
                return
            outcome = self.worker(waiting.pop())
            self.took_s.append(outcome.seconds)
            yield outcome
        try:
            while waiting or any(call.job for call in self.calls):
                if time.monotonic() > ends:
                    return
                self._hire(len(waiting))
                while waiting and self.free:
                    child, job = self.free.pop(0), waiting.pop()
                    if risky(job, self.worker.problem.grammar):
                        begun(job)
                    child.send(job)
                    self._note(child, job, self.limit_s)
                yield from self._heard(ends)
        finally:
            for call in [call for call in self.calls if call.job]:
                self.calls.remove(call)
                call.child.kill()

    def _apart(self, job: Job) -> bool:
        """Whether a job is for a child: it may misbehave, or there is enough to do for several."""
        there = self.free or self.calls or self.settings.workers > 1
        if there or risky(job, self.worker.problem.grammar):
            return True
        if self.workers == 1 or len(self.took_s) < TIMED:
            return False
        wanted = self.settings.trials or float("inf")
        budget_s = self.settings.budget_s or float("inf")
        return min(min(self.took_s) * (wanted - len(self.took_s)), budget_s) > WORTH_S

    def _hire(self, wanted: int) -> None:
        """Begin children for so many jobs, as far as there may be."""
        starting = sum(call.job is None for call in self.calls)
        there = len(self.calls) + len(self.free)
        for _ in range(min(self.workers - there, wanted - starting - len(self.free))):
            self._note(Child(_serve, *self.arguments), None, START_S)

    def _note(self, child: Child, job: Job | None, limit_s: float) -> None:
        now = time.monotonic()
        self.calls.append(Call(child, job, now, now + limit_s))

    def _heard(self, ends: float) -> Iterator[Outcome]:
        """Wait until a child says something, ends or is over its time, or all time is over."""
        soonest = min(ends, *(call.until for call in self.calls))
        voices = [v for c in self.calls for v in (c.child.connection, c.child.process.sentinel)]
        ready = wait(voices, max(0.0, soonest - time.monotonic()))
        now = time.monotonic()
        for call in list(self.calls):
            spoke = call.child.connection in ready or call.child.process.sentinel in ready
            if not spoke and (now < call.until or now > ends):
                continue
            self.calls.remove(call)
            try:
                outcome: Outcome | None = call.child.hear(now, f"{call.until - call.begun:g} s")
            except Died as death:
                if call.job is None:
                    raise RunError(f"no process could begin to evaluate: {death}") from None
                yield Outcome(call.job.number, (), str(death), now - call.begun)
            else:
                self.free.append(call.child)
                if outcome is not None:
                    yield outcome

    @property
    def parallel(self) -> int:
        return max(1, len(self.free) + len(self.calls))

    def close(self) -> None:
        for child in [*self.free, *(call.child for call in self.calls)]:
            child.kill()
        self.free, self.calls = [], []


def usual_workers(device: str) -> int:
    """One a core that this process may use; on an accelerator, which they would share, one."""
    if device != "cpu":
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
