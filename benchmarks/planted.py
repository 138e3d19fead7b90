"""Where the best choice of every task is known, all tasks find it, in far fewer steps than apart.

34 sites of two options, as `fbnetv5-small` has; or 16 of four. A task loses up to 1 at each site
where an architecture is not as the task's best, more where two such sites meet, and noise: some of
the batch, which all architectures of a step share, some of its own. Steps of four scored
architectures, until the most probable architecture of every task loses at most 1 % of what a random
one does; for T tasks in one run, and for each task in a run of its own, summed. 10 seeds.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from unittest.mock import patch

import numpy as np
from measure import report

from nas.grammar import Derivation, Grammar, derive
from nas.grammar.count import table
from nas.supernet.by_task import SCORED, Distributions, Learner, Scored

OPTIONS = ("identity", "relu", "gelu", "silu")
SPACES = {"34 sites of 2": (34, 2), "16 sites of 4": (16, 4)}
COUNTS, SEEDS, MOST, EVERY = (1, 2, 4, 8), range(10), 4_000, 10
BATCH_NOISE, OWN_NOISE, GAP = 2.0, 0.5, 0.01


class Planted:
    """Tasks with a best architecture each."""

    def __init__(self, sites: int, options: int, tasks: int, seed: int):
        choice = " | ".join(OPTIONS[:options])
        text = f"net = e{{{sites}}} output(coarse)\ne = {choice}"
        self.grammar = Grammar.parse(text, name="planted")
        self.sites: Mapping[str, Sequence[str]] = table(self.grammar, input=(8,))
        self.rng = np.random.default_rng(seed)
        self.best = self.rng.integers(0, options, (tasks, sites))
        self.worth = self.rng.uniform(0.2, 1, (tasks, sites))
        self.pairs = self.rng.integers(0, sites, (2, 2 * sites))
        self.joint = self.rng.uniform(0, 0.5, (tasks, 2 * sites))
        codes = self.rng.integers(0, options, (1_000, sites))
        self.usual = np.mean([self.losses(code) for code in codes], axis=0)

    def code(self, derivation: Derivation) -> np.ndarray:
        chosen = derivation.by_site
        return np.array([labels.index(chosen[site]) for site, labels in self.sites.items()])

    def losses(self, code: np.ndarray) -> np.ndarray:
        """(tasks,) without noise."""
        wrong = code != self.best
        met = wrong[:, self.pairs[0]] & wrong[:, self.pairs[1]]
        return (self.worth * wrong).sum(1) + (self.joint * met).sum(1)

    def scored(self, derivations: Sequence[Derivation], known: Distributions) -> list[Scored]:
        tasks = len(self.best)
        batch = self.rng.normal(0, BATCH_NOISE, tasks)
        return [
            Scored(
                known.taken(derivation),
                self.losses(self.code(derivation)) + batch + self.rng.normal(0, OWN_NOISE, tasks),
                np.zeros(tasks),
            )
            for derivation in derivations
        ]


def steps(planted: Planted, tasks: Sequence[int], seed: int) -> int:
    """Steps until some of the tasks, searched in one run, have found their best."""
    known, rng = Distributions(planted.sites, len(tasks)), random.Random(seed)
    learner, own = Learner(known), list(tasks)
    for step in range(MOST):
        drawn = [
            derive(planted.grammar, known.choose((step + i) % len(own), rng), input=(8,))
            for i in range(SCORED)
        ]
        scored = planted.scored(drawn, known)
        learner.hear([s._replace(losses=s.losses[own], costs=s.costs[own]) for s in scored])
        if step % EVERY == EVERY - 1:
            modes = [
                derive(planted.grammar, known.choose_most(i), input=(8,)) for i in range(len(own))
            ]
            gaps = [
                planted.losses(planted.code(mode))[task] / planted.usual[task]
                for mode, task in zip(modes, own, strict=True)
            ]
            if max(gaps) <= GAP:
                return step + 1
    return MOST


def main() -> None:
    rows = []
    for name, (sites, options) in SPACES.items():
        for count in COUNTS:
            every = [Planted(sites, options, count, seed) for seed in SEEDS]
            together = [steps(p, range(count), seed) for seed, p in enumerate(every)]
            apart = [
                sum(steps(p, [task], seed) for task in range(count)) for seed, p in enumerate(every)
            ]
            rows.append(
                {
                    "space": name,
                    "tasks": count,
                    "steps in one run": statistics.median(together),
                    "most": max(together),
                    "in runs apart": statistics.median(apart),
                    "apart over one": statistics.median(apart) / statistics.median(together),
                }
            )
            print(rows[-1], flush=True)
    for count in (1, max(COUNTS)):
        with patch("nas.supernet.by_task.TRUSTED", 1.0):
            every = [Planted(*SPACES["34 sites of 2"], count, seed) for seed in SEEDS]
            together = [steps(p, range(count), seed) for seed, p in enumerate(every)]
        facts = {"space": "34 sites of 2, without bias", "tasks": count}
        rows.append(
            {**facts, "steps in one run": statistics.median(together), "most": max(together)}
        )
    four = next(row for row in rows if row["tasks"] == 4)
    report(
        "planted",
        __doc__,
        aim="every task finds its best, at T = 1, 2, 4, 8; at 4 tasks half of the steps apart",
        figure=f"4 tasks: {four['steps in one run']:.0f} steps, {four['in runs apart']:.0f} apart",
        rows=rows,
        seeds=list(SEEDS),
    )


if __name__ == "__main__":
    main()
