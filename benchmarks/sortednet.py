"""A chain of nested networks trained at once: accuracy of each against training it alone.

SortedNet (arXiv 2309.00255): one ordered chain of at least 40 sub-models by slices, a random one
each micro-batch, gradients of four accumulated. Reduced Fashion-MNIST; each sub-model alone takes 5
epochs (312 steps of 64 images), all together UPDATES of four batches. Test accuracy, statistics
recalibrated on 512 training images.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from measure import report
from ranking import Job, begin, compute, fashion

if TYPE_CHECKING:
    from nas.grammar import Derivation
    from nas.task import Task

SEEDS, UPDATES, EPOCHS, BATCH, PARTS = (0, 1, 2), 1000, 5, 64, 4
SPACE = """
net         = conv({4, 5, 6, 7, 8}) batchnorm hardswish stage({6, 8, 10, 12}, 1)
              stage({10, 12, 14, 16, 18, 20}, 2) stage({16, 20, 24, 28, 32, 36, 40}, 2)
              output(coarse)
stage(c, s) = mbconv(c, s, expand={1, 2, 3, 4}) block(c){0..2}
block(c)    = mbconv(c, expand={1, 2, 3, 4})
"""


def main(data: str | None) -> None:
    fashion(data)
    together = [Job(__file__, f"together/{seed}") for seed in SEEDS]
    alone = [Job(__file__, f"alone/{part}") for part in range(PARTS)]
    compute([*together, *alone])
    apart: dict[str, Any] = {}
    for job in alone:
        apart |= job.figures()["found"]
    runs = [job.figures() for job in together]
    rows = []
    for text, own in apart.items():
        shared = statistics.mean(run["found"][text]["accuracy"] for run in runs)
        rows.append(
            {
                "flops": own["flops"],
                "params": own["params"],
                "alone": own["accuracy"],
                "in the chain": shared,
                "relative": shared / own["accuracy"],
            }
        )
    rows.sort(key=lambda row: row["params"])
    share = [row["relative"] for row in rows]
    spent = statistics.mean(run["cpu_s"] for run in runs)
    whole = sum(job.figures()["cpu_s"] for job in alone)
    report(
        "sortednet",
        __doc__,
        rows=rows,
        seeds=SEEDS,
        aim="near 1 for every sub-model",
        figure=f"{len(rows)} sub-models at {statistics.mean(share):.3f} of their accuracy alone "
        f"({min(share):.3f} at worst, the largest {share[-1]:.3f}); trained together in "
        f"{spent / whole:.2f} of the CPU time of training each",
        facts={"updates": UPDATES},
    )


def members(task: Task) -> list[Derivation]:
    import nas
    from nas.supernet import Space, chain

    return chain(Space(nas.Grammar.parse(SPACE, name="chain"), task.input).largest)


def one(job: Job) -> None:
    import torch

    torch.set_num_threads(1)
    kind, number = job.name.split("/")
    task = fashion(None)
    begun = time.process_time()
    found = together(task, int(number)) if kind == "together" else alone(task, int(number))
    told = {"found": found, "cpu_s": time.process_time() - begun}
    job.path.write_text(json.dumps(told) + "\n", encoding="utf-8")


def alone(task: Task, part: int) -> dict[str, Any]:
    """Every fourth sub-model trained from scratch."""
    from nas.evaluate import EVALUATORS, Conditions
    from nas.train import Recipe

    recipe = Recipe(epochs=EPOCHS, lr=0.1, batch=BATCH, label_smoothing=0.0, seed=0)
    conditions = Conditions([task], recipe, split="test")
    return {
        str(member): values(EVALUATORS["standalone"].measure(member, conditions))
        for member in members(task)[part::PARTS]
    }


def values(evaluated: Any) -> dict[str, float]:
    return {m.name: m.value for m in evaluated.measurements}


def together(task: Task, seed: int) -> dict[str, Any]:
    """The whole chain on one bank, and each sub-model's scores there."""
    from nas.evaluate import EVALUATORS, Conditions
    from nas.plan import plan
    from nas.supernet import Bank, Space, strategy_of
    from nas.supernet.nested import nest
    from nas.train import Recipe, Trainer, train

    chained = members(task)
    plans = [plan(each, heads=[task]) for each in chained]
    bank = Bank.of(plans, seed=seed)
    nest(bank, plans, plans)
    space = Space(chained[0].grammar, task.input)
    turn = strategy_of("sorted", space, UPDATES)
    recipe = Recipe(lr=0.15, weight_decay=1e-4, batch=BATCH, label_smoothing=0.0, seed=seed)
    trainer = Trainer(bank, [task], recipe, UPDATES)
    train(trainer, lambda step: turn(step, random.Random(f"{seed}/supernet/{step}")))
    conditions = Conditions([task], bank=bank, split="test")
    return {
        str(member): values(EVALUATORS["shared"].measure(member, conditions)) for member in chained
    }


if __name__ == "__main__":
    begin(__doc__, main, one)
