"""Columns, numbers, durations and commands, written for a person."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from nas.measure import cost_named

SPELLED = {"iou": "IoU", "nll": "NLL", "eer": "EER", "dcf": "DCF"}


def label(column: str, tasks: Iterable[str] = ()) -> str:
    """A column in words: `scenes_segment_mean_iou` is "scenes-segment mean IoU"."""
    for task in tasks:
        prefix = task.replace("-", "_") + "_"
        if column.startswith(prefix):
            return f"{task} {label(column.removeprefix(prefix))}"
    if (cost := cost_named(column)) is not None:
        device = column.partition("@")[2]
        return f"{cost.words} on {device}" if device else cost.words
    return " ".join(SPELLED.get(word, word) for word in column.split("_"))


def human(column: str, value: float | None, spread: float | None = None) -> str:
    """A value with its unit, short: 605 k, 0.702 ms, 86.9 kB, 0.9653; a dash where there is none.

    A spread is said to the same decimals: 2.03 ± 0.05 ms.
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else str(value)
    cost = cost_named(column)
    if cost is not None and cost.count:
        return scaled(value)
    if cost is not None and cost.unit == "ms":
        number = digits(value)
        places = len(number.partition(".")[2])
        return f"{number} ms" if spread is None else f"{number} ± {spread:.{places}f} ms"
    if cost is not None and cost.unit in ("kB", "µJ"):
        return f"{digits(value)} {cost.unit}"
    if cost is not None and cost.unit == "MB":
        return f"{digits(value)} MB" if value >= 1 else f"{digits(value * 1e3)} kB"
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.4g}"


def exact(column: str, value: float | None) -> str:
    """A value in full: 605,472 FLOPs."""
    if value is None:
        return "not measured"
    cost = cost_named(column)
    whole = cost is not None and cost.count and math.isfinite(value)
    text = f"{value:,.0f}" if whole else repr(value)
    return f"{text} {cost.unit if cost else ''}".rstrip()


def scaled(value: float) -> str:
    """A count with k, M or G: 999, 21.7 k, 1.69 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{digits(value / size)} {unit}"
    return f"{value:.0f}"


def mark(value: float) -> str:
    """A round count as an axis says it: 500k, 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def digits(value: float) -> str:
    """Three significant digits without an exponent where there are fewer than seven before."""
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    places = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))
    return f"{value:.{places}f}"


def duration(seconds: float) -> str:
    """12 s, 3 min 4 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{digits(seconds)} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def estimate(value: Sequence[float | None], places: int = 2) -> str:
    """A statistic with its interval: 0.62 [0.41, 0.78]; a dash where it is not defined."""
    first, low, high = ("–" if bound is None else f"{bound:.{places}f}" for bound in value)
    return first if low == high == "–" else f"{first} [{low}, {high}]"


def commands(folder: Path, id: str, trust: str = "", tasks: Sequence[str] = ("",)) -> list[str]:
    """What to type to take a trial's network out, or one for each of some tasks, and to train it
    fully; `trust` is said too."""
    run, id = shlex.quote(shown(folder)), shlex.quote(id)
    own = [f" --task {shlex.quote(task)}" if task else "" for task in tasks]
    taken = [f"nas extract {run} --id {id}{of_task} --to net" for of_task in own]
    return [*(f"{command}{trust}" for command in taken), f"nas retrain net --epochs 20{trust}"]


def shown(folder: Path) -> str:
    """The folder as typed from where the page is written, or its bare name: a page that is passed
    on does not tell where its maker keeps things."""
    if not folder.is_absolute():
        return str(folder)
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else folder.name


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
