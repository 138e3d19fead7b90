"""The front as a Plotly figure."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nas.archive import Trial
from nas.dominance import nondominated
from nas.front import Limit, Objective, ParetoFront
from nas.measure import cost_columns, cost_named
from nas.report.text import human, label, mark

INK, MUTED, LINE, ACCENT, PAPER = "#1c1e21", "#666c75", "#e4e5e7", "#0a62a9", "#ffffff"
Label = Callable[[str], str]
Point = tuple[float, float]


def planes(front: ParetoFront, trials: Sequence[Trial]) -> list[tuple[Objective, str]]:
    """The planes to look at a front in: each metric of its objectives against each cost measured.

    The first is the first metric against FLOPs, where there are any. Size is params in another
    unit, so it is here only as an objective; activations too.
    """
    measured = {name for trial in trials if trial.state == "finished" for name in trial.columns()}
    asked = {objective.name for objective in front.objectives}
    metrics = [o for o in front.objectives if cost_named(o.name) is None] or [front.objectives[0]]
    return [(y, x) for y in metrics for x in usual_costs(measured, asked) if x != y.name]


def usual_costs(measured: Iterable[str], asked: Container[str]) -> list[str]:
    """The costs among the columns measured, in the order of tables: of those that are seldom looked
    at the ones that are `asked` for."""
    return [
        name
        for name in cost_columns(measured)
        if name in asked or not ((cost := cost_named(name)) and cost.seldom)
    ]


def figure(
    front: ParetoFront,
    trials: Sequence[Trial],
    y: Objective,
    x: str,
    limits: Sequence[Limit] = (),
    label: Label = label,
    trivial: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """A Plotly figure: all trials, the front's, and its step line in the plane of y against x; and
    what the `trivial` predictor comes to by column, where that lies near the trials.

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
            {
                **_dots(
                    "front",
                    "front",
                    best,
                    {"size": 10, "color": ACCENT, "line": {"width": 1.5, "color": PAPER}},
                ),
                **_bars([trials[i] for i in best], y.name, x),
            },
        ],
        "layout": _layout(
            label(y.name),
            _decimals([value for _, value in points.values()]),
            _axis(x, [cost for cost, _ in points.values()], label),
            [
                *(_bound(limit) for limit in limits if limit.name == x),
                *_level(trivial.get(y.name), [value for _, value in points.values()]),
            ],
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


def _bars(trials: Sequence[Trial], y: str, x: str) -> dict[str, Any]:
    """Bars as long as the spreads of what was measured more than once; none where nothing was."""
    bars = dict[str, Any]()
    for side, name in (("error_y", y), ("error_x", x)):
        newest = [trial.newest().get(name) for trial in trials]
        spreads = [known.spread if known and known.spread else 0.0 for known in newest]
        spreads = [spread if math.isfinite(spread) else 0.0 for spread in spreads]
        if any(spreads):
            bars[side] = {"type": "data", "array": spreads, "thickness": 1, "width": 0}
    return bars


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
    cost = cost_named(x)
    unit = None if cost is None or cost.count else cost.unit
    notes = ", ".join(part for part in (unit, "log" if log else "") if part)
    axis: dict[str, Any] = {
        "title": {"text": html.escape(label(x), quote=False) + (f" ({notes})" if notes else "")},
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
    y: str, decimals: str, xaxis: dict[str, Any], shapes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    quiet = {"gridcolor": LINE, "zeroline": False, "automargin": True, "ticks": ""}
    return {
        "xaxis": {**quiet, **xaxis},
        "yaxis": {**quiet, "title": {"text": html.escape(y, quote=False)}, "tickformat": decimals},
        "shapes": list(shapes),
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "font": {"color": MUTED, "size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _bound(limit: Limit) -> dict[str, Any]:
    words = f"limit {human(limit.name, limit.bound)}"
    ends = {"x0": limit.bound, "x1": limit.bound, "y0": 0, "y1": 1}
    return _dotted(words, "top", xref="x", yref="paper", **ends)


def _level(value: float | None, values: Sequence[float]) -> list[dict[str, Any]]:
    """A line at what the trivial predictor comes to; none where that is far from all values, which
    it would press together."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if value is None or not low - (high - low) / 2 <= value <= high + (high - low) / 2:
        return []
    ends = {"x0": 0, "x1": 1, "y0": value, "y1": value}
    return [_dotted(f"trivial {value:.3g}", "bottom", xref="paper", yref="y", **ends)]


def _dotted(words: str, anchor: str, **place: Any) -> dict[str, Any]:
    """A dotted line with words at its end."""
    at = {"textposition": "end", "textangle": 0, "xanchor": "right", "yanchor": anchor}
    line = {"color": MUTED, "width": 1, "dash": "dot"}
    return {"type": "line", **place, "line": line, "label": {"text": words, **at}}
