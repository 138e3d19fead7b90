"""Figures of a run for a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from nas.plan import plan
from nas.report.blocks import blocks_of, drawing, table
from nas.report.details import shares_of
from nas.report.figures import figure, planes
from nas.report.history import histories
from nas.search import Run, RunError

if TYPE_CHECKING:
    import plotly.graph_objects as go


def plot_front(run: Run, *, task: str = "") -> go.Figure:
    """All trials and a front of a run, its first metric against its first cost, for a notebook."""
    import plotly.graph_objects as go

    front, trials = run.front(task=task), run.trials
    shown = planes(front, trials)
    if not shown:
        raise RunError(f"{run.folder}: no trial has a metric and a cost yet")
    y, x = shown[0]
    limits = run.aim(task).limits
    return go.Figure(figure(front, trials, y, x, limits, trivial=run.trivial))


def plot_architecture(run: Run, id: str) -> go.Figure:
    """The blocks of a trial's network in layers, streams beside each other, for a notebook; what
    each holds shows under the pointer. Raises ArchiveError for a trial that there is not."""
    import plotly.graph_objects as go

    id = run.trial(id).id
    planned = plan(run.derivation(id))
    blocks = blocks_of(planned)
    drawn, rows = drawing(planned, blocks), table(planned, blocks, shares_of(run).get(id, {}))
    width, height = drawn["box"]
    figure = go.Figure()
    for path in drawn["lines"]:
        figure.add_shape(type="path", path=path, line={"width": 1, "color": "#666c75"})
    heads = ("", "", "", " params", " FLOPs", " of FLOPs", " kB", " of the time")
    for (x, y, name, shape), row in zip(drawn["boxes"], [None, *rows], strict=True):
        figure.add_shape(type="rect", x0=x, y0=y, x1=x + width, y1=y + height, fillcolor="#f6f6f7")
        cells = [cell + head for cell, head in zip(row or [name, shape], heads, strict=False)]
        figure.add_scatter(
            x=[x + width / 2],
            y=[y + height / 2],
            mode="text",
            text=[f"{html.escape(name)}<br>{html.escape(shape)}"],
            hovertext="<br>".join(map(html.escape, cells)),
            hoverinfo="text",
            showlegend=False,
        )
    for axis, across in (("xaxis", drawn["width"]), ("yaxis", drawn["height"])):
        ends = [-10, across + 10] if axis == "xaxis" else [across + 10, -10]
        figure.update_layout({axis: {"visible": False, "range": ends}})
    return figure.update_layout(height=drawn["height"] + 80, plot_bgcolor="white")


def plot_history(run: Run) -> go.Figure:
    """How the hypervolume of each front of a run grew with its trials, for a notebook."""
    import plotly.graph_objects as go

    grown = go.Figure()
    for history in histories(run):
        name = history.task or "front"
        grown.add_scatter(x=history.numbers, y=history.volumes, name=name, line_shape="hv")
    grown.update_layout(xaxis_title="trials", yaxis_title="hypervolume, in shares")
    return grown
