"""What evaluates one derivation: the same here and in an actor, loaded from the run's files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nas.archive import Measurement
from nas.evaluate import inherited
from nas.grammar import Derivation, Grammar
from nas.measure.latency import threads
from nas.plan import Plan, plan
from nas.search.breed import Lineage
from nas.search.settings import Settings
from nas.supernet import Bank, Parent, trained
from nas.supernet.nested import nest
from nas.task import Task, load_tasks
from nas.train import Recipe, chance
from nas.trust.evaluators import (
    BASELINES,
    Evaluator,
    baseline,
    epochs,
    finetuned_on_bank,
    from_scratch,
    on_bank,
)

BANKED = ("shared", "finetuned")  # evaluators by shared weights


@dataclass(frozen=True)
class Job:
    """One evaluation to do: the trial's number, its derivation's text, and what evaluates it."""

    number: int
    derivation: str
    evaluator: str
    seed: int
    lineage: Lineage | None = None
    weights: tuple[bytes, ...] = ()  # of the lineage's parents, as they were trained


@dataclass(frozen=True)
class Outcome:
    """One evaluation done; `reason` says why where it failed. `weights` are those that children
    may go on from, where there will be any."""

    number: int
    measurements: tuple[Measurement, ...]
    reason: str
    seconds: float
    weights: bytes = b""
    cpu_s: float = 0.0


class Pool(Protocol):
    """Evaluates jobs, yielding outcomes as they come, in any order; so many at a time.

    `begun` hears of a job that may misbehave before it begins. At the end of time, by
    `time.monotonic()`, what is not done is left.
    """

    @property
    def workers(self) -> int: ...
    def evaluate(
        self, jobs: Sequence[Job], *, begun: Callable[[Job], None] = ..., ends: float = ...
    ) -> Iterator[Outcome]: ...
    def close(self) -> None: ...


def risky(evaluator: str, grammar: Grammar) -> bool:
    """Whether an evaluation may hang or crash: it trains alone, or runs code of the user's own."""
    return bool(grammar.used) or evaluator not in (*BANKED, *BASELINES)


def longest_s(settings: Settings) -> float:
    """Seconds after which an evaluation that did not end by itself is ended."""
    return 1.2 * settings.standalone.limit_s + 10


class RunEvaluator:
    """Loads a run's space, tasks and bank, and evaluates derivations on one thread each."""

    def __init__(self, folder: Path, settings: Settings, *, trust_code: bool):
        self.settings = settings
        text = (folder / "space.grammar").read_text(encoding="utf-8")
        self.grammar = Grammar.parse(text, name=settings.space, trust_code=trust_code, alone=True)
        self.tasks = load_tasks(settings.tasks, trust_code=trust_code)
        self.bank: Bank | None = None
        if banked(settings, self.grammar):
            self.bank = make_bank(self.grammar, self.tasks, settings, trained=True)
            self.bank.load(folder / "bank.safetensors")

    def __call__(self, job: Job) -> Outcome:
        begun, cpu, reason = time.perf_counter(), time.process_time(), ""
        found: list[Measurement] = []
        weights = b""
        try:
            with threads(1), chance(job.seed, job.derivation):
                found, weights = self._measure(job)
            wrong = [m for m in found if m.value != m.value and m.name == self._metric(m.task)]
            if wrong:
                reason = f"{wrong[0].name} is {wrong[0].value}"
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        return Outcome(job.number, tuple(found), reason, seconds, weights, cpu_s)

    def _metric(self, task: str | None) -> str:
        return next((t.metric for t in self.tasks if t.name == task), "")

    def _measure(self, job: Job) -> tuple[list[Measurement], bytes]:
        derivation = Derivation.read(job.derivation, self.grammar)
        if job.evaluator == "inherited":
            return self._inherited(job, derivation)
        return self.named(job.evaluator, job.seed).measure(derivation, self.tasks), b""

    def named(self, name: str, seed: int) -> Evaluator:
        """The evaluator of a name, as the run's settings have it."""
        return evaluator_of(name, self.settings, self.tasks, self.bank, seed=seed)

    def _inherited(self, job: Job, derivation: Derivation) -> tuple[list[Measurement], bytes]:
        """Trained on from the job's parents, from scratch where it has none; and the weights."""
        given, lineage = self.settings.standalone, job.lineage
        epochs, parents = given.epochs, list[Parent]()
        if lineage and job.weights:
            epochs = given.child_epochs
            parents = [
                Parent.of(Derivation.read(text, self.grammar), data)
                for text, data in zip(lineage.parents, job.weights, strict=True)
            ]
        found, bank = inherited(
            derivation,
            self.tasks,
            given.recipe(job.seed, epochs=epochs),
            parents,
            lineage.origin if lineage else _new,
            device=self.settings.device,
            limit_s=given.limit_s,
        )
        return found, trained(bank)


