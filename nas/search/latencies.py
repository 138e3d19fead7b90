"""Latencies of a run's trials, measured while no evaluation runs."""

from __future__ import annotations

import time

from nas.archive import Archive, Trial
from nas.grammar import Derivation
from nas.measure import cost_named
from nas.measure.latency import latency
from nas.network import Network
from nas.search.problem import Problem

FIRST_S = 0.2  # of measuring a latency, before any was


class Latencies:
    """The trials whose latency is still to be measured, where the problem asks for it."""

    def __init__(self, problem: Problem, archive: Archive):
        self.problem, self.archive = problem, archive
        columns = {o.name for o in problem.objectives} | {limit.name for limit in problem.limits}
        costs = [cost for name in columns if (cost := cost_named(name)) is not None]
        self.asked = any(cost.of is None for cost in costs)
        self.waiting: dict[str, Derivation] = {}
        self._each_s = FIRST_S

    def add(self, trial: Trial, derivation: Derivation) -> None:
        """A trial that was recorded."""
        if self.asked and trial.state == "finished":
            self.waiting[trial.id] = derivation

    @property
    def needed_s(self) -> float:
        """Seconds that those waiting will take."""
        return self._each_s * len(self.waiting)

    def measure(self) -> list[Trial]:
        """Measure those waiting that have none; their trials as they are then."""
        waiting, self.waiting = self.waiting, {}
        begun, measured = time.perf_counter(), {}
        device = self.problem.settings.device
        for id, derivation in waiting.items():
            if self.archive.trial(id).value("latency_ms") is None:
                network = Network(derivation, heads=self.problem.tasks).eval().to(device)
                measured[id] = [latency(network.plan, network.tensors(), device=device)]
        if measured:
            self.archive.measure(measured)
            self._each_s = (time.perf_counter() - begun) / len(measured)
        return [self.archive.trial(id) for id in measured]
