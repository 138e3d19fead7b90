"""Metrics of a network, or of a subnet's views, on one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nas.archive import Measurement
from nas.evaluate.base import Conditions, Fidelity
from nas.lazy import torch
from nas.measure import costs
from nas.measure.runtime import RANGED, RUNTIMES, Forward
from nas.plan import Plan
from nas.task import METRICS, Scorer, Split, Task
from nas.train import groups

if TYPE_CHECKING:
    from torch import Tensor

    from nas.network import Network

LARGEST, FEWEST = 2**26, 128  # values of inputs at most, samples at least, for statistics
MOST, AT_ONCE = 512, 2**20  # samples, and values of inputs, that go through a network together


def scores(
    plan: Plan,
    params: Sequence[Mapping[str, Tensor]],
    conditions: Conditions,
    *,
    evaluator: str,
    fidelity: Fidelity,
    bank_version: int | None = None,
    seed: int | None = None,
) -> list[Measurement]:
    """Every metric of the conditions' tasks on their split, and the costs of the plan."""
    device, measurements = conditions.device, list[Measurement]()
    forward = _forward(plan, params, conditions)
    for group in groups(conditions.tasks):
        splits = {task.name: getattr(task.splits(), conditions.split) for task in group}
        scorers = {task.name: Scorer(task) for task in group}
        first = splits[group[0].name]
        for at in first.numbers(batch_size(first)):
            with torch.inference_mode():
                logits = forward(first.x_at(at, device))
            for name, scorer in scorers.items():
                scorer.add(logits[name].float().cpu(), splits[name].y_at(at))
        for task in group:
            measurements += [
                Measurement(
                    name,
                    value,
                    METRICS[name].unit if name in METRICS else "",
                    task.name,
                    conditions.split,
                    evaluator,
                    bank_version,
                    str(fidelity),
                    seed,
                    device,
                )
                for name, value in scorers[task.name].score().items()
            ]
    return measurements + costs(plan)


def _forward(plan: Plan, params: Sequence[Mapping[str, Tensor]], conditions: Conditions) -> Forward:
    """What runs a network that is scored; of one in integers with the ranges of training inputs."""
    if plan.precision.bits == 32:
        runtime = RUNTIMES[conditions.runtime]
        return runtime.load(plan, params, 1, conditions.device)
    x = statistics_inputs(conditions.tasks, RANGED, conditions.seed)
    return RUNTIMES["onnxruntime"].load(plan, params, 1, "cpu", x)


def batch_size(split: Split) -> int:
    """How many samples go through a network together."""
    return max(1, min(MOST, AT_ONCE // split.inputs.size))


def network_scores(
    network: Network, conditions: Conditions, *, evaluator: str, fidelity: Fidelity
) -> list[Measurement]:
    """The same of a network of its own."""
    return scores(
        network.plan,
        network.tensors(),
        conditions,
        evaluator=evaluator,
        fidelity=fidelity,
        seed=conditions.recipe.seed,
    )


def statistics_inputs(tasks: Sequence[Task], samples: int, seed: int) -> Tensor:
    """A fixed random part of the training inputs, for batch statistics; where tasks have inputs of
    their own, as many of each, mixed. Of large samples fewer."""
    generator = torch.Generator().manual_seed(seed)
    every = [group[0].splits().train for group in groups(tasks)]
    most = -(-min(samples, max(FEWEST, LARGEST // every[0].inputs.size)) // len(every))
    parts = [split.x_at(torch.randperm(len(split), generator=generator)[:most]) for split in every]
    if len(parts) == 1:
        return parts[0]
    whole = torch.cat(parts)
    return whole[torch.randperm(len(whole), generator=generator)]
