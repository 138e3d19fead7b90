"""Experts that tasks share, each with gates of its own, beside dense maps of equal active FLOPs.

Scenes: which digits occur, whose each pixel is, where they are. One network: an encoder that halves
twice, then three residual blocks of a depthwise convolution and a perceptron, whose weights all
tasks share. Each is trained for as many steps and judged on the test split. Ways:

experts      of 8 perceptrons of 16 hidden units each task's gate takes 2 for each place, and is
             trained with the information that tasks and experts have of each other (Mod-Squad)
no mutual    the same without that information
dense        one perceptron of 32 hidden units for all tasks: equal active FLOPs but for the gates
apart        a dense network for each task alone, with as many steps each

kept         experts that a task's network keeps, of 24: those that it takes on training samples
dropped      the share of the experts' parameters that its network does without
likeness     of two tasks how alike they take experts: the shares that both have, the mean of pairs

Kept in runs/bench-experts: run again it carries on.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from measure import ROOT, Kept, report

import nas.train.trainer as trainer_module
from nas.evaluate.base import Conditions, Fidelity
from nas.evaluate.scoring import network_scores, statistics_inputs
from nas.grammar import Derivation, Grammar, derive
from nas.network import Network
from nas.plan import plan
from nas.supernet import Bank, Subnet
from nas.supernet.decoders import with_decoders
from nas.supernet.experts import taken, without_idle
from nas.task import Task, load_tasks
from nas.train import Recipe, Trainer, Turn, train

NAMES = ("scenes-classify", "scenes-segment", "scenes-detect")
WAYS = ("experts", "no mutual", "dense", "apart")
TEXT = """
share tasks
net      = encoder decoder
encoder  = layer(16, 2) layer(32, 2)
layer(c, s) = conv(c, kernel=3, stride=s) batchnorm relu
decoder  = block{3} channelnorm
block    = clone(2) [depthwise(kernel=3) channelnorm EXPERTS; identity] add
"""
SIZES = {"experts": "experts({1, 2, 3, 4, 5, 6, 7, 8}, 2, 16)", "dense": "experts(1, 1, 32)"}
MUTUAL = trainer_module.MUTUAL


def largest(way: str, tasks: Sequence[Task]) -> Derivation:
    """The architecture of a way, with all its experts."""
    text = TEXT.replace("EXPERTS", SIZES["dense" if way in ("dense", "apart") else "experts"])
    grammar = with_decoders(Grammar.parse(text), [task.name for task in tasks])
    return derive(grammar, lambda site, options: len(options) - 1, input=tasks[0].input)


def trained(way: str, tasks: Sequence[Task], steps: int, seed: int) -> Network:
    trainer_module.MUTUAL = 0.0 if way == "no mutual" else MUTUAL
    derivation = largest(way, tasks)
    recipe = Recipe(batch=32, lr=0.05, seed=seed).lasting(steps, tasks)
    bank = Bank.of([plan(derivation, heads=tasks)], seed=seed, share="tasks")
    turn = Turn((derivation,))
    train(Trainer(bank, tasks, recipe, steps), lambda step: turn)
    x = statistics_inputs(tasks, 2048, seed)
    return Subnet.of(bank, derivation, list(tasks), x).extract(list(tasks))


def judged(network: Network, tasks: Sequence[Task]) -> list[float]:
    """The metric of each task on the test split."""
    conditions = Conditions(tasks, split="test")
    figures = network_scores(network, conditions, evaluator="", fidelity=Fidelity())
    values = {(m.task, m.name): m.value for m in figures}
    return [values[task.name, task.metric] for task in tasks]


def expert_params(network: Network) -> int:
    gated = (step for step in network.plan.steps if step.operator.gated)
    return sum(p.numel() for s in gated for p in network.get_submodule(s.name).parameters())


def facts(way: str, tasks: Sequence[Task], steps: int, seed: int) -> dict[str, Any]:
    if way == "apart":
        scores = [judged(trained("dense", [t], steps, seed), [t])[0] for t in tasks]
        whole = sum(trained_plan("dense", [t]).flops for t in tasks)
        return {**dict(zip(NAMES, scores, strict=True)), "MFLOPs": whole / 1e6}
    network = trained(way, tasks, steps, seed)
    figures: dict[str, Any] = dict(zip(NAMES, judged(network, tasks), strict=True))
    figures["MFLOPs"] = network.plan.flops / 1e6
    if way == "dense":
        return figures
    x = statistics_inputs(tasks, 2048, seed)
    kept, dropped, shares, differences = [], [], [], []
    for task in tasks:
        alone = network.only(task)
        smaller = without_idle(alone, [task], x)
        counts = taken(alone, x)
        kept.append(sum(int((count > 0).sum()) for count in counts))
        dropped.append(1 - expert_params(smaller) / expert_params(alone))
        shares.append(torch.stack([count / count.sum() for count in counts]))
        with torch.no_grad():
            gap = (smaller(x)[task.name] - alone(x)[task.name]).abs().max()
        differences.append(float(gap))
    alike = [float(torch.minimum(a, b).sum(1).mean()) for a, b in combinations(shares, 2)]
    return figures | {
        "kept": statistics.mean(kept),
        "dropped": statistics.mean(dropped),
        "likeness": statistics.mean(alike),
        "difference": max(differences),
    }


def trained_plan(way: str, tasks: Sequence[Task]) -> Any:
    return plan(largest(way, tasks), heads=tasks)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    words = parser.parse_args()
    torch.set_num_threads(1)
    tasks = load_tasks([n if words.size == 32 else f"{n}?size={words.size}" for n in NAMES])
    folder = ROOT / "runs" / "bench-experts"
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(folder / f"{words.size}-{words.steps}.json")
    rows = []
    for way in WAYS:
        every = []
        for seed in range(words.seeds):
            key = f"{way} {seed}"
            every.append(kept(key, lambda w=way, s=seed: facts(w, tasks, words.steps, s)))
            print(key, every[-1], flush=True)
        row: dict[str, Any] = {"way": way}
        row |= {name: statistics.mean(f[name] for f in every) for name in every[0]}
        if len(every) > 1:
            row |= {f"± {name}": statistics.stdev(f[name] for f in every) for name in NAMES}
        rows.append(row)
    report(
        "experts",
        __doc__,
        aim="ahead of dense maps of equal active FLOPs in every task; most experts dropped",
        figure="; ".join(
            f"{row['way']} {', '.join(f'{row[name]:.3f}' for name in NAMES)}" for row in rows
        )
        + f"; {rows[0]['dropped']:.0%} of the experts' parameters dropped",
        rows=rows,
        seeds=list(range(words.seeds)),
        facts=vars(words),
    )


if __name__ == "__main__":
    main()
