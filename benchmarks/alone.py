"""A step of training one network costs little more than its tensors' work.

Networks of `mobile` on digits and on scenes (32 pixels), a batch of 64, one thread. Steps of a
trainer that plans and leases once, of one that does so for each step, and of plain torch on the
extracted module with torch.optim.SGD; and of that module in channels_last. CPU time, medians of
interleaved rounds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from unittest.mock import PropertyMock, patch

import torch
from measure import interleaved, ms, ratio, report
from torch.nn import functional as F

SEED, STEPS, ROUNDS, BATCH = 0, 8, 7, 64


def main() -> None:
    from nas.grammar import Grammar, sample
    from nas.task import Task

    torch.set_num_threads(1)
    grammar, rows = Grammar.load("mobile"), list[dict[str, Any]]()
    for name in ("digits", "scenes-classify"):
        task = Task.load(name)
        derivation = sample(grammar, random.Random(SEED), input=task.input)
        ways = functions(task, derivation)
        for way in ways.values():
            way()
        times = interleaved(ways, ROUNDS)
        rows += [
            {
                "task": name,
                "step": way,
                "ms": ms(seconds) / STEPS,
                "of plain torch": ratio(seconds, times["plain torch"]),
            }
            for way, seconds in times.items()
        ]
    by = {(row["task"], row["step"]): row for row in rows}
    figures = list[str]()
    for task in ("digits", "scenes-classify"):
        before, once, last = (
            by[task, way] for way in ("leased each step", "leased once", "channels_last")
        )
        figures.append(
            f"{task}: {before['ms']:.1f}, now {once['ms']:.1f} ms a step, "
            f"{once['of plain torch']:.2f} of plain torch's (in channels_last "
            f"{last['of plain torch']:.2f})"
        )
    report(
        "alone",
        __doc__,
        aim="no time lost to plans and leases made anew",
        figure="; ".join(figures),
        rows=rows,
        seeds=[SEED],
    )


def functions(task: Any, derivation: Any) -> dict[str, Callable[[], None]]:
    from nas.network import Network
    from nas.plan import plan
    from nas.supernet import Bank
    from nas.train import Lease, Recipe, Trainer, Turn

    recipe, turn = Recipe(batch=BATCH), Turn((derivation,))

    def steps(trainer: Trainer) -> None:
        for step in range(STEPS):
            trainer.step(step, turn)

    trainers = [
        Trainer(Bank.of([plan(derivation, heads=[task])]), [task], recipe, 1000) for _ in range(2)
    ]

    def anew() -> None:
        with patch.object(Lease, "direct", PropertyMock(return_value=False)):
            steps(trainers[1])

    def plain(layout: torch.memory_format) -> Callable[[], None]:
        network: Any = Network(derivation, heads=[task]).train().to(memory_format=layout)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        split = task.splits().train

        def run() -> None:
            for step in range(STEPS):
                at = torch.arange(step * BATCH, (step + 1) * BATCH) % len(split)
                x = split.x_at(at).contiguous(memory_format=layout)
                logits = network(x)[task.name]
                y = split.y_at(at)
                loss = F.cross_entropy if task.target == "class" else bce
                optimizer.zero_grad()
                loss(logits, y).backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimizer.step()

        return run

    bce = F.binary_cross_entropy_with_logits
    return {
        "leased once": lambda: steps(trainers[0]),
        "leased each step": anew,
        "plain torch": plain(torch.contiguous_format),
        "channels_last": plain(torch.channels_last),
    }


if __name__ == "__main__":
    main()
