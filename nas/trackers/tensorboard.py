"""TensorBoard: losses by step, every trial's columns by its number."""

from __future__ import annotations

from pathlib import Path

from nas.events import Event, Listener, RunEnded, StepDone, TrialDone


def tensorboard(folder: Path, place: str = "") -> Listener:
    """Writes scalars to `place`, by default tensorboard/RUN beside the run's folder. Raises
    ValueError where tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("tensorboard is not here: pip install 'nas-engine[tensorboard]'") from None
    writer = SummaryWriter(place or str(folder.parent / "tensorboard" / folder.name))

    def hear(event: Event) -> None:
        if isinstance(event, StepDone):
            for name, value in event.figures.items():
                writer.add_scalar(f"{event.phase}/{name}", value, event.done)
        elif isinstance(event, TrialDone) and event.trial:
            for name, value in event.trial.columns().items():
                writer.add_scalar(f"trials/{name}", value, event.trial.number)
            for name, value in event.figures.items():
                writer.add_scalar(f"search/{name}", value, event.done)
        elif isinstance(event, RunEnded):
            writer.close()

    return hear
