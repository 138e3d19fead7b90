"""How weights were learned: the loss of those that a run shares, and what retraining saw."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from statistics import mean
from typing import Any

from nas.archive import Archive
from nas.export.curve import Curve
from nas.report.history import HEIGHT, WIDTH
from nas.report.text import digits
from nas.search import Run

SMOOTHED = 5  # losses of single steps of which the mean is drawn
MOST, LONGEST = 12, 300  # retrained networks, and points of each curve, that are drawn


def curves(run: Run) -> list[dict[str, Any]]:
    """The curves of a run, each as a line of a picture and what stands beside it in words; none
    where nothing was trained, or nothing noted."""
    drawn = list[dict[str, Any]]()
    with Archive.open(run.folder) as archive:
        notes = archive.notes("loss")
    losses = [(float(str(n["step"])), float(str(n["loss"]))) for n in notes]
    losses = [(s, loss) for s, loss in losses if isfinite(s) and isfinite(loss)][:LONGEST]
    if len(losses) > 2:
        values = [loss for _, loss in losses]
        smooth = [mean(values[max(0, i - SMOOTHED + 1) : i + 1]) for i in range(len(values))]
        words = (
            f"The training loss went from {digits(smooth[0])} to {digits(smooth[-1])} in "
            f"{losses[-1][0]:,.0f} steps."
        )
        drawn.append(_drawing("Shared weights", [step for step, _ in losses], smooth, words))
    nets = run.folder / "nets"
    folders = sorted(nets.iterdir()) if nets.is_dir() and not nets.is_symlink() else []
    for folder in folders:
        curve = Curve.load(folder)
        rows = [row for row in curve.rows if isfinite(row["merit"]) and isfinite(row["epoch"])]
        rows = rows[:: max(1, len(rows) // LONGEST)]
        if len(rows) > 2 and curve.best and len(drawn) <= MOST:
            words = (
                f"On validation from {digits(rows[0]['merit'])} to {digits(rows[-1]['merit'])}, "
                f"the best {digits(curve.best['merit'])} at epoch {curve.best['epoch']:g}."
            )
            xs, ys = [row["epoch"] for row in rows], [row["merit"] for row in rows]
            drawn.append(_drawing(f"{folder.name}, retrained", xs, ys, words))
    return drawn


def _drawing(title: str, xs: Sequence[float], ys: Sequence[float], words: str) -> dict[str, Any]:
    low, high = min(ys), max(ys)
    last, span = max(xs) or 1.0, (high - low) or 1.0
    places = [
        (round(WIDTH * x / last, 1), round(HEIGHT * (1 - (y - low) / span), 1))
        for x, y in zip(xs, ys, strict=True)
    ]
    return {
        "title": title,
        "path": "M" + " L".join(f"{x} {y}" for x, y in places),
        "width": WIDTH,
        "height": HEIGHT,
        "words": words,
    }
