"""A search from its arguments to its end: check, write the run, train the bank, measure what
evaluates best, then go through generations until trials or time run out.

A resumed run goes through the same; what the archive holds is not done again.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from nas.archive import Archive, ArchiveError
from nas.files import sweep
from nas.front import Limit
from nas.grammar import Grammar, sample
from nas.plan import plan
from nas.progress import shown
from nas.search.calibration import spent
from nas.search.choice import decide
from nas.search.folder import create, save_settings, vacant
from nas.search.generations import Search
from nas.search.given import Given, Tasks
from nas.search.propose import breeds, resolved, within
from nas.search.run import Run, column_clash, columns_of, load, objectives_of
from nas.search.settings import Settings, SettingsError
from nas.search.shared import CHECKPOINT, check_shared, space_of, train_bank
from nas.search.start import started
from nas.search.trial_run import tried
from nas.search.worker import banked, make_pool
from nas.supernet.bank import facts_of
from nas.task import Task, TaskError, check_shape, load_tasks
from nas.train import Listener

TRIED = 4  # networks with operators of the user's own, of which one must run


def search(
    space: str | Path | Grammar,
    tasks: Tasks = (),
    *,
    out: str | Path,
    listener: Listener | None = None,
    trust_code: bool = False,
    **settings: Any,
) -> Run:
    """Search a space for tasks; the run is kept in the folder `out`.

    space: a shipped grammar's name, a path, or a Grammar. tasks: one or several of names, TOML
    files, name=source, or a Task that was loaded; or a mapping of names to sources or to arrays
    (x, y), which are kept in the run. listener: hears how far it is; by default progress is shown.
    trust_code: whether code that the space or tasks name is run. settings: any of `Settings`.
    Raises GrammarError, TaskError, SettingsError, RunError.
    """
    folder, begun = Path(out), time.perf_counter()
    vacant(folder)
    known = space if isinstance(space, Grammar) else None
    with shown(listener) as heard, Given(tasks, folder) as given:
        facts = {"space": known.name if known else str(space), "tasks": given.specs, **settings}
        chosen, grammar, found = prepare(Settings.of(facts), known, trust_code=trust_code)
        for n, task in enumerate(found, 1):
            heard("task", n, len(found), {"says": task.describe()})
        threads = chosen.supernet.threads or torch.get_num_threads()
        chosen = chosen.model_copy(
            update={
                "tasks": tuple(given.settled(task.spec) for task in found),
                "supernet": chosen.supernet.model_copy(update={"threads": threads}),
            }
        )
        given.settle()
        create(folder, chosen, grammar, found)  # run.toml is the last to be there
        Archive.create(folder).close()
        execution = {"on": chosen.on, "workers": chosen.workers, "device": chosen.device}
        return _proceed(load(folder, trust_code=trust_code, **execution), heard, begun)


def resume(
    folder: str | Path,
    *,
    trials: int | None = None,
    budget_s: float | None = None,
    listener: Listener | None = None,
    trust_code: bool = False,
    **execution: Any,
) -> Run:
    """Carry a run on to its end; nothing recorded is done again.

    trials: how many there shall be in all, also of a run that has ended. budget_s: seconds from
    now on, for as many trials as fit, or for `trials`. execution: on, workers and device, which are
    no part of a run. A run that needs code of the user's own runs it only with `trust_code`.
    """
    begun = time.perf_counter()
    run = load(folder, trust_code=trust_code, **execution)
    sweep(run.folder)
    if not (run.folder / "journal.jsonl").exists():
        Archive.create(run.folder).close()
    if trials is not None or budget_s is not None:
        with Archive.open(run.folder, write=True) as archive:
            changed: dict[str, Any] = {"trials": trials or 0}
            without = None if run.settings.supernet.steps else math.inf
            changed["budget_s"] = budget_s + _spent(run, archive) if budget_s else without
            settings = Settings.of({**run.settings.model_dump(), **changed})
            save_settings(run.folder, run.said, settings)
        run = load(folder, trust_code=trust_code, **execution)
    with shown(listener) as heard:
        return _proceed(run, heard, begun)


def prepare(
    settings: Settings, grammar: Grammar | None = None, *, trust_code: bool = False
) -> tuple[Settings, Grammar, list[Task]]:
    """The space and tasks of a search, checked against each other before anything is written, and
    the settings as they suit the space."""
    grammar = grammar or Grammar.load(settings.space, trust_code=trust_code)
    settings = settings.suited(grammar)
    tasks = load_tasks(settings.tasks, trust_code=trust_code)
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise TaskError(f"task names must differ, and these are {', '.join(names)}")
    if clash := column_clash(tasks):
        raise TaskError(clash)
    for task in tasks[1:]:
        if task.input != tasks[0].input:
            raise TaskError(
                f"tasks of one run share their input's shape: {tasks[0].name} takes "
                f"{tasks[0].input}, {task.name} takes {task.input}"
            )
    run_checks(settings, grammar, tasks, trust_code)
    return settings, grammar, tasks


def run_checks(
    settings: Settings, grammar: Grammar, tasks: Sequence[Task], trust_code: bool
) -> None:
    """Raise for objectives, limits and heads that cannot be, with a first derivation."""
    objectives_of(settings, tasks)
    check_device(settings.device)
    limits = [Limit.parse(text, columns_of(tasks)) for text in settings.limits]
    sampler = resolved(settings.sampler, grammar)
    if settings.start and not breeds(sampler, grammar):
        raise SettingsError(f"start is for samplers that breed, and this is {sampler}: say tree")
    started(settings, grammar, tasks[0].input, limits)
    space_of(settings, grammar, tasks)
    if banked(settings, grammar):
        check_shared(settings, grammar, tasks, trust_code)
    most = None if grammar.finite else within(limits)
    first = sample(grammar, random.Random(0), input=tasks[0].input, limits=most)
    results = plan(first, heads=tasks).output_shapes()
    for task in tasks:
        check_shape(task, results[task.name].dims)
    if grammar.used:
        rng = random.Random(0)
        drawn = [sample(grammar, rng, input=tasks[0].input, limits=most) for _ in range(TRIED)]
        tried(drawn, settings, trust_code)


def check_device(device: str) -> None:
    """Raise SettingsError for a device that torch does not know or does not see."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        seen = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0]
        raise SettingsError(f"device {device!r}: {reason}; torch sees {', '.join(seen)}") from None


