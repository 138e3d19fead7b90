"""One training step serves many tasks that each learn what they want, for little more than one.

`fbnetv5-small` on scenes of 32 pixels, one thread, batch 64: a step of the strategy `by-task` (one
architecture trained, four scored, after the warm-up) for 1, 2, 4 and 8 tasks that look at the same
pictures, which of eight digits occurs. The tasks' heads are under a hundredth of the FLOPs. CPU
time, interleaved, each in turn.
"""

from __future__ import annotations

import random
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import interleaved, ms, ratio, report

from nas.grammar import Grammar
from nas.plan import plan
from nas.supernet import Bank, Space, strategy_of
from nas.supernet.by_task import SCORED
from nas.supernet.strategy import Strategy
from nas.task import Task
from nas.train import Recipe, Trainer

SPLITS = ("train", "valid", "test")
COUNTS, ROUNDS, BUDGET = (1, 2, 4, 8), 12, 3e6


class Training:
    """A supernet of some tasks, past the warm-up."""

    def __init__(self, tasks: tuple[Task, ...]):
        grammar = Grammar.load("fbnetv5-small")
        space = Space(grammar, tasks[0].input, tasks=tasks, budgets=(BUDGET,) * len(tasks))
        largest = plan(space.largest, heads=tasks)
        alone = plan(space.largest, heads=tasks[:1])
        self.heads = (largest.flops - alone.flops) / alone.flops
        self.strategy: Strategy = strategy_of("by-task", space, 1_000)
        self.trainer = Trainer(Bank.of([largest]), tasks, Recipe(lr=0.01), 1_000)
        self.number = 999

    def step(self) -> None:
        turn = self.strategy(self.number, random.Random(self.number))
        self.strategy.hear(self.number, turn, self.trainer.step(self.number, turn))


def digits(folder: Path) -> list[Task]:
    """Of each of eight digits whether it occurs in a scene, as tasks of the same pictures."""
    labels = {s: getattr(Task.load("scenes-classify").splits(), s) for s in SPLITS}
    tasks = []
    for number in range(max(COUNTS)):
        arrays = {f"x_{s}": split.x.numpy() for s, split in labels.items()}
        arrays |= {f"y_{s}": split.y[:, number].numpy().astype(int) for s, split in labels.items()}
        path = folder / f"digit{number}.npz"
        np.savez(path, **arrays)
        tasks.append(Task.load(f"digit{number}={path}"))
    return tasks


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tasks = digits(Path(folder))
        trainings = {count: Training(tuple(tasks[:count])) for count in COUNTS}
    steps = {str(count): partial(training.step) for count, training in trainings.items()}
    for step in steps.values():
        step()
    times = interleaved(steps, ROUNDS)
    rows = [
        {
            "tasks": count,
            "step ms": ms(times[str(count)]),
            "of one task's": ratio(times[str(count)], times["1"]),
            "heads beyond one, of its FLOPs": trainings[count].heads,
        }
        for count in COUNTS
    ]
    most = rows[-1]["of one task's"]
    report(
        "bytask",
        __doc__,
        aim="8 tasks at most 1.25 times one",
        figure=f"8 tasks take {most:.2f} times a step of one; {SCORED} scored in each",
        rows=rows,
        seeds=[0],
    )


if __name__ == "__main__":
    main()
