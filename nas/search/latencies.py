"""Latencies of a run's trials, measured while no evaluation runs."""

from __future__ import annotations

import time
from collections.abc import Mapping

from nas.archive import Archive, Measurement, Trial
from nas.front import ParetoFront
from nas.grammar import Derivation
from nas.measure.latency import latencies
from nas.network import Network
from nas.search.problem import Problem

FIRST_S = 0.1  # of measuring a latency, before any was
ROUNDS_AT_END = 80  # blocks of each network of the front, when all are timed together
SETTLED = 3  # times at most that a front changes by being timed again


class Latencies:
    """The trials whose latency is still to be measured, where the problem asks for it."""

    def __init__(self, problem: Problem, archive: Archive):
        self.problem, self.archive = problem, archive
        self.waiting: dict[str, Derivation] = {}
        self._each_s = FIRST_S

    def add(self, trial: Trial, derivation: Derivation) -> None:
        """A trial that was recorded."""
        if self.problem.deployments and trial.state == "finished":
            self.waiting[trial.id] = derivation

    @property
    def needed_s(self) -> float:
        """Seconds that those waiting will take."""
        return self._each_s * len(self.waiting)

    def measure(self) -> list[Trial]:
        """Measure those waiting that have none as the run's networks are to be run now; their
        trials as they are then."""
        waiting, self.waiting = self.waiting, {}
        begun = time.perf_counter()
        measured = self._timed(waiting)
        if measured:
            self._each_s = (time.perf_counter() - begun) / len(measured)
        return [self.archive.trial(id) for id in measured]

    def measure_front(self) -> None:
        """Time the members of the front once more, all in turn, so that they can be compared; and
        who comes to the front by that."""
        problem, timed = self.problem, {str(note["id"]) for note in self.archive.notes("timed")}
        columns = {o.name for o in problem.objectives} | {limit.name for limit in problem.limits}
        if all(columns.isdisjoint(deployment.columns) for deployment in problem.deployments):
            return
        for _ in range(SETTLED):
            front = ParetoFront.of(self.archive.trials, problem.objectives, problem.limits).trials
            if all(trial.id in timed for trial in front):
                return
            derivations = {t.id: Derivation.read(t.text, problem.grammar) for t in front}
            self._timed(derivations, rounds=ROUNDS_AT_END)
            for id in derivations:
                self.archive.note("timed", id=id)
            timed |= set(derivations)

    def _timed(
        self, derivations: Mapping[str, Derivation], rounds: int | None = None
    ) -> dict[str, list[Measurement]]:
        """Latencies by trial: where `rounds` are given of all, else of those that have none."""
        problem, device = self.problem, self.problem.settings.device
        measured: dict[str, list[Measurement]] = {}
        for deployment in problem.deployments:
            by = str(deployment)
            todo = [
                id
                for id in derivations
                if rounds or not _known(self.archive.trial(id), deployment.columns[0], by)
            ]
            networks = [
                Network(derivations[id], heads=problem.tasks).eval().to(device) for id in todo
            ]
            pairs = [(network.plan, network.tensors()) for network in networks]
            figures = latencies(pairs, deployment, **({"rounds": rounds} if rounds else {}))
            for id, latency in zip(todo, figures, strict=True):
                measured.setdefault(id, []).extend(latency)
        if measured:
            self.archive.measure(measured)
        return measured


def _known(trial: Trial, column: str, by: str) -> bool:
    """Whether a trial's newest latency was measured so."""
    newest = trial.newest().get(column)
    return newest is not None and newest.device == by
