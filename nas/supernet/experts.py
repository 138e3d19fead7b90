"""The experts that a task takes of those that tasks share, and its network without the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas.grammar import derive
from nas.op import Phase
from nas.plan import run
from nas.supernet.chain import follow
from nas.task import Task

if TYPE_CHECKING:
    from nas.network import Network

BATCH = 256


def taken(network: Network, batches: Iterable[Tensor]) -> list[Tensor]:
    """For each gated step, in order, how often each expert is taken on batches (n, *input)."""
    steps = [step for step in network.plan.steps if step.operator.gated]
    counts = [torch.zeros(int(step.args["n"]), dtype=torch.long) for step in steps]
    with torch.no_grad():
        for part in (part for x in batches for part in x.split(BATCH)):
            heard = list[Tensor]()
            run(network.plan, network.tensors(), part, Phase(heard=heard))
            for step, count, answers in zip(steps, counts, heard, strict=True):
                chosen = answers.topk(int(step.args["k"])).indices.flatten().cpu()
                count += chosen.bincount(minlength=len(count))
    return counts


def without_idle(network: Network, tasks: Sequence[Task], batches: Iterable[Tensor]) -> Network:
    """The network without the experts that are never taken on batches (n, *input), as far as the
    space has so few; it computes the same wherever they would not have been. In eval mode."""
    sites = {chosen.site.name: chosen for chosen in network.derivation.choices}
    gated = [step for step in network.plan.steps if step.operator.gated]
    labels, kept = dict(network.derivation.by_site), dict[str, Tensor]()
    for step, count in zip(gated, taken(network, batches), strict=True):
        site = f"{step.slot.partition(':')[0]}:n"
        if site in sites:  # else the space says how many there are
            least = max(int((count > 0).sum()), int(step.args["k"]))
            sizes = sorted(int(option.label.partition("=")[2]) for option in sites[site].options)
            size = next(n for n in sizes if n >= least)
            labels[site] = f"n={size}"
            kept[step.name] = count.argsort(descending=True, stable=True)[:size].sort().values
    derivation = derive(network.derivation.grammar, follow(labels), input=network.derivation.input)
    from nas.network import Network

    smaller = Network(derivation, network.plan.input, tasks)
    with torch.no_grad():
        pairs = zip(network.plan.steps, network.tensors(), smaller.tensors(), strict=True)
        for step, theirs, ours in pairs:
            for name, value in theirs.items():
                ours[name].copy_(value[kept[step.name]] if step.name in kept else value)
    return smaller.eval()
