"""Latencies of a run's trials, measured while no evaluation runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.archive import Archive, Measurement, Trial
from nas.events import Listener, Progress, Told
from nas.grammar import Derivation
from nas.measure.by_step import latency_by_step
from nas.measure.latency import ROUNDS, Deployment, latencies, same_way
from nas.network import Network
from nas.search.columns import on_fronts
from nas.search.problem import Problem

TOGETHER = 32  # networks that are held at a time
FIRST_S = 0.1  # of measuring a latency, before any was
ROUNDS_AT_END = 2 * ROUNDS  # blocks of each network of the front, when all are timed together
SETTLED = 8  # times at most that a front changes by being timed again
AT_END = 10  # networks of a front, for whose timing a budget leaves time,
SHARE_AT_END = 0.1  # but no more of it than this
PROFILED, MOST_SHARED = "onnxruntime", 32  # the runtime that tells where time goes; of so many


class Latencies:
    """The trials whose latency is still to be measured, where the problem asks for it."""

    def __init__(self, problem: Problem, archive: Archive, listener: Listener):
        self.problem, self.archive, self.listener = problem, archive, listener
        self.waiting: dict[str, Derivation] = {}
        self._each_s = FIRST_S
        self.read = [d for d in problem.deployments if problem.reads(d)]

    def add(self, trial: Trial, derivation: Derivation) -> None:
        """A trial that was recorded."""
        if self.problem.deployments and trial.state != "failed":
            self.waiting[trial.id] = derivation

    @property
    def needed_s(self) -> float:
        """Seconds that those waiting will take, and the front at the end."""
        front_s = 2 * AT_END * self._each_s if self.read else 0.0
        budget_s = self.problem.settings.budget_s or 0.0
        return self._each_s * len(self.waiting) + min(front_s, SHARE_AT_END * budget_s)

    def measure(self) -> list[Trial]:
        """Measure those waiting that have none as the run's networks are to be run now; their
        trials as they are then."""
        problem, waiting, self.waiting = self.problem, self.waiting, {}
        begun, timed = time.perf_counter(), set[str]()
        for deployment in problem.deployments:
            column, by = problem.latency_column(deployment), str(deployment)
            timed |= self._time(
                {
                    id: derivation
                    for id, derivation in waiting.items()
                    if not _known(self.archive.trial(id), column, by)
                },
                deployment,
            )
        if timed:
            self._each_s = (time.perf_counter() - begun) / len(timed)
        return [self.archive.trial(id) for id in waiting if id in timed]

    def measure_front(self, over: Callable[[], bool]) -> None:
        """Time the members of the front once more, all in turn, so that they can be compared; and
        who comes to the front by that. Nothing when time is over."""
        problem, timed = self.problem, {str(note["id"]) for note in self.archive.notes("timed")}
        for _ in range(SETTLED if self.read else 0):
            front = on_fronts(self.archive.trials, problem.aims)
            if over() or all(trial.id in timed for trial in front):
                return
            derivations = {t.id: Derivation.read(t.text, problem.grammar) for t in front}
            for deployment in self.read:
                self._time(derivations, deployment, rounds=ROUNDS_AT_END)
            for id in derivations:
                self.archive.note("timed", id=id)
            timed |= set(derivations)

    def share_front(self, over: Callable[[], bool]) -> None:
        """Note where the latency of the front's members goes, where ONNX Runtime is what they are
        timed by. Nothing when time is over."""
        problem, by = self.problem, next((d for d in self.read if d.runtime == PROFILED), None)
        if by is None or problem.settings.per_task:
            return
        known = {str(note["id"]) for note in self.archive.notes("shares")}
        front = list(on_fronts(self.archive.trials, problem.aims))[:MOST_SHARED]
        for number, trial in enumerate(front, 1):
            if over():
                return
            if trial.id in known:
                continue
            network = Network(Derivation.read(trial.text, problem.grammar), heads=problem.tasks)
            try:
                shares = latency_by_step(
                    network.plan, network.eval().tensors(), threads=by.threads, batch=by.batch
                )
            except Exception as error:  # what decorates a report is no reason to end a search
                self.listener(Told(f"{trial.id} cannot be profiled: {error}"))
                continue
            steps: Any = {name: round(share, 4) for name, share in shares.items()}
            self.archive.note("shares", id=trial.id, steps=steps)
            self.listener(Progress("profiling the front", number, len(front)))

    def _time(
        self, derivations: Mapping[str, Derivation], deployment: Deployment, rounds: int = ROUNDS
    ) -> set[str]:
        """Measure and record latencies by trial, some networks at a time; which trials have one."""
        timed, ids = set[str](), list(derivations)
        for start in range(0, len(ids), TOGETHER):
            some = ids[start : start + TOGETHER]
            figures = self._figures([derivations[id] for id in some], deployment, rounds)
            measured = {id: f for id, f in zip(some, figures, strict=True) if f}
            if measured:
                self.archive.measure(measured)
            timed |= set(measured)
        return timed

    def _figures(
        self, derivations: Sequence[Derivation], deployment: Deployment, rounds: int
    ) -> list[list[Measurement]]:
        """Latencies of some networks in turn, and of those for each task alone where each finds its
        own; [] of one that cannot be timed so, which is said."""
        problem, device = self.problem, self.problem.settings.resolved_device
        alone = [(task.name, (task,)) for task in problem.tasks]
        served = alone if problem.settings.per_task else [(None, problem.tasks)]
        every = [(d, heads) for d in derivations for _, heads in served]
        networks = [Network(d, heads=heads).eval().to(device) for d, heads in every]
        pairs = [(network.plan, network.tensors()) for network in networks]
        try:
            timed = iter(latencies(pairs, deployment, rounds=rounds))
            return [
                [replace(m, task=task) for task, _ in served for m in next(timed)]
                for _ in derivations
            ]
        except Exception as error:
            if len(derivations) == 1:
                reason = f"{type(error).__name__}: {error}"
                self.listener(Told(f"{deployment.columns[0]} cannot be measured: {reason}"))
                return [[]]
        return [self._figures([derivation], deployment, rounds)[0] for derivation in derivations]


def _known(trial: Trial, column: str, by: str) -> bool:
    """Whether a trial's newest latency was measured so."""
    newest = trial.newest().get(column)
    return newest is not None and same_way(newest.device, by)
