"""A supernet's training step costs about what the same subnet costs as a plain torch module.

CPU time, one thread, batch 64, optimizer included: `Trainer.step` on the bank of `mobile`, beside
the same subnet (the median by FLOPs of 41 random ones) as plain modules (the text that extraction
writes) and as a `Network`, each with torch.optim.SGD. Ratios are medians over interleaved steps.
The plan is made anew at each supernet step, as in a search, where each step has another subnet;
drawing the subnet is listed apart. Last, a step of the sandwich rule over one of single-path.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import copy
from itertools import cycle

import byhand
import torch
from measure import interleaved, ms, ratio, report
from torch import nn

from nas.export import plain
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.plan import plan
from nas.search import Settings
from nas.search.problem import Problem
from nas.supernet import Space, strategy_of
from nas.task import Task
from nas.train import Batches, Recipe, Trainer, Turn

SEED, SUBNETS, STEPS = 0, 41, 1000
ROUNDS = {"digits": 60, "scenes": 24}
TASKS = {"digits": ["digits"], "scenes": ["scenes-classify", "scenes-segment"]}


class Named(nn.Module):
    """A plain model of one task, answering by name as one of several does."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.model(x)
        return found if isinstance(found, dict) else {self.name: found}


def main() -> None:
    torch.set_num_threads(1)
    rows = [row(name, [Task.load(task) for task in tasks]) for name, tasks in TASKS.items()]
    plains = ", ".join(f"{r['/ plain']:.2f} on {r['tasks']}" for r in rows)
    networks = ", ".join(f"{r['/ Network']:.2f}" for r in rows)
    sandwich = ", ".join(f"{r['sandwich']:.1f}" for r in rows)
    report(
        "step",
        __doc__,
        aim="at most 1.15 times",
        rows=rows,
        seeds=[SEED],
        figure=f"{plains} (against `Network`: {networks}; sandwich over single-path: {sandwich})",
    )


def row(name: str, tasks: list[Task]) -> dict[str, object]:
    """Times and ratios of one set of tasks."""
    settings = Settings.of({"space": "mobile", "tasks": [task.spec for task in tasks]})
    grammar, input = Grammar.load("mobile"), tasks[0].input
    recipe = settings.supernet.recipe(SEED)
    rng = random.Random(SEED)
    drawn = [sample(grammar, rng, input=input) for _ in range(SUBNETS)]
    drawn.sort(key=lambda d: plan(d, heads=tasks).flops)
    median, trainer = drawn[SUBNETS // 2], trainer_of(grammar, tasks, settings, recipe)
    network = Network(median, heads=tasks)
    modules = Named(plain(network), tasks[0].name)
    space = Space(grammar, input)
    single = strategy_of("single-path", space, STEPS)
    sandwich = strategy_of("sandwich", space, STEPS)
    number, turns = iter(range(STEPS)), cycle([Turn((median,)), Turn((copy(median),))])
    sides = {
        "supernet": lambda: trainer.step(next(number), next(turns)),
        "plain": stepper(modules, tasks, recipe),
        "Network": stepper(network, tasks, recipe),
        "draw": lambda: single(0, rng),
        "plan": lambda: plan(median, heads=tasks),
    }
    for _ in range(3):
        interleaved(sides, 1)
    times = interleaved(sides, ROUNDS[name])
    costs = interleaved(
        {
            "single": lambda: trainer.step(next(number), single(0, rng)),
            "sandwich": lambda: trainer.step(next(number), sandwich(0, rng)),
        },
        ROUNDS[name] // 2,
    )
    return {
        "tasks": name,
        "flops": plan(median, heads=tasks).flops,
        **{f"{side} ms": ms(found) for side, found in times.items()},
        "/ plain": ratio(times["supernet"], times["plain"]),
        "/ Network": ratio(times["supernet"], times["Network"]),
        "sandwich": sum(costs["sandwich"]) / sum(costs["single"]),
    }


def trainer_of(grammar: Grammar, tasks: list[Task], settings: Settings, recipe: Recipe) -> Trainer:
    return Trainer(Problem(settings, grammar, tuple(tasks)).bank(), tasks, recipe, STEPS)


def stepper(model: nn.Module, tasks: list[Task], recipe: Recipe) -> Callable[[], float]:
    """One step of a plain module at each call, on the same batches as the trainer's."""
    sgd = byhand.optimizer(model.train(), recipe)
    batches = Batches(len(tasks[0].splits().train), recipe.batch, recipe.seed)
    number = iter(range(STEPS))

    def step() -> float:
        n = next(number)
        return byhand.step(model, sgd, tasks, batches.at(n), recipe, recipe.rate(n, STEPS))

    return step


if __name__ == "__main__":
    main()
