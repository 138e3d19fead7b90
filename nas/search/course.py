"""The steps by which shared weights are trained, each told of as it is done."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from nas.events import Event, Listener, Told, silent
from nas.files import write
from nas.measure.latency import threads
from nas.plan import plan
from nas.search.error import RunError
from nas.search.folder import BANK, CHECKPOINT, CLOCK
from nas.search.problem import Problem
from nas.search.run import PREFERENCES, Run
from nas.search.schedule import Schedule
from nas.supernet import STRATEGIES, Bank, strategy_of
from nas.supernet.bank_file import begin_bank, facts_of, load_bank, save_bank
from nas.train import Group, StepError, StepLosses, Trainer, Turn

DRAWS = 100  # of a turn that a bank which grows has memory for
TIMED = 8  # steps from which is told what one takes


@dataclass(frozen=True)
class Course:
    """How long the shared weights of a run are trained: so many steps, in so many seconds where
    there is a budget, but for the steps that are passed over."""

    steps: int
    seconds: float | None
    until: float = math.inf  # by time.perf_counter, the same in every process
    passed: frozenset[int] = frozenset()


class StepBegun(NamedTuple):
    step: int
    derivation: str


class StepTrained(NamedTuple):
    """`done` steps are done, the last with this loss."""

    done: int
    loss: float


class StepFailed(NamedTuple):
    step: int
    derivation: str
    reason: str


class BankTrained(NamedTuple):
    version: int
    seconds: float


Message = StepBegun | StepTrained | StepFailed | BankTrained | Event


def training(
    run: Run, course: Course, group: Group | None = None, listener: Listener = silent
) -> Generator[Message]:
    """Train from the last checkpoint to bank.safetensors, telling of every step. In a group the
    first process alone keeps the time and writes."""
    problem, settings, last = run.problem, run.settings, run.folder / CHECKPOINT
    bank, facts = problem.bank(), dict[str, str]()
    if last.exists():
        load_bank(bank, last)
        facts = facts_of(last)
    elif settings.supernet.weights:
        yield Told(begin_bank(bank, Path(settings.supernet.weights)))
    turns = Turns(problem, course.steps, bank, group)
    if "strategy" in facts:
        turns.strategy.restore(json.loads(facts["strategy"]))
    recipe, device = settings.supernet.recipe(settings.seed), settings.resolved_device
    trainer = Trainer(
        bank, problem.tasks, recipe, course.steps, device, group=group, listener=listener
    )
    trainer.balance.restore(facts)
    begun = time.perf_counter() - float(facts.get("seconds", 0))
    saved, step = float("-inf"), bank.version
    pace = Pace(Schedule(run.folder / CLOCK, course.steps, course.seconds, course.until), group)
    number = settings.supernet.threads or torch.get_num_threads()
    with threads(max(1, number // (group.world if group else 1))):
        while (place := pace.at(step)) is not None:
            if step not in course.passed:
                drawn = turns.draw(step, place, recipe.parts)
                yield StepBegun(step, str(drawn[0].derivations[0]))
                try:
                    losses = trainer.train_turns(step, drawn, place)
                    turns.hear(step, drawn, losses)
                except StepError as error:
                    yield StepFailed(error.step, error.derivation, error.reason)
                else:
                    mean = sum(value.first for value in losses) / len(losses)
                    yield StepTrained(step + 1, mean)
            step = bank.version = step + 1
            writes = group is None or group.rank == 0
            if writes and time.perf_counter() - saved > settings.supernet.checkpoint_s:
                facts = {
                    "seconds": f"{time.perf_counter() - begun}",
                    "strategy": json.dumps(turns.strategy.state()),
                    **trainer.balance.facts,
                }
                save_bank(bank, last, state=True, facts=facts)
                saved = time.perf_counter()
    if group is None or group.rank == 0:
        if settings.per_task and (preferences := turns.strategy.preferences()):
            write(run.folder / PREFERENCES, json.dumps(preferences).encode())
        save_bank(bank, run.folder / BANK)
    yield BankTrained(bank.version, time.perf_counter() - begun)


@dataclass(frozen=True)
class Pace:
    """The place of a step in the schedule, in a group by the clock of the first process."""

    schedule: Schedule
    group: Group | None

    def at(self, step: int) -> float | None:
        """None where training is over."""
        if self.group is None or self.schedule.seconds is None:
            return self.schedule.at(step)
        return self.group.agreed(self.schedule.at(step) if self.group.rank == 0 else None)


class Turns:
    """Who is trained at a step, by the run's strategy and seed. Whom a growing bank has no memory
    for is drawn anew."""

    def __init__(self, problem: Problem, steps: int, bank: Bank, group: Group | None = None):
        self.problem, self.bank = problem, bank
        if group:  # all draw alike, also where memory decides
            bank.most_mb = group.agreed(bank.most_mb / group.world) or 0.0
        self.name = problem.settings.supernet.strategy
        self.strategy = strategy_of(self.name, problem.space, steps)

    def draw(self, step: int, place: float, parts: int = 1) -> tuple[Turn, ...]:
        """The turns of a step, which is at a place of the schedule. Raises RunError for what a
        strategy of the user's own raises."""
        stream = f"{self.problem.settings.seed}/supernet/{step}"
        first = self._affordable(step, place, stream)
        others = (self._affordable(step, place, f"{stream}/part/{i}") for i in range(1, parts))
        return first, *others

    def _affordable(self, step: int, place: float, stream: str) -> Turn:
        turn = self._turn(step, place, stream)
        for again in range(DRAWS if self.bank.grows else 0):
            tasks = self.problem.tasks
            if self.bank.fits(plan(derivation, heads=tasks) for derivation in turn.derivations):
                break
            turn = self._turn(step, place, f"{stream}/{again}")
        return turn

    def hear(self, step: int, turns: Sequence[Turn], losses: Sequence[StepLosses]) -> None:
        """Tell the strategy what came of its turns."""
        try:
            for turn, value in zip(turns, losses, strict=True):
                self.strategy.hear(step, turn, value)
        except Exception as error:
            raise self._fault(step, error) from error

    def _turn(self, step: int, place: float, stream: str) -> Turn:
        try:
            return self.strategy(int(place), random.Random(stream))
        except Exception as error:
            if self.name in STRATEGIES:
                raise
            raise self._fault(step, error) from error

    def _fault(self, step: int, error: Exception) -> RunError:
        return RunError(
            f"the strategy {self.name} raises {type(error).__name__} at step {step}: {error}"
        )


def step_s(problem: Problem) -> tuple[float, Bank]:
    """Seconds of a training step, by trying some from all over the training; and the bank used."""
    settings, bank, steps = problem.settings, problem.bank(), 1000
    recipe = settings.supernet.recipe(settings.seed)
    trainer = Trainer(bank, problem.tasks, recipe, steps, settings.resolved_device)
    turns = Turns(problem, steps, bank)
    for warming in (0, steps - 1):
        trainer.train_turns(warming, turns.draw(warming, warming, recipe.parts))
    begun = time.perf_counter()
    for step in range(0, steps, steps // TIMED):
        trainer.train_turns(step, turns.draw(step, step, recipe.parts))
    return (time.perf_counter() - begun) / TIMED, bank
