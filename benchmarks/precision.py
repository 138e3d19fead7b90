"""Architecture and precision in one search, beside a search in floats that is quantized after.

`mobile-int8` on digits (or `--task scenes-classify --metric average_precision`), with equally many
trials. `joint` searches accuracy, size and latency of networks as they would be deployed. `after`
searches the same space in floats and has every network of its front in eight bits too, all alike.
Told of each: the hypervolume of accuracy, size and latency under ONNX Runtime (costs in logarithms,
of what float networks reach at most); and the least size and the least latency of a network that
loses at most half a percent point against the best one of floats, in shares of the smallest and the
fastest float network that loses no more.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace
from typing import Any

import torch
from measure import ROOT, Kept, progress, report

from nas.dominance import hypervolume
from nas.evaluate import Conditions, Fidelity
from nas.evaluate.scoring import scores, statistics_inputs
from nas.measure.latency import Deployment, latencies
from nas.plan import Precision
from nas.search import Run, load, resume, search
from nas.supernet import Subnet

NAMES = ("accuracy", "size_mb", "latency_ms")
LOSS = 0.005
FLOATS = """
floats = precision(32) net
import mobile-int8
"""
Point = tuple[float, float, float]


def run_of(words: argparse.Namespace, seed: int, way: str) -> Run:
    folder = ROOT / "runs" / "bench-precision" / f"{words.task}-{words.steps}-{seed}-{way}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        return resume(folder, listener=progress) if not load(folder).trials else load(folder)
    space = "mobile-int8"
    if way == "after":
        path = folder.with_suffix(".grammar")
        path.write_text(FLOATS.strip() + "\n")
        space = str(path)
    return search(
        space,
        [words.task],
        out=folder,
        listener=progress,
        trials=words.trials,
        seed=seed,
        objectives=(words.metric, "size_mb", "latency_ms"),
        supernet={"steps": words.steps},
    )


def points(run: Run, metric: str) -> list[Point]:
    """Accuracy, size and latency of every trial."""
    figures = ([trial.value(name) for name in (metric, *NAMES[1:])] for trial in run.trials)
    return [(a, b, c) for a, b, c in figures if None not in (a, b, c)]  # type: ignore[misc]


def quantized(run: Run, metric: str) -> list[Point]:
    """The same of the front's networks in eight bits."""
    task, found = run.tasks[0], list[Point]()
    inputs = statistics_inputs([task], 256, run.settings.seed)
    conditions = Conditions([task], seed=run.settings.seed)
    for trial in run.front().trials:
        subnet = Subnet.of(run.bank(), run.derivation(trial.id), [task], inputs)
        plan = replace(subnet.plan, precision=Precision(8))
        figures = scores(plan, subnet.tensors, conditions, evaluator="", fidelity=Fidelity())
        accuracy = next(m.value for m in figures if m.name == metric)
        ((latency, _),) = latencies([(plan, subnet.tensors)], Deployment())
        found.append((accuracy, plan.size_mb, latency.value))
    return found


def figures_of(words: argparse.Namespace, seed: int) -> dict[str, Any]:
    joint, after = (run_of(words, seed, way) for way in ("joint", "after"))
    floats = points(after, words.metric)
    fronts = {
        "joint": points(joint, words.metric),
        "after": floats + quantized(after, words.metric),
    }
    best = max(accuracy for accuracy, _, _ in floats)
    largest = [max(point[i] for point in floats) for i in (1, 2)]

    def least(of: list[Point], i: int) -> float:
        return min((p[i] for p in of if p[0] >= best - LOSS), default=math.nan)

    facts = dict[str, Any]()
    for way, every in fronts.items():
        scaled = [
            (
                1 - a,
                math.log10(1 + b / largest[0] * 999) / 3,
                math.log10(1 + c / largest[1] * 999) / 3,
            )
            for a, b, c in every
        ]
        facts[f"{way} hypervolume"] = hypervolume(scaled, (1.0, 1.0, 1.0))
        facts[f"{way} size"] = least(every, 1) / least(floats, 1)
        facts[f"{way} latency"] = least(every, 2) / least(floats, 2)
        facts[f"{way} best"] = max(a for a, _, _ in every)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="digits")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    words = parser.parse_args()
    torch.set_num_threads(1)
    folder = ROOT / "runs" / "bench-precision"
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(folder / f"{words.task}-{words.steps}.json")
    rows = []
    for seed in range(words.seeds):
        rows.append({"seed": seed, **kept(str(seed), lambda seed=seed: figures_of(words, seed))})
        print(rows[-1], flush=True)
    means = {k: statistics.mean(row[k] for row in rows) for k in rows[0] if k != "seed"}
    said = "; ".join(
        f"{way} {means[f'{way} hypervolume']:.3f}, size {means[f'{way} size']:.2f}, latency "
        f"{means[f'{way} latency']:.2f}"
        for way in ("joint", "after")
    )
    report(
        "precision",
        __doc__,
        aim="joint ahead in hypervolume; the paper reaches 0.29 of the size, 0.21 of the latency",
        figure=said,
        rows=rows,
        seeds=list(range(words.seeds)),
        facts=vars(words),
    )


if __name__ == "__main__":
    main()
