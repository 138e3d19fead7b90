"""What is worth keeping of many trials: objectives, limits, the Pareto front and its table."""

from __future__ import annotations

import csv
import difflib
import io
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.dominance import beyond_noise, nondominated
from nas.journal import printable
from nas.measure.cost import COSTS, cost_columns
from nas.task.target import METRICS

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

    from nas.archive import Trial

UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Objective:
    """A column and the direction in which it is better."""

    name: str
    maximize: bool

    @staticmethod
    def named(name: str, known: Iterable[str]) -> Objective:
        """The objective of a known column: costs and nll, a task's too, minimise; others do not."""
        _check(name, known)
        return Objective(name, _maximized(name))


@dataclass(frozen=True)
class Limit:
    """A bound that a trial must keep to be on a front: at most, or at least, a value."""

    name: str
    bound: float
    least: bool = False  # whether the bound is the least there may be

    @staticmethod
    def parse(text: str, known: Iterable[str]) -> Limit:
        """Read `latency_ms=1`, `flops<=2M` or `accuracy>=0.9` (k, M and G are 1e3, 1e6 and 1e9);
        `=` is at most. Raises ValueError for a bound on the side where a column is better."""
        match = re.fullmatch(r"\s*([^\s<>=!]+)\s*(<=|>=|=)\s*([^\s=]+)\s*", text)
        bound = _number(match[3]) if match else None
        if match is None or bound is None or not math.isfinite(bound):
            raise ValueError(f"limit {text!r} is not like latency_ms=1, flops<=2M or accuracy>=0.9")
        name, sign, number = match.groups()
        _check(name, known)
        if _maximized(name) and sign != ">=":
            raise ValueError(
                f"limit {text!r}: larger is better for {name}, so it is bounded from below: "
                f"--min {name}={number} (in settings {name}>={number})"
            )
        if not _maximized(name) and sign == ">=":
            raise ValueError(
                f"limit {text!r}: smaller is better for {name}, so it is bounded from above: "
                f"--max {name}={number} (in settings {name}<={number})"
            )
        return Limit(name, bound, sign == ">=")

    def excess(self, value: float) -> float:
        """How far a value is beyond the bound, in its unit; at most 0 where it keeps it."""
        return self.bound - value if self.least else value - self.bound

    def keeps(self, columns: Mapping[str, float]) -> bool:
        """Whether a trial's columns keep the bound; one that was not measured does not."""
        return self.excess(columns.get(self.name, math.nan)) <= 0

    def __str__(self) -> str:
        return f"{self.name} {'>=' if self.least else '<='} {self.bound:g}"


