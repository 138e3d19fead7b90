"""Earlier runs as a search reads them: their tasks in its own space, kept beside its journal."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from nas.archive import ArchiveError, Trial
from nas.files import FolderError, write
from nas.front import Objective
from nas.grammar import Derivation, Follow, Grammar, GrammarError, choose_at_random, derive
from nas.grammar.derivation import Input
from nas.grammar.weighted import structure, weighted
from nas.search.columns import TaskName, column, finer
from nas.search.earlier import Earlier, Lessons
from nas.search.error import RunError
from nas.search.folder import EARLIER
from nas.search.inner import evenly_spaced
from nas.search.parts import SettingsError
from nas.search.predictor import FEWEST
from nas.search.run import Run
from nas.task import Task

TASKS = 200  # at most that a run learns from
DEEP = 3  # folders below one in which runs are looked for
BEST, OTHERS = 250, 150  # of many trials those that are learned from, and some others
FAULTS = (RunError, SettingsError, ArchiveError, FolderError, GrammarError, OSError, ValueError)


def learned(
    folders: Sequence[Path],
    grammar: Grammar,
    input: Input | None = None,
    *,
    but: Path | None = None,
    trust_code: bool = False,
) -> tuple[Lessons, list[str]]:
    """What the runs in some folders teach of a grammar; and of each task of theirs in a line how
    much, or why it is passed over. input: what networks take now, by default what they took then.
    but: a run that is no earlier one. Raises RunError where there is no run."""
    earlier, notes = list[Earlier](), list[str]()
    for folder in folders:
        runs = [run for run in _runs(folder, DEEP) if but is None or run.resolve() != but.resolve()]
        if not runs:
            raise RunError(f"{folder}: there is no run in it: name a run's folder, or one of runs")
        for run in runs:
            try:
                earlier += _tasks(Run(run, trust_code=trust_code), grammar, input, notes)
            except FAULTS as error:
                notes.append(f"{run} is passed over: {str(error).splitlines()[0]}")
    if len(earlier) > TASKS:
        notes.append(f"of {len(earlier)} tasks the first {TASKS} are learned from")
    return Lessons(tuple(earlier[:TASKS])), notes


def learned_grammar(
    folders: Sequence[Path], space: str, *, trust_code: bool = False
) -> tuple[str, list[str]]:
    """A space as text, in which options are as probable as the best of earlier runs chose them; and
    in lines what was learned from. Raises RunError where nothing was."""
    grammar = Grammar.load(space, trust_code=trust_code)
    lessons, notes = learned(folders, grammar, trust_code=trust_code)
    if not lessons.earlier:
        raise RunError("; ".join(notes))
    best = sum(len(task.best) for task in lessons.earlier)
    tasks = len(lessons.earlier)
    head = (
        f"# {grammar.name} with the weights of what the best {best} architectures of {tasks} "
        f"earlier task{'s' * (tasks != 1)} chose.\n\n"
    )
    return head + weighted(grammar, lessons.shares).text, notes


@dataclass(frozen=True)
class Record:
    """An earlier task as it is kept: architectures as text, and their losses."""

    name: str
    derivations: tuple[str, ...]
    losses: tuple[float, ...]


def save(lessons: Lessons, folder: Path) -> None:
    """Keep what a run learns from in its folder, so that it goes on without the earlier ones."""
    records = [
        asdict(Record(task.name, tuple(map(str, task.derivations)), task.losses))
        for task in lessons.earlier
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / EARLIER, json.dumps(records).encode())


def kept(run: Run) -> Lessons:
    """What a run learns from, as it was kept; nothing where it learns from none. Raises RunError
    for a file that is damaged."""
    path = run.folder / EARLIER
    if not run.settings.learn_from:
        return Lessons(())
    try:
        records = TypeAdapter(list[Record]).validate_json(path.read_bytes())
        if len(records) > TASKS or any(len(r.losses) > BEST + OTHERS for r in records):
            raise ValueError(f"more than {TASKS} tasks, or {BEST + OTHERS} architectures of one")
        return Lessons(tuple(_read(record, run.grammar) for record in records))
    except (ValidationError, GrammarError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{path}: what was learned from earlier runs cannot be read ({reason}); without it the "
            "run would go on otherwise: put it back, or search anew"
        ) from None


def _read(record: Record, grammar: Grammar) -> Earlier:
    derivations = tuple(Derivation.read(text, grammar) for text in record.derivations)
    if len(derivations) != len(record.losses):
        raise ValueError(f"{len(derivations)} architectures and {len(record.losses)} losses")
    return Earlier(record.name, derivations, record.losses)


def _runs(folder: Path, deep: int) -> Iterator[Path]:
    """The runs in a folder and below it; links are not followed."""
    if folder.is_symlink() or not folder.is_dir():
        return
    if (folder / "run.toml").exists():
        yield folder
    elif deep:
        for inner in sorted(folder.iterdir()):
            yield from _runs(inner, deep - 1)


def _tasks(run: Run, grammar: Grammar, input: Input | None, notes: list[str]) -> Iterator[Earlier]:
    """The tasks of a run that can be learned from."""
    if structure(run.grammar) != structure(grammar):
        raise RunError(f"its space is {run.grammar.name}, and this is {grammar.name}")
    trials = run.trials
    for task in run.named:
        pairs = ((trial, _loss(trial, task, run)) for trial in trials)
        measured = [(trial, loss) for trial, loss in pairs if loss is not None]
        name = f"{run.folder}: {task.name}"
        if len(measured) < FEWEST:
            notes.append(
                f"{name} is passed over: {len(measured)} trials, and {FEWEST} tell something"
            )
            continue
        some = _some(measured)
        read = (Derivation.read(trial.text, run.grammar) for trial, _ in some)
        here = [_here(derivation, grammar, input) for derivation in read]
        earlier = Earlier(name, tuple(here), tuple(loss for _, loss in some))
        if earlier.predictor is None:
            notes.append(f"{name} is passed over: {len(measured)} trials tell nothing of others")
            continue
        words = f"they predict each other with τ {earlier.predictor.agreement:.2f}"
        notes.append(f"{name}: {len(measured)} trials, {words}")
        yield earlier


def _loss(trial: Trial, task: TaskName | Task, run: Run) -> float | None:
    """How bad a trial was on a task by validation, by what tells most; None where it failed."""
    columns = trial.columns() if trial.state != "failed" else {}
    name = column(task, run.named, task.own_metric or task.metric)
    told = finer(name)
    if told in columns:
        loss = columns[told]
    elif name in columns:
        loss = -columns[name] if Objective.named(name, [name]).maximize else columns[name]
    else:
        return None
    return loss if math.isfinite(loss) else None


def _some(measured: Sequence[tuple[Trial, float]]) -> list[tuple[Trial, float]]:
    """The best of many trials and some others, evenly."""
    ordered = sorted(measured, key=lambda pair: pair[1])
    rest = ordered[BEST:]
    return ordered[:BEST] + (rest if len(rest) <= OTHERS else evenly_spaced(rest, OTHERS))


def _here(derivation: Derivation, grammar: Grammar, input: Input | None) -> Derivation:
    """The same choices in a grammar that differs in weights, for another input; what is open there
    alone is drawn, always alike."""
    shape = derivation.input if input is None else input
    if grammar.hash == derivation.grammar.hash and shape == derivation.input:
        return derivation
    otherwise = choose_at_random(random.Random(str(derivation)))
    return derive(grammar, Follow(derivation, otherwise), input=shape)
