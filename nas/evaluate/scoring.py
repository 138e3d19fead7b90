"""Metrics of a network, or of a subnet's views, on one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nas.archive import Measurement
from nas.evaluate.base import Conditions, Fidelity
from nas.measure import costs
from nas.network import Network
from nas.plan import Plan, run
from nas.task import METRICS, Task, score
from nas.train import groups


def predict(
    plan: Plan, params: Sequence[Mapping[str, Tensor]], x: Tensor, *, batch: int = 512
) -> dict[str, Tensor]:
    """Results by name for all of x (n, *input), in batches, without gradients."""
    with torch.inference_mode():
        parts = [run(plan, params, part) for part in x.split(batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


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
    split, device = conditions.split, conditions.device
    measurements = []
    for group in groups(conditions.tasks):
        x = getattr(group[0].splits(), split).x.to(device)
        logits = predict(plan, params, x)
        for task in group:
            answers, y = logits[task.name].float().cpu(), getattr(task.splits(), split).y
            measurements += [
                Measurement(
                    name,
                    value,
                    METRICS[name].unit,
                    task.name,
                    split,
                    evaluator,
                    bank_version,
                    str(fidelity),
                    seed,
                    device,
                )
                for name, value in score(task, answers, y).items()
            ]
    return measurements + costs(plan)


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
    their own, as many of each, mixed."""
    generator = torch.Generator().manual_seed(seed)
    every = [group[0].splits().train.x for group in groups(tasks)]
    most = -(-samples // len(every))
    parts = [x[torch.randperm(len(x), generator=generator)[:most]] for x in every]
    if len(parts) == 1:
        return parts[0]
    whole = torch.cat(parts)
    return whole[torch.randperm(len(whole), generator=generator)]
