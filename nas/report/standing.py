"""How runs stand, also while another process carries them on, and which of several is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.archive import Archive, ArchiveError, Trial, being_written
from nas.dominance import growth, hypervolume, nondominated
from nas.files import FolderError
from nas.front import Objective, ParetoFront, losses_of
from nas.search import Run, RunError, SettingsError, load
from nas.search.folder import BANK, CHECKPOINT
from nas.supernet.bank_file import facts_of

WINDOW = 20  # the last trials, by which the time to come is told
Losses = tuple[float, ...]


@dataclass(frozen=True)
class Standing:
    """What can be said of a run from its folder. phase: training, evaluating, stopped or ended;
    best: of each aim's first objective; volume: the hypervolume of the front in shares of the box
    of all trials, per aim."""

    folder: Path
    phase: str
    running: bool
    done: int  # trials, or steps while training
    total: int
    failed: int
    workers: int
    eta_s: float | None
    best: dict[str, float]
    volume: dict[str, float]
    front: dict[str, int]  # how many networks are on it

    @property
    def words(self) -> str:
        """The phase with what goes on."""
        return self.phase if self.running or self.phase == "ended" else f"{self.phase}, not running"


def standing(folder: Path) -> Standing:
    """How a run stands; RunError where it is none."""
    run = load(folder)
    journal = folder / "journal.jsonl"
    if not journal.exists():
        return Standing(folder, "begun", False, 0, run.settings.trials, 0, 1, None, {}, {}, {})
    with Archive.open(folder) as archive:
        trials, notes = archive.trials, archive.notes()
    kinds = [str(note["kind"]) for note in notes]
    workers = next((int(str(n["count"])) for n in notes[::-1] if n["kind"] == "workers"), 1)
    running = being_written(folder)
    steps = next((int(str(n["steps"])) for n in notes if n["kind"] == "training"), 0)
    failed = sum(trial.state == "failed" for trial in trials)
    best, volume, front = _fronts(run, trials)
    if steps and not trials and not (folder / BANK).exists():
        saved = folder / CHECKPOINT
        done = int(facts_of(saved).get("version", 0)) if saved.exists() else 0
        return Standing(folder, "training", running, done, steps, 0, 1, None, {}, {}, {})
    total = run.settings.trials or len(trials)
    pace = [trial.seconds for trial in trials[-WINDOW:]]
    left = max(0, total - len(trials)) * sum(pace) / max(1, len(pace)) / max(1, workers)
    phase = "ended" if kinds[-1:] == ["ended"] and not running else "evaluating"
    eta = left if running and pace else None
    return Standing(
        folder, phase, running, len(trials), total, failed, workers, eta, best, volume, front
    )


def standings(folder: Path) -> tuple[list[tuple[Run, Standing]], list[str]]:
    """How every run in a folder stands, and what of it cannot be read."""
    pairs, faults = list[tuple[Run, Standing]](), list[str]()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (path / "run.toml").exists():
            continue
        try:
            pairs.append((load(path), standing(path)))
        except (RunError, SettingsError, ArchiveError, FolderError, OSError, ValueError) as error:
            faults.append(f"{path}: {str(error).splitlines()[0]}")
    return pairs, faults


def compared(
    runs: Sequence[Run], task: str = "", columns: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A row a run: its front's size, its hypervolume in shares of the box of all runs' trials, what
    share of its front others dominate, of how many of all runs' best it is one, and after how many
    trials it had what the least of the others came to. Raises RunError where objectives differ."""
    asked = [tuple(run.front(columns, task=task).objectives) for run in runs]
    for run, objectives in zip(runs, asked, strict=True):
        if objectives != asked[0]:
            first, other = (", ".join(o.name for o in some) for some in (asked[0], objectives))
            raise RunError(
                f"{run.folder} optimises {other}, and {runs[0].folder} {first}: runs are compared "
                "by the same columns: say --objectives accuracy,flops"
            )
    points = [[p for _, p in points_of(r, r.trials, task, asked[0])] for r in runs]
    every = [point for own in points for point in own]
    if not every:
        raise RunError("no run has a finished trial within its limits")
    together = {every[i] for i in nondominated(every)}
    curves = [growth(scaled(own, every), reference(every)) for own in points]
    rows = list[dict[str, Any]]()
    for at, (run, own) in enumerate(zip(runs, points, strict=True)):
        front = [own[i] for i in nondominated(own)]
        others = [curve[-1] for i, curve in enumerate(curves) if i != at and curve]
        reached = next(
            (n for n, v in enumerate(curves[at], start=1) if others and v >= min(others)), None
        )
        rows.append(
            {
                "run": str(run.folder),
                "trials": len(run.trials),
                "front": len(front),
                "hypervolume": curves[at][-1] if curves[at] else 0.0,
                "dominated": 1 - sum(p in together for p in front) / max(1, len(front)),
                "on the front of all": sum(p in together for p in set(front)),
                "trials to the least other": reached,
            }
        )
    return rows


def _fronts(
    run: Run, trials: Sequence[Trial]
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """The best value, the hypervolume and the size of the front, by aim."""
    best, volume, size = dict[str, float](), dict[str, float](), dict[str, int]()
    for aim in run.aims:
        first, points = aim.objectives[0], points_of(run, trials, aim.task, aim.objectives)
        if not points:
            continue
        values = [trial.columns()[first.name] for trial, _ in points]
        best[first.name] = max(values) if first.maximize else min(values)
        own = [p for _, p in points]
        volume[aim.task] = hypervolume(scaled(own, own), reference(own))
        size[aim.task] = len(ParetoFront.of(trials, aim.objectives, aim.limits).trials)
    return best, volume, size


def points_of(
    run: Run, trials: Sequence[Trial], task: str, objectives: Sequence[Objective]
) -> list[tuple[Trial, Losses]]:
    """The losses of the finished trials that keep the limits and have every objective."""
    limits = run.aim(task).limits
    points = list[tuple[Trial, Losses]]()
    for trial in trials:
        columns = trial.columns() if trial.state == "finished" else {}
        losses = losses_of(columns, objectives)
        if all(map(math.isfinite, losses)) and all(limit.keeps(columns) for limit in limits):
            points.append((trial, losses))
    return points


def scaled(points: Sequence[Losses], every: Sequence[Losses]) -> list[Losses]:
    """Points in shares of the box around all."""
    lows, highs = (tuple(f(column) for column in zip(*every, strict=True)) for f in (min, max))
    spans = [high - low or 1.0 for low, high in zip(lows, highs, strict=True)]
    return [
        tuple((x - low) / span for x, low, span in zip(point, lows, spans, strict=True))
        for point in points
    ]


def reference(points: Sequence[Losses]) -> Losses:
    """What hypervolumes in such shares are below: the box's corner, and a little beyond, so that
    what is worst in something counts too."""
    return (1.0 + 1e-9,) * len(points[0])
