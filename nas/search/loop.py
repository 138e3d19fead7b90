"""A search from its arguments to its end: check, write the run, train the bank, measure what
evaluates best, then go through generations until trials or time run out.

A resumed run goes through the same; what the archive holds is not done again.
"""

from __future__ import annotations

import math
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch

from nas.archive import Archive, ArchiveError
from nas.events import Listener, RunEnded, Told
from nas.files import sweep
from nas.grammar import Grammar
from nas.progress import heard_by
from nas.search.apart import usual_processes
from nas.search.calibration import parallel, spent
from nas.search.choose_evaluator import choose_evaluator
from nas.search.choose_runtime import choose_runtime
from nas.search.earlier import Lessons
from nas.search.folder import BANK, CHECKPOINT, create, keep_profiles, save_settings, vacant
from nas.search.generations import Search
from nas.search.given import Given, Tasks
from nas.search.lessons import learned, save
from nas.search.pools import joined, make_pool
from nas.search.prepare import check_runtimes, prepare
from nas.search.problem import Problem
from nas.search.run import Run, load
from nas.search.settings import EXECUTION, Settings
from nas.search.train_supernet import train_supernet
from nas.supernet.bank_file import facts_of


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
    with heard_by(listener) as hear, Given(tasks, folder) as given:
        facts = {"space": known.name if known else str(space), "tasks": given.specs, **settings}
        problem = prepare(Settings.of(facts), known, trust_code=trust_code)
        for task in problem.tasks:
            hear(Told(task.describe()))
        chosen = problem.settings
        parts = chosen.supernet.parts or usual_processes(chosen.resolved_device, chosen.processes)
        threads = chosen.supernet.threads or torch.get_num_threads()
        chosen = chosen.model_copy(
            update={
                "tasks": tuple(given.settled(task.spec) for task in problem.tasks),
                "supernet": chosen.supernet.model_copy(update={"threads": threads, "parts": parts}),
            }
        )
        given.settle()
        lessons, notes = learned_by(problem, folder, trust_code=trust_code)
        for note in notes:
            hear(Told(note))
        if chosen.learn_from:
            save(lessons, folder)
        keep_profiles(folder, chosen.profiles)
        create(folder, chosen, problem.grammar, problem.tasks)  # run.toml is the last to be there
        Archive.create(folder).close()
        execution = {name: getattr(chosen, name) for name in EXECUTION}
        return _proceed(load(folder, trust_code=trust_code, **execution), hear, begun)


def learned_by(problem: Problem, folder: Path, *, trust_code: bool) -> tuple[Lessons, list[str]]:
    """What a search learns from earlier runs, and in words from which."""
    if not problem.settings.learn_from:
        return Lessons(()), []
    paths = [Path(path) for path in problem.settings.learn_from]
    lessons, notes = learned(
        paths, problem.grammar, problem.input, but=folder, trust_code=trust_code
    )
    total = len(lessons.earlier)
    return lessons, [*notes, f"{total or 'no'} earlier task{'s' * (total != 1)} to learn from"]


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
            save_settings(run.folder, run.written, settings)
        run = load(folder, trust_code=trust_code, **execution)
    with heard_by(listener) as hear:
        return _proceed(run, hear, begun)


def _proceed(run: Run, listener: Listener, begun: float) -> Run:
    """Carry on from what is there; time counts from `begun`."""
    settings = run.settings
    check_runtimes(run.problem)
    with Archive.open(run.folder, write=True) as archive:
        asked = {"trials": settings.trials, "budget_s": settings.budget_s}
        ended, banked = archive.notes("ended"), run.problem.banked
        whole = not banked or (run.folder / BANK).exists()
        if ended and whole and all(ended[-1].get(k) == value for k, value in asked.items()):
            return run
        left = math.inf
        if settings.budget_s is not None:
            left = settings.budget_s - _spent(run, archive)
        ends = begun + left
        try:
            with joined(settings):
                if banked:
                    train_supernet(run, archive, listener, ends)
                settled = choose_runtime(run, archive, listener)
                with closing(make_pool(run.folder, settled, trust_code=run.trust_code)) as pool:
                    evaluator = choose_evaluator(run, archive, pool, listener)
                    Search(run, archive, pool, listener, evaluator, ends).go()
        except BaseException:
            with suppress(ArchiveError):  # a full disk takes no note of it
                if archive.notes("begun"):
                    archive.note("stopped")
            raise
        archive.note("ended", **asked)
        listener(RunEnded(run.folder, len(archive.trials)))
    return run


def _spent(run: Run, archive: Archive) -> float:
    """Seconds that a run has taken, by what the archive and the last checkpoint tell."""
    apart = spent(archive, "finalist") + sum(trial.seconds for trial in archive.trials)
    last = run.folder / CHECKPOINT
    begun = last.exists() and not archive.notes("bank")
    training = float(facts_of(last).get("seconds", 0)) if begun else 0.0
    return spent(archive, "bank", "verdict") + training + apart / parallel(archive, run.settings)
