"""How much tasks that share a supernet disturb each other's weights, and what weighing losses does.

FBNetV5 (Wu et al. 2021, section 3) conjectures that they hardly do. Supernets of `fbnetv5-small` on
scenes of 32 pixels, as many steps each: for four tasks together (which digits, whose pixels, where,
how far), with equal losses and with losses weighed by their uncertainty (Kendall et al. 2018), and
for each task alone. Subnets drawn at random, the same for all, by shared weights on validation:
their mean and the best of them. In the first bank, at the end, the cosine of the gradients of each
two tasks on the same batch and subnet: the median over slots of the trunk, and the share of slots
where it is below -0.1.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

import torch
from measure import ROOT, Kept, report

from nas.evaluate import EVALUATORS
from nas.grammar import Derivation, Grammar
from nas.op.base import BATCH as BATCH_STATISTICS
from nas.plan import plan, run
from nas.search.problem import Problem
from nas.search.settings import Settings
from nas.supernet import Bank
from nas.supernet.strategies import strategy_of
from nas.task import METRICS, Task, load_tasks
from nas.task.answers import loss
from nas.train import Feed, Recipe, Trainer

NAMES = ("scenes-classify", "scenes-segment", "scenes-detect", "scenes-depth")
SUBNETS, PROBES, AGAINST, BATCH = 24, 8, -0.1, 32
TOGETHER = ("equal", "uncertainty")


def trained(tasks: Sequence[Task], losses: str, steps: int, seed: int) -> tuple[Problem, Bank]:
    supernet = {"steps": steps, "batch": BATCH, "losses": losses}
    facts = {"space": "fbnetv5-small", "tasks": tuple(task.spec for task in tasks)}
    given = Settings.of({**facts, "seed": seed, "supernet": supernet})
    grammar = Grammar.load("fbnetv5-small")
    problem = Problem(given.suited(grammar), grammar, tuple(tasks))
    bank = problem.bank()
    strategy = strategy_of("spread", problem.space, steps)
    recipe = given.supernet.recipe(seed)
    trainer = Trainer(bank, list(tasks), recipe, steps)
    for step in range(steps):
        turn = strategy(step, random.Random(f"{seed}/{step}"))
        strategy.hear(step, turn, trainer.step(step, turn))
    return problem, bank


def subnets(problem: Problem) -> list[Derivation]:
    rng = random.Random(0)
    return [problem.space.draw(rng) for _ in range(SUBNETS)]


def scored(problem: Problem, bank: Bank) -> dict[str, list[float]]:
    """Of each task its metric for every subnet."""
    conditions = problem.conditions(bank)
    values: dict[str, list[float]] = {task.name: [] for task in problem.tasks}
    metric = {task.name: task.metric for task in problem.tasks}
    for derivation in subnets(problem):
        for entry in EVALUATORS["shared"].measure(derivation, conditions).measurements:
            if metric.get(entry.task) == entry.name:
                values[entry.task].append(entry.value)
    return values


def cosines(problem: Problem, bank: Bank) -> dict[str, list[float]]:
    """Of each two tasks the cosine of their gradients in every slot of the trunk."""
    tasks = list(problem.tasks)
    feed, found = Feed(tasks, Recipe(batch=BATCH), torch.device("cpu")), dict[str, list[float]]()
    for number, derivation in enumerate(subnets(problem)[:PROBES]):
        planned = plan(derivation, heads=tasks)
        lease = bank.lease([planned])
        (batch,) = feed.batch(number, number + 1)
        results = run(planned, lease.params[0], batch.x, BATCH_STATISTICS)
        slopes = [
            torch.autograd.grad(
                loss(task, results[task.name], batch.y[task.name], label_smoothing=0.0),
                lease.leaves,
                retain_graph=True,
                allow_unused=True,
            )
            for task in tasks
        ]
        for (a, one), (b, other) in combinations(zip(tasks, slopes, strict=True), 2):
            pair = found.setdefault(f"{short(a)} {short(b)}", [])
            for left, right in zip(one, other, strict=True):
                if left is not None and right is not None and left.norm() and right.norm():
                    pair.append(float((left * right).sum() / left.norm() / right.norm()))
    return found


def short(task: Task) -> str:
    return task.name.removeprefix("scenes-")


def figures(names: Sequence[str], losses: str, steps: int, seed: int) -> dict[str, Any]:
    problem, bank = trained(load_tasks(names), losses, steps, seed)
    alike = cosines(problem, bank) if losses == "equal" and len(names) > 1 else {}
    return {"scores": scored(problem, bank), "cosines": alike}


def best(task: Task, values: Sequence[float]) -> float:
    return max(values) if METRICS[task.metric].larger_is_better else min(values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(1)
    kept, tasks = Kept(ROOT / "runs" / "bench-disturbance.json"), load_tasks(NAMES)
    ways = {losses: [(NAMES, losses)] for losses in TOGETHER}
    ways |= {"alone": [((name,), "equal") for name in NAMES]}
    rows, alike = list[dict[str, Any]](), dict[str, list[float]]()
    for way, parts in ways.items():
        scores: dict[str, list[list[float]]] = {}
        for seed in range(words.seeds):
            for names, losses in parts:
                key = f"{words.steps} {seed} {losses} {' '.join(names)}"
                given = kept(key, partial(figures, names, losses, words.steps, seed))
                for name, values in given["scores"].items():
                    scores.setdefault(name, []).append(values)
                for pair, values in given["cosines"].items():
                    alike.setdefault(pair, []).extend(values)
        row: dict[str, Any] = {"bank": way}
        for task in tasks:
            runs = scores[task.name]
            row[f"{short(task)} {task.metric}"] = statistics.mean(map(statistics.mean, runs))
            row[f"best {short(task)}"] = statistics.mean(best(task, values) for values in runs)
        rows.append(row)
        print(row, flush=True)
    pairs = {
        pair: {
            "median": statistics.median(values),
            "against": sum(value < AGAINST for value in values) / len(values),
        }
        for pair, values in alike.items()
    }
    report(
        "disturbance",
        __doc__,
        aim="none: what sharing costs each task",
        figure="; ".join(
            f"{row['bank']} {', '.join(f'{row[k]:.3f}' for k in row if k.startswith('best'))}"
            for row in rows
        )
        + "; cosines "
        + ", ".join(f"{pair} {facts['median']:.2f}" for pair, facts in pairs.items()),
        rows=rows,
        seeds=list(range(words.seeds)),
        facts={"steps": words.steps, "cosines": pairs},
    )


if __name__ == "__main__":
    main()
