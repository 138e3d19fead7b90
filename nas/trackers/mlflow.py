"""MLflow: a run of its own for a search, with a child a trial."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from nas.events import Event, Listener, RunEnded, StepDone, TrialDone

EXPERIMENT, LONGEST = "nas", 500  # letters of a parameter's value
ODD = re.compile(r"[^\w./ -]")


def mlflow(folder: Path, place: str = "") -> Listener:
    """Writes to a tracking server or a store, `place` as MLflow names them, by default what MLflow
    is set to. Raises ValueError where mlflow is not installed."""
    try:
        from mlflow import MlflowClient
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
    except ImportError:
        raise ValueError("mlflow is not here: pip install 'nas-engine[mlflow]'") from None
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = MlflowClient(place or None)
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
    parent = client.create_run(experiment, tags={MLFLOW_RUN_NAME: folder.name}).info.run_id
    client.log_param(parent, "folder", str(folder)[-LONGEST:])

    def hear(event: Event) -> None:
        if isinstance(event, StepDone):
            for name, value in event.figures.items():
                client.log_metric(parent, _name(f"{event.phase} {name}"), value, step=event.done)
        elif isinstance(event, TrialDone) and (trial := event.trial):
            tags = {MLFLOW_PARENT_RUN_ID: parent, MLFLOW_RUN_NAME: trial.id}
            child = client.create_run(experiment, tags=tags).info.run_id
            client.log_param(child, "derivation", trial.text[:LONGEST])
            for name, value in trial.columns().items():
                client.log_metric(child, _name(name), value)
            ended = "FAILED" if trial.state == "failed" else "FINISHED"
            client.set_terminated(child, ended)
            for name, value in event.figures.items():
                client.log_metric(parent, _name(name), value, step=event.done)
        elif isinstance(event, RunEnded):
            client.set_terminated(parent)

    return hear


def _name(text: str) -> str:
    """A name that MLflow takes: latency_ms@pi as latency_ms/pi."""
    return ODD.sub("_", text.replace("@", "/"))
