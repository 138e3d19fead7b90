"""How many evaluations until every task has an architecture within 1 % of its best.

`python benchmarks/manytasks.py --tables FOLDER`. Spaces in which every network is known for several
tasks: NAS-Bench-Graph (Qin et al. 2022, arXiv 2206.09166; 8 data sets, 26,206 graph networks) and
NAS-Bench-201 (Dong and Yang 2020; 3 data sets after 12 epochs), by validation. One run for all
tasks, in which an evaluation tells of every task, and a run for each task, summed. Batches of 20.
A run that is not done after `--most` evaluations counts as that many.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import ROOT, Kept, report
from tables import CELL, OPERATIONS

from nas.front import Objective
from nas.grammar import Derivation, Grammar
from nas.search.columns import Aim
from nas.search.propose import Proposer
from nas.supernet import Space

BATCH, NEAR = 20, 0.99
NINE = "identity | relu | leaky_relu | hardswish | silu | gelu | sigmoid | tanh | softmax"
GRAPH = f"net = nine nine nine nine nine output(coarse)\nnine = {NINE}"  # links, then operators
ONE_RUN, APART = ("predicted", "random"), ("predicted", "tpe", "nsga2", "random")


@dataclass
class Tables:
    """Several tasks' metrics of each architecture, by the numbers of what was chosen."""

    name: str
    grammar: Grammar
    known: Mapping[tuple[int, ...], tuple[float, ...]]
    tasks: tuple[str, ...]

    @property
    def space(self) -> Space:
        return Space(self.grammar, (8,), keeps=lambda derivation: code(derivation) in self.known)

    @property
    def enough(self) -> list[float]:
        return [NEAR * max(values) for values in zip(*self.known.values(), strict=True)]


def code(derivation: Derivation) -> tuple[int, ...]:
    return tuple(chosen.index for chosen in derivation.choices)


def graph(folder: Path) -> Tables:
    rows = pd.read_csv(folder / "nas-bench-graph.csv.gz", dtype={"links": str})
    tasks = tuple(c.removesuffix("_valid") for c in rows.columns if c.endswith("_valid"))
    links = sorted(rows["links"].unique())
    kinds = sorted({kind for text in rows["operators"].unique() for kind in text.split()})
    values = rows[[f"{task}_valid" for task in tasks]].itertuples(index=False, name=None)
    known = {
        (links.index(link), *(kinds.index(kind) for kind in text.split())): tuple(map(float, row))
        for link, text, row in zip(rows["links"], rows["operators"], values, strict=True)
    }
    return Tables("NAS-Bench-Graph", Grammar.parse(GRAPH, name="graph"), known, tasks)


def cells(folder: Path) -> Tables:
    rows = pd.read_csv(folder / "nas-bench-201.csv.gz")
    tasks = ("cifar10", "cifar100", "imagenet16")
    values = rows[[f"{task}_valid_12ep" for task in tasks]].itertuples(index=False, name=None)
    known = {}
    for cell, row in zip(rows["cell"], values, strict=True):
        edges = [edge.partition("~")[0] for edge in cell.replace("+", "").split("|") if edge]
        known[tuple(map(OPERATIONS.index, edges))] = tuple(map(float, row))
    return Tables("NAS-Bench-201", Grammar.parse(CELL, name="cell"), known, tasks)


SPACES = {"cells": cells, "graph": graph}


def evaluations(tables: Tables, sampler: str, tasks: Sequence[int], seed: int, most: int) -> int:
    """Distinct evaluations until some tasks, searched in one run, are all done."""
    aims = [
        Aim((Objective(f"{tables.tasks[t]}_accuracy", True),), task=tables.tasks[t]) for t in tasks
    ]
    proposer = Proposer(tables.space, sampler, aims, seed=seed, population=BATCH)
    enough, open_, seen = tables.enough, set(tasks), set[Derivation]()
    while len(seen) < most:
        for proposal in [proposer.ask() for _ in range(BATCH)]:
            values = tables.known.get(code(proposal.derivation))
            told = None
            if values is not None:
                seen.add(proposal.derivation)
                open_ -= {task for task in open_ if values[task] >= enough[task]}
                if not open_:
                    return len(seen)
                told = {f"{tables.tasks[t]}_accuracy": values[t] for t in tasks}
            proposer.tell(proposal, told)
    return most


def apart(tables: Tables, sampler: str, seed: int, most: int) -> int:
    every = range(len(tables.tasks))
    return sum(evaluations(tables, sampler, [task], seed, most) for task in every)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--tables", type=Path, required=True, help="A folder of the tables, as CSV."
    )
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--most", type=int, default=2_000)
    words = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kept, rows = Kept(ROOT / "runs" / "bench-manytasks.json"), list[dict[str, Any]]()
    for tables in (SPACES[name](words.tables) for name in words.spaces):
        every = range(len(tables.tasks))
        for way, samplers in (("one run", ONE_RUN), ("apart", APART)):
            for sampler in samplers:
                counts = []
                for seed in range(words.seeds):
                    count = (
                        partial(evaluations, tables, sampler, every, seed, words.most)
                        if way == "one run"
                        else partial(apart, tables, sampler, seed, words.most)
                    )
                    counts.append(kept(f"{tables.name} {way} {sampler} {seed}", count))
                facts = {"space": tables.name, "runs": way, "sampler": sampler}
                error = statistics.stdev(counts) / len(counts) ** 0.5 if len(counts) > 1 else 0.0
                rows.append(
                    {
                        **facts,
                        "mean": statistics.mean(counts),
                        "±": error,
                        "median": statistics.median(counts),
                        "most": max(counts),
                    }
                )
                print(rows[-1], flush=True)
    report(
        "manytasks",
        __doc__,
        aim="NAS-Bench-Graph: at most 300 in one run",
        figure="; ".join(
            f"{r['space']} {r['runs']} {r['sampler']} {r['mean']:.0f} ± {r['±']:.0f}" for r in rows
        ),
        rows=rows,
        seeds=list(range(words.seeds)),
    )


if __name__ == "__main__":
    main()