@dataclass(frozen=True)
class ParetoFront:
    """The trials that no other betters in all objectives, and a table of them."""

    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]  # the first objective's best first, unless sorted otherwise

    @staticmethod
    def of(
        trials: Iterable[Trial], objectives: Sequence[Objective], limits: Sequence[Limit] = ()
    ) -> ParetoFront:
        """The front among the finished trials that keep the limits and have every objective. A
        difference that is within the spread of two measurements is no reason to be on it.

        Raises ValueError where an evaluator measured them at several fidelities, versions of a bank
        among them: what was trained further scores higher, so the others would be dominated for
        that alone.
        """
        if not objectives:
            raise ValueError("a front needs at least one objective")
        finished = [trial for trial in trials if trial.state == "finished"]
        _one_fidelity(finished, [*objectives, *limits])
        candidates = [
            (losses_of(columns, objectives), trial)
            for trial in finished
            if _keeps(columns := trial.columns(), limits)
        ]
        kept = [candidates[i] for i in nondominated([losses for losses, _ in candidates])]
        spreads = [_spreads(trial, objectives) for _, trial in kept]
        apart = beyond_noise([losses for losses, _ in kept], spreads)
        kept = sorted((kept[i] for i in apart), key=lambda pair: (pair[0], pair[1].number))
        return ParetoFront(tuple(objectives), tuple(trial for _, trial in kept))

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def _repr_html_(self) -> str:
        """The rows as a table, in a notebook."""
        return str(self.to_pandas().to_html(index=False, float_format=lambda value: f"{value:.4g}"))

    def where(self, text: str) -> ParetoFront:
        """Keep the trials for which all holds: `latency_ms < 1 and accuracy >= 0.9`.

        A column, one of < <= > >= == !=, a number (2M is 2e6); a trial without the column goes.
        """
        tests = [self._test(part) for part in re.split(r"\band\b", text)]
        kept = (trial for trial in self.trials if all(test(trial) for test in tests))
        return replace(self, trials=tuple(kept))

    def sort(self, column: str, descending: bool | None = None) -> ParetoFront:
        """The same trials by a column, by default the best first; those without it are last."""
        self._check(column)
        if descending is None:
            directions = {objective.name: objective.maximize for objective in self.objectives}
            descending = directions.get(column, _maximized(column))
        sign = -1 if descending else 1

        def rank(trial: Trial) -> tuple[bool, float]:
            value = trial.value(column)
            missing = value is None or math.isnan(value)
            return missing, 0.0 if value is None or missing else sign * value

        return replace(self, trials=tuple(sorted(self.trials, key=rank)))

    def rows(self) -> list[dict[str, object]]:
        """A dict a trial, of id and the same columns in each; None where it was not measured."""
        names = self._columns()
        rows = ((trial.id, trial.columns()) for trial in self.trials)
        return [{"id": id, **{name: row.get(name) for name in names}} for id, row in rows]

    @property
    def devices(self) -> dict[str, str]:
        """How networks were run whose latency was measured, by column; of several ways all."""
        ways: dict[str, dict[str, None]] = {}
        for trial in self.trials:
            for column, measurement in trial.newest().items():
                if column.partition("@")[0] == "latency_ms":
                    ways.setdefault(column, {})[measurement.device] = None
        return {column: "; ".join(sorted(devices)) for column, devices in ways.items()}

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a table, one a trial."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=["id", *self._columns()])

    def to_csv(self) -> str:
        """The rows as comma-separated text with a header; empty where it was not measured."""
        text = io.StringIO()
        names = ["id", *self._columns()]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writerow({name: cell(name) for name in names})
        writer.writerows({name: cell(value) for name, value in row.items()} for row in self.rows())
        return text.getvalue()

    def _columns(self) -> list[str]:
        """Objectives, then costs, then all others by name."""
        measured = {name for trial in self.trials for name in trial.columns()}
        costs = cost_columns(measured)
        names = [*(objective.name for objective in self.objectives), *costs, *sorted(measured)]
        return list(dict.fromkeys(names))

    def _check(self, column: str) -> None:
        if self.trials:  # an empty front does not know its columns
            _check(column, self._columns())

    def _test(self, text: str) -> Callable[[Trial], bool]:
        match = re.fullmatch(r"\s*([^\s<>=!]+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*", text)
        bound = _number(match[3]) if match else None
        if match is None or bound is None:
            known = ", ".join(self._columns())
            raise ValueError(
                f"{text.strip()!r} is not a column, one of {' '.join(COMPARISONS)} and a number, "
                f"as in 'latency_ms < 1 and accuracy >= 0.9'. Columns: {known}"
            )
        name, compare = match[1], COMPARISONS[match[2]]
        self._check(name)

        def test(trial: Trial) -> bool:
            value = trial.value(name)
            return value is not None and not math.isnan(value) and compare(value, bound)

        return test


def cell(value: object) -> object:
    """A value for CSV: a text that a spreadsheet would take for a formula is quoted, and what would
    steer a terminal is left out."""
    if not isinstance(value, str):
        return value
    formula = value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{printable(value)}" if formula else printable(value)


def losses_of(columns: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The objectives' values, all to be minimised; NaN where one is missing."""
    values = (columns.get(objective.name, math.nan) for objective in objectives)
    return tuple(-v if o.maximize else v for v, o in zip(values, objectives, strict=True))


def _spreads(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    newest = trial.newest()
    return tuple(newest[objective.name].spread or 0.0 for objective in objectives)


def _one_fidelity(trials: Iterable[Trial], read: Sequence[Objective | Limit]) -> None:
    """Raise ValueError where what is read of some trials rests on more training in some than in
    others by the same evaluator. A network that was retrained is as good as it came to be."""
    fidelities: dict[tuple[str, str], dict[str, str]] = {}
    for trial in trials:
        newest = trial.newest()
        for name in (column.name for column in read if column.name in newest):
            measurement = newest[name]
            retrained = measurement.split == "test" or measurement.evaluator == "retrained"
            if (text := measurement.fidelity_text) and not retrained:
                by = fidelities.setdefault((name, measurement.evaluator), {})
                by.setdefault(text, trial.id)
    for (name, _), first in fidelities.items():
        if len(first) > 1:
            texts = ", ".join(f"{met} (as {id})" for met, id in first.items())
            raise ValueError(
                f"{name} was measured at several fidelities: {texts}; what was trained longer "
                "scores higher, so they cannot be compared in one front: evaluate all trials at "
                "one fidelity, or look at each one's trials alone"
            )


def _keeps(columns: dict[str, float], limits: Sequence[Limit]) -> bool:
    return all(limit.keeps(columns) for limit in limits)


def _maximized(name: str) -> bool:
    """Whether more of a column is better: not of a cost, on whatever device, nor of a loss among
    the metrics, of whatever task."""
    quantity = name.partition("@")[0]
    losses = (m.name for m in METRICS.values() if not m.larger_is_better)
    return not any(quantity == less or quantity.endswith(f"_{less}") for less in (*COSTS, *losses))


def _number(text: str) -> float | None:
    """The number of a text such as 0.9, 1e-3 or 2M, None if it is none."""
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([kMG]?)", text)
    return float(match[1]) * UNITS[match[2]] if match else None


def _check(name: str, known: Iterable[str]) -> None:
    names = sorted(set(known))
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is no known column.{hint} Columns: {', '.join(names)}")
