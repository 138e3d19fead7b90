"""How far some work is, shown on stderr while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as Eta

from nas.journal import printable

PHASES = {
    "supernet": "training the supernet",
    "trials": "evaluating subnets",
    "trust": "calibrating",
}

err = Console(stderr=True, emoji=False, highlight=False)


class Live:
    """Progress of a run: a bar for each phase on a terminal, a line each tenth elsewhere.
    `total` may change as more is known."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            Eta(compact=True),
            TextColumn("{task.fields[facts]}", style="dim", markup=False),
        )
        self.bars = Progress(*columns, console=err)
        self.known: dict[str, TaskID] = {}
        self.begun: dict[str, tuple[float, int, int]] = {}  # when, with how many; tenths told
        self.last = time.perf_counter()  # where a phase begins that is heard of for the first time

    def __call__(self, phase: str, done: int, total: int, facts: Mapping[str, Any]) -> None:
        if "says" in facts:
            err.print(printable(facts["says"]), markup=False, soft_wrap=True)
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
        start, first, told = self.begun.get(name, (self.last, done - 1, -1))
        if tenth > told or done == total:
            each = (now - start) / max(1, done - first)
            line = f"{name}: {done}/{total}  ETA {each * (total - done):.0f} s  {said}"
            err.print(line, markup=False, soft_wrap=True)
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


def silent(phase: str, done: int, total: int, facts: Mapping[str, Any]) -> None:
    """A listener that says nothing."""


@contextmanager
def shown(listener: Callable[..., None] | None) -> Iterator[Callable[..., None]]:
    """The listener given, or where there is none one that shows progress while inside."""
    if listener is not None:
        yield listener
        return
    with live() as own:
        yield own
