"""How far some work is, shown on stderr while it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.progress import TimeRemainingColumn as Eta

from nas.events import Event, Listener, Progress, Told
from nas.journal import printable

PHASES = {
    "supernet": "training the supernet",
    "trials": "evaluating subnets",
    "calibration": "calibrating",
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
        self.bars = Bars(*columns, console=err)
        self.known: dict[str, TaskID] = {}
        self.begun: dict[str, tuple[float, int, int]] = {}  # when, with how many; tenths told
        self.last = time.perf_counter()  # where a phase begins that is heard of for the first time

    def __call__(self, event: Event) -> None:
        if isinstance(event, Told):
            err.print(printable(event.text), markup=False, soft_wrap=True)
        if not isinstance(event, Progress):
            return
        figures = "  ".join(f"{name} {value:.4g}" for name, value in event.figures.items())
        name = PHASES.get(event.phase, event.phase)
        if not err.is_terminal:
            self._line(name, event.done, event.total, figures)
            return
        if event.phase not in self.known:
            self.bars.start()
            self.known[event.phase] = self.bars.add_task(name, total=event.total, facts="")
        bar = self.known[event.phase]
        self.bars.update(bar, completed=event.done, total=event.total, facts=figures)

    def _line(self, name: str, done: int, total: int, figures: str) -> None:
        now, tenth = time.perf_counter(), 10 * done // total
        start, first, told = self.begun.get(name, (self.last, done - 1, -1))
        if tenth > told or done == total:
            each = (now - start) / max(1, done - first)
            line = f"{name}: {done}/{total}  ETA {each * (total - done):.0f} s  {figures}"
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


@contextmanager
def heard_by(listener: Listener | None) -> Iterator[Listener]:
    """The listener given, or where there is none one that shows progress while inside."""
    if listener is not None:
        yield listener
        return
    with live() as own:
        yield own
