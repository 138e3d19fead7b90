"""The columns of a run's table: what its tasks and costs are called, optimised and bounded by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from nas.archive import Trial
from nas.front import Limit, Objective, ParetoFront
from nas.measure import COSTS, cost_named
from nas.measure.profile import column_of
from nas.search.settings import Settings
from nas.task import TARGETS, Metric, Task
from nas.task.target.base import LOSS, NLL


class Aim(NamedTuple):
    """What architectures are chosen by: for all tasks of a run together, or for one of them."""

    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...] = ()
    task: str = ""


class TaskName(NamedTuple):
    """What a run's tables need of a task, without its data."""

    name: str
    metric: str
    title: str = ""
    trivial: float | None = None  # what always the training prior comes to on validation
    own_metric: str = ""  # the name of a metric of the user's own, of which more is better


Named = Sequence[TaskName | Task]
CLOCKED = tuple(name for name, cost in COSTS.items() if cost.of is None)
PRIMARY = {target.metrics[0].name: target.metrics for target in TARGETS.values()}


def column(task: TaskName | Task, tasks: Named, metric: str = "") -> str:
    """The column of a task's metric, by default its primary: plain where there is one task."""
    name = metric or task.metric
    return name if len(tasks) == 1 else f"{_prefix(task)}{name}"


def columns_of(settings: Settings, tasks: Named) -> list[str]:
    """Every column that a run on these tasks can be asked to optimise or limit."""
    long = [f"{_prefix(task)}{metric.name}" for task in tasks for metric in _metrics(task)]
    short = [metric.name for metric in _metrics(tasks[0])] if len(tasks) == 1 else []
    named = [f"{cost}@{entry.name}" for entry in settings.latency if entry.name for cost in CLOCKED]
    costs = [*COSTS, *named, *map(column_of, settings.profiles)]
    own = [f"{_prefix(task)}{cost}" for task in tasks for cost in costs if settings.per_task]
    return [*short, *costs, *long, *own]


def finer(column: str) -> str:
    """The column that ranks as a metric's does and tells more: of what is counted right the
    likelihood, where its target has one; "" of any other."""
    for metrics in PRIMARY.values():
        told = next((metric for metric in (NLL, LOSS) if metric in metrics), None)
        for metric in sorted(metrics, key=lambda m: -len(m.name)) if told else ():
            if metric.larger_is_better and re.search(rf"(^|_){metric.name}$", column):
                return f"{column.removesuffix(metric.name)}{told.name}" if told else ""
    return ""


def column_clash(tasks: Sequence[Task]) -> str:
    """Why the columns of some tasks cannot be told apart, "" where they can."""
    parts = ("", "test_", "retrained_")
    whose: dict[str, str] = dict.fromkeys(COSTS, "a cost")
    for task in tasks:
        if cost := cost_named(task.own_metric):
            return (
                f"{task.name!r} has a metric {task.own_metric}, which ends as the cost {cost.name} "
                "does, of which less is better: rename the function"
            )
        for metric in _metrics(task):
            for part in parts:
                whose.setdefault(f"{part}{metric.name}", "a run's own")
    for task in tasks:
        for metric in _metrics(task):
            for part in parts:
                name = f"{_prefix(task)}{part}{metric.name}"
                if name in whose:
                    return (
                        f"the task {task.name!r} would have the column {name}, which is "
                        f"{whose[name]} already: give it another name, as mine={task.spec}"
                    )
                whose[name] = f"that of {task.name!r}"
    return ""


