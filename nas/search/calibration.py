"""A run's calibration: random architectures trained from scratch, against which its evaluators are
measured. Every score is noted in the archive at once, apart from the trials.

The set is drawn from the space alone. What a search found is never in it: an architecture that was
chosen for its score has a score that flatters it, and those it is compared with are gone, so τ over
chosen ones says nothing about the choice.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import log1p
from typing import Any

from nas.archive import Archive, Measurement, plain
from nas.evaluate import BANKED, BASELINES, EVALUATORS, INHERITED, TRUTH
from nas.grammar import Derivation
from nas.search.columns import kept_by_any
from nas.search.job import Job, Pool
from nas.search.problem import Problem
from nas.search.run import Run
from nas.search.settings import Settings
from nas.supernet.bank_file import facts_of
from nas.supernet.chain import evenly
from nas.supernet.strategies import spread
from nas.trust.table import Calibration, Scored

VAIN = 8  # blocks of draws that bring nothing new, after which there are no more
BLOCK = 32  # architectures that are taken of some random draws:
DRAWS = {True: 256, False: 64}  # of a finite grammar; of a recursive one, where a draw takes long


def architectures(problem: Problem) -> Iterator[str]:
    """The architectures to calibrate with, distinct and in a fixed order, so that more extend
    fewer: random draws within the run's limits, of a finite space small and large ones as often as
    those between, thinned so that the logarithm of their FLOPs is spread evenly; for a front asks
    for all sizes. They end where draw after draw brings nothing new within the limits."""
    if problem.chain:
        yield from map(str, problem.chain)
        return
    met, vain = set[str](), 0
    for block in range(1_000):
        rng = random.Random(f"{problem.settings.seed}/trust/{block}")
        sizes = {str(drawn): log1p(flops) for drawn, flops in _allowed(problem, rng)}
        for text in met:
            sizes.pop(text, None)
        vain = 0 if sizes else vain + 1
        if vain == VAIN:
            return
        low, high = min(sizes.values(), default=0), max(sizes.values(), default=0)
        for i in range(1, min(BLOCK, len(sizes)) + 1):
            wanted = low + (high - low) * evenly(i)
            taken = min(sizes, key=lambda text: (abs(sizes[text] - wanted), text))
            del sizes[taken]
            met.add(taken)
            yield taken


def _allowed(problem: Problem, rng: random.Random) -> Iterator[tuple[Derivation, float]]:
    """Random draws that keep the problem's limits on what can be counted, with their FLOPs."""
    draw = spread(problem.space, 1)
    for _ in range(DRAWS[problem.grammar.finite]):
        (derivation,) = draw(0, rng).derivations
        costs = problem.costs(derivation)
        if kept_by_any(costs, problem.aims):
            yield derivation, costs["flops"]


class Scores:
    """The scores of a run's calibration: those the archive holds, and those still to be made."""

    def __init__(self, run: Run, problem: Problem, archive: Archive, pool: Pool | None = None):
        self.run, self.problem, self.archive, self.pool = run, problem, archive, pool
        self.metrics = {task.name: task.metric for task in run.named}
        first, bank = problem.settings.seed, run.folder / "bank.safetensors"
        version = int(facts_of(bank)["version"]) if bank.exists() else None
        conditions = replace(problem.conditions(), supernet_steps=version)
        # seeds of the truth's own: what shares its chance with the truth would agree more
        seeds = {TRUTH: range(first + 1, first + 1 + problem.settings.trust.seeds)}
        self.wanted = [
            (name, seed, str(EVALUATORS[name].fidelity(conditions)))
            for name in measurable(bank.exists())
            for seed in seeds.get(name, (first,))
        ]
        self.known = {
            (note["derivation"], note["evaluator"], note["seed"], note["made"]): _scored(note)
            for note in archive.notes("scored")
        }

    def of(self, texts: Iterable[str]) -> list[Scored]:
        """What is known of some architectures."""
        return [self.known[key] for text in texts for key in self._keys(text) if key in self.known]

    def whole(self, text: str) -> bool:
        return all(key in self.known for key in self._keys(text))

    def make(self, texts: Sequence[str], *, only: str = "") -> None:
        """Make the scores of some architectures that are missing, or of one evaluator of them;
        each is on disk before the next begins."""
        assert self.pool is not None
        keys = [
            key
            for text in texts
            for key in self._keys(text)
            if key not in self.known and only in ("", key[1])
        ]
        jobs = [Job(i, text, name, seed) for i, (text, name, seed, _) in enumerate(keys)]
        for outcome in self.pool.evaluate(jobs):
            text, name, seed, fidelity = keys[outcome.number]
            measurements: Any = [plain(m) for m in outcome.measurements]
            self.archive.note(
                "scored",
                derivation=text,
                evaluator=name,
                seed=seed,
                made=fidelity,
                measurements=measurements,
                reason=outcome.reason,
                seconds=outcome.seconds,
                cpu_s=outcome.cpu_s,
            )
            self.known[text, name, seed, fidelity] = Scored(
                text,
                name,
                seed,
                outcome.measurements,
                outcome.reason,
                outcome.seconds,
                outcome.cpu_s,
            )

    def calibration(
        self, texts: Sequence[str], more: Mapping[str, Scored] | None = None
    ) -> Calibration:
        """All that is known of some architectures, and `more` of them by derivation."""
        trained = spent(self.archive, "bank")
        known = [*self.of(texts), *(more[text] for text in texts if more and text in more)]
        return Calibration.of(known, self.metrics, dict.fromkeys(BANKED, trained))

    def _keys(self, text: str) -> list[tuple[str, str, int, str]]:
        return [(text, *wanted) for wanted in self.wanted]


def measurable(banked: bool) -> list[str]:
    """The evaluators that a calibration measures, baselines and the truth included."""
    first = [
        name
        for name, evaluator in EVALUATORS.items()
        if evaluator.begins and name != TRUTH and (banked or not evaluator.needs_bank)
    ]
    return [*first, TRUTH, *BASELINES]


def _scored(note: dict[str, Any]) -> Scored:
    measurements = tuple(Measurement(**facts) for facts in note["measurements"])
    return Scored(
        note["derivation"],
        note["evaluator"],
        note["seed"],
        measurements,
        note["reason"],
        note["seconds"],
        note["cpu_s"],
    )


def spent(archive: Archive, *kinds: str) -> float:
    """Seconds that a run's notes of some kinds tell of."""
    return sum(float(str(note["seconds"])) for kind in kinds for note in archive.notes(kind))


def parallel(archive: Archive, settings: Settings) -> int:
    """Evaluations that were done side by side, as the archive last tells, or as is usual on Ray."""
    if noted := archive.notes("workers"):
        return int(str(noted[-1]["count"]))
    return 1 if settings.on == "local" else settings.workers or os.cpu_count() or 1


def inherited(archive: Archive) -> dict[str, Scored]:
    """The trials that went on from their parents' weights, by derivation, in an order that has
    nothing to do with how good they are: that of their derivations' hashes."""
    scored = {}
    for trial in sorted(archive.trials, key=lambda trial: trial.id):
        mine = tuple(m for m in trial.measurements if m.evaluator == INHERITED)
        if mine:
            text = trial.text
            scored[text] = Scored(
                text, INHERITED, 0, mine, seconds=trial.seconds, cpu_s=trial.cpu_s
            )
    return scored


def batches(texts: Iterator[str], size: int, most: int) -> Iterator[list[str]]:
    """The first texts, at most so many, as many at a time as keep the workers busy."""
    for done in range(0, most, size):
        batch = list(islice(texts, min(size, most - done)))
        if not batch:
            return
        yield batch
