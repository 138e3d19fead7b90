"""What the benchmarks share: interleaved timing, ratios, one table and one JSON file each.

`python benchmarks/measure.py` writes README.md anew from the results.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from nas.events import Event
    from nas.search import Run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
sys.path.insert(0, str(ROOT))  # the checkout is measured, whatever else is installed


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of each function in each round, all once a round and each first in turn.

    The clock is CPU time of this process unless given: other work on the machine counts less.
    """
    names = list(functions)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        at = number % len(names)
        for name in (*names[at:], *names[:at]):
            begun = clock()
            functions[name]()
            times[name].append(clock() - begun)
    return times


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The median of the pairwise ratios a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def ms(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return statistics.median(seconds) * 1e3


class Kept:
    """Figures that took long, in a JSON file: what it holds is not computed again."""

    def __init__(self, path: Path):
        self.path = path
        self.figures: dict[str, Any] = {}
        if path.exists():
            self.figures = json.loads(path.read_text(encoding="utf-8"))

    def __call__(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self.figures:
            self.figures[key] = compute()
            self.path.write_text(json.dumps(self.figures, indent=1) + "\n", encoding="utf-8")
        return self.figures[key]


def searched(name: str, tasks: Sequence[str]) -> Run:
    """The run of `mobile` for some tasks with the default settings, in runs/bench-NAME, in a
    folder named after the space's hash; carried on where it is there."""
    from nas.grammar import Grammar
    from nas.search import resume, search

    folder = ROOT / "runs" / f"bench-{name}" / Grammar.load("mobile").hash
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "run.toml").exists():
        return resume(folder, listener=progress)
    return search("mobile", tasks, out=folder, listener=progress)


def progress(event: Event) -> None:
    """Ten lines a phase on stderr."""
    from nas.events import Progress

    if isinstance(event, Progress) and (
        event.done == event.total or event.done % max(1, event.total // 10) == 0
    ):
        figures = " ".join(f"{name} {_text(value)}" for name, value in event.figures.items())
        line = f"{event.phase} {event.done}/{event.total} {figures}"
        Console(stderr=True, highlight=False).print(line)


def report(
    name: str,
    doc: str | None,
    *,
    aim: str,
    figure: str,
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (),
    space: str = "",
    words: str = "",
) -> None:
    """Print the rows as a table and write them, with the machine, to results/NAME.json, or where
    they are of one space, or of one kind of data, to results/NAME-SPACE.json; `words` are those of
    the command.

    `figure` is the one line for README.md; the first line of `doc` is the claim.
    """
    from nas.search.folder import machine, versions

    claim = (doc or name).strip().splitlines()[0]
    load = os.getloadavg()[0]
    command = f"python benchmarks/{name}.py" + (
        f" {words}" if words else f" --space {space}" if space else ""
    )
    said = {
        "claim": claim,
        "command": command,
        "aim": aim,
        "figure": figure,
        "rows": rows,
        **(facts or {}),
        "seeds": list(seeds),
        "machine": machine(),
        "versions": versions(),
        "load": round(load, 2),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    RESULTS.mkdir(exist_ok=True)
    file = f"{name}-{space}.json" if space else f"{name}.json"
    (RESULTS / file).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    show(rows, claim)
    verdict = f"aim: {aim}\nmeasured: {figure} (load {load:.1f})"
    Console(highlight=False, soft_wrap=True).print(verdict)


def show(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """One table of rows; a column is right-aligned unless it is the first."""
    table = Table(box=None, pad_edge=False)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in columns))
    width = None if sys.stdout.isatty() else 140
    Console(highlight=False, soft_wrap=True).print(title)
    Console(highlight=False, width=width).print(table)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def readme() -> str:
    """The text of README.md, from the results."""
    lines = [
        "# Benchmarks",
        "",
        "One script a claim. Each prints a table against a peer in the same run, writes its",
        "figures to `results/`, and reports what it finds, reached or not. CPU time, one thread,",
        "medians and ratios of interleaved runs, unless it says otherwise. This page is written by",
        "`python benchmarks/measure.py`.",
        "",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        machine = said["machine"]
        command = said.get("command", f"python benchmarks/{path.stem}.py")
        lines.append(
            f"- **{said['claim']}** `{command}` (aim: {said['aim']}). "
            f"{said['figure']}. {said['date']}, load {said['load']}, {machine['cpus']} cores of "
            f"{machine['processor']}, torch {said['versions']['torch']}."
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "README.md").write_text(readme(), encoding="utf-8")
