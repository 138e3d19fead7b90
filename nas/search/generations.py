"""Asking, evaluating, recording, telling: a generation at a time, told in number order.

Proposals depend on the seed and on what was told, so the archive serves as memory: what it holds is
not evaluated again, and a resumed search ends as it would have without the interruption.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from nas.archive import Archive, Trial
from nas.front import ParetoFront
from nas.grammar import Derivation
from nas.grammar.count import count, enumerate_all
from nas.measure import latency
from nas.network import Network
from nas.plan import plan
from nas.search.propose import Proposal, Proposer
from nas.search.run import Run
from nas.search.shared import chained, space_of
from nas.search.start import started
from nas.search.weights import Weights
from nas.search.worker import BANKED, Job, Outcome, Pool
from nas.train import Listener

STALE_GENERATIONS = 30
SMALL = 1_000  # architectures that a search enumerates, where it may have as many trials
TRIES = 2  # times that an evaluation may be under way when the search dies
CLOCKED_S = 0.2  # of measuring a latency, before any was


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
        self.run, self.archive, self.pool, self.listener = run, archive, pool, listener
        self.settings = settings = run.settings
        self.objectives, self.limits = run.objectives, run.limits
        self.evaluator, self.alone = evaluator, evaluator not in BANKED
        self.listed = self._listed()
        size = settings.population if settings.sampler == "evolution" else settings.generation
        self.proposer = Proposer(
            space_of(settings, run.grammar, run.tasks),
            settings.sampler,
            self.objectives,
            self.limits,
            seed=settings.seed,
            key=self._key,
            population=size,
            start=self.listed or started(settings, run.grammar, run.tasks[0].input, run.limits),
        )
        self.recorded = {
            self._key(Derivation.read(trial.text, run.grammar)): trial for trial in archive.trials
        }
        self.weights = Weights(run.folder / "weights")
        self.known: dict[str, Trial] = {}
        self.ids = {trial.id for trial in archive.trials}
        self.unended = _unended(archive)
        named = {o.name for o in self.objectives} | {limit.name for limit in self.limits}
        self.clocked = "latency_ms" in named
        self.untimed: dict[str, Derivation] = {}
        self.best: dict[str, float] = {}
        self.clocked_s = CLOCKED_S
        self.begun, self.before, self.ends = time.perf_counter(), len(self.recorded), ends
        self.wanted = self._wanted()

    def go(self) -> None:
        stale = 0
        while len(self.known) < self.wanted and stale < STALE_GENERATIONS:
            before = len(self.known)
            whole = self._generation()
            spent = self._over() and len(self.known) >= len(self.recorded)
            if spent or not whole:
                break
            stale = stale + 1 if len(self.known) == before else 0
        self._time()
        if self.alone and self.settings.standalone.child_epochs:
            self._finalists()

    def _listed(self) -> list[Derivation]:
        """What is gone through whole, but for those over a limit that can be counted: the chain of
        a sorted supernet, or every architecture of a space so small that trials suffice."""
        run, settings, input = self.run, self.settings, self.run.tasks[0].input
        if not self.alone and (members := chained(settings, run.grammar, run.tasks)):
            return members
        most = min(settings.trials or SMALL, SMALL)
        if not run.grammar.finite or count(run.grammar, input=input) > most:
            return []
        found = [one for one in enumerate_all(run.grammar, input=input) if run.costs(one)]
        random.Random(f"{settings.seed}/all").shuffle(found)
        return found

    def _wanted(self) -> int:
        """The trials to be made, if time suffices: not more than there are to make."""
        wanted = self.settings.trials or 10**9
        if self.run.grammar.finite:
            wanted = min(wanted, count(self.run.grammar, input=self.run.tasks[0].input))
        return min(wanted, len(self.listed)) if self.listed else wanted

    def _expected(self) -> int:
        """The trials there will be when time is over, at the pace so far."""
        now, done = time.perf_counter(), len(self.recorded)
        pace = (done - self.before) / max(now - self.begun, 1e-9)
        return int(min(self.wanted, done + max(0.0, self.ends - now) * pace))

    def _key(self, derivation: Derivation) -> str:
        """What two trials must not share: where each is trained alone, the architecture. "" for
        one of an open grammar in which there is nothing to learn."""
        if not self.alone:
            return str(derivation)
        made = plan(derivation)
        return "" if not self.run.grammar.finite and made.trivial else made.fingerprint

    def _generation(self) -> bool:
        """Whether a generation was evaluated to its end, and told."""
        proposals = [self.proposer.ask() for _ in range(self.settings.generation)]
        keys = [self._key(proposal.derivation) for proposal in proposals]
        first: dict[str, Proposal] = {}
        for key, proposal in zip(keys, proposals, strict=True):
            if key and key not in self.known:
                first.setdefault(key, proposal)
        fresh = list(first)[: self.wanted - len(self.known)]
        numbers = self._numbers(fresh)
        places = {number: key for key, number in numbers.items()}
        jobs = []
        for number, key in places.items():
            if key not in self.recorded:
                job = self._job(number, first[key])
                if self.unended[job.derivation] < TRIES:
                    jobs.append(job)
                else:
                    self._record(_never_ended(job), key, first[key].derivation)
            elif self.recorded[key].state == "finished":
                self.untimed[self.recorded[key].id] = first[key].derivation
        if not self._over() or not jobs:
            for outcome in self.pool.evaluate(jobs, begun=self._begin, ends=self._end()):
                key = places[outcome.number]
                self._record(outcome, key, first[key].derivation)
                if self._over():
                    break
        if any(key not in self.recorded for key in numbers):
            return False
        self._time()
        for key in numbers:
            self.known[key] = self.archive.trial(self.recorded[key].id)
        self._tell(proposals, keys)
        if jobs:
            self.weights.keep(self.proposer.population())
        return True

    def _numbers(self, fresh: Sequence[str]) -> dict[str, int]:
        """The numbers of a generation's new trials, in order; those recorded keep theirs, also
        where a run that was extended goes another way than before."""
        taken = {trial.number for trial in self.recorded.values()}
        numbers = dict[str, int]()
        for i, key in enumerate(fresh):
            number = len(self.known) + i
            if key in self.recorded:
                number = self.recorded[key].number
            elif number in taken:
                number = max(taken) + 1
            taken.add(number)
            numbers[key] = number
        return numbers

    def _job(self, number: int, proposal: Proposal) -> Job:
        """An evaluation, with the weights of its parents where all are kept."""
        lineage = proposal.lineage
        kept = self.weights.of(lineage.parents) if lineage else ()
        name = "inherited" if self.settings.standalone.child_epochs else self.evaluator
        return Job(
            number,
            str(proposal.derivation),
            name if self.alone else self.evaluator,
            self.settings.seed,
            lineage if kept else None,
            kept,
        )

    def _begin(self, job: Job) -> None:
        """Note that an evaluation begins which may take the search down with it."""
        self.archive.note("begun", derivation=job.derivation)

    def _record(self, outcome: Outcome, key: str, derivation: Derivation) -> None:
        text = str(derivation)
        id = identity(text, self.ids)
        if outcome.weights:
            self.weights.put(text, outcome.weights)
        self.ids.add(id)
        trial = Trial(
            outcome.number,
            id,
            {"": text},
            "failed" if outcome.reason else "finished",
            outcome.reason,
            outcome.measurements,
            outcome.seconds,
            outcome.cpu_s,
        )
        self.archive.record(trial)
        self.recorded[key] = trial
        if trial.state == "finished":
            self.untimed[trial.id] = derivation
        self._note_best(trial)
        self.listener("trials", len(self.recorded), self._expected(), self.best)

    def _note_best(self, trial: Trial) -> None:
        """Keep the best value so far of the first objective within the limits, to show it."""
        first, found = self.objectives[0], trial.columns()
        if first.name in found and all(limit.keeps(found) for limit in self.limits):
            name, value = f"best {first.name}", found[first.name]
            self.best = {name: (max if first.maximize else min)(value, self.best.get(name, value))}

    def _finalists(self) -> None:
        """Train from scratch the front's trials that went on from their parents, and who comes to
        the front then, up to so many: else old lineages, trained longest, would seem the best."""
        given = self.settings.standalone
        tried = {str(note["id"]) for note in self.archive.notes("finalist")}
        while time.perf_counter() < self.ends:
            front = ParetoFront.of(self.archive.trials, self.objectives, self.limits).trials
            todo = [t for t in front if t.id not in tried and _went_on(t)]
            todo = todo[: given.finalists - len(tried)]
            if not todo:
                return
            jobs = {t.number: t for t in todo}
            tried |= {t.id for t in todo}
            outcomes = self.pool.evaluate(
                [Job(n, t.text, "standalone", self.settings.seed) for n, t in jobs.items()],
                ends=self._end(),
            )
            for out in outcomes:
                id = jobs[out.number].id
                self.archive.note("finalist", id=id, seconds=out.seconds, reason=out.reason)
                if not out.reason:
                    self.archive.measure({id: out.measurements})
                self.listener("finalists", len(tried), given.finalists, {})
                if time.perf_counter() > self.ends:
                    break

    def _end(self) -> float:
        """When time is over, by `time.monotonic`."""
        return time.monotonic() + self.ends - time.perf_counter()

    def _over(self) -> bool:
        """Whether time is over, but for what timing the evaluated networks takes, and training the
        finalists from scratch."""
        given, budget, spare = self.settings.standalone, self.settings.budget_s, 0.0
        if self.clocked:
            spare = self.clocked_s * len(self.untimed)
        if given.child_epochs and budget:
            alone = [t.seconds for t in self.recorded.values() if not _went_on(t)]
            spare += min(given.finalists * sum(alone) / max(len(alone), 1), 0.3 * budget)
        return time.perf_counter() + spare > self.ends

    def _time(self) -> None:
        """Measure the latencies that trials lack, while no evaluation runs."""
        todo, self.untimed = self.untimed, {}
        if not self.clocked:
            return
        begun, found = time.perf_counter(), {}
        for id, derivation in todo.items():
            if self.archive.trial(id).value("latency_ms") is None:
                device = self.settings.device
                network = Network(derivation, heads=self.run.tasks).eval().to(device)
                found[id] = [latency(network.plan, network.tensors(), device=device)]
        if found:
            self.archive.measure(found)
            for id in found:
                self._note_best(self.archive.trial(id))
            self.clocked_s = (time.perf_counter() - begun) / len(found)

    def _tell(self, proposals: Sequence[Proposal], keys: Sequence[str]) -> None:
        for proposal, key in zip(proposals, keys, strict=True):
            trial = self.known.get(key)
            finished = trial is not None and trial.state == "finished"
            found = as_searched(trial).columns() if trial and finished else None
            self.proposer.tell(proposal, found)


def _unended(archive: Archive) -> Counter[str]:
    """How often the search died while a derivation was evaluated: begun, and never stopped."""
    found: Counter[str] = Counter()
    for note in archive.notes():
        if note["kind"] == "begun":
            found[str(note["derivation"])] += 1
        elif note["kind"] in ("stopped", "ended"):
            found.clear()
    return found


def _never_ended(job: Job) -> Outcome:
    reason = f"it was begun {TRIES} times and never ended: the search died while it was evaluated"
    return Outcome(job.number, (), reason, 0.0)


def _went_on(trial: Trial) -> bool:
    """Whether what was last measured of a trial's tasks is with weights of its parents."""
    evaluators = [m.evaluator for m in trial.measurements if m.task and m.split == "valid"]
    return evaluators[-1:] == ["inherited"]


def as_searched(trial: Trial) -> Trial:
    """A trial without what it came to as a finalist, which the proposals after it did not know."""
    if not any(m.evaluator == "inherited" for m in trial.measurements):
        return trial
    told = tuple(m for m in trial.measurements if m.evaluator != "standalone")
    return replace(trial, measurements=told)


def identity(text: str, taken: Collection[str] = ()) -> str:
    """A trial's id: as much of its derivation's hash as tells it from those taken."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return next(digest[:n] for n in (8, 12, 16, 64) if digest[:n] not in taken)
