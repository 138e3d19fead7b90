"""A network's card: what it does, how well, at what cost, how it was found, of which data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.export.record import Record, TaskRecord
from nas.files import write
from nas.journal import printable
from nas.measure import cost_named

CARD = "card.md"
FILES = ("model.py", "weights.safetensors", "architecture.json", "recipe.toml")
LISTED = 20  # classes that are named
COSTED = ("latency_ms", "size_mb", "memory_kb", "energy_uj")


def write_card(folder: Path, record: Record, facts: Mapping[str, Any]) -> None:
    """Write card.md of what a folder holds; `facts` are those of its source and weights."""
    write(folder / CARD, card(record, facts, _digests(folder)).encode())


def card(record: Record, facts: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """The card as Markdown."""
    sections = [
        f"# {_plain(record.name)}",
        *map(_task, record.tasks),
        _figures(record, facts),
        _cost(record, facts),
        _exports(record, facts),
        _found(record, facts),
        _use(record),
        _table("Files", ("file", "SHA-256"), [(n, f"`{d}`") for n, d in digests.items()]),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _task(task: TaskRecord) -> str:
    named = ", ".join(map(_plain, task.classes[:LISTED]))
    more = f" and {len(task.classes) - LISTED} more" if len(task.classes) > LISTED else ""
    lines = [
        f"## {_plain(task.name)}: {_plain(task.title or task.spec)}",
        f"- **says** {task.target}, {len(task.classes)}: {named}{more}",
        f"- **takes** {'x'.join(map(str, task.input))}"
        + (f", {_plain(str(task.preparation))}" if task.preparation else ""),
        f"- **data** {_plain(task.source)}",
        f"- **licence of the data** {_plain(task.licence)}",
    ]
    return "\n".join(lines)


def _figures(record: Record, facts: Mapping[str, Any]) -> str:
    """Metrics by validation in the search, and on the test split before and after retraining."""
    columns, before, after, trivial = (
        _numbers(facts.get(name)) for name in ("columns", "test_before", "test_after", "trivial")
    )
    splits, rows = facts.get("splits"), list[tuple[str, ...]]()
    seeds = over if isinstance(over := facts.get("seeds"), Mapping) else {}
    means, deviations = (_numbers(seeds.get(name)) for name in ("mean", "deviation"))
    for task in record.tasks:
        prefix = f"{task.name.replace('-', '_')}_"
        names = [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]
        for name in names:
            tested = f"{task.name}_{name}"
            counted = task.target == "class" and name == "accuracy"
            n = _size(splits, task.name, "test") if counted else 0
            rows.append(
                (
                    _plain(f"{task.name} {name}" if len(record.tasks) > 1 else name),
                    _figure(columns.get(f"{prefix}{name}")),
                    _figure(before.get(tested)),
                    _figure(after.get(tested)) + _interval(after.get(tested), n),
                    *([_spread(means.get(tested), deviations.get(tested))] if means else []),
                    _figure(trivial.get(tested)),
                )
            )
    heads = ["metric", "validation, in the search", "test, as extracted", "test, retrained"]
    if means:
        heads.append(f"mean of {_plain(str(seeds.get('number')))} seeds")
    if not rows:
        return ""
    note = (
        "" if after else "\n\nNot retrained yet: what it can do is known after `nas retrain` alone."
    )
    return _table("How well", (*heads, "trivial"), rows) + note


def _cost(record: Record, facts: Mapping[str, Any]) -> str:
    columns = _numbers(facts.get("columns"))
    rows = [("parameters", f"{record.params:,}"), ("FLOPs (batch of one)", f"{record.flops:,}")]
    for name, value in columns.items():
        cost = cost_named(name)
        if cost and name.partition("@")[0] in COSTED:
            rows.append((_plain(name), f"{value:.4g} {cost.unit}"))
    return _table("Cost", ("what", "how much"), rows)


def _exports(record: Record, facts: Mapping[str, Any]) -> str:
    """Metrics of exported files beside torch's, of as many samples of the test split."""
    files, rows = facts.get("exports"), list[tuple[str, ...]]()
    for name, figures in files.items() if isinstance(files, Mapping) else ():
        for metric, values in figures.items() if isinstance(figures, Mapping) else ():
            if isinstance(values, list | tuple) and len(values) == 3:
                numbers = [v for v in values if isinstance(v, int | float)]
                if len(numbers) == 3:
                    by_file, by_torch, n = map(float, numbers)
                    row = _figure(by_file), _figure(by_torch), f"{n:.0f}"
                    rows.append((_plain(name), _plain(metric), *row))
    heads = ("file", "metric", "by the file", "by torch", "test samples")
    return _table("Exported files", heads, rows) if rows else ""


def _found(record: Record, facts: Mapping[str, Any]) -> str:
    by = [f"run {facts.get('run')}, trial {facts['trial']}"] if "trial" in facts else []
    verdict = facts.get("verdict")
    lines = [
        "## How it was found",
        f"- **space** {_plain(record.grammar.name)}@{_plain(record.grammar.hash)}",
        *(f"- **by** {_plain(text)}" for text in by),
        f"- **derivation** `{' '.join(printable(record.derivation).replace('`', '').split())}`",
    ]
    if "epochs" in facts:
        best = f", the best after {facts['best_epoch']}" if "best_epoch" in facts else ""
        words = f"{facts['epochs']} epochs{best}"
        lines.append(f"- **retrained** {_plain(words)}")
    if isinstance(verdict, str):
        lines.append(f"- **how far its ranking can be trusted** {_plain(verdict)}")
    return "\n".join(lines)


def _use(record: Record) -> str:
    several = len(record.tasks) > 1
    x = f'model.prepare(x, "{record.tasks[0].name}")' if several else "model.prepare(x)"
    lines = ["## Use", "", "```python", "import model", "", "network = model.load()"]
    return "\n".join([*lines, f"y = network({x})  # x as it is found", "```"])


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(value: float | None, deviation: float | None) -> str:
    return "" if value is None or deviation is None else f"{value:.4f} ± {deviation:.4f}"


def _interval(share: float | None, n: int) -> str:
    """The 95 % interval of a share of n samples (Wilson 1927), "" where nothing is counted."""
    from scipy.stats import binomtest

    if share is None or not n or not 0 <= share <= 1:
        return ""
    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return f" [{interval.low:.4f}, {interval.high:.4f}]"


def _size(splits: Any, task: str, split: str) -> int:
    of = splits.get(task) if isinstance(splits, Mapping) else None
    n = of.get(split) if isinstance(of, Mapping) else None
    return n if isinstance(n, int) and n > 0 else 0


def _numbers(given: Any) -> dict[str, float]:
    pairs = given.items() if isinstance(given, Mapping) else ()
    return {str(name): float(v) for name, v in pairs if isinstance(v, int | float)}


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(text: str) -> str:
    """A text in a line of Markdown, as it is."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(printable(str(text)).split()))


def _digests(folder: Path) -> dict[str, str]:
    there = (name for name in FILES if (folder / name).exists())
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in there}
