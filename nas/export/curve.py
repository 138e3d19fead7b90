"""The learning curve of a retraining: a row an epoch, and which epoch was the best."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, isnan
from pathlib import Path

from nas.archive import Measurement
from nas.export.error import ExportError
from nas.files import write
from nas.task import METRICS, TARGETS, Task

CURVE = "curve.csv"
BARS = "▁▂▃▄▅▆▇█"
Row = Mapping[str, float]


@dataclass
class Curve:
    """Rows of epoch, step, lr, the mean training loss, every metric on validation, its merit (the
    mean over tasks of what each is judged by), and seconds."""

    rows: list[Row] = field(default_factory=list)

    @property
    def best(self) -> Row | None:
        """The row of the highest merit, of equal ones the last."""
        return max(self.rows, key=lambda row: (row["merit"], row["step"]), default=None)

    def stale(self, patience: int) -> bool:
        """Whether so many epochs brought nothing better; never with 0."""
        if not patience or self.best is None:
            return False
        merits = [row["merit"] for row in self.rows]
        return len(merits) - 1 - merits.index(self.best["merit"]) >= patience

    @property
    def text(self) -> str:
        """As a checkpoint keeps it."""
        return json.dumps(self.rows)

    @staticmethod
    def read(text: str) -> Curve:
        """Raises ExportError where the text is none."""
        try:
            rows = json.loads(text)
            known = [{str(k): float(v) for k, v in row.items()} for row in rows]
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ExportError(f"a learning curve cannot be read: {error}") from None
        return Curve([row for row in known if {"epoch", "step", "merit"} <= row.keys()])

    @staticmethod
    def load(folder: Path) -> Curve:
        """That of a network's folder, without rows where it has none."""
        try:
            with (folder / CURVE).open(encoding="utf-8", newline="") as file:
                return Curve.read(json.dumps(list(csv.DictReader(file))))
        except (OSError, ValueError, csv.Error):  # it serves to be looked at, and no more
            return Curve()

    def save(self, folder: Path) -> None:
        """Write curve.csv."""
        if not self.rows:
            return
        table = io.StringIO()
        writer = csv.DictWriter(table, list(self.rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        write(folder / CURVE, table.getvalue().encode())

    def __str__(self) -> str:
        """Its merit in a line, "" without rows."""
        values = [row["merit"] for row in self.rows if isfinite(row["merit"])]
        if not values or self.best is None:
            return ""
        low, high = min(values), max(values)
        some = values[:: max(1, len(values) // 60)]
        bars = (int((v - low) / ((high - low) or 1) * (len(BARS) - 1)) for v in some)
        return (
            f"on validation {values[0]:.4g} {''.join(BARS[bar] for bar in bars)} {values[-1]:.4g}, "
            f"the best {self.best['merit']:.4g} at epoch {self.best['epoch']:g}, which is kept"
        )


def merit(measurements: Sequence[Measurement], tasks: Sequence[Task]) -> float:
    """The weighted mean over tasks of what each is judged by, more being better; -inf where one of
    them is no number."""
    values = {(m.task, m.name): m.value for m in measurements}
    weighted = list[float]()
    for task in tasks:
        name = TARGETS[task.target].merit or task.metric
        value = values[task.name, name] * (1 if METRICS[name].larger_is_better else -1)
        weighted.append(-inf if isnan(value) else task.weight * value)
    return sum(weighted) / sum(task.weight for task in tasks)
