"""Training the weights that the subnets of a space share, before they are evaluated."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import closing

from nas.archive import Archive
from nas.events import BankSaved, Event, Listener, StepDone, Told
from nas.search.apart import ProcessLost, in_children, processes_of
from nas.search.course import (
    BankTrained,
    Course,
    Message,
    StepFailed,
    StepTrained,
    step_s,
    training,
)
from nas.search.crew import MOST_LOST
from nas.search.error import RunError
from nas.search.folder import BANK, CHECKPOINT, CLOCK
from nas.search.run import Run
from nas.search.schedule import Schedule
from nas.supernet import STRATEGIES
from nas.supernet.bank_file import facts_of

UNTIMED = 10_000  # steps of a schedule by the clock where none may be timed beforehand
NOTED = 60  # losses that a training leaves in the journal, if it has as many steps
LEAST = 20  # steps of a schedule that was timed
MOST_IN_A_ROW = 10  # steps that may fail one after the other, and a tenth of all


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
    noted = max([0, *(int(str(note["step"])) for note in archive.notes("loss"))])
    lost = 0
    with closing(_trainings(run, steps, seconds, until, passed, listener)) as messages:
        for message in messages:
            if isinstance(message, Event):
                listener(message)
            elif isinstance(message, ProcessLost):
                lost += 1
                if lost > MOST_LOST:
                    raise RunError(f"a process was lost {lost} times, the last: {message.reason}")
                listener(Told(f"goes on from the last checkpoint: {message.reason}"))
            elif isinstance(message, StepTrained):
                done, in_a_row = message.done, 0
                loss = {"loss": message.loss}
                if done > noted and (every := steps // NOTED) and done % every == 0:
                    archive.note("loss", step=done, loss=message.loss)
                    noted = done
                listener(StepDone("supernet", done, max(steps, done), loss))
            elif isinstance(message, BankTrained):
                archive.note("bank", version=message.version, seconds=message.seconds)
                for name in (CHECKPOINT, CLOCK):
                    (run.folder / name).unlink(missing_ok=True)
                listener(BankSaved(run.folder / BANK, message.version))
            elif isinstance(message, StepFailed):
                in_a_row += 1
                if message.step not in passed:
                    passed.add(message.step)
                    archive.note("passed", **message._asdict())
                if in_a_row >= MOST_IN_A_ROW or len(passed) > max(MOST_IN_A_ROW, done / 10):
                    raise _hopeless(run, message, len(passed), done)


def _trainings(
    run: Run,
    steps: int,
    seconds: float | None,
    until: float,
    passed: set[int],  # steps, as they are known when a training begins
    listener: Listener,
) -> Generator[Message | ProcessLost]:
    """The messages of trainings, each from the last checkpoint, until one comes to the end."""
    processes = processes_of(run.settings)
    own = run.settings.supernet.strategy not in STRATEGIES
    while True:
        course = Course(steps, seconds, until, frozenset(passed))
        if processes > 1 or run.grammar.used or own:
            messages = in_children(run, course, processes)
        else:
            messages = training(run, course, listener=listener)
        with closing(messages):
            for message in messages:
                yield message
                if isinstance(message, BankTrained):
                    return


def _hopeless(run: Run, step: StepFailed, failed: int, done: int) -> RunError:
    lr = run.settings.supernet.lr
    return RunError(
        f"{failed} steps of training the supernet failed where {done} were done, the last of "
        f"{step.derivation}: {step.reason}. Mend the operator, or where a loss or gradient is no "
        f"number lower supernet.lr, which is {lr}, in a new run"
    )


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
            fitting = int(seconds * processes_of(settings) / step_s(run.problem)[0])
        steps = max(LEAST, min(steps, fitting) if steps else fitting)
        seconds = max(0.0, seconds - (time.perf_counter() - begun))
    steps = steps or UNTIMED
    archive.note("training", steps=steps, **({} if seconds is None else {"seconds": seconds}))
    return steps, seconds