def aims_of(settings: Settings, tasks: Named) -> tuple[Aim, ...]:
    """What architectures are chosen by, by the objectives and limits that the settings name. Where
    each task finds its own, a cost is that of a network for the task alone, and a metric's bare
    name that of each task which has it. Raises ValueError for a name that is no column."""
    named = any(not entry.name for entry in settings.latency)
    clocked = "latency_ms" if named else f"latency_ms@{settings.latency[0].name}"
    usual = ("flops", clocked)[: 2 if len(tasks) == 1 else 1]
    known = columns_of(settings, tasks)
    if not settings.per_task:
        metrics = (column(task, tasks, task.own_metric) for task in tasks)
        names = settings.objectives or (*metrics, *usual)
        objectives = tuple(Objective.named(name, known) for name in dict.fromkeys(names))
        return (Aim(objectives, tuple(Limit.parse(text, known) for text in settings.limits)),)
    bare = [metric.name for task in tasks for metric in _metrics(task)]
    asked = [Objective.named(name, [*known, *bare]) for name in settings.objectives or usual]
    limits = [Limit.parse(text, [*known, *bare]) for text in settings.limits]
    return tuple(_own_aim(task, asked, limits) for task in tasks)


def _own_aim(task: TaskName | Task, asked: Sequence[Objective], limits: Sequence[Limit]) -> Aim:
    """What one task's architectures are chosen by: its metric first, where none is asked for."""
    objectives = [replace(o, name=name) for o in asked if (name := own_column(task, o.name))]
    if all(cost_named(objective.name) for objective in objectives):
        name = f"{_prefix(task)}{task.own_metric or task.metric}"
        objectives.insert(0, Objective.named(name, [name]))
    bounds = [
        replace(bound, name=name) for bound in limits if (name := own_column(task, bound.name))
    ]
    return Aim(tuple(dict.fromkeys(objectives)), tuple(bounds), task.name)


def own_column(task: TaskName | Task, name: str) -> str:
    """A task's own column of a metric or a cost, which may be said with or without its name; ""
    where it is another task's."""
    own, prefix = {metric.name for metric in _metrics(task)}, _prefix(task)
    bare = name.removeprefix(prefix)
    mine = bare in own or bare.partition("@")[0] in COSTS
    return f"{prefix}{bare}" if mine else ""


def on_fronts(trials: Sequence[Trial], aims: Sequence[Aim]) -> list[Trial]:
    """The trials on the front of some aim, each once."""
    fronts = (ParetoFront.of(trials, aim.objectives, aim.limits).trials for aim in aims)
    return list({trial.id: trial for front in fronts for trial in front}.values())


def kept_by_any(columns: Mapping[str, float], aims: Sequence[Aim]) -> bool:
    """Whether the limits of some aim are kept by those columns that are known."""
    return any(kept(columns, aim.limits) for aim in aims)


def kept(columns: Mapping[str, float], limits: Sequence[Limit]) -> bool:
    """Whether limits are kept by those columns that are known."""
    return all(limit.keeps(columns) for limit in limits if limit.name in columns)


def counted(limits: Sequence[Limit], bits: int = 32) -> dict[str, int]:
    """The bounds on what can be counted of a derivation, by the name that `Limits` has for it,
    where weights have so many bits at least."""
    bounds: dict[str, int] = {}
    for limit in limits:
        cost = cost_named(limit.name)
        if cost and cost.counted:
            bound = int(limit.bound * cost.per * (32 / bits if cost.packed else 1))
            bounds[cost.counted] = min(bound, bounds.get(cost.counted, bound))
    return bounds


def counted_by_any(aims: Sequence[Aim], bits: int = 32) -> dict[str, int]:
    """The bounds that no aim goes beyond."""
    each = [counted(aim.limits, bits) for aim in aims]
    return {
        name: max(bounds[name] for bounds in each)
        for name in each[0]
        if all(name in bounds for bounds in each)
    }


def _prefix(task: TaskName | Task) -> str:
    return f"{task.name.replace('-', '_')}_"


def _metrics(task: TaskName | Task) -> tuple[Metric, ...]:
    """The target's, of which one of the user's own may replace another than the first; and that."""
    first, *others = PRIMARY[task.metric]
    own = [Metric(task.own_metric, "")] if task.own_metric else []
    return (first, *(metric for metric in others if metric.name != task.own_metric), *own)
