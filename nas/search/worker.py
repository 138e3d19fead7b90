"""What evaluates one derivation: the same here and in an actor, loaded from the run's files."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from math import isnan
from pathlib import Path
from traceback import extract_tb

from nas.evaluate import EVALUATORS, Evaluated
from nas.grammar import Derivation, Grammar
from nas.measure.latency import threads
from nas.search.job import Job, Outcome
from nas.search.problem import Problem
from nas.search.settings import Settings
from nas.supernet import Bank, Parent, trained
from nas.supernet.bank_file import load_bank
from nas.task import load_tasks
from nas.train import chance

DEEPEST, LONGEST = 12, 160  # calls that are told of an error, and letters of each
FOLDERS = re.compile(r"""(?<=['"])(?:[/~]|[A-Za-z]:)[^'"]*[/\\]""")  # of a path that code names


class Worker:
    """Loads a run's space, tasks and bank, and evaluates derivations on one thread each."""

    def __init__(self, folder: Path, settings: Settings, *, trust_code: bool):
        text = (folder / "space.grammar").read_text(encoding="utf-8")
        grammar = Grammar.parse(text, name=settings.space, trust_code=trust_code, alone=True)
        tasks = load_tasks(settings.tasks, trust_code=trust_code)
        self.problem = Problem(settings, grammar, tuple(tasks))
        self.bank: Bank | None = None
        if self.problem.banked:
            self.bank = self.problem.bank(trained=True)
            load_bank(self.bank, folder / "bank.safetensors")

    def __call__(self, job: Job) -> Outcome:
        begun, cpu, reason, traceback = time.perf_counter(), time.process_time(), "", ""
        evaluated, weights = Evaluated([]), b""
        try:
            with threads(1), chance(job.seed, job.derivation):
                evaluated = self._measure(job)
            if evaluated.weights is not None:
                weights = trained(evaluated.weights)
            reason = self._undefined(evaluated)
        except (Exception, SystemExit) as error:
            reason, traceback = f"{type(error).__name__}: {error}", calls(error)
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        return Outcome(
            job.number,
            tuple(evaluated.measurements),
            reason,
            seconds,
            weights,
            cpu_s,
            losses=evaluated.losses,
            traceback=traceback,
        )

    def _measure(self, job: Job) -> Evaluated:
        grammar = self.problem.grammar
        conditions = self.problem.conditions(self.bank, seed=job.seed)
        if job.epochs is not None:
            recipe = replace(conditions.recipe, epochs=job.epochs)
            conditions = replace(conditions, recipe=recipe)
        if job.lineage and job.weights:
            parents = [
                Parent.of(Derivation.read(text, grammar), data)
                for text, data in zip(job.lineage.parents, job.weights, strict=True)
            ]
            conditions = replace(conditions, parents=parents, origin=job.lineage.origin)
        derivation = Derivation.read(job.derivation, grammar)
        evaluated = EVALUATORS[job.evaluator].measure(derivation, conditions)
        own = self.problem.more_costs(derivation)
        return evaluated._replace(measurements=[*evaluated.measurements, *own])

    def _undefined(self, evaluated: Evaluated) -> str:
        """Which task's own metric is no number, "" where all are."""
        primary = {(task.name, task.metric) for task in self.problem.tasks}
        for measurement in evaluated.measurements:
            if isnan(measurement.value) and (measurement.task, measurement.name) in primary:
                return f"{measurement.name} is {measurement.value}"
        return ""


def calls(error: BaseException) -> str:
    """The calls in which an error was raised, or the first of those that led to it, the innermost
    last. Files are told by name alone: a run is passed on, and where its maker keeps things is
    nobody's business."""
    met = {id(error)}
    while (cause := error.__cause__) and cause.__traceback__ and id(cause) not in met:
        met.add(id(cause))
        error = cause
    return "\n".join(
        f"{Path(call.filename).name}:{call.lineno} in {call.name}: "
        f"{FOLDERS.sub('…/', call.line or '')}"[:LONGEST]
        for call in extract_tb(error.__traceback__)[-DEEPEST:]
    )
