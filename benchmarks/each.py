"""Four tasks that each find an architecture of their own in one run, beside other ways to them.

Scenes: which digits occur, whose each pixel is, where they are, how far away. `mobile`, whose
levels lie at a half, a quarter and an eighth of the picture as those of the networks by hand
(`--space fbnetv5-small` begins at a quarter, which is little of 32 pixels), a
network for each task alone of at most 2.5 MFLOPs. For each task the best by shared weights within
the bound is trained from scratch and judged on the test split. Ways:

one run      --per-task, the shared weights trained by FBNetV5's distributions (`by-task`)
spread       the same, the shared weights trained as usual
apart        a run for each task, with as many steps and trials each
for all      one run, one architecture for all tasks: of those within the bound the best by the sum
             of the ranks in each task
random       three architectures drawn within 15 % of the bound for the task, the mean
by hand      three levels of two convolutions, as wide as the bound allows, with the same head

Kept in runs/bench-each: run again it carries on. `--size 64` is the harder set.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import byhand
import torch
from measure import ROOT, Kept, progress, report

from nas.evaluate import Conditions
from nas.evaluate import fit as fit_derivation
from nas.grammar import Derivation, Grammar, choose_at_random, derive
from nas.plan import plan
from nas.search import Run, load, resume, search
from nas.task import METRICS, Task, load_tasks
from nas.train import Recipe

NAMES = ("scenes-classify", "scenes-segment", "scenes-detect", "scenes-depth")
WAYS = ("one run", "spread", "apart", "for all", "random", "by hand")
LEVELS = """
net(w)   = level(w) output(fine) level(w * 2) output(middle) level(w * 4) output(coarse)
level(w) = conv(w, stride=2) batchnorm relu conv(w) batchnorm relu
"""
DRAWN, NEAR = 3, 0.85


class Comparison:
    """One seed of the comparison."""

    def __init__(self, words: argparse.Namespace, seed: int):
        self.words, self.seed = words, seed
        self.folder = (
            ROOT / "runs" / "bench-each" / f"{words.space}-{words.size}-{words.steps}-{seed}"
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept = Kept(self.folder / "kept.json")
        size = "" if words.size == 32 else f"?size={words.size}"
        self.tasks = load_tasks([f"{name}{size}" for name in NAMES])
        self.bound = words.mflops * 1e6
        self.grammar = Grammar.load(words.space)
        self.recipe = Recipe(epochs=words.epochs, batch=32, seed=seed)

    def run(self, name: str, tasks: Sequence[Task], **more: Any) -> Run:
        """A search, carried on where it was; how long it took is kept."""
        folder = self.folder / name
        if not (folder / "run.toml").exists():
            supernet = {"steps": self.words.steps, "batch": 32, **more.pop("supernet", {})}
            given = {"trials": self.words.trials, "seed": self.seed, "supernet": supernet, **more}
            given["limits"] = (f"flops<={self.bound}",)
            begun = time.process_time()
            specs = [task.spec for task in tasks]
            search(self.words.space, specs, out=folder, listener=progress, **given)
            self.kept(f"{name} seconds", lambda: time.process_time() - begun)
        return resume(folder, listener=progress) if not load(folder).trials else load(folder)

    def chosen(self, way: str, task: Task) -> list[Derivation]:
        """The architectures of a task by one of the ways."""
        name = task.name
        if way in ("one run", "spread"):
            strategy = "by-task" if way == "one run" else "spread"
            words = {"per_task": True, "supernet": {"strategy": strategy}}
            run = self.run(way.replace(" ", "-"), self.tasks, **words)
            return [run.derivation(run.pick(task=name))]
        if way == "apart":
            run = self.run(f"apart-{name}", [task])
            return [run.derivation(run.pick())]
        if way == "for all":
            return [self._for_all()]
        if way == "by hand":
            return [self._by_hand(task)]
        rng, drawn = random.Random(f"{self.seed} {name}"), list[Derivation]()
        while len(drawn) < DRAWN:
            derivation = derive(self.grammar, choose_at_random(rng), input=task.input)
            if NEAR * self.bound <= plan(derivation, heads=[task]).flops <= self.bound:
                drawn.append(derivation)
        return drawn

    def _for_all(self) -> Derivation:
        run = self.run("for-all", self.tasks)
        trials = [t for t in run.trials if t.state == "finished"]
        ranks = [0.0] * len(trials)
        for task in self.tasks:
            column = f"{task.name.replace('-', '_')}_{task.metric}"
            sign = -1 if METRICS[task.metric].larger_is_better else 1
            order = sorted(range(len(trials)), key=lambda i: sign * (trials[i].value(column) or 0))
            for rank, i in enumerate(order):
                ranks[i] += rank
        return run.derivation(trials[min(range(len(trials)), key=ranks.__getitem__)].id)

    def _by_hand(self, task: Task) -> Derivation:
        grammar = Grammar.parse(f"hand = net({{{', '.join(map(str, range(2, 25)))}}})\n{LEVELS}")
        every = [derive(grammar, lambda site, options, i=i: i, input=task.input) for i in range(23)]
        return max(
            (d for d in every if plan(d, heads=[task]).flops <= self.bound),
            key=lambda d: d.cost.flops,
        )

    def tested(self, way: str, task: Task) -> tuple[float, float]:
        """The metric on the test split and MFLOPs, of several architectures the mean."""
        key = f"{way} {task.name} {self.words.epochs:g} epochs"
        texts = self.kept(f"{way} {task.name}", lambda: self._texts(way, task))

        def trained() -> list[list[float]]:
            figures = []
            for derivation in (
                self.chosen(way, task) if way == "by hand" else map(self._read, texts)
            ):
                network = fit_derivation(derivation, Conditions([task], self.recipe))
                value = byhand._tested(network, [task], self.recipe)[task.name]
                figures.append([value, network.plan.flops / 1e6])
            return figures

        values, flops = zip(*self.kept(key, trained), strict=True)
        return statistics.mean(values), statistics.mean(flops)

    def _texts(self, way: str, task: Task) -> list[str]:
        return [str(derivation) for derivation in self.chosen(way, task)]

    def _read(self, text: str) -> Derivation:
        return Derivation.read(text, self.grammar)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", default="mobile")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--mflops", type=float, default=2.5)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    words = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [Comparison(words, seed) for seed in range(words.seeds)]
    figures: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for comparison in seeds:
        for way in words.ways:
            for task in comparison.tasks:
                figures.setdefault((way, task.name), []).append(comparison.tested(way, task))
                print(comparison.seed, way, task.name, figures[way, task.name][-1], flush=True)
    rows = [row(way, figures, seeds) for way in words.ways]
    report(
        "each",
        __doc__,
        aim="ahead of random and by hand in every task, level with apart at a fourth of its cost",
        figure="; ".join(f"{r['way']} {said(r)}" for r in rows),
        rows=rows,
        seeds=list(range(words.seeds)),
        facts=vars(words),
    )


def row(way: str, figures: Any, seeds: Sequence[Comparison]) -> dict[str, Any]:
    facts: dict[str, Any] = {"way": way}
    for task in seeds[0].tasks:
        values = [value for value, _ in figures[way, task.name]]
        facts[f"{task.name} {task.metric}"] = statistics.mean(values)
        facts[f"± {task.name}"] = statistics.stdev(values) if len(values) > 1 else math.nan
    folders = {"one run": ["one-run"], "spread": ["spread"], "for all": ["for-all"]}
    names = folders.get(way, [f"apart-{t.name}" for t in seeds[0].tasks] if way == "apart" else [])
    spent = [sum(c.kept.figures[f"{name} seconds"] for name in names) for c in seeds]
    return {**facts, "CPU s of search": statistics.mean(spent)}


def said(row: dict[str, Any]) -> str:
    return ", ".join(f"{row[k]:.3f}" for k in row if k.startswith("scenes-"))


if __name__ == "__main__":
    main()
