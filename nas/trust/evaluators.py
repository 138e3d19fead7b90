"""What scores architectures: evaluators behind one interface, and the baselines they must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from nas.archive import Measurement
from nas.evaluate import finetuned, shared, standalone
from nas.grammar import Derivation
from nas.measure import costs
from nas.network import Network
from nas.op import OPERATORS
from nas.plan import Plan, plan, run
from nas.supernet import Bank
from nas.task import Task
from nas.train import Recipe

Measure = Callable[[Derivation, Sequence[Task]], list[Measurement]]
NORMS = ("batchnorm", "layernorm")
BASELINES = ("flops", "params", "synflow")  # nothing of them is trained


@dataclass(frozen=True)
class Evaluator:
    """A derivation and tasks → measurements, each task's metric and NLL among them or, of a
    baseline, one of its own name."""

    name: str  # shared, finetuned, inherited, short, standalone, or one of BASELINES
    measure: Measure


def on_bank(bank: Bank, *, samples: int, seed: int = 0, device: str = "cpu") -> Evaluator:
    """`shared`: the subnets of a trained bank, recalibrated on `samples` training inputs."""

    def measure(derivation: Derivation, tasks: Sequence[Task]) -> list[Measurement]:
        return shared(bank, derivation, tasks, samples=samples, seed=seed, device=device)

    return Evaluator("shared", measure)


def finetuned_on_bank(
    bank: Bank, recipe: Recipe, *, samples: int, device: str = "cpu", limit_s: float | None = None
) -> Evaluator:
    """`finetuned`: the subnets of a trained bank, each trained on alone by a recipe."""

    def measure(derivation: Derivation, tasks: Sequence[Task]) -> list[Measurement]:
        return finetuned(
            bank, derivation, tasks, recipe, samples=samples, device=device, limit_s=limit_s
        )

    return Evaluator("finetuned", measure)


def from_scratch(
    recipe: Recipe, *, steps: int | None = None, device: str = "cpu", limit_s: float | None = None
) -> Evaluator:
    """`standalone`: training by a recipe; `short` where it is cut to so many steps."""
    name = "standalone" if steps is None else "short"

    def measure(derivation: Derivation, tasks: Sequence[Task]) -> list[Measurement]:
        given = recipe if steps is None else replace(recipe, epochs=epochs(recipe, tasks, steps))
        found = standalone(derivation, tasks, given, device=device, evaluator=name, limit_s=limit_s)
        if steps is None:
            return found
        return [replace(m, fidelity=f"{steps} steps") if m.task else m for m in found]

    return Evaluator(name, measure)


def epochs(recipe: Recipe, tasks: Sequence[Task], steps: int) -> float:
    """The epochs in which a recipe takes so many steps."""
    return steps / replace(recipe, epochs=1).steps(tasks)


def baseline(name: str, *, seed: int = 0) -> Evaluator:
    """What an evaluator must rank better than: `flops` and `params` (more is better), `synflow`."""

    def counted(derivation: Derivation, tasks: Sequence[Task]) -> list[Measurement]:
        return [m for m in costs(plan(derivation, heads=tasks)) if m.name == name]

    def proxy(derivation: Derivation, tasks: Sequence[Task]) -> list[Measurement]:
        network = Network(derivation, heads=tasks, seed=seed)
        return [Measurement("synflow", synflow(network), evaluator="synflow", seed=seed)]

    return Evaluator(name, proxy if name == "synflow" else counted)


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
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    flows = zip(leaves, found, strict=True)
    return float(sum((w.detach() * g).abs().sum() for w, g in flows if g is not None))


def _without_norms(planned: Plan) -> Plan:
    """The same steps, but norms pass on what they take."""
    passes = OPERATORS["identity"]
    steps = [s._replace(operator=passes) if s.operator.name in NORMS else s for s in planned.steps]
    return replace(planned, steps=tuple(steps))
