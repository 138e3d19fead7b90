"""Real searches on six tasks begin better where they learn from the other five.

`python benchmarks/learning.py --idx FOLDER` of Fashion-MNIST's four idx files (Xiao et al. 2017).
`mobile` is searched on digits, garments (4,000 to train on), AddNIST and MultNIST (3,000), and two
tasks of scenes: 100 trials of shared weights, first without and then with `learn_from` the runs of
the other five, of the same seed and so of the same trained bank. Hypervolume of the likelihood (of
counts the error) and FLOPs by validation, over that of all trials of both; and after how many
trials the one has what the other has after 100. Kept in runs/bench-learning.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from garments import grey
from measure import ROOT, progress, report

from nas.dominance import hypervolume, nondominated
from nas.search import Run, load, resume, search

TRIALS, AT = 100, (20, 40, 60, 100)
UNSEEN = """
name = "{name}"
input = [3, 28, 28]
target = "class"
[data]
kind = "code"
function = "unseen:{name}"
arguments = {{ sizes = [3000, 800, 800], seed = 2021 }}
"""


def tasks(folder: Path, idx: Path) -> dict[str, str]:
    """How each task is named for a search."""
    if not (folder / "garments.npz").exists():
        np.savez(folder / "garments.npz", **grey(idx))
    for name in ("addnist", "multnist"):
        (folder / f"{name}.toml").write_text(UNSEEN.format(name=name), encoding="utf-8")
    own = {name: f"{folder / name}.toml" for name in ("addnist", "multnist")}
    shipped = {name: name for name in ("digits", "scenes-classify", "scenes-count")}
    return {**shipped, "garments": f"garments={folder / 'garments.npz'}", **own}


def searched(out: Path, spec: str, seed: int, steps: int, earlier: Sequence[Path] = ()) -> Run:
    if (out / "run.toml").exists():
        return resume(out, listener=progress)
    return search(
        "mobile",
        spec,
        out=out,
        seed=seed,
        trials=TRIALS,
        objectives=("nll" if "count" not in spec else "rmse", "flops"),
        supernet={"steps": steps, "threads": 1},
        evaluate_in="onnxruntime",
        workers=1,
        learn_from=tuple(map(str, earlier)),
        listener=progress,
    )


def losses(run: Run) -> list[tuple[float, float]]:
    """The two objectives of each trial, in order."""
    (aim,) = run.aims
    names = [objective.name for objective in aim.objectives]
    columns = [trial.columns() for trial in run.trials if trial.state != "failed"]
    return [(c[names[0]], math.log(c[names[1]])) for c in columns]


def volumes(
    points: Sequence[tuple[float, float]], every: Sequence[tuple[float, float]]
) -> list[float]:
    """The hypervolume after each trial, in shares of that of all trials of both searches."""
    low, high = np.min(every, axis=0), np.max(every, axis=0)

    def volume(some: Sequence[tuple[float, float]]) -> float:
        scaled = [tuple((np.array(p) - low) / (high - low)) for p in some]
        return hypervolume([scaled[i] for i in nondominated(scaled)], (1.0, 1.0))

    whole = volume(every)
    return [volume(points[:n]) / whole for n in range(1, len(points) + 1)]


def row(plain: Run, taught: Run) -> dict[str, Any]:
    both = losses(plain), losses(taught)
    every = [*both[0], *both[1]]
    without, learned = (volumes(points, every) for points in both)
    reached = next((n for n, v in enumerate(learned, start=1) if v >= without[-1]), TRIALS + 1)
    back = next((n for n, v in enumerate(without, start=1) if v >= learned[-1]), TRIALS + 1)
    figures = {
        f"{way} {n}": v[n - 1] for n in AT for way, v in (("without", without), ("with", learned))
    }
    return {**figures, "with reaches": reached, "without reaches": back}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--idx", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    words = parser.parse_args()
    torch.set_num_threads(1)
    folder = ROOT / "runs" / "bench-learning"
    folder.mkdir(parents=True, exist_ok=True)
    named, rows = tasks(folder, words.idx), list[dict[str, Any]]()
    for seed in range(words.seeds):
        plain = {
            n: searched(folder / f"{n}-{seed}", s, seed, words.steps) for n, s in named.items()
        }
        for name, spec in named.items():
            others = [run.folder for other, run in plain.items() if other != name]
            out = folder / f"{name}-{seed}-taught"
            taught = searched(out, spec, seed, words.steps, others)
            rows.append({"task": name, "seed": seed, **row(load(plain[name].folder), taught)})
            print(rows[-1], flush=True)
    means = {
        key: statistics.mean(r[key] for r in rows) for key in rows[0] if key not in ("task", "seed")
    }
    apart = [r["with 20"] - r["without 20"] for r in rows]
    error = statistics.stdev(apart) / len(apart) ** 0.5
    report(
        "learning",
        __doc__,
        aim="a larger hypervolume after 20 trials, and at no task a smaller one after 100",
        figure="; ".join(
            f"{n} trials {means[f'without {n}']:.3f} to {means[f'with {n}']:.3f}" for n in AT
        )
        + f" (±{error:.3f} after 20); what 100 have without, {means['with reaches']:.0f} have with",
        rows=[*rows, {"task": "mean", **means}],
        seeds=list(range(words.seeds)),
        facts={"steps": words.steps},
    )


if __name__ == "__main__":
    main()
