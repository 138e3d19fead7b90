"""A latency is the same when it is measured again, beside other load too, and ranks as deployment.

`python benchmarks/latencies.py [--compile]`. Random networks of two spaces at 32 pixels, measured
twice quietly and twice beside a busy process on every core: by how much the two rounds differ
(median of networks) and Kendall's τ between them, for a low quantile of CPU time of interleaved
blocks, as a search measures it, and for the median of wall time of 30 runs, network after network,
as it did before. Then Spearman's correlation of the objective with other runtimes.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from measure import report
from scipy.stats import kendalltau, spearmanr

from nas.grammar import Grammar, sample
from nas.measure.latency import Deployment, latencies
from nas.measure.runtime import RUNTIMES
from nas.network import Network

SPACES, NETWORKS, COMPILED = ("mobile", "fbnetv5-small"), 24, 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which is slow.")
    words = parser.parse_args()
    torch.set_num_threads(1)
    rows, agreements = [], []
    for space in SPACES:
        grammar = Grammar.load(space)
        networks = [
            Network(sample(grammar, random.Random(seed), input=(3, 32, 32))).eval()
            for seed in range(NETWORKS)
        ]
        for beside in (0, os.cpu_count() or 1):
            with busy(beside):
                for way, measure in WAYS.items():
                    first, second = measure(networks), measure(networks)
                    rows.append(row(space, way, beside, first, second))
        agreements.append({"space": space, **agreement(networks, words.compile)})
    report(
        "latencies",
        __doc__,
        aim="under 4 % between rounds beside load; rank agreement above 0.95 with itself",
        figure=said(rows, agreements),
        rows=rows,
        facts={"agreement with ONNX Runtime (Spearman)": agreements},
    )


def by_blocks(networks: Sequence[Network]) -> list[float]:
    pairs = [(network.plan, network.tensors()) for network in networks]
    return [figures[0].value for figures in latencies(pairs, Deployment())]


def by_median(networks: Sequence[Network]) -> list[float]:
    values = []
    for network in networks:
        forward = RUNTIMES["onnxruntime"].load(network.plan, network.tensors(), 1, "cpu")
        x, times = torch.zeros(1, *network.plan.input.dims), []
        for _ in range(33):
            begun = time.perf_counter()
            forward(x)
            times.append(1e3 * (time.perf_counter() - begun))
        values.append(statistics.median(times[3:]))
    return values


WAYS: dict[str, Callable[[Sequence[Network]], list[float]]] = {
    "low quantile of CPU time, in turn": by_blocks,
    "median of wall time, one by one": by_median,
}


def row(
    space: str, way: str, beside: int, first: Sequence[float], second: Sequence[float]
) -> dict[str, object]:
    apart = statistics.median(abs(b / a - 1) for a, b in zip(first, second, strict=True))
    return {
        "space": space,
        "way": way,
        "busy processes": beside,
        "apart": apart,
        "τ": float(kendalltau(first, second)[0]),
        "median ms": statistics.median(first),
    }


def agreement(networks: Sequence[Network], compiled: bool) -> dict[str, float]:
    pairs = [(network.plan, network.tensors()) for network in networks]
    objective = by_blocks(networks)
    found = {}
    for name, runtime in RUNTIMES.items():
        if runtime.lacks or name == "onnxruntime" or (name == "torch.compile" and not compiled):
            continue
        some = pairs[:COMPILED] if name == "torch.compile" else pairs
        figures = [m[0].value for m in latencies(some, Deployment(name))]
        found[name] = float(spearmanr(figures, objective[: len(some)])[0])
    return found


def said(rows: Sequence[dict[str, object]], agreements: Sequence[dict[str, object]]) -> str:
    parts = [
        f"{r['space']}, {r['way']}, {r['busy processes']} busy: {r['apart']:.1%}, τ {r['τ']:.2f}"
        for r in rows
    ]
    for found in agreements:
        others = [f"{k} {v:.2f}" for k, v in found.items() if k != "space"]
        parts.append(f"{found['space']} ranks as {', '.join(others)}")
    return "; ".join(parts)


@contextmanager
def busy(n: int) -> Iterator[None]:
    """So many processes beside that keep a core busy each."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()
