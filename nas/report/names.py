"""The columns of a run, each under one name, and how a page says them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas.archive import Measurement, Trial
from nas.front import ParetoFront
from nas.measure import COSTS, cost_columns
from nas.report import text
from nas.search import Run


@dataclass(frozen=True)
class Names:
    """The columns of a run, each under one name, and how to say them."""

    tasks: tuple[str, ...]
    columns: tuple[str, ...]  # objectives, then costs, then others
    after: frozenset[str]  # measured on the test split or after retraining
    runtimes: Mapping[str, str]  # of the latencies, by column

    @staticmethod
    def of(run: Run, trials: Sequence[Trial], fronts: Iterable[ParetoFront]) -> Names:
        tasks = tuple(task.name for task in run.named)
        wanted = [objective.name for objective in run.objectives]
        costs = cost_columns({*COSTS, *(name for trial in trials for name in trial.columns())})
        after_by_column: dict[str, bool] = dict.fromkeys([*wanted, *costs], False)
        for trial in trials:
            for one in trial.measurements:
                after = one.split == "test" or one.evaluator in ("retrained", "extracted")
                after_by_column[column(one, tasks, wanted)] = after
        measured = {name for trial in trials for name in trial.columns()}
        kept = [name for name in after_by_column if name in measured]
        later = frozenset(name for name in kept if after_by_column[name])
        runtimes = {
            name: re.sub(r"[^\w .+-]", "", device.partition(",")[0])  # figures take marks for links
            for front in fronts
            for name, device in front.devices.items()
        }
        return Names(tasks, tuple(kept), later, runtimes)

    def label(self, column: str) -> str:
        """A column in words; of a latency also what runs the network."""
        words = text.label(column, self.tasks)
        runtime = self.runtimes.get(column, "")
        return f"{words} ({runtime})" if runtime else words


def column(measurement: Measurement, tasks: Sequence[str], wanted: Iterable[str] = ()) -> str:
    """The column a measurement is shown in: the short name where a run has one task, and the one
    with the task where it has several, as in its objectives."""
    by_length = sorted(_alone(measurement).columns(), key=len)
    asked = [name for name in by_length if name in set(wanted)]
    return (asked or by_length)[0] if len(tasks) == 1 else by_length[-1]


def _alone(measurement: Measurement) -> Trial:
    return Trial(0, "", {}, "finished", measurements=(measurement,))
