"""What earlier tasks teach saves evaluations on a new one.

`python benchmarks/transfer.py --tables FOLDER`. Spaces in which every network is known for several
tasks: NAS-Bench-Graph (Qin et al. 2022, arXiv 2206.09166; 8 data sets) and NAS-Bench-201 (Dong and
Yang 2020; 3 data sets after 12 epochs), by validation. Each task is left out in turn: a search on
it learns from runs of 200 evaluations on all others and from one whose scores are shuffled, so that
it teaches nothing; in the bank `unrelated` all are shuffled. Counted are evaluations until what the
same sampler without earlier runs has after 200, the median of its seeds; not there after 300 counts
as 300. After AutoTransfer (Cao et al. 2023, arXiv 2303.07669).
"""

from __future__ import annotations

import argparse
import random
import statistics
import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from manytasks import SPACES, Tables, code
from measure import ROOT, Kept, report

from nas.front import Objective
from nas.search.columns import Aim
from nas.search.earlier import Earlier, Lessons
from nas.search.propose import Proposer

BATCH, PLAIN, MOST = 20, 200, 300
BANK = "tree"  # the sampler of earlier runs
SAMPLERS = ("predicted", "tree", "tpe", "nsga2")


def scores(tables: Tables, task: int, shuffled: int | None) -> dict[tuple[int, ...], float]:
    """What each architecture comes to on a task, or another's score in its place."""
    own = {key: values[task] for key, values in tables.known.items()}
    if shuffled is None:
        return own
    values = list(own.values())
    random.Random(shuffled).shuffle(values)
    return dict(zip(own, values, strict=True))


def search(
    tables: Tables,
    known: dict[tuple[int, ...], float],
    sampler: str,
    seed: int,
    most: int,
    lessons: Lessons | None = None,
) -> list[tuple[Any, float]]:
    """Distinct architectures and their scores, in the order in which they were evaluated."""
    aim = Aim((Objective("accuracy", True),))
    proposer = Proposer(tables.space, sampler, [aim], seed=seed, population=BATCH, lessons=lessons)
    seen, stale = dict[Any, float](), 0
    while len(seen) < most and stale < 30:
        before = len(seen)
        for proposal in [proposer.ask() for _ in range(BATCH)]:
            value = known.get(code(proposal.derivation))
            if value is not None:
                seen.setdefault(proposal.derivation, value)
            told = None if value is None else {"accuracy": value}
            proposer.tell(proposal, told)
        stale = stale + 1 if len(seen) == before else 0
    return list(seen.items())[:most]


class Comparison:
    """All tasks of some tables by a kind of bank."""

    def __init__(self, tables: Tables, bank: str, kept: Kept, seeds: int):
        self.tables, self.bank, self.kept, self.seeds = tables, bank, kept, seeds
        self.earlier = cache(self._earlier)

    def _earlier(self, task: int, seed: int, shuffled: int | None) -> Earlier:
        known = scores(self.tables, task, shuffled)
        trials = search(self.tables, known, BANK, seed, PLAIN)
        derivations, values = zip(*trials, strict=True)
        return Earlier(f"{task}", derivations, tuple(-value for value in values))

    def lessons(self, left_out: int, seed: int) -> Lessons:
        others = [t for t in range(len(self.tables.tasks)) if t != left_out]
        chance = None if self.bank == "related" else seed
        runs = [self.earlier(t, seed, chance if chance is None else 100 + t) for t in others]
        if self.bank == "related":
            runs.append(self.earlier(others[0], seed, 100 + seed))
        return Lessons(tuple(runs))

    def curve(self, sampler: str, task: int, seed: int, learns: bool) -> list[float]:
        """The best score after each evaluation."""
        lessons = self.lessons(task, seed) if learns else None
        known = scores(self.tables, task, None)
        trials = search(self.tables, known, sampler, 1000 + seed, MOST, lessons)
        best, curve = -1.0, list[float]()
        for _, value in trials:
            best = max(best, value)
            curve.append(best)
        return curve

    def kept_curve(self, sampler: str, task: int, seed: int, learns: bool) -> list[float]:
        bank = self.bank if learns else "none"
        key = f"{self.tables.name} {bank} {sampler} {task} {seed}"
        return self.kept(key, partial(self.curve, sampler, task, seed, learns))

    def row(self, sampler: str) -> dict[str, Any]:
        counts: dict[bool, list[int]] = {False: [], True: []}
        for task in range(len(self.tables.tasks)):
            plain = [self.kept_curve(sampler, task, s, False) for s in range(self.seeds)]
            enough = statistics.median(curve[min(PLAIN, len(curve)) - 1] for curve in plain)
            taught = [self.kept_curve(sampler, task, s, True) for s in range(self.seeds)]
            for learns, curves in ((False, plain), (True, taught)):
                counts[learns] += [
                    next((i for i, best in enumerate(c, start=1) if best >= enough), MOST)
                    for c in curves
                ]
        apart = [a - b for a, b in zip(counts[True], counts[False], strict=True)]
        return {
            "space": self.tables.name,
            "earlier": self.bank,
            "sampler": sampler,
            "without": statistics.mean(counts[False]),
            "with": statistics.mean(counts[True]),
            "difference": statistics.mean(apart),
            "±": statistics.stdev(apart) / len(apart) ** 0.5,
            "times": statistics.mean(counts[False]) / statistics.mean(counts[True]),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=Path, required=True, help="A folder of tables, as CSV.")
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--banks", nargs="+", default=["related", "unrelated"])
    parser.add_argument("--seeds", type=int, default=20)
    words = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kept = Kept(ROOT / "runs" / "bench-transfer.json")
    for space in words.spaces:
        tables, rows = SPACES[space](words.tables), list[dict[str, Any]]()
        for bank in words.banks:
            comparison = Comparison(tables, bank, kept, words.seeds)
            for sampler in words.samplers:
                rows.append(comparison.row(sampler))
                print(rows[-1], flush=True)
        report(
            "transfer",
            __doc__,
            aim="a tenth of the evaluations, and no more where earlier tasks are unlike",
            figure="; ".join(
                f"{r['earlier']}, {r['sampler']}: {r['without']:.0f} to {r['with']:.0f} "
                f"(±{r['±']:.0f})"
                for r in rows
            ),
            rows=rows,
            seeds=list(range(words.seeds)),
            space=space if len(words.samplers) > 1 else f"{space}-{words.samplers[0]}",
            words=f"--tables FOLDER --spaces {space} --seeds {words.seeds} "
            f"--banks {' '.join(words.banks)} --samplers {' '.join(words.samplers)}",
        )


if __name__ == "__main__":
    main()
