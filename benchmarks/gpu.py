"""On a GPU training and evaluation say what the CPU says, and memory does not grow.

`python benchmarks/gpu.py [--device cuda] [--steps 500]`, under ten minutes on one GPU. Digits and
scenes, `mobile`: 20 steps of a supernet in 32 bits on both, from the same weights; the scores of
five subnets on both. Then pictures of 3x64x64, batches of 128: images a second of the
supernet's random subnets, of one network alone, and of a plain loop over that network; and what
share of the time the device works (the sum of its kernels' time over the clock's). Memory after 100
and after all of the random steps.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measure import report, show
from torch.nn import functional as F

SEED, BATCH, SIDE = 0, 128, 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()
    from nas.train import resolved

    device = resolved(given.device)
    rows = [*agreement(device)]
    with tempfile.TemporaryDirectory() as made:
        rows += throughput(device, given.steps, Path(made))
    facts = {row["what"]: row["value"] for row in rows}
    if device == "cpu":  # a trial of this script, and no figure
        show(rows, "without a GPU")
        return
    report(
        "gpu",
        __doc__,
        aim="weights to 1e-3 after 20 steps, scores to one sample, memory the same from 100 steps",
        figure=f"weights differ by {facts['weights, largest difference']:.1e}, scores by "
        f"{facts['accuracy, largest difference']:.4f}; {facts['images/s, random subnets']:,.0f}, "
        f"{facts['images/s, one network']:,.0f} images a second, a plain loop "
        f"{facts['images/s, plain loop']:,.0f}; kernels {facts['busy, random subnets']:.0%} and "
        f"{facts['busy, one network']:.0%} of the time; memory grew by {facts['MB grown']:.1f} MB "
        f"({torch.cuda.get_device_name() if device.startswith('cuda') else device})",
        rows=rows,
        seeds=[SEED],
    )


def agreement(device: str) -> list[dict[str, Any]]:
    """How far weights and scores on a device are from those on the CPU."""
    from nas.evaluate import EVALUATORS, Conditions
    from nas.grammar import Grammar
    from nas.search import Settings
    from nas.search.problem import Problem
    from nas.supernet import strategy_of
    from nas.task import load_tasks
    from nas.train import Trainer

    tasks = load_tasks(["scenes-classify", "scenes-segment"])
    grammar, banks = Grammar.load("mobile"), list[Any]()
    accurate = patch("nas.train.trainer.reduced", lambda device: nullcontext())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for place in ("cpu", device):
        settings = Settings.of(
            {"space": "mobile", "tasks": [t.spec for t in tasks], "device": place}
        )
        problem = Problem(settings, grammar, tuple(tasks))
        bank, strategy = problem.bank(), strategy_of("spread", problem.space, 20)
        trainer = Trainer(bank, tasks, settings.supernet.recipe(SEED), 20, place)
        with accurate:
            for step in range(20):
                trainer.step(step, strategy(step, random.Random(step)))
        banks.append(bank)
    far = max(
        float((banks[0].tensors[key] - banks[1].tensors[key].cpu()).abs().max())
        for key in banks[0].tensors
    )
    for key, value in banks[1].tensors.items():
        value.copy_(banks[0].tensors[key])
    rng, gaps = random.Random(SEED), list[float]()
    for _ in range(5):
        derivation = problem.space.draw(rng)
        scores = []
        for place, bank in zip(("cpu", device), banks, strict=True):
            conditions = Conditions(tasks, bank=bank, device=place)
            measured = EVALUATORS["shared"].measure(derivation, conditions).measurements
            scores.append({(m.task, m.name): m.value for m in measured if m.task})
        gaps += [abs(scores[0][k] - scores[1][k]) for k in scores[0] if k[1] != "nll"]
    return [
        {"what": "weights, largest difference", "value": far},
        {"what": "accuracy, largest difference", "value": max(gaps)},
    ]


def throughput(device: str, steps: int, folder: Path) -> list[dict[str, Any]]:
    """Images a second, how busy the device is, and memory."""
    from nas.grammar import Grammar, sample
    from nas.network import Network
    from nas.plan import plan
    from nas.search import Settings
    from nas.search.problem import Problem
    from nas.supernet import Bank
    from nas.task import Task
    from nas.train import Recipe, Trainer, Turn
    from nas.train.device import reduced

    rng = np.random.default_rng(SEED)
    n = 20 * BATCH
    x = rng.integers(0, 255, (n, SIDE, SIDE, 3)).astype(np.uint8)
    np.savez(folder / "x.npz", x=x, y=np.arange(n) % 10)
    task = Task.load(f"noise={folder / 'x.npz'}")
    settings = Settings.of({"space": "mobile", "tasks": [task.spec], "device": device})
    problem = Problem(settings, Grammar.load("mobile"), (task,))
    recipe, draws = Recipe(batch=BATCH), random.Random(SEED)
    supernet = Trainer(problem.bank(), [task], recipe, steps, device)
    derivation = sample(problem.grammar, random.Random(SEED), input=task.input)
    bank = Bank.of([plan(derivation, heads=[task])], device=device)
    alone, turn = Trainer(bank, [task], recipe, steps, device), Turn((derivation,))
    network = Network(derivation, heads=[task]).train().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    whole, y = task.splits().train.x.to(device), task.splits().train.y.to(device)

    def subnets(step: int) -> None:
        supernet.step(step, Turn((problem.space.draw(draws),)))

    def plain(step: int) -> None:
        at = torch.arange(BATCH, device=device) + BATCH * (step % 15)
        with reduced(torch.device(device)):
            logits = network(whole[at % len(whole)])[task.name]
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), y[at % len(y)]).backward()
        optimizer.step()

    rows, few = list[dict[str, Any]](), max(5, steps // 10)
    ways: dict[str, Callable[[int], Any]] = {
        "random subnets": subnets,
        "one network": lambda step: alone.step(step, turn),
        "plain loop": plain,
    }
    for name, step in ways.items():
        for number in range(3):
            step(number)
        seconds = clocked(step, few, device)
        rows.append({"what": f"images/s, {name}", "value": BATCH * few / seconds})
        rows.append({"what": f"busy, {name}", "value": busy(step, 10, device)})
    early = 0.0
    for number in range(steps):
        subnets(number)
        if number == min(100, steps // 2):
            early = memory_mb(device)
    return [*rows, {"what": "MB grown", "value": memory_mb(device) - early}]


def clocked(step: Callable[[int], Any], count: int, device: str) -> float:
    synchronized(device)
    begun = time.perf_counter()
    for number in range(count):
        step(number)
    synchronized(device)
    return time.perf_counter() - begun


def busy(step: Callable[[int], Any], count: int, device: str) -> float:
    """The share of the time in which the device's kernels run; 1 of a CPU."""
    if not device.startswith("cuda"):
        return 1.0
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        seconds = clocked(step, count, device)
    spent_us = sum(event.self_device_time_total for event in profile.key_averages())
    return spent_us / 1e6 / seconds


def synchronized(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def memory_mb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
