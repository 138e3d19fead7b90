"""What tasks and the experts that they share know of each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.plan import Plan

MUTUAL = 0.5  # weight of the information in nats beside the tasks' losses


def mutual_information(
    planned: Plan,
    heard: Sequence[Tensor],  # of each gate of the plan its answers: (places, experts)
) -> Tensor:
    """How much a task tells of the experts that it takes, in nats, the mean over layers:

        I(T; E) = H(E) - H(E | T),  p(e | t) = mean over places of softmax(answers)

    where all tasks are as probable. It is large where each task takes few experts and all experts
    are taken by some (Chen et al. 2023, arXiv 2212.08066, section 3.2). Layers that one task alone
    has tell nothing.
    """
    steps = [step for step in planned.steps if step.operator.gated]
    layers = dict[str, list[Tensor]]()
    for step, answers in zip(steps, heard, strict=True):
        place = step.slot.partition("/")[2]  # within the decoder of a task
        layers.setdefault(place, []).append(answers.float().softmax(1).mean(0))
    several = [shares for shares in layers.values() if len(shares) > 1]
    if not several:
        return torch.zeros((), device=heard[0].device)
    told = []
    for shares in several:
        most = max(len(share) for share in shares)
        by_task = torch.stack([F.pad(share, (0, most - len(share))) for share in shares])
        told.append(_entropy(by_task.mean(0)) - _entropy(by_task).mean())
    return torch.stack(told).mean()


def _entropy(shares: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(shares).sum(-1)
    return entropy
