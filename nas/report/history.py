"""Where a search went: how the front's hypervolume grew with its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nas.archive import Trial
from nas.dominance import growth
from nas.report.standing import points_of, reference, scaled
from nas.search import Run

WIDTH, HEIGHT = 640, 170  # of the drawing, in its own units
FEWEST = 3  # trials of which a curve is drawn


class History(NamedTuple):
    """The growth of a task's front ("" for all together): hypervolume after each trial within the
    limits, in shares of the box around all of them, and which were random draws."""

    task: str
    numbers: tuple[int, ...]  # of the trials
    volumes: tuple[float, ...]
    drawn: tuple[bool, ...]

    @property
    def half(self) -> int:
        """The trial after which there was half of what there is in the end."""
        enough = self.volumes[-1] / 2
        return next(n for n, v in zip(self.numbers, self.volumes, strict=True) if v >= enough)

    @property
    def gained(self) -> tuple[int, int]:
        """How many proposals of the sampler and how many random draws enlarged the front."""
        before = (0.0, *self.volumes)
        grew = [after > last for last, after in zip(before, self.volumes, strict=False)]
        pairs = list(zip(grew, self.drawn, strict=True))
        return sum(g and not d for g, d in pairs), sum(g and d for g, d in pairs)


def histories(run: Run, trials: Sequence[Trial] | None = None) -> list[History]:
    """How each front of a run grew with its trials; none where there are too few."""
    trials, grown = run.trials if trials is None else trials, list[History]()
    for aim in run.aims:
        points = points_of(run, trials, aim.task, aim.objectives)
        if len(points) >= FEWEST:
            losses = [losses for _, losses in points]
            numbers = tuple(trial.number for trial, _ in points)
            drawn = tuple(trial.drawn for trial, _ in points)
            volumes = growth(scaled(losses, losses), reference(losses))
            grown.append(History(aim.task, numbers, tuple(volumes), drawn))
    return grown


def drawing(history: History) -> dict[str, Any]:
    """A history as lines and dots of a picture, and what stands beside it in words."""
    last, most = max(1, history.numbers[-1]), max(history.volumes) or 1.0

    def place(number: int, volume: float) -> tuple[float, float]:
        return round(WIDTH * number / last, 1), round(HEIGHT * (1 - volume / most), 1)

    places = [place(n, v) for n, v in zip(history.numbers, history.volumes, strict=True)]
    steps = [f"M{places[0][0]} {HEIGHT}"]
    steps += [f"H{x} V{y}" for x, y in places]
    dots = [at for at, drawn in zip(places, history.drawn, strict=True) if drawn]
    proposed, drawn = history.gained
    return {
        "task": history.task,
        "path": " ".join(steps),
        "dots": dots,
        "width": WIDTH,
        "height": HEIGHT,
        "last": last,
        "most": f"{most:.3f}",
        "words": (
            f"Half of it was there after trial {history.half}. "
            f"{proposed} proposals of the sampler enlarged the front"
            + (f", and {drawn} of {sum(history.drawn)} random draws." if dots else ".")
        ),
    }
