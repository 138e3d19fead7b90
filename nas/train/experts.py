"""What tasks and the experts that they share know of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nas.lazy import F, torch
from nas.plan import Plan, own_output

if TYPE_CHECKING:
    from torch import Tensor

MUTUAL = 0.5  # weight of the information in nats beside the tasks' losses


def mutual_information(
    planned: Plan,
    heard: Sequence[Tensor],  # of each gate of the plan its answers: (samples * places, experts)
    spans: Mapping[str, slice],  # the samples of each task
    samples: int,
) -> Tensor:
    """How much a task tells of the experts that it takes, in nats, the mean over layers:

        I(T; E) = H(E) - H(E | T),  p(e | t) = mean over places of softmax(answers)

    where all tasks are as probable. It is large where each task takes few experts and all experts
    are taken by some (Chen et al. 2023, arXiv 2212.08066, section 3.2). Layers that one task alone
    has tell nothing.
    """
    steps = [step for step in planned.steps if step.operator.gated]
    layers: dict[str, list[Tensor]] = {}
    own = {own_output(task): span for task, span in spans.items()}
    for step, answers in zip(steps, heard, strict=True):
        decoder, _, place = step.slot.partition("/")
        if decoder in own:
            of_task = answers.view(samples, -1, answers.shape[1])[own[decoder]]
            layers.setdefault(place, []).append(of_task.float().softmax(2).mean((0, 1)))
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
