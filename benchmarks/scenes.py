"""On scenes one run serves two tasks, at least as well as a network made by hand of equal FLOPs.

A search of `mobile` for scenes-classify and scenes-segment with the default settings. At three
budgets, evenly in log FLOPs over the front, its member with the highest sum of both metrics (shared
weights, validation, each scaled by its range) is trained for 20 epochs from scratch. Beside each a
network made by hand of about its FLOPs, both heads on one trunk, trained by the same recipe as
long; and a predictor that always says the prior. Average precision and mean IoU on the test
splits, the mean of 2 seeds. Kept in runs/bench-scenes: run again it carries on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import mean
from typing import Any

import byhand
import torch
from measure import Kept, report, searched

from nas.task import Task, trivial_score
from nas.train import Recipe

SEEDS, MEMBERS, TASKS = (0, 1), 3, ("scenes-classify", "scenes-segment")
RECIPE = Recipe(epochs=20, lr=0.1)
SHORT = {"average_precision": "AP", "mean_iou": "mIoU"}


def main() -> None:
    torch.set_num_threads(1)
    run = searched("scenes", TASKS)
    kept, tasks = Kept(run.folder / "benchmark.json"), run.tasks
    trivial = {task.name: trivial_score(task)[task.metric] for task in tasks}
    rows = [row("the prior alone", 0, 0, trivial, tasks)]
    margins: dict[str, list[float]] = {}
    columns = [f"{task.name}_{task.metric}".replace("-", "_") for task in tasks]
    words = f"{RECIPE.epochs:g} epochs"
    for trial in byhand.best_within(run.front().trials, columns, MEMBERS):
        flops, params = int(trial.value("flops") or 0), int(trial.value("params") or 0)
        ours = seeded(
            kept,
            f"{trial.id} scratch {words}",
            lambda recipe, t=trial: byhand.from_scratch(run, t.id, recipe),
        )
        width = kept(
            f"width for {flops}",
            lambda f=flops: byhand.of_flops(lambda w: byhand.Scenes(*tasks, w), tasks[0].input, f),
        )
        peer = seeded(kept, f"hand {width} {words}", lambda recipe, w=width: hand(tasks, w, recipe))
        theirs = byhand.costs(lambda w=width: byhand.Scenes(*tasks, w), tasks[0].input)
        rows += [
            row(trial.id, flops, params, ours, tasks),
            row(f"by hand, width {width}", theirs[1], theirs[0], peer, tasks),
        ]
        for task in tasks:
            margins.setdefault(SHORT[task.metric], []).append(ours[task.name] - peer[task.name])
    best = {SHORT[t.metric]: max(r[SHORT[t.metric]] for r in rows[1::2]) for t in tasks}
    front = run.front()
    report(
        "scenes",
        __doc__,
        rows=rows,
        seeds=SEEDS,
        aim="well above the prior, and not below the network made by hand",
        figure="; ".join(
            f"{name} {best[name]:.3f} at best, the prior {rows[0][name]:.3f}, minus by hand from "
            f"few to many FLOPs {', '.join(f'{margin:+.3f}' for margin in margins[name])}"
            for name in margins
        )
        + f"; {len(front.trials)} points on the front",
        facts={"margins": margins, "points": len(front.trials)},
    )


def row(
    name: str, flops: int, params: int, found: dict[str, float], tasks: list[Task]
) -> dict[str, Any]:
    scores = {SHORT[task.metric]: found[task.name] for task in tasks}
    return {"network": name, "flops": flops, "params": params, **scores}


def seeded(kept: Kept, key: str, train: Callable[[Recipe], dict[str, float]]) -> dict[str, float]:
    """Each task's metric, the mean over the seeds of the weights and of the order of samples."""
    found = [
        kept(
            key + (f" seed {seed}" if seed else ""),
            lambda seed=seed: train(replace(RECIPE, seed=seed)),
        )
        for seed in SEEDS
    ]
    return {name: mean(one[name] for one in found) for name in found[0]}


def hand(tasks: list[Task], width: int, recipe: Recipe) -> dict[str, float]:
    torch.manual_seed(recipe.seed)
    return byhand.test(byhand.fit(byhand.Scenes(*tasks, width), tasks, recipe), tasks)


if __name__ == "__main__":
    main()
