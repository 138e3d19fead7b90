"""A run's front as a picture for a README: python benchmarks/front_png.py RUN docs/front.png"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import FuncFormatter, NullFormatter

import nas
from nas.archive import Trial
from nas.front import Objective, ParetoFront
from nas.report.figures import (
    ACCENT,
    INK,
    LINE,
    MUTED,
    PAPER,
    Point,
    marks,
    planes,
    position,
    stairs,
)
from nas.report.text import label, mark
from nas.search import Run

FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
Label = Callable[[str], str]


def front_png(run: Run, path: Path, *, width: int = 960, height: int = 540) -> Path:
    """Draw the first metric against FLOPs, in pixels; what comes back is the path."""
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


if __name__ == "__main__":
    front_png(nas.load(sys.argv[1]), Path(sys.argv[2]))
