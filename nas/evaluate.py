"""How good an architecture is: measured on a bank's subnet, or trained alone from scratch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from nas.archive import Measurement
from nas.grammar import Derivation
from nas.measure import costs
from nas.network import Network
from nas.plan import Plan, plan, run
from nas.supernet import Bank, Parent, Subnet, inherit
from nas.supernet.inherit import Origin
from nas.task import METRICS, Task, score
from nas.train import Recipe, Trainer, TrainingError, Turn, groups, train

SplitName = Literal["train", "valid", "test"]


def predict(
    plan: Plan, params: Sequence[Mapping[str, Tensor]], x: Tensor, *, batch: int = 512
) -> dict[str, Tensor]:
    """Results by name for all of x (n, *input), in batches, without gradients."""
    with torch.inference_mode():
        parts = [run(plan, params, part) for part in x.split(batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def scores(
    planned: Plan,
    params: Sequence[Mapping[str, Tensor]],
    tasks: Sequence[Task],
    split: SplitName,
    *,
    evaluator: str,
    fidelity: str = "",
    bank_version: int | None = None,
    seed: int | None = None,
    device: str = "cpu",
) -> list[Measurement]:
    """Every metric of some tasks, on one split."""
    found = []
    for group in groups(tasks):
        x = getattr(group[0].splits(), split).x.to(device)
        logits = predict(planned, params, x)
        found += [
            Measurement(
                name,
                value,
                METRICS[name].unit,
                task.name,
                split,
                evaluator,
                bank_version,
                fidelity,
                seed,
                device,
            )
            for task in group
            for name, value in score(
                task, logits[task.name].float().cpu(), getattr(task.splits(), split).y
            ).items()
        ]
    return found


def calibration(tasks: Sequence[Task], samples: int, seed: int) -> Tensor:
    """A fixed random part of the training inputs, for batch statistics; where tasks have inputs of
    their own, as many of each, mixed."""
    generator = torch.Generator().manual_seed(seed)
    each = [group[0].splits().train.x for group in groups(tasks)]
    most = -(-samples // len(each))
    parts = [x[torch.randperm(len(x), generator=generator)[:most]] for x in each]
    if len(parts) == 1:
        return parts[0]
    whole = torch.cat(parts)
    return whole[torch.randperm(len(whole), generator=generator)]


def shared(
    bank: Bank,
    derivation: Derivation,
    tasks: Sequence[Task],
    *,
    split: SplitName = "valid",
    samples: int = 512,
    seed: int = 0,
    device: str = "cpu",
) -> list[Measurement]:
    """Metrics of a derivation's subnet of a bank, recalibrated on `samples` training inputs."""
    x = calibration(tasks, samples, seed).to(device)
    subnet = Subnet.of(bank, derivation, list(tasks), x)
    return scores(
        subnet.plan,
        subnet.tensors,
        tasks,
        split,
        evaluator="shared",
        fidelity=f"{bank.version} supernet steps",
        bank_version=bank.version,
        seed=seed,
        device=device,
    ) + costs(subnet.plan)


def finetuned(
    bank: Bank,
    derivation: Derivation,
    tasks: Sequence[Task],
    recipe: Recipe,
    *,
    split: SplitName = "valid",
    samples: int = 512,
    device: str = "cpu",
    limit_s: float | None = None,
) -> list[Measurement]:
    """Metrics of a derivation's subnet of a bank, trained on alone: see `finetune`."""
    network = finetune(
        bank, derivation, tasks, recipe, samples=samples, device=device, limit_s=limit_s
    )
    return scores(
        network.plan,
        network.tensors(),
        tasks,
        split,
        evaluator="finetuned",
        fidelity=f"{bank.version} supernet steps and {recipe.steps(tasks)} alone",
        bank_version=bank.version,
        seed=recipe.seed,
        device=device,
    ) + costs(network.plan)


