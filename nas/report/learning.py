"""How weights were learned: the loss of those that a run shares, and what retraining saw."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isfinite
from statistics import mean, median
from typing import Any

from nas.archive import Archive, Trial
from nas.export.curve import Curve
from nas.report.history import HEIGHT, WIDTH
from nas.report.text import digits
from nas.search import Run

SMOOTHED = 5  # losses of single steps of which the mean is drawn
MOST, LONGEST = 12, 300  # retrained networks, and points of each curve, that are drawn
TRAINED = 40  # networks trained alone that are drawn, of the fronts and of the others
Line = tuple[Sequence[float], Sequence[float]]  # its xs and its ys


def curves(run: Run, trials: Sequence[Trial], chosen: Collection[str]) -> list[dict[str, Any]]:
    """The curves of a run, each as lines of a picture and what stands beside them in words; none
    where nothing was trained, or nothing noted. `chosen`: the trials of its fronts, by id."""
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
        drawn.append(_drawing("Shared weights", words, [([s for s, _ in losses], smooth)]))
    drawn += _alone(trials, chosen)
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
            line = [row["epoch"] for row in rows], [row["merit"] for row in rows]
            drawn.append(_drawing(f"{folder.name}, retrained", words, [line]))
    return drawn


def _alone(trials: Sequence[Trial], chosen: Collection[str]) -> list[dict[str, Any]]:
    """The losses of networks that were trained alone, those of a front before the others."""
    known = [t for t in trials if len(t.losses) > 2 and all(map(isfinite, t.losses))]
    if not known:
        return []
    front = [trial for trial in known if trial.id in chosen][:TRAINED]
    others = [trial for trial in known if trial.id not in chosen]
    others = others[:: max(1, -(-len(others) // TRAINED))]
    first, last = (median(trial.losses[at] for trial in known) for at in (0, -1))
    words = (
        f"The training loss of networks trained alone, from the first step to the last; those of a "
        f"front in colour. The median of {len(known)} went from {digits(first)} to {digits(last)}."
    )
    lines, faint = (
        [([i / (len(t.losses) - 1) for i in range(len(t.losses))], t.losses) for t in some]
        for some in (front, others)
    )
    return [_drawing("Networks trained alone", words, lines, faint)]


def _drawing(
    title: str, words: str, lines: Sequence[Line], faint: Sequence[Line] = ()
) -> dict[str, Any]:
    """Lines of one picture, on the same axes."""
    every = [*lines, *faint]
    low, high = (extreme(y for _, ys in every for y in ys) for extreme in (min, max))
    last = max(max(xs) for xs, _ in every) or 1.0
    span = (high - low) or 1.0

    def path(line: Line) -> str:
        places = (
            f"{WIDTH * x / last:.1f} {HEIGHT * (1 - (y - low) / span):.1f}"
            for x, y in zip(*line, strict=True)
        )
        return "M" + " L".join(places)

    return {
        "title": title,
        "paths": list(map(path, lines)),
        "faint": list(map(path, faint)),
        "width": WIDTH,
        "height": HEIGHT,
        "words": words,
    }
