"""Searches of einspace compared at equal CPU time, and a random search of `mobile` beside them.

MultNIST and Language, rebuilt and made smaller (3,000 training images). Every search has BUDGET_S
of CPU time on one thread, limits of 8 MFLOPs, 500,000 parameters and 200,000 activations, and
trains each candidate for one epoch of batches of 32; with inheritance children go on from their
parents' weights for half an epoch. Then its two best trials by validation accuracy are trained from
scratch for 8 epochs by one recipe, and the test accuracy of the better on validation counts. Mean
of 3 seeds with a 95 % interval (Student's t). Kept in runs/bench-searches: run again it carries on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import ROOT, report

if TYPE_CHECKING:
    from nas.events import Event

SEEDS, BUDGET_S, FINALISTS, EPOCHS = (0, 1, 2), 100, 2, 8
SIZES = [3_000, 1_000, 2_000]
DATA = ("multnist", "language")
LIMITS = ("flops=8M", "params=500k", "activations=200k")
RECIPE = {"lr": 0.04, "weight_decay": 3e-4, "batch": 32, "label_smoothing": 0.0}
CHILD = {"child_epochs": 0.5, "finalists": 0}
SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random"},
    "evolution": {"sampler": "evolution"},
    "evolution, inheriting": {"sampler": "evolution", "standalone": CHILD},
    "evolution from the mix": {"sampler": "evolution", "start": ("mix",)},
    "evolution from the mix, inheriting": {
        "sampler": "evolution",
        "start": ("mix",),
        "standalone": CHILD,
    },
    "tree": {"sampler": "tree"},
    "Optuna's NSGA-II": {"sampler": "nsga2"},
    "Optuna's TPE": {"sampler": "tpe"},
    "random in mobile": {"sampler": "random", "space": "mobile", "evaluator": "standalone"},
}


def main() -> None:
    folder = ROOT / "runs" / "bench-searches"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(data, name, seed) for seed in SEEDS for data in DATA for name in SEARCHES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: kept(folder, *job), jobs))
    rows = [row(folder, data, name) for data in DATA for name in SEARCHES]
    best = {
        data: max((r for r in rows if r["data"] == data), key=lambda r: r["test accuracy"])
        for data in DATA
    }
    report(
        "searches",
        __doc__,
        rows=rows,
        seeds=SEEDS,
        aim="none: whatever it says",
        figure="; ".join(
            f"{data}: best is {r['search']}, {r['test accuracy']:.3f} ± {r['interval']:.3f}"
            for data, r in best.items()
        ),
    )


def row(folder: Path, data: str, name: str) -> dict[str, Any]:
    """Figures of one search, over its seeds."""
    runs = [kept(folder, data, name, seed) for seed in SEEDS]
    tests = [run["test"] for run in runs]
    half = 4.303 * statistics.stdev(tests) / len(tests) ** 0.5  # t of 2 degrees of freedom
    return {
        "data": data,
        "search": name,
        "test accuracy": statistics.mean(tests),
        "interval": half,
        "best in search": statistics.mean(run["best"] for run in runs),
        "trials": round(statistics.mean(run["trials"] for run in runs)),
    }


def kept(folder: Path, data: str, name: str, seed: int) -> dict[str, Any]:
    """The figures of one run, made in a process of its own where they are not there yet."""
    path = folder / f"{data}-{name.replace(' ', '-').replace(',', '')}-{seed}.json"
    if not path.exists():
        told = [sys.executable, __file__, "--data", data, "--search", name, "--seed", str(seed)]
        subprocess.run([*told, "--to", str(path)], check=True, env=one_thread())
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def one(data: str, name: str, seed: int, to: Path) -> None:
    """Search within the CPU time, then train the finalists; the figures go to a file."""
    import shutil

    import tomli_w
    import torch

    import nas
    from nas.task import Task

    torch.set_num_threads(1)
    run_folder = to.with_suffix("")
    shutil.rmtree(run_folder, ignore_errors=True)
    facts = tomllib.loads((ROOT / "tasks" / f"{data}.toml").read_text(encoding="utf-8"))
    facts["data"].setdefault("arguments", {})["sizes"] = SIZES
    spec = to.with_suffix(".toml")
    spec.write_text(tomli_w.dumps(facts), encoding="utf-8")
    task = Task.load(str(spec))
    task.splits()
    settings = {"space": "einspace", **SEARCHES[name]}
    training = {"epochs": 1, **RECIPE, **settings.pop("standalone", {})}
    begun = time.process_time()

    def until(event: Event) -> None:
        if time.process_time() - begun > BUDGET_S:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        nas.search(
            settings.pop("space"),
            [str(spec)],
            out=run_folder,
            listener=until,
            trials=100_000,
            seed=seed,
            generation=10,
            population=20,
            size=(8, 64),
            limits=LIMITS,
            objectives=("accuracy",),
            standalone=training,
            **settings,
        )
    to.write_text(json.dumps(finals(nas.load(run_folder), task, seed)) + "\n", encoding="utf-8")


def finals(run: Any, task: Any, seed: int) -> dict[str, Any]:
    """What the best trials of a search come to from scratch."""
    from nas.evaluate import Conditions, Fidelity, fit, network_scores
    from nas.train import Recipe

    allowed = [
        t
        for t in run.trials
        if t.state == "finished" and all(limit.keeps(t.columns()) for limit in run.limits)
    ]
    best = sorted(allowed, key=lambda t: -(t.value("accuracy") or 0))[:FINALISTS]
    recipe, found = Recipe(epochs=EPOCHS, seed=seed, **RECIPE), []  # type: ignore[arg-type]
    accuracy: Callable[[Any], float] = lambda some: next(  # noqa: E731
        m.value for m in some if m.name == "accuracy"
    )
    for trial in best:
        network = fit(run.derivation(trial.id), Conditions([task], recipe))
        found.append(
            tuple(
                accuracy(
                    network_scores(
                        network,
                        Conditions([task], recipe, split=split),
                        evaluator="standalone",
                        fidelity=Fidelity(epochs=EPOCHS),
                    )
                )
                for split in ("valid", "test")
            )
        )
    return {"test": max(found)[1], "best": best[0].value("accuracy"), "trials": len(run.trials)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    parser.add_argument("--search")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    if given.to:
        one(given.data, given.search, given.seed, given.to)
    else:
        main()
