"""Asking, evaluating, recording, telling: a generation at a time, told in number order.

Proposals depend on the seed and on what was told, so the archive serves as memory: what it holds is
not evaluated again, and a resumed search ends as it would have without the interruption.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nas.archive import Archive, Measurement, Trial
from nas.evaluate import EVALUATORS, INHERITED, SHARED, TRUTH
from nas.events import Listener, Progress, TrialDone
from nas.grammar import Derivation
from nas.grammar.count import enumerate_all
from nas.grammar.derivation import Labels
from nas.measure.cost import CLOCK
from nas.measure.latency import same_way
from nas.plan import plan
from nas.search.calibration import parallel
from nas.search.clock import Clock
from nas.search.columns import on_fronts
from nas.search.halving import HalvingPool
from nas.search.job import Job, Outcome, Pool
from nas.search.latencies import Latencies
from nas.search.lessons import kept
from nas.search.parent_weights import ParentWeights
from nas.search.preferred import preferred
from nas.search.problem import Problem
from nas.search.propose import Candidate, Proposal, Proposer, check_sampler, resolved
from nas.search.recorded import Recorded
from nas.search.run import Run
from nas.search.vary_decoders import MOST, Read, completions, steering_of
from nas.supernet.decoders import decoders_of

STALE_GENERATIONS = 30
SMALL = 1_000  # architectures that a search enumerates, where it may have as many trials
STEERED = 0.2  # of a budget, for decoders of every size
FINALISTS = 0.3  # of a budget at most, for training them from scratch


class Search:
    """A search whose bank is trained. `ends` is when its time is over, by `time.perf_counter`."""

    def __init__(
        self,
        run: Run,
        archive: Archive,
        pool: Pool,
        listener: Listener,
        evaluator: str,
        ends: float = float("inf"),
    ):
        self.run, self.problem, self.archive, self.listener = run, run.problem, archive, listener
        self.settings = settings = run.settings
        self.alone = EVALUATORS[evaluator].alone
        self.inherits = run.problem.inherits
        self.evaluator = INHERITED if self.inherits else evaluator
        self.steered = evaluator == SHARED and not settings.per_task
        self.steered = self.steered and bool(decoders_of(run.grammar))
        self.pool = pool
        if evaluator == TRUTH and settings.standalone.rungs > 1:
            self.pool = HalvingPool(pool, archive, settings.standalone, self.problem.aims)
        check_sampler(resolved(settings.sampler), run.trust_code)
        self.listed = listed(self.problem, self.alone)
        self.proposer = Proposer(
            self.problem.space,
            "random" if self.listed else resolved(settings.sampler, inherits=self.inherits),
            self.problem.aims,
            seed=settings.seed,
            key=self._key,
            population=(
                settings.population if settings.sampler == "evolution" else settings.generation
            ),
            start=self.listed or self.problem.seeds() or preferred(run),
            lessons=kept(run) if not self.listed else None,
        )
        self.recorded = Recorded(archive, run.grammar, self._key)
        self.weights = ParentWeights(run.folder / "weights")
        self.latencies = Latencies(self.problem, archive, listener)
        self.clock = Clock(ends, len(self.recorded))
        self.told: dict[str, Trial] = {}
        self.best: dict[str, float] = {}
        self.wanted = self._wanted()
        self.parallel = parallel(archive, self.settings)

    def go(self) -> None:
        """Go through generations until there are enough trials, none that is new, or no time."""
        stale = 0
        while len(self.told) < self.wanted and stale < STALE_GENERATIONS:
            before = len(self.told)
            whole = self._generation()
            spent = self._over() and len(self.told) >= len(self.recorded)
            if spent or not whole:
                break
            stale = stale + 1 if len(self.told) == before else 0
        if self.steered:
            self._vary_decoders()
        self._measure_latencies()
        if self.inherits:
            self._train_finalists()
        self.latencies.measure_front(self.clock.over)
        self.latencies.share_front(self.clock.over)

    def _generation(self) -> bool:
        """Ask, evaluate, record and tell; whether it came to its end."""
        proposals = [self.proposer.ask() for _ in range(self.settings.generation)]
        keys = [self._key(proposal.derivation) for proposal in proposals]
        first: dict[str, Proposal] = {}
        for key, proposal in zip(keys, proposals, strict=True):
            if key and key not in self.told:
                first.setdefault(key, proposal)
        fresh = list(first)[: self.wanted - len(self.told)]
        numbers = self.recorded.numbers(fresh, len(self.told))
        jobs = self._jobs(numbers, first)
        if not self._over() or not jobs:
            by_number = {number: key for key, number in numbers.items()}
            for outcome in self.pool.evaluate(jobs, begun=self._begin, ends=self.clock.end):
                if self.pool.parallel != self.parallel:
                    self.parallel = self.pool.parallel
                    self.archive.note("workers", count=self.parallel)
                key = by_number[outcome.number]
                self._record(outcome, key, first[key])
                if self._over():
                    break
        if any(key not in self.recorded.trials for key in numbers):
            return False
        self._measure_latencies()
        for key in numbers:
            self.told[key] = self.archive.trial(self.recorded.trials[key].id)
        self._tell(proposals, keys)
        if jobs:
            self.weights.keep(self.proposer.population())
        return True

    def _jobs(self, numbers: dict[str, int], first: Mapping[str, Candidate]) -> list[Job]:
        """What is to be evaluated of a generation's new trials, in number order."""
        jobs = []
        for key, number in numbers.items():
            derivation = first[key].derivation
            if key in self.recorded.trials:
                self.latencies.add(self.recorded.trials[key], derivation)
                continue
            job = self._job(number, first[key])
            failure = self.recorded.given_up(job)
            if failure is None:
                jobs.append(job)
            else:
                self._record(failure, key, first[key])
        return jobs

    def _job(self, number: int, proposal: Candidate) -> Job:
        """An evaluation, with the weights of its parents where all are kept."""
        lineage, seed = proposal.lineage, self.settings.seed
        kept = self.weights.of(lineage.parents) if lineage else ()
        text = str(proposal.derivation)
        return Job(number, text, self.evaluator, seed, lineage if kept else None, kept)

    def _begin(self, job: Job) -> None:
        """Note that an evaluation begins which may take the search down with it."""
        self.archive.note("begun", derivation=job.derivation)

    def _record(self, outcome: Outcome, key: str, proposal: Candidate) -> None:
        derivation = proposal.derivation
        if outcome.weights:
            self.weights.put(str(derivation), outcome.weights)
        trial = self.recorded.add(outcome, key, derivation, drawn=proposal.drawn)
        self.latencies.add(trial, derivation)
        self._note_best(trial)
        done = len(self.recorded)
        expected = max(done, self.clock.expected(done, self.wanted))
        predicted = {f"τ {name}": tau for name, tau in self.proposer.agreement.items()}
        self.listener(TrialDone("trials", done, expected, self.best | predicted, trial))

    def _measure_latencies(self) -> None:
        for trial in self.latencies.measure():
            self._note_best(trial)

    def _note_best(self, trial: Trial) -> None:
        """Keep the best value so far of each aim's first objective within its limits."""
        columns = trial.columns()
        for (first, *_), limits, _ in self.problem.aims:
            if first.name in columns and all(limit.keeps(columns) for limit in limits):
                name, value = f"best {first.name}", columns[first.name]
                better = max if first.maximize else min
                self.best[name] = better(value, self.best.get(name, value))

    def _tell(self, proposals: Sequence[Proposal], keys: Sequence[str]) -> None:
        for proposal, key in zip(proposals, keys, strict=True):
            trial = self.told.get(key)
            measured = trial is not None and trial.state != "failed"
            columns = as_searched(trial).columns() if trial and measured else None
            self.proposer.tell(proposal, columns)

    def _train_finalists(self) -> None:
        """Train from scratch the front's trials that went on from their parents, and who comes to
        the front then, up to so many: else old lineages, trained longest, would seem the best."""
        most, seed = self.settings.standalone.finalists, self.settings.seed
        tried = {str(note["id"]) for note in self.archive.notes("finalist")}
        while not self.clock.over():
            front = on_fronts(self.archive.trials, self.problem.aims)
            todo = [trial for trial in front if trial.id not in tried and went_on(trial)]
            todo = todo[: most - len(tried)]
            if not todo:
                return
            ids = {trial.number: trial.id for trial in todo}
            tried |= set(ids.values())
            jobs = [Job(trial.number, trial.text, TRUTH, seed) for trial in todo]
            for outcome in self.pool.evaluate(jobs, ends=self.clock.end):
                id, reason = ids[outcome.number], outcome.reason
                self.archive.note("finalist", id=id, seconds=outcome.seconds, reason=reason)
                if not reason:
                    self.archive.measure({id: outcome.measurements})
                self.listener(Progress("finalists", len(tried), most))
                if self.clock.over():
                    break

    def _vary_decoders(self) -> None:
        """Measure encoders that somebody's preferences and budget may come to with decoders of
        every size, and keep what all trials tell. Which ones follows from what was told."""
        done, known, read = set[Labels](), list(self.told.values()), Read()
        while not self.clock.over():
            more = completions(steering_of(self.run, known, read), self.problem.grammar, done)
            if not more:
                break
            candidates = {self._key(d): Candidate(d) for d in more if self.problem.keeps(d)}
            fresh = [key for key in candidates if key not in self.recorded.trials]
            numbers = self.recorded.numbers(fresh, len(self.recorded))
            by_number = {number: key for key, number in numbers.items()}
            jobs = self._jobs(numbers, candidates)
            for outcome in self.pool.evaluate(jobs, begun=self._begin, ends=self.clock.end):
                key = by_number[outcome.number]
                self._record(outcome, key, candidates[key])
                self.archive.note("varied", id=self.recorded.trials[key].id)
            known += [
                self.recorded.trials[key] for key in candidates if key in self.recorded.trials
            ]
            self.listener(Progress("encoders", len(done), MOST))
        steering_of(self.run, self.archive.trials, read).save(self.run.folder)

    def _over(self) -> bool:
        """Whether time is over, but for what timing the evaluated networks takes, and training the
        finalists from scratch."""
        spare_s, budget_s = self.latencies.needed_s, self.settings.budget_s
        if self.settings.standalone.child_epochs and budget_s:
            alone = [t.seconds for t in self.recorded.trials.values() if not went_on(t)]
            each_s = sum(alone) / max(len(alone), 1)
            spare_s += min(self.settings.standalone.finalists * each_s, FINALISTS * budget_s)
        if self.steered and budget_s:
            spare_s += STEERED * budget_s
        return self.clock.over(spare_s)

    def _wanted(self) -> int:
        """The trials to be made, if time suffices: not more than there are to make."""
        wanted = self.settings.trials or 10**9
        wanted = min(wanted, self.problem.architectures or wanted)
        return min(wanted, len(self.listed)) if self.listed else wanted

    def _key(self, derivation: Derivation) -> str:
        """What two trials must not share: where each is trained alone, the architecture. "" for
        one of an open grammar in which there is nothing to learn."""
        if not self.alone:
            return str(derivation)
        planned = plan(derivation)
        empty = not self.problem.grammar.finite and planned.trivial
        return "" if empty else planned.fingerprint


