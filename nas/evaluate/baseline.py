"""What an evaluator must rank better than: counting, and a proxy at initialisation. Nothing of
them is trained, and more is better."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nas.archive import Measurement
from nas.evaluate.base import Conditions, Evaluated, Evaluator
from nas.grammar import Derivation
from nas.lazy import torch
from nas.measure import COSTS, costs
from nas.op import OPERATORS
from nas.plan import Plan, plan, run

if TYPE_CHECKING:
    from nas.network import Network

NORMS = ("batchnorm", "layernorm")


class Counted(Evaluator):
    """An exact cost of the whole network."""

    trains = begins = False

    def measure(self, derivation: Derivation, conditions: Conditions) -> Evaluated:
        known = costs(plan(derivation, heads=conditions.tasks))
        return Evaluated([m for m in known if m.name == self.name])


class Flops(Counted):
    name, words, means = "flops", COSTS["flops"].words, "counted"


class Params(Counted):
    name, words, means = "params", "params", "counted"


class Synflow(Evaluator):
    """Synaptic flow of the untrained network."""

    name, words = "synflow", "synflow"
    means = "the flow through an untrained network"
    trains = begins = False

    def measure(self, derivation: Derivation, conditions: Conditions) -> Evaluated:
        from nas.network import Network

        network = Network(derivation, heads=conditions.tasks, seed=conditions.seed)
        value = synflow(network)
        return Evaluated([Measurement(self.name, value, evaluator=self.name, seed=conditions.seed)])


def synflow(network: Network) -> float:
    """Σ |θ ∂R/∂θ| over the weights: R sums what comes out for an input of ones when every weight
    is its absolute value and norms are switched off (Tanaka et al. 2020, "Pruning neural networks
    without any data by iteratively conserving synaptic flow", equation 1; to rank architectures
    Abdelfattah et al. 2021, section 3.2). In 64 bits: it grows exponentially with depth.
    """
    leaves: list[torch.Tensor] = []
    params: list[dict[str, torch.Tensor]] = []
    for step, given in zip(network.plan.steps, network.tensors(), strict=True):
        kept = {name: value.detach().double() for name, value in given.items()}
        for param in step.params:
            kept[param.name] = kept[param.name].abs().requires_grad_()
            if param.decay:  # a weight, neither bias nor norm
                leaves.append(kept[param.name])
        params.append(kept)
    x = torch.ones((1, *network.plan.input.dims), dtype=torch.float64)
    out = run(_without_norms(network.plan), params, x)
    total = torch.stack([value.sum() for value in out.values()]).sum()
    grads = torch.autograd.grad(total, leaves, allow_unused=True)
    flows = zip(leaves, grads, strict=True)
    return float(sum((w.detach() * g).abs().sum() for w, g in flows if g is not None))


def _without_norms(planned: Plan) -> Plan:
    """The same steps, but norms pass on what they take."""
    passes = OPERATORS["identity"]
    steps = [s._replace(operator=passes) if s.operator.name in NORMS else s for s in planned.steps]
    return replace(planned, steps=tuple(steps))
