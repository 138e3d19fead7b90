"""What a person at a terminal sees: progress with an ETA, tables, errors in one line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as Eta
from rich.table import Table

if TYPE_CHECKING:
    from nas.front import ParetoFront
    from nas.search import Run

PHASES = {
    "supernet": "training the supernet", "trials": "evaluating subnets",
    "trust": "calibrating",
}  # fmt: skip
TRUST = {
    "tau": "τ", "given_flops": "given FLOPs", "given_params": "given params",
    "regret_1": "regret@1", "regret_5": "regret@5", "behind": "behind the best",
}  # fmt: skip

out = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, emoji=False, highlight=False)


class Live:
    """Progress of a run: a bar for each phase on a terminal, a line each tenth elsewhere.
    `total` may change as more is known."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("ETA"), Eta(compact=True), TextColumn("[dim]{task.fields[facts]}"),
        )  # fmt: skip
        self.bars = Progress(*columns, console=err)
        self.known: dict[str, TaskID] = {}
        self.begun: dict[str, tuple[float, int, int]] = {}  # when, with how many; tenths told
        self.last = time.perf_counter()  # where a phase begins that is heard of for the first time

    def __call__(self, phase: str, done: int, total: int, facts: Mapping[str, Any]) -> None:
        if "says" in facts:
            err.print(facts["says"], markup=False, soft_wrap=True)
            return
        said = "  ".join(f"{name} {value:.4g}" for name, value in facts.items())
        name = PHASES.get(phase, phase)
        if not err.is_terminal:
            self._line(name, done, total, said)
            return
        if phase not in self.known:
            self.bars.start()
            self.known[phase] = self.bars.add_task(name, total=total, facts="")
        self.bars.update(self.known[phase], completed=done, total=total, facts=said)

    def _line(self, name: str, done: int, total: int, said: str) -> None:
        now, tenth = time.perf_counter(), 10 * done // total
        start, first, told = self.begun.get(name, (self.last, done - 1, 0))
        if tenth > told or done == total:
            each = (now - start) / max(1, done - first)
            err.print(f"{name}: {done}/{total}  ETA {each * (total - done):.0f} s  {said}")
            told = tenth
        self.begun[name], self.last = (start, first, told), now


@contextmanager
def live() -> Iterator[Live]:
    """A listener for a search or retraining, shown while inside."""
    shown = Live()
    try:
        yield shown
    finally:
        if shown.known:
            shown.bars.stop()


@contextmanager
def told(carry_on: str = "") -> Iterator[None]:
    """Errors in one line on stderr and an exit code; NAS_DEBUG=1 shows the traceback instead."""
    import typer

    try:
        yield
    except KeyboardInterrupt:
        err.print(f"[bold]stopped.[/bold] {carry_on}")
        raise typer.Exit(130) from None
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("NAS_DEBUG"):
            raise
        err.print("[bold red]error:[/bold red] ", end="")
        err.print(str(error), markup=False, soft_wrap=True)
        if carry_on and isinstance(error, OSError):
            err.print(carry_on)
        raise typer.Exit(1) from None


def human(value: object, column: str = "") -> str:
    """A figure for a table: counts with k, M or G, fractions with four digits."""
    if not isinstance(value, int | float):
        return "" if value is None else str(value)
    if column in ("flops", "params") or (isinstance(value, int) and abs(value) >= 10_000):
        for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{value / factor:.3g} {letter}"
        return f"{value:g}"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def show(rows: Sequence[Mapping[str, object]], columns: Sequence[str], title: str = "") -> None:
    """A table on stdout."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        words = any(isinstance(row.get(column), str) for row in rows)
        table.add_column(column, justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(human(row.get(column), column) for column in columns))
    out.print(table)


def show_trust(facts: Mapping[str, Any]) -> None:
    """A run's trust.json on stdout: a table a task, and the verdict in words."""
    from nas.report.text import estimate
    from nas.report.trust import decimals

    for task, each in facts["tasks"].items():
        rows = [
            {
                "evaluator": row["words"], "ranked by": row["score"],
                **{words: estimate(row[key], decimals(key)) for key, words in TRUST.items()},
                "CPU-s": row["cpu_s"], "s before": row["before_s"],
            }
            for row in each["rows"]
        ]  # fmt: skip
        many, seeds = len(facts["architectures"]), facts["seeds"]
        show(rows, list(rows[0]), f"{task}: Kendall τ with {each['metric']} after training from "
             f"scratch, {many} architectures, {seeds} seeds [90 % interval]")  # fmt: skip
        out.print(f"ceiling, one seed with another: τ {estimate(each['ceiling'])}\n", markup=False)
    out.print(facts["verdict"]["says"], markup=False, soft_wrap=True)


def show_run(run: Run) -> None:
    """A run's fronts, and what may be done next."""
    front = run.front()
    show_front(front, f"The Pareto front of {run.folder}")
    for name, one in run.fronts().items():
        if name:
            show_front(one, f"\nFor {name} alone")
    if len(run.trials) < run.settings.trials:
        out.print(f"\n{len(run.trials)} trials: the space holds no more, or the budget ended.")
    if not front.trials:
        out.print(f"No trial lies within the limits; see them all: nas report {run.folder}")
        return
    best = front.trials[0].id
    out.print(
        f"\nLook at it:      nas report {run.folder}{run.trust}\n"
        f"Choose from it:  nas front {run.folder} --sort flops\n"
        f"Take a network:  nas extract {run.folder} --id {best} --to net{run.trust}\n"
        f"Train it fully:  nas retrain net --epochs 20{run.trust}\n"
        f"Leave with ONNX: nas export net --onnx", markup=False,
    )  # fmt: skip


def show_front(front: ParetoFront, title: str = "") -> None:
    """A table of a front: its objectives, and what else it costs."""
    names, rows = [o.name for o in front.objectives], front.rows()
    costs = [
        c for c in ("flops", "params", "latency_ms")
        if c not in names and any(row.get(c) is not None for row in rows)
    ]  # fmt: skip
    show(rows, ["id", *names, *costs], title)


def write(text: str) -> None:
    """Plain text on stdout, as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
