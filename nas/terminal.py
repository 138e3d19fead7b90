"""What a person at a terminal sees: progress with an ETA, tables, errors in one line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nas.journal import printable
from nas.progress import err, live

__all__ = [
    "err",
    "human",
    "live",
    "out",
    "show",
    "show_answer",
    "show_front",
    "show_run",
    "show_trust",
    "told",
    "write",
]

if TYPE_CHECKING:
    from nas.archive import Trial
    from nas.front import ParetoFront
    from nas.search import Run
    from nas.search.steer import Answer

TRUST = {
    "tau": "τ",
    "given_flops": "given FLOPs",
    "given_params": "given params",
    "regret_1": "regret@1",
    "regret_5": "regret@5",
    "behind": "behind the best",
}

out = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else 200)


class Terminated(KeyboardInterrupt):
    """SIGTERM, a cluster's way to stop a job: as an interrupt."""


@contextmanager
def told(carry_on: str = "") -> Iterator[None]:
    """Errors in one line on stderr and an exit code; NAS_DEBUG=1 shows the traceback instead."""
    import typer

    def terminated(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    except KeyboardInterrupt as stop:
        err.print("[bold]stopped.[/bold] ", end="")
        err.print(carry_on, markup=False, soft_wrap=True)
        raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None
    except BrokenPipeError:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read the output has enough of it
            pass
        else:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("NAS_DEBUG"):
            raise
        err.print("[bold red]error:[/bold red] ", end="")
        err.print(printable(str(error)), markup=False, soft_wrap=True)
        if carry_on and isinstance(error, OSError):
            err.print(carry_on, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def human(value: object, column: str = "") -> str:
    """A figure for a table: counts with k, M or G, fractions with four digits."""
    if not isinstance(value, int | float):
        return "" if value is None else printable(str(value))
    if re.search(r"(^|_)(flops|params)$", column) or (
        isinstance(value, int) and abs(value) >= 10_000
    ):
        for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{value / factor:.3g} {letter}"
        return f"{value:g}"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def show(rows: Sequence[Mapping[str, object]], columns: Sequence[str], title: str = "") -> None:
    """A table on stdout."""
    table = Table(title=escape(title) or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        words = any(isinstance(row.get(column), str) for row in rows)
        side: Literal["left", "right"] = "left" if words else "right"
        table.add_column(escape(printable(column)), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(escape(human(row.get(column), column)) for column in columns))
    out.print(table)


def show_trust(facts: Mapping[str, Any]) -> None:
    """A run's trust.json on stdout: a table a task, and the verdict in words."""
    from nas.report.text import estimate
    from nas.report.trust import decimals

    for task, task_facts in facts["tasks"].items():
        rows = [
            {
                "evaluator": row["words"],
                "ranked by": row["score"],
                **{words: estimate(row[key], decimals(key)) for key, words in TRUST.items()},
                "CPU-s": row["cpu_s"],
                "s before": row["before_s"],
            }
            for row in task_facts["rows"]
        ]
        many, seeds = len(facts["architectures"]), facts["seeds"]
        show(
            rows,
            list(rows[0]),
            f"{task}: Kendall τ with {task_facts['metric']} after training from "
            f"scratch, {many} architectures, {seeds} seeds [90 % interval]",
        )
        out.print(
            f"ceiling, one seed with another: τ {estimate(task_facts['ceiling'])}\n", markup=False
        )
    out.print(printable(facts["verdict"]["says"]), markup=False, soft_wrap=True)


def show_answer(answer: Answer) -> None:
    """The network that preferences and a budget came to, and what is to be said of these."""
    from nas.measure import COSTS

    columns = [name for name in answer.columns if name not in COSTS or not COSTS[name].seldom]
    show([answer.columns], columns, "On the validation split")
    if answer.note:
        out.print(answer.note, markup=False, soft_wrap=True)


def show_run(run: Run) -> None:
    """A run's fronts, and what may be done next."""
    from nas.measure import cost_named
    from nas.search.steer import STEERING

    fronts = run.fronts()
    filled = [pair for pair in fronts.items() if pair[1].trials]
    first, front = (filled or list(fronts.items()))[0]
    show_fronts(run, fronts)
    devices = {c: d for some in fronts.values() for c, d in some.devices.items()}
    for column, device in devices.items():
        out.print(printable(f"{column}: {device}"), markup=False, soft_wrap=True)
    show_trivial(run)
    if (brought := run.gain) is not None:
        out.print(str(brought), markup=False, soft_wrap=True)
    folder, trials = shlex.quote(str(run.folder)), run.trials
    if len(trials) < run.settings.trials:
        out.print(f"\n{len(trials)} trials: the space holds no more, or the budget ended.")
    if not front.trials:
        why = printable(_why_empty(run))
        out.print(f"\n{why}; see them all: nas report {folder}", markup=False)
        return
    of_task = f" --task {shlex.quote(first)}" if first else ""
    best = shlex.quote(front.trials[0].id) + of_task
    cost = next((o.name for o in front.objectives if cost_named(o.name)), "flops")
    steer = ""
    if (run.folder / STEERING).exists():
        worth = ",".join(f"{named.name}=1" for named in run.named)
        steer = f"Prefer a task:   nas steer {folder} --prefer {worth}\n"
    out.print(
        f"\nLook at it:      nas report {folder}{run.trust}\n"
        f"Choose from it:  nas front {folder} --sort {cost}{of_task}\n"
        f"{steer}Take a network:  nas extract {folder} --id {best} --to net{run.trust}\n"
        f"Train it fully:  nas retrain net --epochs 20{run.trust}\n"
        f"Leave with ONNX: nas export net --onnx{run.trust}",
        markup=False,
    )


def show_fronts(run: Run, fronts: Mapping[str, ParetoFront]) -> None:
    """Every front of a run."""
    own = run.settings.per_task
    for task, front in fronts.items():
        title = f"\nFor {task}" + ("" if own else " alone")
        title = title if task else f"The Pareto front of {run.folder}"
        show_front(front, title, task if own else "")


def show_trivial(run: Run) -> None:
    """What a network must be better than."""
    for column, value in run.trivial.items():
        line = f"without looking, always the training prior: {column} {human(value)} on validation"
        out.print(line, markup=False, soft_wrap=True)


def _why_empty(run: Run) -> str:
    """What a front lacks."""
    finished = [trial.columns() for trial in run.trials if trial.state == "finished"]
    if not run.trials:
        return "No network was evaluated in the time there was: give a longer --budget"
    if not finished:
        return f"All {len(run.trials)} trials failed, the last: {run.trials[-1].reason}"
    objectives, limits, _ = run.aims[0]
    for objective in objectives:
        if not any(objective.name in columns for columns in finished):
            return f"No trial has {objective.name}"
    return "No trial lies within the limits " + ", ".join(map(str, limits))


def _in_fewer_bits(trial: Trial) -> bool:
    """Whether a trial's size is less than its parameters take in floats."""
    size, params = trial.value("size_mb"), trial.value("params")
    return size is not None and params is not None and size < 0.99 * 4 * params / 1e6


def show_front(front: ParetoFront, title: str = "", task: str = "") -> None:
    """A table of a front: its objectives, and what else it costs; of a task that has its own
    architectures what a network for it alone costs."""
    from nas.measure import cost_columns

    names, rows = [o.name for o in front.objectives], front.rows()
    prefix = f"{task.replace('-', '_')}_" if task else ""
    costs_shown = ["flops", "params", "latency_ms"]
    if any(_in_fewer_bits(trial) for trial in front.trials):
        costs_shown.append("size_mb")  # which tells those in integers from others
    shown = tuple(f"{prefix}{cost}" for cost in costs_shown)
    there = {c for row in rows for c, value in row.items() if value is not None}
    costs = [c for c in cost_columns(there - set(names)) if c.partition("@")[0] in shown]
    show(rows, ["id", *names, *costs], title)


def write(text: str) -> None:
    """Plain text on stdout, as it is."""
    text = printable(text)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def show_survey(facts: Mapping[str, Any]) -> None:
    """What a space holds, on stdout."""
    held = f"{facts['architectures']} architectures"
    write(f"{facts['space']} for an input of {facts['input']}: {held}")
    show(facts["ranges"], ["quantity", "smallest", "median", "largest"])
    write(
        f"of {facts['samples']} drawn: {facts['invalid']} invalid, {facts['trivial']} trivial, "
        f"{facts['duplicates']} an architecture met before; "
        f"{facts['us_per_node']:.0f} µs of CPU time a node"
    )
    if growth := facts.get("growth"):
        mean = f"{growth.get('mean_operators', 0.0):.1f} operators on average"
        write(
            f"it grows by {growth['by_derivation']:.2f} a generation, "
            f"{growth['by_instantiation']:.2f} with copies counted: {growth.get('warning', mean)}"
        )
    if seeds := facts.get("seeds"):
        columns = ["seed", "params", "flops", "depth", "refused"]
        show(seeds, [c for c in columns if any(c in seed for seed in seeds)], "Seeds")
    for line in facts["examples"]:
        out.print(f"\n{line}", markup=False, soft_wrap=True)
