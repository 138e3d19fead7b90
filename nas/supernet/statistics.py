"""Batch statistics of one architecture, computed on training data for every subnet anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from nas.lazy import torch
from nas.op import Phase
from nas.plan import Plan, run

if TYPE_CHECKING:
    from torch import Tensor

Statistics: TypeAlias = "list[dict[str, Tensor]]"


def batch_statistics(
    plan: Plan, params: Sequence[Mapping[str, Tensor]], x: Tensor, *, batch: int = 128
) -> Statistics:
    """Running means and variances for each step of a plan, over all samples of `x`: those of its
    batches, which are as good as equal in size, joined by how many samples each has.

    x: (n, *input), of the training split. Without this a subnet of shared weights is ranked
    wrongly (Yu et al. 2020; Guo et al. 2020, section 3.3).
    """
    statistics: Statistics = [
        {
            name: torch.full(
                (step.shapes[0].channels,), float(name.endswith("var")), device=x.device
            )
            for name in step.operator.statistics
        }
        for step in plan.steps
    ]
    if not any(statistics):
        return statistics
    together = [{**given, **own} for given, own in zip(params, statistics, strict=True)]
    with torch.no_grad():
        seen = 0
        for part in x.tensor_split(max(1, -(-len(x) // max(batch, 2)))):
            run(plan, together, part, Phase(training=True, momentum=None, seen=seen))
            seen += len(part)
    return statistics
