"""The loop: train the bank, measure what evaluates best, then ask, evaluate, record and tell
until trials or time run out.

A resumed run goes through the same loop. Proposals depend on the seed and on what was told, so
the archive serves as memory: what it holds is not evaluated again, and the run ends as it would
have without the interruption.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nas.archive import Archive, Trial
from nas.front import Limit, ParetoFront
from nas.grammar import Derivation, Grammar, GrammarError, sample, seed
from nas.grammar.count import count, enumerate_all
from nas.grammar.trace import cost_of
from nas.measure import latency
from nas.network import Network
from nas.plan import plan
from nas.search.calibration import spent
from nas.search.choice import decide
from nas.search.propose import Proposal, Proposer, breeds, resolved, within
from nas.search.run import Run, RunError, columns_of, create, load, objectives_of
from nas.search.settings import Settings, SettingsError
from nas.search.shared import chained, check_shared, train_bank
from nas.search.weights import Weights
from nas.search.worker import BANKED, Job, Outcome, Pool, banked, make_pool
from nas.task import Task, TaskError
from nas.train import Listener

STALE_GENERATIONS = 30
SMALL = 1_000  # architectures that a search enumerates, where it may have as many trials


def search(
    space: str, tasks: Sequence[str] = (), *, out: str | Path, listener: Listener | None = None,
    **settings: Any,
) -> Run:  # fmt: skip
    """Search a space for tasks; the run is kept in the folder `out`.

    space: a shipped grammar's name or a path. tasks: names, TOML files, or name=source.
    settings: any of `Settings`. Raises GrammarError, TaskError, SettingsError, RunError.
    """
    chosen = Settings.of({"space": space, "tasks": tuple(tasks), **settings})
    listener = listener or _silent
    chosen, grammar, found = prepare(chosen)
    for n, task in enumerate(found, 1):
        listener("task", n, len(found), {"says": task.describe()})
    chosen = chosen.model_copy(update={"tasks": tuple(task.spec for task in found)})
    create(Path(out), chosen, grammar, found)
    Archive.create(Path(out)).close()
    return _proceed(load(out, trust_code=True), listener)


def resume(
    folder: str | Path, *, listener: Listener | None = None, trust_code: bool = False
) -> Run:
    """Carry a run on to its end; nothing recorded is done again.

    A run that needs code of the user's own runs it only with `trust_code`.
    """
    run = load(folder, trust_code=trust_code)
    if not (run.folder / "journal.jsonl").exists():
        Archive.create(run.folder).close()
    return _proceed(run, listener or _silent)


def prepare(settings: Settings) -> tuple[Settings, Grammar, list[Task]]:
    """The space and tasks of a search, checked against each other before anything is written, and
    the settings as they suit the space."""
    grammar = Grammar.load(settings.space)
    settings = settings.suited(grammar)
    tasks = [Task.load(spec) for spec in settings.tasks]
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise TaskError(f"task names must differ, and these are {', '.join(names)}")
    for task in tasks[1:]:
        if task.input != tasks[0].input:
            raise TaskError(
                f"tasks of one run share their input's shape: {tasks[0].name} takes "
                f"{tasks[0].input}, {task.name} takes {task.input}"
            )
    run_checks(settings, grammar, tasks)
    return settings, grammar, tasks


def run_checks(settings: Settings, grammar: Grammar, tasks: Sequence[Task]) -> None:
    """Raise for objectives, limits and heads that cannot be, with a first derivation."""
    objectives_of(settings, tasks)
    check_device(settings.device)
    limits = [Limit.parse(text, columns_of(tasks)) for text in settings.limits]
    sampler = resolved(settings.sampler, grammar)
    if settings.start and not breeds(sampler, grammar):
        raise SettingsError(f"start is for samplers that breed, and this is {sampler}: say tree")
    started(settings, grammar, tasks[0].input, limits)
    if banked(settings, grammar):
        check_shared(settings, grammar, tasks)
    most = None if grammar.finite else within(limits)
    first = sample(grammar, random.Random(0), input=tasks[0].input, limits=most)
    plan(first, heads=tasks)
    if grammar.used:
        Network(first, heads=tasks).eval()(torch.zeros((2, *tasks[0].input)))


def check_device(device: str) -> None:
    """Raise SettingsError for a device that torch does not know or does not see."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        seen = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device {device!r}: {reason}; torch sees {', '.join(seen)}") from None