def listed(problem: Problem, alone: bool) -> list[Derivation]:
    """What is gone through whole, but for those over a limit that can be counted: the chain of
    a sorted supernet, or every architecture of a space so small that trials suffice."""
    if not alone and problem.chain:
        return list(problem.chain)
    most = min(problem.settings.trials or SMALL, SMALL)
    if problem.architectures is None or problem.architectures > most:
        return []
    every = enumerate_all(problem.grammar, input=problem.input)
    derivations = [derivation for derivation in every if problem.keeps(derivation)]
    random.Random(f"{problem.settings.seed}/all").shuffle(derivations)
    return derivations


def went_on(trial: Trial) -> bool:
    """Whether what was last measured of a trial's tasks is with weights of its parents."""
    evaluators = [m.evaluator for m in trial.measurements if m.task and m.split == "valid"]
    return evaluators[-1:] == [INHERITED]


def as_searched(trial: Trial) -> Trial:
    """A trial as the proposals after it knew it: without what it came to as a finalist, with its
    latencies as they were first measured in the way that is used now, and with the first of its
    rungs, on which all were."""
    inherited = any(m.evaluator == INHERITED for m in trial.measurements)
    by = {m.name: m.device for m in trial.measurements if m.evaluator == CLOCK}
    told: dict[tuple[str, str | None, str | None, str], Measurement] = {}
    for measurement in trial.measurements:
        key = measurement.name, measurement.task, measurement.split, measurement.evaluator
        if measurement.evaluator == CLOCK and not same_way(
            measurement.device, by[measurement.name]
        ):
            continue
        if measurement.evaluator not in (CLOCK, TRUTH):
            told[key] = measurement
        elif not (inherited and measurement.evaluator == TRUTH):
            told.setdefault(key, measurement)
    return replace(trial, measurements=tuple(told.values()))