def _proceed(run: Run, listener: Listener, begun: float) -> Run:
    """Carry on from what is there; time counts from `begun`."""
    settings = run.settings
    check_device(settings.device)
    with Archive.open(run.folder, write=True) as archive:
        asked = {"trials": settings.trials, "budget_s": settings.budget_s}
        ended, bank = archive.notes("ended"), run.folder / "bank.safetensors"
        whole = bank.exists() or not banked(settings, run.grammar)
        if ended and whole and all(ended[-1].get(k) == value for k, value in asked.items()):
            return run
        left = math.inf
        if settings.budget_s is not None:
            left = settings.budget_s - _spent(run, archive)
        ends = begun + left
        try:
            if banked(settings, run.grammar):
                train_bank(run, archive, listener, ends)
            pool = make_pool(run.folder, settings, trust_code=run.trust_code)
            try:
                evaluator = decide(run, archive, pool, listener)
                Search(run, archive, pool, listener, evaluator, ends).go()
            finally:
                pool.close()
        except BaseException:
            with suppress(ArchiveError):  # a full disk takes no note of it
                if archive.notes("begun"):
                    archive.note("stopped")
            raise
        archive.note("ended", **asked)
    return run


def _spent(run: Run, archive: Archive) -> float:
    """Seconds that a run has taken, by what the archive and the last checkpoint tell."""
    settings = run.settings
    workers = 1 if settings.on == "local" else settings.workers or os.cpu_count() or 1
    apart = spent(archive, "finalist") + sum(trial.seconds for trial in archive.trials)
    last = run.folder / CHECKPOINT
    begun = last.exists() and not archive.notes("bank")
    training = float(facts_of(last).get("seconds", 0)) if begun else 0.0
    return spent(archive, "bank", "verdict") + training + apart / workers