def finetune(
    bank: Bank,
    derivation: Derivation,
    tasks: Sequence[Task],
    recipe: Recipe,
    *,
    samples: int = 512,
    device: str = "cpu",
    limit_s: float | None = None,
) -> Network:
    """A derivation's subnet of a bank as a network of its own, trained on alone by `recipe`. The
    bank stays as it is. Raises TrainingError as `fit` does."""
    weights = bank.part(plan(derivation, heads=tasks), optimizer=recipe.optimizer)
    fit_bank(weights, derivation, tasks, recipe, device=device, limit_s=limit_s)
    return network_of(weights, derivation, tasks, samples=samples, seed=recipe.seed, device=device)


def standalone(
    derivation: Derivation,
    tasks: Sequence[Task],
    recipe: Recipe,
    *,
    split: SplitName = "valid",
    device: str = "cpu",
    evaluator: str = "standalone",
    limit_s: float | None = None,
) -> list[Measurement]:
    """Metrics of a derivation trained from scratch by `recipe`, and its costs."""
    network = fit(derivation, tasks, recipe, device=device, limit_s=limit_s)
    return measured(network, tasks, recipe, split=split, device=device, evaluator=evaluator)


def inherited(
    derivation: Derivation,
    tasks: Sequence[Task],
    recipe: Recipe,
    parents: Sequence[Parent],
    origin: Origin,
    *,
    device: str = "cpu",
    limit_s: float | None = None,
) -> tuple[list[Measurement], Bank]:
    """Validation metrics of a derivation trained on by `recipe` from its parents' weights, from
    scratch where there are none; and the weights."""
    planned = plan(derivation, heads=tasks)
    weights = Bank.of([planned], seed=recipe.seed, device=device, optimizer=recipe.optimizer)
    if parents:
        inherit(weights, derivation, planned, parents, origin)
    fit_bank(weights, derivation, tasks, recipe, device=device, limit_s=limit_s)
    network = network_of(weights, derivation, tasks, seed=recipe.seed, device=device)
    evaluator = "inherited" if parents else "standalone"
    found = measured(network, tasks, recipe, split="valid", device=device, evaluator=evaluator)
    return found, weights


def measured(
    network: Network,
    tasks: Sequence[Task],
    recipe: Recipe,
    *,
    split: SplitName,
    device: str = "cpu",
    evaluator: str,
) -> list[Measurement]:
    """Metrics of a network on one split, and its costs."""
    return scores(
        network.plan,
        network.tensors(),
        tasks,
        split,
        evaluator=evaluator,
        fidelity=f"{recipe.epochs:g} epochs",
        seed=recipe.seed,
        device=device,
    ) + costs(network.plan)


def fit(
    derivation: Derivation,
    tasks: Sequence[Task],
    recipe: Recipe,
    *,
    device: str = "cpu",
    limit_s: float | None = None,
) -> Network:
    """A network trained from scratch; its weights are a bank that holds it alone.

    Raises TrainingError where the loss is no number, or training takes longer than `limit_s`.
    """
    weights = Bank.of(
        [plan(derivation, heads=tasks)], seed=recipe.seed, device=device, optimizer=recipe.optimizer
    )
    fit_bank(weights, derivation, tasks, recipe, device=device, limit_s=limit_s)
    return network_of(weights, derivation, tasks, seed=recipe.seed, device=device)


def fit_bank(
    weights: Bank,
    derivation: Derivation,
    tasks: Sequence[Task],
    recipe: Recipe,
    *,
    device: str,
    limit_s: float | None,
) -> None:
    """Train one derivation on a bank that holds it; errors as of `fit`."""
    ends = float("inf") if limit_s is None else time.perf_counter() + limit_s

    def on_step(done: int, value: float) -> None:
        if time.perf_counter() > ends:
            raise TrainingError(f"it took longer than {limit_s:g} s, at step {done}")

    trainer = Trainer(weights, tasks, recipe, recipe.steps(tasks), device)
    train(trainer, lambda step: Turn((derivation,)), on_step=on_step)


def network_of(
    bank: Bank,
    derivation: Derivation,
    tasks: Sequence[Task],
    *,
    samples: int = 2048,
    seed: int = 0,
    device: str = "cpu",
) -> Network:
    """A derivation's subnet as a module of its own, with statistics from `samples` inputs."""
    x = calibration(tasks, samples, seed).to(device)
    return Subnet.of(bank, derivation, list(tasks), x).extract(list(tasks)).to(device)
