"""Whose answers a network learns beside the labels while it is retrained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nas.evaluate import Conditions, network_of
from nas.evaluate.alone import STATISTICS
from nas.export import ExportError, load
from nas.export.labelling import one_result
from nas.export.preparing import one_preparation
from nas.network import Network
from nas.plan import run
from nas.retrain.options import Retraining
from nas.search import load as load_run
from nas.task import Task
from nas.task.answers import asked_shape, fits
from nas.train.trainer import Logits
from nas.user_code import user_network


def teacher_of(
    options: Retraining, tasks: Sequence[Task], device: str
) -> Callable[[Tensor], Logits] | None:
    """What gives the teacher's logits of a batch x (n, *input), by task; None where none is asked
    for.

    A module takes samples as they are found (n, channels, ...), as float32, bytes as shares of 255;
    it gives logits as heads of the task do, for several tasks a dict of them by name. Raises
    ExportError where a teacher takes other samples, or answers none of the tasks.
    """
    if options.teacher is None:
        return None
    if options.teacher_module:
        return _module(options.teacher_module, tasks, device)
    network, theirs = _network(Path(options.teacher), options.trust_code)
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


def _module(name: str, tasks: Sequence[Task], device: str) -> Callable[[Tensor], Logits]:
    """The same of a module of the user's own, which is tried once."""
    try:
        module = user_network(name).to(device).eval()
    except ValueError as error:
        raise ExportError(str(error)) from None
    preparation, by_name = one_preparation(tasks), {task.name: task for task in tasks}
    if preparation is None or preparation.reshaped:
        why = f"as {preparation.reshaped}" if preparation else "of each task in another way"
        raise ExportError(
            f"{name} cannot teach {', '.join(by_name)}: samples are prepared {why}, and a module "
            "of one's own takes them as they are found"
        )

    def logits(x: Tensor) -> Logits:
        with torch.no_grad():
            given = module(preparation.undone(x))
        if not (isinstance(given, dict) and given.keys() & by_name.keys()):
            given = {tasks[0].name: one_result(given, name)}
        return {task: given[task].float() for task in by_name if task in given}

    try:
        answers = logits(torch.zeros(2, *tasks[0].input, device=device))
    except Exception as error:  # of the user's own code, whatever it raises
        reason = error if isinstance(error, ExportError) else f"{type(error).__name__}: {error}"
        raise ExportError(f"{name} cannot teach {', '.join(by_name)}: {reason}") from None
    for task, value in answers.items():
        if not fits(by_name[task], value.shape[1:]):
            asked = asked_shape(by_name[task])
            raise ExportError(
                f"{name} says {list(value.shape)} of two samples for {task}, whose head says "
                f"{[2, *asked]} (-1 is any size): as many classes, in the task's order"
            )
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
