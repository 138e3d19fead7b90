"""A trial of a run as a network of its own, and its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.evaluate import EVALUATORS
from nas.export import save as save_network
from nas.measure.latency import threads
from nas.network import Network
from nas.search.folder import RunError
from nas.search.problem import Problem
from nas.supernet import Bank
from nas.train import chance

if TYPE_CHECKING:
    from nas.search.run import Run

FEW_SAMPLES = 5_000  # of which a network wants smaller batches, and so more steps


def bank_of(run: Run) -> Bank:
    """The trained shared weights of a run, on the CPU; RunError where it has none."""
    path = run.folder / "bank.safetensors"
    if not path.exists():
        raise RunError(f"{run.folder} has no trained bank: nas resume {run.folder}")
    bank = _here(run).bank(trained=True)
    bank.load(path)
    return bank


def _here(run: Run) -> Problem:
    return run.problem.with_settings(run.settings.model_copy(update={"device": "cpu"}))


def network_of(run: Run, id: str) -> Network:
    """A trial's network: its subnet's weights and statistics, as they were measured, where the
    run shares weights (trained on alone once more, where it was); freshly initialised ones
    otherwise."""
    derivation, evaluator = run.derivation(id), EVALUATORS[run.evaluator]
    conditions = _here(run).conditions(run.bank() if evaluator.needs_bank else None)
    with threads(1), chance(run.settings.seed, derivation):  # as it was measured
        return evaluator.network(derivation, conditions)


def save(run: Run, id: str, folder: Path) -> Network:
    """Write a trial's network to a new folder; raises ExportError where that is in the way."""
    trial, settings = run.trial(id), run.settings
    network = network_of(run, trial.id)
    columns: dict[str, Any] = dict(trial.columns())
    source: dict[str, Any] = {"run": run.folder.name, "trial": trial.id, "columns": columns}
    few = min(len(task.splits().train) for task in run.tasks) < FEW_SAMPLES
    batch = settings.retrain.batch or (32 if few else 64)
    recipe = settings.retrain.recipe(settings.seed, batch=batch)
    save_network(network, folder, tasks=run.tasks, recipe=recipe, source=source)
    return network
