"""Weights & Biases: a run a search, with a row a trial; offline unless it is told to be online."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nas.events import Event, Listener, RunEnded, StepDone, TrialDone

PROJECT = "nas"


def wandb(folder: Path, place: str = "") -> Listener:
    """Writes below `place`, by default `wandb` beside the run's folder; `wandb sync` sends it. With
    WANDB_MODE=online it is sent as it goes. Raises ValueError where wandb is not installed."""
    try:
        import wandb as tool
    except ImportError:
        raise ValueError("wandb is not here: pip install 'nas-engine[wandb]'") from None
    kept = Path(place) if place else folder.parent / "wandb"
    kept.mkdir(parents=True, exist_ok=True)
    run: Any = tool.init(
        project=PROJECT,
        name=folder.name,
        dir=str(kept),
        mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
        settings=tool.Settings(silent=True, console="off"),
    )

    def hear(event: Event) -> None:
        if isinstance(event, StepDone):
            figures = {f"{event.phase}/{name}": value for name, value in event.figures.items()}
            run.log({**figures, f"{event.phase}/step": event.done})
        elif isinstance(event, TrialDone) and (trial := event.trial):
            columns = {f"trial/{name}": value for name, value in trial.columns().items()}
            best = {f"best/{name}": value for name, value in event.figures.items()}
            run.log({**columns, **best, "trial/number": trial.number})
        elif isinstance(event, RunEnded):
            run.summary["trials"] = event.trials
            run.finish()

    return hear