def make_pool(folder: Path, settings: Settings, *, trust_code: bool) -> Pool:
    """Where the settings say: in this process, or on Ray."""
    if settings.on == "local":
        from nas.search.local import LocalPool

        return LocalPool(folder, settings, trust_code=trust_code)
    from nas.search.ray import RayPool

    return RayPool(folder, settings, trust_code=trust_code)


def _new(path: str) -> None:
    """The origin of a path in what has no parents."""


def kind(settings: Settings, grammar: Grammar) -> str:
    """The evaluator that settings name, or the space's default: shared weights where it is finite
    and there is more than one network to share them.

    A run with a budget may have measured that another is better: see `Run.evaluator`.
    """
    if settings.evaluator != "auto":
        return settings.evaluator
    return "shared" if grammar.finite and not grammar.fixed else "standalone"


def banked(settings: Settings, grammar: Grammar) -> bool:
    """Whether a run trains shared weights."""
    return kind(settings, grammar) in BANKED


def evaluator_of(
    name: str, settings: Settings, tasks: Sequence[Task], bank: Bank | None, *, seed: int
) -> Evaluator:
    """The evaluator of a name, as settings have it; those by shared weights score the bank's
    subnets."""
    given, samples, device = settings.standalone, settings.supernet.samples, settings.device
    if name in BASELINES:
        return baseline(name, seed=seed)
    if name in BANKED:
        assert bank is not None
        if name == "shared":
            return on_bank(bank, samples=samples, seed=seed, device=device)
        recipe = finetuning(settings, tasks, seed)
        return finetuned_on_bank(
            bank, recipe, samples=samples, device=device, limit_s=given.limit_s
        )
    steps = short_steps(settings, tasks) if name == "short" else None
    return from_scratch(given.recipe(seed), steps=steps, device=device, limit_s=given.limit_s)


def finetuning(settings: Settings, tasks: Sequence[Task], seed: int) -> Recipe:
    """How a subnet is trained on alone: as the supernet was, more gently, for a few steps."""
    given = settings.supernet
    recipe = replace(given.recipe(seed), lr=given.lr / 3)
    return replace(recipe, epochs=epochs(recipe, tasks, settings.trust.finetune))


def short_steps(settings: Settings, tasks: Sequence[Task]) -> int:
    """The steps of short training: as set, but at most half of those of stand-alone training."""
    return max(1, min(settings.trust.steps, settings.standalone.recipe(0).steps(tasks) // 2))


def covering(grammar: Grammar, tasks: Sequence[Task], *, largest: bool = True) -> list[Plan]:
    """Networks of a finite space that have all its slots, each as large, or as small, as any."""
    from nas.grammar.count import cover

    found = cover(grammar, input=tasks[0].input, largest=largest)
    return [plan(one, heads=tasks) for one in found]


def make_bank(
    grammar: Grammar, tasks: Sequence[Task], settings: Settings, *, trained: bool = False
) -> Bank:
    """The untrained bank of a space with the heads of all tasks; of a recursive space an empty
    one, which grows. One to read `trained` weights into has no optimizer's state."""
    given, most = settings.supernet, settings.supernet.memory_mb or None
    optimizer = None if trained else given.optimizer
    if not grammar.finite:
        return Bank(
            {},
            seed=settings.seed,
            device=settings.device,
            optimizer=optimizer,
            share=grammar.share,
            grows=True,
            memory_mb=most,
        )

    plans = covering(grammar, tasks)
    bank = Bank.of(
        plans,
        seed=settings.seed,
        device=settings.device,
        optimizer=optimizer,
        share=grammar.share,
        kernel_transform=given.kernel_transform,
        memory_mb=most,
    )
    if given.nested and not trained:
        nest(bank, plans, covering(grammar, tasks, largest=False))
    return bank
