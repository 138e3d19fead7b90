"""Whose answers a network learns beside the labels while it is retrained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nas.evaluate import Conditions, network_of
from nas.evaluate.alone import STATISTICS
from nas.export import ExportError, load
from nas.network import Network
from nas.plan import run
from nas.retrain.options import Retraining
from nas.search import load as load_run
from nas.task import Task
from nas.train.trainer import Logits


def teacher_of(
    options: Retraining, tasks: Sequence[Task], device: str
) -> Callable[[Tensor], Logits] | None:
    """What gives the teacher's logits of a batch x (n, *input), by task; None where none is asked
    for. Raises ExportError where it takes other samples, or answers none of the tasks."""
    if options.teacher is None:
        return None
    network, theirs = _network(options.teacher, options.trust_code)
    network.to(device)
    names, known = [task.name for task in tasks], {task.name: task for task in theirs}
    answers = {
        name
        for name, task in zip(names, tasks, strict=True)
        if name in known and _alike(known[name], task)
    }
    if network.plan.input.dims != tasks[0].input or not answers:
        raise ExportError(
            f"{options.teacher} takes {network.plan.input} and answers "
            f"{', '.join(network.plan.outputs)}; the network learns {', '.join(names)} of "
            f"{'x'.join(map(str, tasks[0].input))}: a teacher is for a task of that name with the "
            "same classes, the same input and the same preparation of it"
        )

    def logits(x: Tensor) -> Logits:
        with torch.no_grad():
            given = run(network.plan, network.tensors(), x)
        return {name: value.float() for name, value in given.items() if name in answers}

    return logits


def _alike(own: Task, other: Task) -> bool:
    """Whether tasks ask the same of samples that are prepared alike."""
    if (own.target, own.classes) != (other.target, other.classes) or own.units != other.units:
        return False
    return own.preparation.numbers == other.preparation.numbers


def _network(path: Path, trust_code: bool) -> tuple[Network, list[Task]]:
    """The network of a folder and its tasks; of a run the largest that its shared weights have."""
    if not (path / "run.toml").exists():
        return load(path, trust_code=trust_code)[:2]
    run_of = load_run(path, trust_code=trust_code)
    recipe = run_of.settings.retrain.recipe(run_of.settings.seed, batch=64)
    conditions = Conditions(run_of.tasks, recipe, device="cpu")
    largest = run_of.problem.space.largest
    return network_of(run_of.bank(), largest, conditions, STATISTICS), run_of.tasks
