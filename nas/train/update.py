"""How weights move by their gradients. Each works on the elements it is given and on no others,
with a state of its own for each element, so that what a training step does not touch stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite, log
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from nas.lazy import torch
from nas.train.recipe import Recipe
from nas.train.turns import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

Tensors: TypeAlias = "list[Tensor]"
State = Mapping[str, Tensors]
SQUARES, LEAST = 0.999, 1e-8  # of Adam: how much of squares is kept, and the least divisor
AVERAGE = "average"  # the name of the state that is a moving average of weights
FIRST = 9  # steps over which such an average comes to its decay


@dataclass
class Lease:
    """The tensors a step touches. `leaves` are what gradients are taken of, views of the
    weights; `states` the same elements' optimizer state by name; `masks` where only a part of a
    leaf is touched. `params[i]` are the i-th plan's tensors, each made of leaves."""

    leaves: list[Tensor]
    values: list[Tensor]
    states: list[dict[str, Tensor]]
    decays: list[bool]
    masks: list[Tensor | None]
    params: list[list[dict[str, Tensor]]]

    @property
    def direct(self) -> bool:
        """Whether every parameter is a leaf itself, so that it can be trained on again."""
        return all(t.is_leaf for plan in self.params for step in plan for t in step.values())


def sgd(
    w: Tensors,
    g: Tensors,
    state: State,
    decayed: list[int],
    rate: float,
    momentum: float,
    decay: float,
) -> None:
    """v ← momentum · v + g + decay · w;  w ← w - rate · v  (as torch.optim.SGD)."""
    if decay and decayed:
        torch._foreach_add_([g[i] for i in decayed], [w[i] for i in decayed], alpha=decay)
    torch._foreach_mul_(state["momentum"], momentum)
    torch._foreach_add_(state["momentum"], g)
    torch._foreach_add_(w, state["momentum"], alpha=-rate)


def adam(
    w: Tensors,
    g: Tensors,
    state: State,
    decayed: list[int],
    rate: float,
    momentum: float,
    decay: float,
) -> None:
    """Adam with decoupled decay (Loshchilov and Hutter 2019, algorithm 2; torch.optim.AdamW).

    m ← β m + (1 - β) g;  s ← γ s + (1 - γ) g²;  n ← n + 1;
    w ← (1 - rate · decay) w - rate · m/(1 - βⁿ) / (√(s/(1 - γⁿ)) + ε)
    with β the momentum and n counted for each element: elements that few subnets touch have seen
    fewer steps.
    """
    mean, square, count = state["mean"], state["square"], state["count"]
    if decay and decayed:
        torch._foreach_mul_([w[i] for i in decayed], 1 - rate * decay)
    torch._foreach_add_(count, 1)
    torch._foreach_lerp_(mean, g, 1 - momentum)
    torch._foreach_mul_(square, SQUARES)
    torch._foreach_addcmul_(square, g, g, value=1 - SQUARES)
    below = list(torch._foreach_div(square, _seen(count, SQUARES)))
    torch._foreach_sqrt_(below)
    torch._foreach_add_(below, LEAST)
    torch._foreach_mul_(below, _seen(count, momentum))
    torch._foreach_addcdiv_(w, mean, below, value=-rate)


def _seen(count: Tensors, kept: float) -> Tensors:
    """1 - keptⁿ, the share of a running mean that n steps have filled."""
    if not kept:
        return [torch.ones_like(n) for n in count]
    shares = list(torch._foreach_mul(count, log(kept)))
    torch._foreach_expm1_(shares)
    torch._foreach_neg_(shares)
    return shares


class Optimizer(NamedTuple):
    """The names of what is kept for each element, and the step."""

    state: tuple[str, ...]
    move: Callable[[Tensors, Tensors, State, list[int], float, float, float], None]


OPTIMIZERS = {
    "sgd": Optimizer(("momentum",), sgd),
    "adam": Optimizer(("mean", "square", "count"), adam),
}


def update(lease: Lease, recipe: Recipe, rate: float, step: int = 0) -> None:
    """One step of the recipe's optimizer on the leased elements; everything else stays as it is,
    bit by bit. `step` is how many came before. Raises TrainingError, before anything moves, where
    a gradient is not finite."""
    used = [i for i, leaf in enumerate(lease.leaves) if leaf.grad is not None]
    values, states = [lease.values[i] for i in used], [lease.states[i] for i in used]
    optimizer = OPTIMIZERS[recipe.optimizer]
    with torch.no_grad():
        grads = [grad for leaf in lease.leaves if (grad := leaf.grad) is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if not isfinite(float(norm)):
            raise TrainingError("a gradient is not finite")
        if recipe.clip:
            torch.nn.utils.clip_grads_with_norm_([lease.leaves[i] for i in used], recipe.clip, norm)
        moving = [(values[k], *states[k].values()) for k in range(len(used))]
        masked = [
            (mask, part, part.clone())
            for k, i in enumerate(used)
            if (mask := lease.masks[i]) is not None
            for part in moving[k]
        ]
        optimizer.move(
            values,
            grads,
            {name: [state[name] for state in states] for name in optimizer.state},
            [k for k, i in enumerate(used) if lease.decays[i]],
            rate,
            recipe.momentum,
            recipe.weight_decay,
        )
        if recipe.average:
            kept = min(recipe.average, step / (step + FIRST))
            torch._foreach_lerp_([state[AVERAGE] for state in states], values, 1 - kept)
        for mask, part, before in masked:
            part.copy_(torch.where(mask, part, before))
