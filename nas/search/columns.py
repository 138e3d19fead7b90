"""The columns of a run's table: what its tasks and costs are called, optimised and bounded by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nas.front import Limit, Objective
from nas.measure import COSTS
from nas.search.parts import Latency
from nas.search.settings import Settings
from nas.task import TARGETS, Metric, Task
from nas.task.target.base import NLL


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


def columns_of(tasks: Named, latencies: Sequence[Latency] = ()) -> list[str]:
    """Every column that a run on these tasks can be asked to optimise or limit."""
    long = [f"{_prefix(task)}{metric.name}" for task in tasks for metric in _metrics(task)]
    short = [metric.name for metric in _metrics(tasks[0])] if len(tasks) == 1 else []
    named = [f"{cost}@{entry.name}" for entry in latencies if entry.name for cost in CLOCKED]
    return [*short, *COSTS, *named, *long]


def finer(column: str) -> str:
    """The column that ranks as a metric's does and tells more: of what is counted right the
    likelihood, where its target has one; "" of any other."""
    for metrics in PRIMARY.values():
        for metric in metrics if NLL in metrics else ():
            if metric.larger_is_better and re.search(rf"(^|_){metric.name}$", column):
                return f"{column.removesuffix(metric.name)}{NLL.name}"
    return ""


def column_clash(tasks: Sequence[Task]) -> str:
    """Why the columns of some tasks cannot be told apart, "" where they can."""
    parts = ("", "test_", "retrained_")
    whose: dict[str, str] = dict.fromkeys(COSTS, "a cost")
    for task in tasks:
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


def objectives_of(settings: Settings, tasks: Named) -> tuple[Objective, ...]:
    """The objectives named, or each task's metric, the user's own before the target's, and FLOPs;
    with one task latency too."""
    first = "" if any(not entry.name for entry in settings.latency) else settings.latency[0].name
    clocked = f"latency_ms@{first}" if first else "latency_ms"
    usual = ("flops", clocked)[: 2 if len(tasks) == 1 else 1]
    metrics = (column(task, tasks, task.own_metric) for task in tasks)
    names = settings.objectives or (*metrics, *usual)
    known = columns_of(tasks, settings.latency)
    return tuple(Objective.named(name, known) for name in dict.fromkeys(names))


def limits_of(settings: Settings, tasks: Named) -> tuple[Limit, ...]:
    """The limits that the settings write."""
    known = columns_of(tasks, settings.latency)
    return tuple(Limit.parse(text, known) for text in settings.limits)


def kept(columns: Mapping[str, float], limits: Sequence[Limit]) -> bool:
    """Whether limits are kept by those columns that are known."""
    return all(limit.keeps(columns) for limit in limits if limit.name in columns)


def counted(limits: Sequence[Limit]) -> dict[str, int]:
    """The bounds on what can be counted of a derivation, by the name that `Limits` has for it."""
    bounds: dict[str, int] = {}
    for limit in limits:
        cost = COSTS.get(limit.name)
        if cost and cost.counted:
            bound = int(limit.bound * cost.per)
            bounds[cost.counted] = min(bound, bounds.get(cost.counted, bound))
    return bounds


def _prefix(task: TaskName | Task) -> str:
    return f"{task.name.replace('-', '_')}_"


def _metrics(task: TaskName | Task) -> tuple[Metric, ...]:
    """The target's, of which one of the user's own may replace another than the first; and that."""
    first, *others = PRIMARY[task.metric]
    own = [Metric(task.own_metric, "")] if task.own_metric else []
    return (first, *(metric for metric in others if metric.name != task.own_metric), *own)