def _silent(phase: str, done: int, total: int, facts: dict[str, Any]) -> None:
    pass


def _proceed(run: Run, listener: Listener) -> Run:
    with Archive.open(run.folder, write=True) as archive:
        if banked(run.settings, run.grammar):
            train_bank(run, archive, listener)
        pool = make_pool(run.folder, run.settings, trust_code=run.trust_code)
        try:
            evaluator = decide(run, archive, pool, listener)
            _Search(run, archive, pool, listener, evaluator).go()
        finally:
            pool.close()
    return run


class _Search:
    """Asking, evaluating, recording, telling: a generation at a time, told in number order."""

    def __init__(
        self, run: Run, archive: Archive, pool: Pool, listener: Listener, evaluator: str
    ):
        self.run, self.archive, self.pool, self.listener = run, archive, pool, listener
        self.settings = settings = run.settings
        self.objectives, self.limits = run.objectives, run.limits
        self.evaluator, self.alone = evaluator, evaluator not in BANKED
        self.listed = self._listed()
        self.proposer = Proposer(
            run.grammar, run.tasks[0].input, settings.sampler, self.objectives, self.limits,
            seed=settings.seed, key=self._key, size=settings.size,
            start=self.listed or started(settings, run.grammar, run.tasks[0].input, run.limits),
            population=settings.population if settings.sampler == "evolution"
            else settings.generation,
        )  # fmt: skip
        self.recorded = {
            self._key(Derivation.read(trial.derivations[""], run.grammar)): trial
            for trial in archive.trials
        }
        self.weights = Weights(run.folder / "weights")
        self.known: dict[str, Trial] = {}
        self.ids = {trial.id for trial in archive.trials}
        self.best: dict[str, float] = {}
        named = {o.name for o in self.objectives} | {limit.name for limit in self.limits}
        self.clocked = "latency_ms" in named
        self.begun, self.before = time.perf_counter(), len(self.recorded)
        self.ends = self.begun + self._left()
        self.wanted = self._wanted()

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

    def _left(self) -> float:
        """Seconds of the budget not yet spent, by what the archive tells."""
        if self.settings.budget_s is None:
            return float("inf")
        each = spent(self.archive, "finalist") + sum(t.seconds for t in self.recorded.values())
        once = spent(self.archive, "bank", "verdict")
        return self.settings.budget_s - once - each / self.pool.workers

    def _wanted(self) -> int:
        """The trials to be made, if time suffices: not more than there are to make."""
        wanted = self.settings.trials or 10**9
        if self.run.grammar.finite:
            wanted = min(wanted, count(self.run.grammar, input=self.run.tasks[0].input))
        return min(wanted, len(self.listed)) if self.listed else wanted

    def _expected(self) -> int:
        """The trials there will be when time is over, at the pace so far."""
        now, done = time.perf_counter(), len(self.recorded)
        pace = (done - self.before) / (now - self.begun)
        return int(min(self.wanted, done + max(0.0, self.ends - now) * pace))

    def go(self) -> None:
        stale = 0
        while len(self.known) < self.wanted and stale < STALE_GENERATIONS:
            before = len(self.known)
            whole = self._generation()
            spent = self._over() and len(self.known) >= len(self.recorded)
            if spent or not whole:
                break
            stale = stale + 1 if len(self.known) == before else 0
        if self.alone and self.settings.standalone.child_epochs:
            self._finalists()

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
        numbers = {key: len(self.known) + i for i, key in enumerate(fresh)}
        jobs = [
            self._job(number, first[key]) for key, number in numbers.items()
            if key not in self.recorded
        ]  # fmt: skip
        for outcome in self.pool.evaluate(jobs):
            key = next(key for key, number in numbers.items() if number == outcome.number)
            self._record(outcome, key, str(first[key].derivation))
            if self._over() and self.settings.on == "local":
                break
        if any(key not in self.recorded for key in numbers):
            return False
        self._time({self.recorded[key].id: first[key].derivation for key in numbers})
        for key in numbers:
            self.known[key] = self.archive.trial(self.recorded[key].id)
        self._tell(proposals, keys)
        if jobs:
            self.weights.keep(self.proposer.population())
        return True

    def _job(self, number: int, proposal: Proposal) -> Job:
        """An evaluation, with the weights of its parents where all are kept."""
        lineage = proposal.lineage
        kept = self.weights.of(lineage.parents) if lineage else ()
        name = "inherited" if self.settings.standalone.child_epochs else self.evaluator
        return Job(
            number, str(proposal.derivation), name if self.alone else self.evaluator,
            self.settings.seed, lineage if kept else None, kept,
        )  # fmt: skip

    def _record(self, outcome: Outcome, key: str, text: str) -> None:
        id = identity(text, self.ids)
        if outcome.weights:
            self.weights.put(text, outcome.weights)
        self.ids.add(id)
        trial = Trial(
            outcome.number, id, {"": text}, "failed" if outcome.reason else "finished",
            outcome.reason, outcome.measurements, outcome.seconds, outcome.cpu_s,
        )  # fmt: skip
        self.archive.record(trial)
        self.recorded[key] = trial
        self._note_best(trial)
        self.listener("trials", len(self.recorded), self._expected(), self.best)

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
            for out in self.pool.evaluate([
                Job(n, t.derivations[""], "standalone", self.settings.seed)
                for n, t in jobs.items()
            ]):  # fmt: skip
                id = jobs[out.number].id
                self.archive.note("finalist", id=id, seconds=out.seconds, reason=out.reason)
                if not out.reason:
                    self.archive.measure({id: out.measurements})
                self.listener("finalists", len(tried), given.finalists, {})
                if time.perf_counter() > self.ends and self.settings.on == "local":
                    break

    def _over(self) -> bool:
        """Whether the budget is spent, but for what training the finalists from scratch takes."""
        given, budget, kept = self.settings.standalone, self.settings.budget_s, 0.0
        if given.child_epochs and budget:
            alone = [t.seconds for t in self.recorded.values() if not _went_on(t)]
            kept = min(given.finalists * sum(alone) / max(len(alone), 1), 0.3 * budget)
        return time.perf_counter() + kept > self.ends

    def _note_best(self, trial: Trial) -> None:
        """Keep the best value so far of the first objective, to show it."""
        first, value = self.objectives[0], trial.value(self.objectives[0].name)
        if value is not None:
            name = f"best {first.name}"
            self.best = {name: (max if first.maximize else min)(value, self.best.get(name, value))}

    def _time(self, derivations: Mapping[str, Derivation]) -> None:
        """Measure the latencies that trials lack, while no evaluation runs."""
        if not self.clocked:
            return
        found = {}
        for id, derivation in derivations.items():
            trial = self.archive.trial(id)
            if trial.state == "finished" and trial.value("latency_ms") is None:
                network = Network(derivation, heads=self.run.tasks).eval().to(self.settings.device)
                found[id] = [
                    latency(network.plan, network.tensors(), device=self.settings.device)
                ]
        if found:
            self.archive.measure(found)

    def _tell(self, proposals: Sequence[Proposal], keys: Sequence[str]) -> None:
        for proposal, key in zip(proposals, keys, strict=True):
            trial = self.known.get(key)
            finished = trial is not None and trial.state == "finished"
            found = as_searched(trial).columns() if trial and finished else None
            self.proposer.tell(proposal, found)


def started(
    settings: Settings, grammar: Grammar, input: tuple[int, ...], limits: Sequence[Limit]
) -> list[Derivation]:
    """The seeds that a search begins from. Raises RunError for one that is over a limit, and
    GrammarError for one that does not fit the input."""
    most, found = within(limits), list[Derivation]()
    for name in grammar.seeds if "mix" in settings.start else settings.start:
        try:
            one = seed(grammar, name, input=input)
        except GrammarError:
            if "mix" in settings.start:
                continue
            raise
        cost = cost_of(one)
        if most.allow(cost):
            found.append(one)
        elif "mix" not in settings.start:
            raise RunError(
                f"the seed {name} has {cost}, and this search allows {most}: allow more with "
                "--max, or start from another"
            )
    return found


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
