"""The front as a picture: a Plotly figure for the page, a PNG for a README."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nas.archive import Trial
from nas.front import COSTS, Limit, Objective, ParetoFront, nondominated
from nas.grammar import Grammar
from nas.report.text import human, label, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # type: ignore[import-not-found, unused-ignore]

INK, MUTED, LINE, ACCENT, PAPER = "#1c1e21", "#666c75", "#e4e5e7", "#0a62a9", "#ffffff"
SELDOM = ("size_mb", "activations")  # drawn where they are objectives
FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
Label = Callable[[str], str]
Point = tuple[float, float]


class Settings(Protocol):
    """Of a run's settings, what its page reads."""

    @property
    def space(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


class TaskName(Protocol):
    """Of a task, what a run's page says: its data may be elsewhere."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...


class Run(Protocol):
    """Of a run, what its page reads: `nas.search.Run` is one."""

    @property
    def folder(self) -> Path: ...
    @property
    def trust(self) -> str: ...
    @property
    def facts(self) -> Mapping[str, Any]: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def grammar(self) -> Grammar: ...
    @property
    def named(self) -> Sequence[TaskName]: ...
    @property
    def trials(self) -> tuple[Trial, ...]: ...
    @property
    def objectives(self) -> tuple[Objective, ...]: ...
    @property
    def limits(self) -> tuple[Limit, ...]: ...
    @property
    def trivial(self) -> dict[str, float]: ...
    def fronts(self) -> dict[str, ParetoFront]: ...


def planes(front: ParetoFront, trials: Sequence[Trial]) -> list[tuple[Objective, str]]:
    """The planes to look at a front in: each metric of its objectives against each cost measured.

    The first is the first metric against FLOPs, where there are any. Size is params in another
    unit, so it is here only as an objective; activations too.
    """
    measured = {name for trial in trials if trial.state == "finished" for name in trial.columns()}
    asked = {one.name for one in front.objectives}
    metrics = [one for one in front.objectives if one.name not in COSTS] or [front.objectives[0]]
    costs = [c for c in COSTS if c in measured and (c not in SELDOM or c in asked)]
    return [(y, x) for y in metrics for x in costs if x != y.name]


def figure(
    front: ParetoFront,
    trials: Sequence[Trial],
    y: Objective,
    x: str,
    limits: Sequence[Limit] = (),
    label: Label = label,
) -> dict[str, Any]:
    """A Plotly figure: all trials, the front's, and its step line in the plane of y against x.

    A point's customdata is its trial's index in `trials`.
    """
    chosen = {trial.id for trial in front.trials}
    points = {
        i: at
        for i, trial in enumerate(trials)
        if trial.state == "finished" and (at := position(trial, y.name, x))
    }
    best = {i: at for i, at in points.items() if trials[i].id in chosen}
    return {
        "data": [
            _dots("all", "all trials", points, {"size": 6, "color": MUTED, "opacity": 0.35}),
            _line(stairs(list(best.values()), y.maximize)),
            _dots(
                "front",
                "front",
                best,
                {"size": 10, "color": ACCENT, "line": {"width": 1.5, "color": PAPER}},
            ),
        ],
        "layout": _layout(
            label(y.name),
            _decimals([value for _, value in points.values()]),
            _axis(x, [cost for cost, _ in points.values()], label),
            [limit for limit in limits if limit.name == x],
        ),
    }


def position(trial: Trial, y: str, x: str) -> Point | None:
    """Where a trial is in a plane, None where one of both is missing or no finite number."""
    columns = trial.columns()
    at = columns.get(x, math.nan), columns.get(y, math.nan)
    return at if all(map(math.isfinite, at)) else None


def stairs(points: Sequence[Point], maximize: bool) -> list[Point]:
    """Of points (cost, value) those that no other betters in this plane, the cheapest first."""
    sign = -1 if maximize else 1
    kept = nondominated([(cost, sign * value) for cost, value in points])
    return sorted({points[i] for i in kept})


def _dots(role: str, name: str, points: Mapping[int, Point], marker: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "meta": role,
        "marker": marker,
        "x": [x for x, _ in points.values()],
        "y": [y for _, y in points.values()],
        "customdata": list(points),
    }


def _line(points: Sequence[Point]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best so far",
        "meta": "line",
        "hoverinfo": "skip",
        "line": {"shape": "hv", "width": 1.5, "color": ACCENT},
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
    }


def _axis(x: str, costs: Sequence[float], label: Label) -> dict[str, Any]:
    """An axis of costs, logarithmic and marked at round numbers where all are positive."""
    log = all(cost > 0 for cost in costs)
    unit = {"latency_ms": "ms", "size_mb": "MB"}.get(x)
    said = ", ".join(part for part in (unit, "log" if log else "") if part)
    axis: dict[str, Any] = {
        "title": {"text": html.escape(label(x), quote=False) + (f" ({said})" if said else "")},
        "type": "log" if log else "linear",
        "tickformat": "~s" if unit is None else "~r",
    }
    if log and costs:
        values = marks(min(costs), max(costs))
        words = [mark(value) if unit is None else f"{value:g}" for value in values]
        axis |= {"tickmode": "array", "tickvals": values, "ticktext": words}
    return axis


def _decimals(values: Sequence[float]) -> str:
    """The format of marks some sixth of the values' span apart."""
    span = max(values, default=0.0) - min(values, default=0.0)
    return f".{min(6, max(0, math.ceil(-math.log10(span / 6))))}f" if span else ""


def marks(low: float, high: float) -> list[float]:
    """Round numbers to mark on a logarithmic axis that holds low to high, and a little beyond."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    if high < 4 * low:
        steps = [n / 2 for n in range(2, 20)] if high < 2 * low else list(range(1, 10))
    else:
        steps = [1, 2, 5] if high < 2000 * low else [1]
    values = (float(f"{step}e{decade}") for decade in decades for step in steps)
    return [value for value in values if low / 1.5 <= value <= high * 1.5]


def _layout(
    y: str, decimals: str, xaxis: dict[str, Any], limits: Sequence[Limit]
) -> dict[str, Any]:
    quiet = {"gridcolor": LINE, "zeroline": False, "automargin": True, "ticks": ""}
    return {
        "xaxis": {**quiet, **xaxis},
        "yaxis": {**quiet, "title": {"text": html.escape(y, quote=False)}, "tickformat": decimals},
        "shapes": [_bound(limit) for limit in limits],
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "font": {"color": MUTED, "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _bound(limit: Limit) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": limit.bound,
        "x1": limit.bound,
        "y0": 0,
        "y1": 1,
        "line": {"color": MUTED, "width": 1, "dash": "dot"},
        "label": {
            "text": f"limit {human(limit.name, limit.bound)}",
            "textposition": "end",
            "textangle": 0,
            "xanchor": "right",
            "yanchor": "top",
        },
    }


def front_png(run: Run, path: Path, *, width: int = 960, height: int = 540) -> Path:
    """Draw the first metric against FLOPs, in pixels; what comes back is the path.

    Needs matplotlib, which nas does not install: ImportError says so.
    """
    try:
        from matplotlib import rc_context  # type: ignore[import-not-found, unused-ignore]
        from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ImportError(
            "a picture of the front needs matplotlib, which is not installed: "
            "pip install matplotlib, or use the page of nas report"
        ) from None
    front, trials = run.fronts()[""], run.trials
    plane = next(iter(planes(front, trials)), (front.objectives[0], "flops"))
    names = [task.name for task in run.named]
    with rc_context({"font.family": list(_installed(FONTS)), "font.size": 10.5}):
        drawn = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAPER)
        axes = drawn.add_axes((0.075, 0.125, 0.9, 0.755))
        _draw(axes, front, trials, *plane, lambda column: label(column, names))
        title = f"{run.settings.space} for {', '.join(names)}"
        axes.set_title(title, loc="left", color=INK, fontsize=13, weight="bold", pad=14)
        drawn.savefig(path)
    return path


def _installed(fonts: Sequence[str]) -> list[str]:
    from matplotlib.font_manager import fontManager  # type: ignore[import-not-found, unused-ignore]

    known = {font.name for font in fontManager.ttflist}
    return [name for name in fonts if name in known] or ["sans-serif"]


def _draw(
    axes: Axes, front: ParetoFront, trials: Sequence[Trial], y: Objective, x: str, label: Label
) -> None:
    done = [t for t in trials if t.state == "finished" and position(t, y.name, x)]
    points = [position(t, y.name, x) or (0.0, 0.0) for t in done]
    best = {t.id: at for t in front.trials if (at := position(t, y.name, x))}
    steps = stairs(list(best.values()), y.maximize)
    if points and min(points)[0] > 0:
        axes.set_xscale("log")
    axes.scatter(*_columns(points), s=20, color=MUTED, alpha=0.3, linewidths=0, zorder=2)
    axes.step(*_columns(steps), where="post", color=ACCENT, linewidth=1.6, zorder=3)
    axes.scatter(
        *_columns(list(best.values())),
        s=58,
        color=ACCENT,
        edgecolors=PAPER,
        linewidths=1.5,
        zorder=4,
    )
    for id, at in _spaced(best, steps).items():
        axes.annotate(
            id,
            at,
            (-6, 8),
            textcoords="offset points",
            fontsize=8.5,
            color=INK,
            family="monospace",
            ha="right",
            zorder=5,
        )
    if not points:
        axes.text(0.5, 0.5, "no finished trial", transform=axes.transAxes, ha="center", color=MUTED)
    _dress(axes, f"{label(y.name)}, validation", label(x) + (" (log)" if points else ""))
    summary = f"{len(front.trials)} of {len(done)} trials are on the front"
    axes.set_title(summary, loc="right", color=MUTED, fontsize=10.5, pad=14)


def _dress(axes: Axes, y: str, x: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter  # type: ignore[import-not-found, unused-ignore]

    axes.set_xlabel(x, color=MUTED, labelpad=6)
    axes.set_ylabel(y, color=MUTED, labelpad=8)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.1, y=0.09)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(which="both", length=0, labelcolor=MUTED)
    if axes.get_xscale() == "log":
        low, high = axes.get_xlim()
        axes.set_xticks([mark for mark in marks(low, high) if low <= mark <= high])
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: mark(value)))


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _spaced(best: Mapping[str, Point], steps: Sequence[Point], most: int = 5) -> dict[str, Point]:
    """A few points of the step line by id: both ends, and some between, evenly counted."""
    ids = {at: id for id, at in best.items()}
    count = min(most, len(steps))
    picked = {steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)}
    return {ids[at]: at for at in sorted(picked)}
