"""Where else a run can be followed: one listener a tool, each with a package of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nas.events import Event, Listener, Told
from nas.trackers.mlflow import mlflow
from nas.trackers.study import study
from nas.trackers.tensorboard import tensorboard
from nas.trackers.wandb import wandb

# what makes a tool's listener, of a run's folder and of where the tool keeps things ("": as usual)
TRACKERS: dict[str, Callable[[Path, str], Listener]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "optuna": study,
    "wandb": wandb,
}


def tracked(listener: Listener, trackers: list[Listener]) -> Listener:
    """A listener and some trackers as one. A tracker that fails is left out: the search goes on."""

    left = list(trackers)

    def hear(event: Event) -> None:
        listener(event)
        for tracker in list(left):
            try:
                tracker(event)
            except Exception as error:
                left.remove(tracker)
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                listener(Told(f"a tracker is left out from here on, the search goes on: {reason}"))

    return hear


def parsed(text: str, folder: Path) -> Listener:
    """The listener of a tracker as it is asked for: `mlflow`, or `mlflow=PLACE`. Raises ValueError
    for one that there is not."""
    name, _, place = text.partition("=")
    if name not in TRACKERS:
        raise ValueError(f"{name!r} tracks nothing: there are {', '.join(TRACKERS)}")
    return TRACKERS[name](folder, place)


__all__ = ["TRACKERS", "mlflow", "parsed", "study", "tensorboard", "tracked", "wandb"]
