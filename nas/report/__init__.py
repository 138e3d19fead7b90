"""The report: one offline HTML page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.files import write
from nas.report.figures import figure, planes
from nas.report.history import histories
from nas.report.page import render
from nas.search import Run, RunError

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["figure", "plot_front", "plot_history", "render", "report"]


def report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, by default to its folder's report.html; what comes back is where.

    The file is whole or not there: an older page stays until the new one is complete.
    """
    path = run.folder / "report.html" if path is None else Path(path)
    page = render(run).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, page)
    return path


def plot_front(run: Run, *, task: str = "") -> go.Figure:
    """All trials and a front of a run, its first metric against its first cost, for a notebook."""
    import plotly.graph_objects as go

    front, trials = run.front(task=task), run.trials
    shown = planes(front, trials)
    if not shown:
        raise RunError(f"{run.folder}: no trial has a metric and a cost yet")
    y, x = shown[0]
    return go.Figure(figure(front, trials, y, x, run.aim(task).limits))


def plot_history(run: Run) -> go.Figure:
    """How the hypervolume of each front of a run grew with its trials, for a notebook."""
    import plotly.graph_objects as go

    grown = go.Figure()
    for history in histories(run):
        name = history.task or "front"
        grown.add_scatter(x=history.numbers, y=history.volumes, name=name, line_shape="hv")
    grown.update_layout(xaxis_title="trials", yaxis_title="hypervolume, in shares")
    return grown
