"""An evaluation by shared weights takes less than half of what it took in eager torch.

`python benchmarks/evaluations.py`. Random subnets of an untrained bank, evaluated on the validation
split as a search does it: batch statistics, plan, every metric. Interleaved, CPU time of a thread:
as searches did it before (in torch, with statistics of 512 inputs, worked out beside each norm); in
torch with 256 inputs; in ONNX Runtime with 256. A search takes the faster of the last two, which is
held against the first. The likelihoods of these two beside each other.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from measure import interleaved, ms, ratio, report
from torch import Tensor

from nas.evaluate import EVALUATORS, Conditions
from nas.grammar import Derivation, Grammar
from nas.op import norm
from nas.search.problem import Problem
from nas.search.settings import Settings
from nas.task import load_tasks

CASES = (
    ("mobile", "digits"),
    ("mobile", "scenes-classify"),
    ("fbnetv5-small", "scenes-classify"),
    ("vit", "digits"),
)
SUBNETS = 15
BEFORE, TORCH, ONNX = "before", "torch", "ONNX Runtime"


def main() -> None:
    torch.set_num_threads(1)
    rows = [row(space, task) for space, task in CASES]
    report(
        "evaluations",
        __doc__,
        aim="less than half of the time on every space",
        figure="share of the time before: "
        + ", ".join(f"{r['space']} on {r['task']} {r['ratio']:.2f}" for r in rows),
        rows=rows,
        seeds=list(range(SUBNETS)),
    )


def apart(x: Tensor, p: Any, mean: Tensor, var: Tensor, seen: int) -> Tensor:
    """A norm's statistics and its result worked out one after the other."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    new_var, new_mean = torch.var_mean(x, axes, correction=0)
    share, gap = len(x) / (seen + len(x)), new_mean - mean
    var.lerp_(new_var, share).add_(gap.square(), alpha=share * (1 - share))
    mean.lerp_(new_mean, share)
    return F.batch_norm(x, None, None, p["weight"], p["bias"], True, 0.0)


def row(space: str, task: str) -> dict[str, Any]:
    settings = Settings.of({"space": space, "tasks": [task], "device": "cpu"})
    problem = Problem(settings, Grammar.load(space), tuple(load_tasks([task])))
    now = problem.conditions(problem.bank())
    ways = {
        BEFORE: replace(now, samples=512),
        TORCH: replace(now, samples=256),
        ONNX: replace(now, samples=256, runtime="onnxruntime"),
    }
    derivations = [problem.space.draw(random.Random(seed)) for seed in range(SUBNETS)]
    nll: dict[str, list[float]] = {way: [] for way in ways}

    def evaluate(way: str, conditions: Conditions, derivation: Derivation) -> None:
        with patch.object(norm, "_joining", apart if way == BEFORE else norm._joining):
            figures = EVALUATORS["shared"].measure(derivation, conditions).measurements
        nll[way].append(next(m.value for m in figures if m.name == "nll"))

    for way, conditions in ways.items():  # the first begins what all use
        evaluate(way, conditions, derivations[0])
    times: dict[str, list[float]] = {way: [] for way in ways}
    for derivation in derivations:
        work = {
            way: lambda w=way, c=conditions, d=derivation: evaluate(w, c, d)
            for way, conditions in ways.items()
        }
        for way, spent in interleaved(work, 1).items():
            times[way] += spent
    after = min(times[TORCH], times[ONNX], key=statistics.median)
    gaps = zip(nll[TORCH], nll[ONNX], strict=True)
    return {
        "space": space,
        "task": task,
        **{f"{way} ms": ms(spent) for way, spent in times.items()},
        "a second": 1 / statistics.mean(after),
        "ratio": ratio(after, times[BEFORE]),
        "nll apart": max(abs(a - b) for a, b in gaps),
    }


if __name__ == "__main__":
    main()
