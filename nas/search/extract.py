"""An architecture of a run as a network of its own, and its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.archive import Trial
from nas.evaluate import EVALUATORS, SHARED, Fidelity, network_scores
from nas.evaluate.alone import STATISTICS
from nas.evaluate.scoring import batch_size, statistics_inputs
from nas.export import save as save_network
from nas.grammar import Derivation
from nas.measure.latency import threads
from nas.search.error import RunError
from nas.search.problem import Problem
from nas.supernet import Bank
from nas.supernet.bank_file import load_bank
from nas.supernet.experts import without_idle
from nas.task.samples import SPLITS
from nas.train import chance

if TYPE_CHECKING:
    from nas.network import Network

ROUNDING, FLIPPED = 0.01, 3  # by which figures may differ: of them, and answers of all
FEW_SAMPLES = 5_000  # of which a network wants smaller batches, and so more steps


def trained_bank(problem: Problem, folder: Path) -> Bank:
    """The trained shared weights in a run's folder, on the CPU; RunError where it has none."""
    path = folder / "bank.safetensors"
    if not path.exists():
        raise RunError(f"{folder} has no trained bank: nas resume {folder}")
    bank = _here(problem).bank(trained=True)
    load_bank(bank, path)
    return bank


def _here(problem: Problem) -> Problem:
    return problem.with_settings(problem.settings.model_copy(update={"device": "cpu"}))


def network_of(
    problem: Problem, folder: Path, evaluator: str, derivation: Derivation, task: str = ""
) -> Network:
    """An architecture as an evaluator of a run in `folder` measured it: its subnet's weights and
    statistics, where weights are shared (trained on alone once more, where it was); freshly
    initialised ones otherwise. With a task, what that one takes of it, of
    experts that tasks share those that it takes on training samples."""
    record = EVALUATORS[evaluator]
    bank = trained_bank(problem, folder) if record.needs_bank else None
    with threads(1), chance(problem.settings.seed, derivation):  # as it was measured
        network = record.network(derivation, _here(problem).conditions(bank))
    own = [known for known in problem.tasks if known.name == task]
    if not own:
        return network
    alone = network.only(own[0])
    if problem.grammar.share != "tasks":
        return alone
    valid = own[0].splits().valid  # by which it is checked
    seen = statistics_inputs(own, STATISTICS, problem.settings.seed)
    others = (valid.x_at(at) for at in valid.numbers(batch_size(valid)))
    return without_idle(alone, own, chain([seen], others))


Measured = Mapping[tuple[str, str], float]  # by task and metric


def measured_of(trial: Trial) -> Measured:
    """What was measured of a trial with shared weights."""
    return {
        (m.task, m.name): m.value for m in trial.measurements if m.evaluator == SHARED and m.task
    }


def check(network: Network, problem: Problem, measured: Measured, called: str) -> None:
    """Evaluate a network of shared weights once more; raises RunError where it does not reach what
    was measured, but for rounding. What runs in integers was measured so, and what was trained
    alone is not told apart from its chance: neither is looked at."""
    if not measured or network.plan.precision.bits != 32:
        return
    tasks = [task for task in problem.tasks if task.name in network.plan.outputs]
    conditions = replace(_here(problem).conditions(), tasks=tasks)
    for again in network_scores(network, conditions, evaluator=SHARED, fidelity=Fidelity()):
        before = measured.get((again.task or "", again.name))
        task = next((task for task in tasks if task.name == again.task), None)
        if before is None or task is None:
            continue
        allowed = max(ROUNDING * max(1.0, abs(before)), FLIPPED / len(task.splits().valid))
        same = again.value == before or (isnan(again.value) and isnan(before))
        if not same and not abs(again.value - before) <= allowed:
            raise RunError(
                f"{called} was measured with {again.task} {again.name} {before:.4f}, and "
                f"its network has {again.value:.4f} now: the data, or bank.safetensors, is not "
                "what it was then. Put it back, or take the network as it is: nas extract "
                "--unchecked"
            )


def save(network: Network, folder: Path, problem: Problem, source: Mapping[str, Any]) -> None:
    """Write a network to a new folder, with the recipe by which it is retrained, and whence it
    comes; raises ExportError where the folder is in the way."""
    settings, served = problem.settings, network.plan.outputs
    tasks = [task for task in problem.tasks if task.name in served]
    few = min(len(task.splits().train) for task in tasks) < FEW_SAMPLES
    batch = settings.retrain.batch or (32 if few else 64)
    recipe = settings.retrain.recipe(settings.seed, batch=batch)
    sizes = {
        task.name: dict(zip(SPLITS, map(len, task.splits().every), strict=True)) for task in tasks
    }
    facts = {**source, "splits": sizes}
    save_network(network, folder, tasks=tasks, recipe=recipe, source=facts)
