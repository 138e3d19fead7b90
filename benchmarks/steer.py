"""One network for several tasks, steered by preferences and budgets after training.

Scenes of 32 pixels: which digits occur, whose each pixel is, where they are. The space `steered`,
one run each way, and then for every preference (the simplex in quarters) and budget (four, from the
smallest network to the largest) what the run answers, judged on the test split. Ways:

held alike   features of all encoders are held to the largest's (the run as it is by default)
free         the same without: largest, smallest and two drawn, all by the labels alone
alike        of `held alike`, the whole network is scaled: one for a budget, whatever is preferred
rule         of `held alike`, by a rule of thumb as the paper's: each task's decoder has the size
             that its share of the preferences buys, and the encoder is the best of what is left
alone        the answers of `held alike` to no preference, trained from scratch by themselves, for
             as many steps as the shared weights were

The volume is that of what preferences reach, in the product of the tasks' metrics above the trivial
predictor's, the mean over budgets. Monotone: of pairs of preferences (budgets) that differ in one
task's worth (in the budget) alone, in how many its metric (the preferred mean) is no lower.

Kept in runs/bench-steer: run again it carries on.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from measure import ROOT, Kept, progress, report

from nas.dominance import hypervolume
from nas.evaluate import EVALUATORS, Conditions, fit
from nas.evaluate.base import Fidelity
from nas.evaluate.scoring import network_scores
from nas.front import Limit
from nas.grammar import Derivation
from nas.plan import plan
from nas.search import Run, load, resume, search
from nas.search.steer import Answer, Steering
from nas.supernet import Space, chain
from nas.task import trivial_score
from nas.train import Recipe, Turn

NAMES = ("scenes-classify", "scenes-segment", "scenes-detect")
QUARTERS, BUDGETS = 4, 4
WAYS = ("held alike", "free", "alike", "rule", "alone")
Point = tuple[float, ...]  # of each task its metric on the test split


def free(space: Space, step: int, rng: random.Random) -> Turn:
    """Who is trained where features are not held alike."""
    return Turn((space.largest, space.smallest, space.draw(rng), space.draw(rng)))


class Comparison:
    """One seed of the comparison."""

    def __init__(self, words: argparse.Namespace, seed: int):
        self.words, self.seed = words, seed
        self.folder = ROOT / "runs" / "bench-steer" / f"{words.size}-{words.steps}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kept = Kept(self.folder / "kept.json")
        self.runs = {way: self._run(way) for way in ("held alike", "free")}
        self.steering = {way: Steering.load(run.folder) for way, run in self.runs.items()}
        self.tasks = self.runs["held alike"].tasks
        least, most = self.steering["held alike"].bounds["flops"]
        self.budgets = [least * (most / least) ** (i / BUDGETS) for i in range(1, BUDGETS + 1)]

    def _run(self, way: str) -> Run:
        """A search, carried on where it was; how long it took is kept."""
        folder = self.folder / way.replace(" ", "-")
        if not (folder / "run.toml").exists():
            supernet: dict[str, Any] = {"steps": self.words.steps, "batch": 32}
            if way == "free":
                supernet["strategy"] = f"{__file__}:free"
            size = "" if self.words.size == 32 else f"?size={self.words.size}"
            begun = time.process_time()
            search(
                "steered",
                [f"{name}{size}" for name in NAMES],
                out=folder,
                listener=progress,
                trials=self.words.trials,
                seed=self.seed,
                workers=1,
                supernet=supernet,
                trust_code=True,
            )
            self.kept(f"{way} seconds", lambda: time.process_time() - begun)
        run = load(folder, trust_code=True)
        return run if (folder / "steering.json").exists() else resume(folder, trust_code=True)

    def answers(self, way: str) -> Iterator[tuple[tuple[float, ...], int, Derivation]]:
        """What each preference and budget comes to by a way: preference, number of the budget."""
        run = self.runs["free" if way == "free" else "held alike"]
        known = self.steering["free" if way == "free" else "held alike"]
        for number, budget in enumerate(self.budgets):
            for shares in simplex(len(NAMES)):
                worth = dict(zip(known.scales, shares, strict=True))
                if way == "alike":
                    yield shares, number, self._scaled(run, budget)
                elif way == "rule":
                    yield shares, number, by_rule(known, worth, budget).derivation(run.grammar)
                else:
                    answer = known.answer(worth, [Limit("flops", budget)])
                    yield shares, number, answer.derivation(run.grammar)

    def _scaled(self, run: Run, budget: float) -> Derivation:
        members = chain(run.problem.space.largest)
        fitting = (m for m in members if plan(m, heads=self.tasks).flops <= budget)
        return max(fitting, key=lambda m: plan(m, heads=self.tasks).flops)

    def tested(self, way: str, derivation: Derivation) -> Point:
        """The metrics of a subnet on the test split."""
        run = self.runs["free" if way == "free" else "held alike"]

        def measured() -> list[float]:
            conditions = replace(run.problem.conditions(run.bank()), split="test")
            figures = EVALUATORS["shared"].measure(derivation, conditions).measurements
            return self._judged(figures)

        return tuple(self.kept(f"{run.folder.name} {derivation}", measured))

    def alone(self, derivation: Derivation) -> Point:
        """The same of a network of that architecture which is trained by itself."""

        def measured() -> list[float]:
            recipe = Recipe(batch=32, seed=self.seed).lasting(self.words.steps, self.tasks)
            conditions = Conditions(self.tasks, recipe, split="test")
            network = fit(derivation, conditions)
            fidelity = Fidelity(epochs=recipe.epochs)
            return self._judged(
                network_scores(network, conditions, evaluator="", fidelity=fidelity)
            )

        return tuple(self.kept(f"alone {derivation}", measured))

    def _judged(self, figures: Sequence[Any]) -> list[float]:
        values = {(m.task, m.name): m.value for m in figures}
        return [values[task.name, task.metric] for task in self.tasks]

    def floor(self) -> Point:
        return tuple(trivial_score(task, "test")[task.metric] for task in self.tasks)

    def facts(self, way: str) -> dict[str, float]:
        """A row of the table."""
        if way == "alone":
            even = (1 / len(NAMES),) * len(NAMES)
            known, run = self.steering["held alike"], self.runs["held alike"]
            worth = dict(zip(known.scales, even, strict=True))
            limits = [[Limit("flops", budget)] for budget in self.budgets]
            chosen = [known.answer(worth, limit).derivation(run.grammar) for limit in limits]
            points = [[self.alone(d)] for d in chosen]
            shared = [[self.tested("held alike", d)] for d in chosen]
            facts = {
                "volume": self._volume(points),
                "volume of the same, shared": self._volume(shared),
            }
            return facts | self._best(points)
        answers = list(self.answers(way))
        found = {(shares, number): self.tested(way, d) for shares, number, d in answers}
        points = [[p for (_, n), p in found.items() if n == i] for i in range(BUDGETS)]
        return {"volume": self._volume(points), **self._best(points), **self._monotone(found)}

    def _volume(self, points: Sequence[Sequence[Point]]) -> float:
        reference = [-value for value in self.floor()]
        return statistics.mean(
            hypervolume([[-v for v in point] for point in of_budget], reference)
            for of_budget in points
        )

    def _best(self, points: Sequence[Sequence[Point]]) -> dict[str, float]:
        """Of each task the best of every budget, the mean."""
        return {
            name: statistics.mean(max(p[i] for p in of_budget) for of_budget in points)
            for i, name in enumerate(NAMES)
        }

    def _monotone(self, found: Mapping[tuple[Point, int], Point]) -> dict[str, float]:
        floor, kept, more = self.floor(), list[bool](), list[bool]()
        for (a, n), (b, m) in product(found, found):
            if n == m:
                kept += [
                    found[b, n][i] >= found[a, n][i] - 1e-9
                    for i in range(len(a))
                    if b[i] > a[i] and alike(a, b, i)
                ]
            elif m == n + 1 and a == b:
                totals = [
                    sum(w * (v - f) for w, v, f in zip(a, found[a, k], floor, strict=True))
                    for k in (n, m)
                ]
                more.append(totals[1] >= totals[0] - 1e-9)
        return {"monotone in worth": statistics.mean(kept), "in budget": statistics.mean(more)}


def alike(a: Sequence[float], b: Sequence[float], but: int) -> bool:
    """Whether two preferences hold the others in the same proportion."""
    rest = [[v for i, v in enumerate(p) if i != but] for p in (a, b)]
    sums = [sum(values) for values in rest]
    if not all(sums):
        return False
    return all(math.isclose(x / sums[0], y / sums[1]) for x, y in zip(*rest, strict=True))


def simplex(tasks: int) -> Iterator[tuple[float, ...]]:
    for parts in product(range(QUARTERS + 1), repeat=tasks):
        if sum(parts) == QUARTERS:
            yield tuple(part / QUARTERS for part in parts)


def by_rule(known: Steering, worth: Mapping[str, float], budget: float) -> Answer:
    """Each decoder is the largest that takes at most its task's share of half the budget, or the
    smallest; then the encoder is the best that fits, by the mean of all tasks."""
    chosen = list[tuple[float, Any]]()
    for encoder in known.encoders:
        decoders = {}
        for task, own in encoder.decoders.items():
            ordered = sorted(own, key=lambda sized: sized.costs["flops"])
            fitting = [s for s in ordered if s.costs["flops"] <= worth[task] * budget / 2]
            decoders[task] = (fitting or ordered[:1])[-1:]
        flops = encoder.costs["flops"] + sum(d[0].costs["flops"] for d in decoders.values())
        total = sum(known.scales[task].share(d[0].score) for task, d in decoders.items())
        if flops <= budget:
            chosen.append((total, replace(encoder, decoders=decoders)))
    best = max(chosen, key=lambda pair: pair[0])[1] if chosen else None
    return replace(known, encoders=(best,) if best else known.encoders).answer(
        worth, [Limit("flops", budget)]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    words = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in words.ways}
    seconds = list[float]()
    for seed in range(words.seeds):
        comparison = Comparison(words, seed)
        for way in words.ways:
            rows[way].append(comparison.facts(way))
            print(seed, way, rows[way][-1], flush=True)
        known = comparison.steering["held alike"]
        for shares in simplex(len(NAMES)):
            begun = time.perf_counter()
            again = Steering.load(comparison.runs["held alike"].folder)
            again.answer(
                dict(zip(known.scales, shares, strict=True)),
                [Limit("flops", comparison.budgets[1])],
            )
            seconds.append(time.perf_counter() - begun)
    table = [
        {
            "way": way,
            **{name: statistics.mean(facts[name] for facts in every) for name in every[0]},
            "± volume": statistics.stdev([f["volume"] for f in every]) if len(every) > 1 else 0.0,
        }
        for way, every in rows.items()
    ]
    volumes = {str(row["way"]): float(row["volume"]) for row in table}
    report(
        "steer",
        __doc__,
        aim="a larger volume than free and than scaling alike; every pair monotone; under 1 s",
        figure="; ".join(f"{way} {volume:.4f}" for way, volume in volumes.items())
        + f"; an answer {1e3 * statistics.median(seconds):.0f} ms",
        rows=table,
        seeds=list(range(words.seeds)),
        facts=vars(words) | {"answer_ms": 1e3 * statistics.median(seconds)},
    )


if __name__ == "__main__":
    main()
