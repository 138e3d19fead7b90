"""Training the weights that the subnets of a space share, before they are evaluated."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nas.archive import Archive
from nas.events import BankSaved, Listener, StepDone
from nas.measure.latency import threads
from nas.plan import plan
from nas.search.child import START_S, Child, Died
from nas.search.folder import RunError
from nas.search.job import longest_s
from nas.search.problem import Problem
from nas.search.run import Run
from nas.search.schedule import Schedule
from nas.search.settings import EXECUTION, Settings
from nas.supernet import STRATEGIES, Bank, strategy_of
from nas.supernet.bank import facts_of
from nas.train import StepError, StepLosses, Trainer, Turn

BANK = "bank.safetensors"
CHECKPOINT, CLOCK = "training.safetensors", "training.clock"
DRAWS = 100  # of a turn that a bank which grows has memory for
UNTIMED = 10_000  # steps of a schedule by the clock where none may be timed beforehand
LEAST = 20  # steps of a schedule that was timed
TIMED = 8  # steps from which is told what one takes
GRACE_S = 5.0  # past the end of time, for a checkpoint to be read and a bank to be written
MOST_IN_A_ROW = 10  # steps that may fail one after the other, and a tenth of all


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


Message = StepBegun | StepTrained | StepFailed | BankTrained


def train_supernet(run: Run, archive: Archive, listener: Listener, ends: float) -> None:
    """Train the shared weights to bank.safetensors, from the last checkpoint if there is one.

    A step that fails is passed over and noted; raises RunError where that happens often.
    """
    if (run.folder / BANK).exists() and archive.notes("bank"):
        return
    strategy = run.settings.supernet.strategy
    if strategy not in STRATEGIES and not run.trust_code:
        raise RunError(
            f"{run.folder} trains by code of its own ({strategy}): read it, then allow it with "
            "--trust-code"
        )
    steps, seconds = _length(run, archive, ends)
    until = ends
    if seconds is not None:
        left = seconds * (1 - Schedule(run.folder / CLOCK, steps, seconds).share)
        until = min(ends, time.perf_counter() + left)
    passed = {int(str(note["step"])) for note in archive.notes("passed")}
    last = run.folder / CHECKPOINT
    done, in_a_row = int(facts_of(last).get("version", 0)) if last.exists() else 0, 0
    apart = bool(run.grammar.used) or strategy not in STRATEGIES
    while True:
        course = Course(steps, seconds, until, frozenset(passed))
        for message in _apart(run, course) if apart else training(run, course):
            if isinstance(message, StepTrained):
                done, in_a_row = message.done, 0
                loss = {"loss": message.loss}
                listener(StepDone("supernet", done, max(steps, done), loss))
            elif isinstance(message, BankTrained):
                archive.note("bank", version=message.version, seconds=message.seconds)
                for name in (CHECKPOINT, CLOCK):
                    (run.folder / name).unlink(missing_ok=True)
                listener(BankSaved(run.folder / BANK, message.version))
                return
            elif isinstance(message, StepFailed):
                in_a_row += 1
                if message.step not in passed:
                    passed.add(message.step)
                    archive.note("passed", **message._asdict())
                if in_a_row >= MOST_IN_A_ROW or len(passed) > max(MOST_IN_A_ROW, done / 10):
                    raise _hopeless(run, message, len(passed), done)


def _hopeless(run: Run, step: StepFailed, failed: int, done: int) -> RunError:
    lr = run.settings.supernet.lr
    return RunError(
        f"{failed} steps of training the supernet failed where {done} were done, the last of "
        f"{step.derivation}: {step.reason}. Mend the operator, or where a loss or gradient is no "
        f"number lower supernet.lr, which is {lr}, in a new run"
    )


def training(run: Run, course: Course) -> Iterator[Message]:
    """Train from the last checkpoint to bank.safetensors, telling of every step."""
    problem, settings, last = run.problem, run.settings, run.folder / CHECKPOINT
    bank, facts = problem.bank(), dict[str, str]()
    if last.exists():
        bank.load(last)
        facts = facts_of(last)
    turns = Turns(problem, course.steps, bank)
    if "strategy" in facts:
        turns.strategy.restore(json.loads(facts["strategy"]))
    recipe = settings.supernet.recipe(settings.seed)
    trainer = Trainer(bank, problem.tasks, recipe, course.steps, settings.device)
    begun = time.perf_counter() - float(facts.get("seconds", 0))
    saved, step = float("-inf"), bank.version
    schedule = Schedule(run.folder / CLOCK, course.steps, course.seconds, course.until)
    with threads(settings.supernet.threads or torch.get_num_threads()):
        while (place := schedule.at(step)) is not None:
            if step not in course.passed:
                turn = turns.draw(step, place)
                yield StepBegun(step, str(turn.derivations[0]))
                try:
                    losses = trainer.step(step, turn, place)
                    turns.hear(step, turn, losses)
                except StepError as error:
                    yield StepFailed(error.step, error.derivation, error.reason)
                else:
                    yield StepTrained(step + 1, losses.first)
            step = bank.version = step + 1
            if time.perf_counter() - saved > settings.supernet.checkpoint_s:
                facts = {
                    "seconds": f"{time.perf_counter() - begun}",
                    "strategy": json.dumps(turns.strategy.state()),
                }
                bank.save(last, state=True, facts=facts)
                saved = time.perf_counter()
    bank.save(run.folder / BANK)
    yield BankTrained(bank.version, time.perf_counter() - begun)


class Turns:
    """Who is trained at a step, by the run's strategy and seed. Whom a growing bank has no memory
    for is drawn anew."""

    def __init__(self, problem: Problem, steps: int, bank: Bank):
        self.problem, self.bank = problem, bank
        self.name = problem.settings.supernet.strategy
        self.strategy = strategy_of(self.name, problem.space, steps)

    def draw(self, step: int, place: float) -> Turn:
        """The turn of a step, which is at a place of the schedule. Raises RunError for what a
        strategy of the user's own raises."""
        stream = f"{self.problem.settings.seed}/supernet/{step}"
        turn = self._turn(step, place, stream)
        for again in range(DRAWS if self.bank.grows else 0):
            tasks = self.problem.tasks
            if self.bank.fits(plan(derivation, heads=tasks) for derivation in turn.derivations):
                break
            turn = self._turn(step, place, f"{stream}/{again}")
        return turn

    def hear(self, step: int, turn: Turn, losses: StepLosses) -> None:
        """Tell the strategy what came of its turn."""
        try:
            self.strategy.hear(step, turn, losses)
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


