"""Tasks that learn what they want learn more where every drawn architecture trains all of them.

Supernets of `fbnetv5-small` on scenes of 32 pixels for four tasks (which digits, whose pixels,
where, how far), with as many steps each: trained as usual (`spread`), by FBNetV5's distributions
for all tasks at once (`by-task`), and as the paper has it, each task's loss weighted by how much
the drawn architecture is its own. Of 60 evaluated subnets the best of each task of at most 2.5
MFLOPs, by shared weights on validation.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from functools import partial
from typing import Any

import torch
from measure import ROOT, Kept, progress, report

from nas.search import search

TASKS = ("scenes-classify", "scenes-segment", "scenes-detect", "scenes-depth")
WAYS = {"spread": "spread", "by-task": "by-task", "weighted": "fbnetv5"}
LIMIT = "flops<=2.5M"


def best(strategy: str, steps: int, seed: int) -> dict[str, float]:
    """The best of each task."""
    folder = ROOT / "runs" / "bench-importance"
    shutil.rmtree(folder, ignore_errors=True)
    words: dict[str, Any] = {"steps": steps, "batch": 32, "strategy": strategy}
    run = search(
        "fbnetv5-small",
        TASKS,
        out=folder,
        listener=progress,
        per_task=True,
        trials=60,
        limits=(LIMIT,),
        seed=seed,
        supernet=words,
    )
    fronts = run.fronts()
    shutil.rmtree(folder)
    firsts = {front.objectives[0].name: front.trials[0] for front in fronts.values()}
    return {name: trial.columns()[name] for name, trial in firsts.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(1)
    kept, rows = Kept(ROOT / "runs" / "bench-importance.json"), list[dict[str, Any]]()
    for way, strategy in WAYS.items():
        runs = [
            kept(f"{way} {words.steps} {seed}", partial(best, strategy, words.steps, seed))
            for seed in range(words.seeds)
        ]
        means = {name: statistics.mean(run[name] for run in runs) for name in runs[0]}
        rows.append({"training": way, **means})
        print(rows[-1], flush=True)
    report(
        "importance",
        __doc__,
        aim="by-task above spread and weighted in every task",
        figure="; ".join(
            f"{row['training']} {', '.join(f'{v:.3f}' for k, v in row.items() if k != 'training')}"
            for row in rows
        ),
        rows=rows,
        seeds=list(range(words.seeds)),
        facts={"steps": words.steps},
    )


if __name__ == "__main__":
    main()
