"""Training shared weights in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nas.search.child import START_S, Died
from nas.search.course import Course, Message, StepBegun, StepFailed, training
from nas.search.crew import crew
from nas.search.error import RunError
from nas.search.job import longest_s
from nas.search.parts import SettingsError
from nas.search.run import Run
from nas.search.settings import EXECUTION, Settings
from nas.train import Group, Lost

GRACE_S = 5.0  # past the end of time, for a checkpoint to be read and a bank to be written


class ProcessLost(NamedTuple):
    """One of several processes ended before its time, and with it the training."""

    reason: str


def usual_processes(device: str, processes: int = 0) -> int:
    """Processes as asked for, or one a GPU."""
    return processes or (torch.cuda.device_count() if device == "cuda" else 1)


def processes_of(settings: Settings) -> int:
    """Processes that train together. Raises SettingsError where more are asked for than a step has
    parts."""
    parts = settings.supernet.parts or 1
    if settings.processes > parts:
        raise SettingsError(
            f"processes {settings.processes}: a step of this run has {parts} parts, which are "
            "decided when a run begins (supernet.parts): ask for no more processes"
        )
    return min(parts, usual_processes(settings.resolved_device, settings.processes))


def members(on: str) -> Callable[..., Generator[Any]]:
    """`crew` here, or on Ray, which is imported where it is asked for."""
    if on == "local":
        return crew
    from nas.search.ray_crew import crew_on_ray

    return partial(crew_on_ray, on=on)


def in_children(run: Run, course: Course, processes: int) -> Generator[Message | ProcessLost]:
    """The messages of a training in children. Where it is one, the step in which it dies is a step
    that failed, and the last message; of several a lost one is."""
    longest, step, begun = longest_s(run.settings), StepBegun(0, ""), False

    def limit_s() -> float:
        if not begun:
            return START_S
        # to leave what was trained, it may take a little longer
        return min(longest, max(GRACE_S, course.until - time.perf_counter()))

    words = run.folder.resolve(), run.settings, run.trust_code, course
    device = run.settings.resolved_device
    try:
        on = run.settings.on if processes > 1 else "local"
        with closing(
            members(on)(_train, *words, processes=processes, device=device, limit_s=limit_s)
        ) as messages:
            for message in messages:
                begun = True
                if isinstance(message, StepBegun):
                    step = message
                else:
                    yield message
    except (Died, Lost) as death:
        if not step.derivation:
            raise RunError(f"the supernet's training could not begin: {death}") from None
        if processes > 1:
            yield ProcessLost(str(death))
        else:
            yield StepFailed(step.step, step.derivation, str(death))


def _train(
    send: Callable[[Any], None],
    device: str,
    group: Group | None,
    folder: Path,
    settings: Settings,
    trust_code: bool,
    course: Course,
) -> None:
    execution = {name: getattr(settings, name) for name in EXECUTION} | {"device": device}
    run = Run(folder, trust_code=trust_code, **execution)
    for message in training(run, course, group, send):
        send(message)