def _apart(run: Run, course: Course) -> Iterator[Message]:
    """Training in a child, where operators of the user's own may hang, crash or exit: the step in
    which it dies is a step that failed, and the last message."""
    child = Child(_train, run.folder, run.settings, run.trust_code, course)
    limit_s, step = longest_s(run.settings), StepBegun(0, "")
    begun = False
    try:
        while True:
            limit = limit_s if begun else START_S
            if begun:  # to leave what was trained, it may take a little longer
                limit = min(limit, max(GRACE_S, course.until - time.perf_counter()))
            message = child.hear(time.monotonic() + limit, f"{limit:.0f} s")
            begun = True
            if isinstance(message, StepBegun):
                step = message
            else:
                yield message
            if isinstance(message, BankTrained):
                return
    except Died as death:
        if not step.derivation:
            raise RunError(f"the supernet's training could not begin: {death}") from None
        yield StepFailed(step.step, step.derivation, str(death))
    finally:
        child.kill()


def _train(
    connection: Connection[Any, Any],
    folder: Path,
    settings: Settings,
    trust_code: bool,
    course: Course,
) -> None:
    execution = {name: getattr(settings, name) for name in EXECUTION}
    run = Run(folder, trust_code=trust_code, **execution)
    for message in training(run, course):
        connection.send(message)


def step_s(problem: Problem) -> tuple[float, Bank]:
    """Seconds of a training step, by trying some from all over the training; and the bank used."""
    settings, bank, steps = problem.settings, problem.bank(), 1000
    recipe = settings.supernet.recipe(settings.seed)
    trainer = Trainer(bank, problem.tasks, recipe, steps, settings.device)
    turns = Turns(problem, steps, bank)
    for warming in (0, steps - 1):
        trainer.step(warming, turns.draw(warming, warming))
    begun = time.perf_counter()
    for step in range(0, steps, steps // TIMED):
        trainer.step(step, turns.draw(step, step))
    return (time.perf_counter() - begun) / TIMED, bank


def _length(run: Run, archive: Archive, ends: float) -> tuple[int, float | None]:
    """Training steps, decided once for a run, and seconds where there is a budget: steps as set, or
    as many as seem to fit the budget's share, of which the clock has the last word."""
    settings, noted, seconds = run.settings, archive.notes("training"), None
    if noted and (settings.budget_s is None or noted[0].get("seconds") is not None):
        known = noted[0].get("seconds")
        return int(str(noted[0]["steps"])), None if known is None else float(str(known))
    if settings.budget_s is not None and math.isfinite(settings.budget_s):
        seconds = settings.budget_s * settings.supernet.share
        seconds = max(0.0, min(seconds, ends - time.perf_counter()))
    steps = int(str(noted[0]["steps"])) if noted else settings.supernet.steps
    if not noted and seconds is not None:
        begun = time.perf_counter()
        fitting = UNTIMED
        if not run.grammar.used and settings.supernet.strategy in STRATEGIES:
            fitting = int(seconds / step_s(run.problem)[0])
        steps = max(LEAST, min(steps, fitting) if steps else fitting)
        seconds = max(0.0, seconds - (time.perf_counter() - begun))
    steps = steps or UNTIMED
    archive.note("training", steps=steps, **({} if seconds is None else {"seconds": seconds}))
    return steps, seconds
