"""How well subnets of shared weights rank architectures, by the strategy that trained them.

64 architectures of a space, trained from scratch on reduced Fashion-MNIST with two seeds (see
truth.py), ranked by supernets of three seeds each: validation accuracy and NLL against the mean
test accuracy from scratch. Strategies are compared at equal forward FLOPs and at equal CPU time of
training. Subnets of single-path and spread are scored once more when fine-tuned, each alone for 20
steps. Beside them: counts, synflow, 80 steps from scratch, and the ceiling, which is one
stand-alone seed against the other. τ is Kendall's, the mean over the supernets' seeds, with a 90 %
interval by bootstrap over the architectures; differences are on the same draws.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from measure import report
from ranking import SPACES, Job, architectures, as_scored, begin, compute, fashion, scored, truth

if TYPE_CHECKING:
    from nas.search.settings import Settings
    from nas.supernet import Bank, Space
    from nas.task import Task
    from nas.trust.table import Calibration, Row, Scored

SEEDS = (10, 11, 12)  # others than those of the ground truth: their batches come in other orders
BATCH, LR, SHORT = 64, 0.15, 80
STEPS = {"mobile": 3000, "fbnetv5-small": 1000}  # of single-path, which sets what all may spend
STRATEGIES = ("single-path", "spread", "fair", "sandwich")
BUDGETS = {"flops": "equal FLOPs", "time": "equal CPU time"}  # in common with single-path
FINETUNED = ("single-path", "spread")  # also scored after training on alone
COUNTS, PROXIES = ("flops", "params"), ("synflow", "short")


class Supernet(NamedTuple):
    """One training of shared weights, and what its job is called. `budget`: one of BUDGETS, or a
    number of steps."""

    space: str
    strategy: str
    budget: str
    seed: int
    nested: bool = True

    @property
    def job(self) -> Job:
        plain = () if self.nested else ("plain",)
        return Job(
            __file__, "/".join([self.space, self.strategy, self.budget, str(self.seed), *plain])
        )

    @property
    def finetuned(self) -> Job | None:
        """The job of scoring its subnets trained on alone, where that is done."""
        if self.strategy not in FINETUNED or self.budget != "flops" or not self.nested:
            return None
        return Job(__file__, f"{self.job.name}/finetuned")

    @staticmethod
    def of(name: str) -> Supernet:
        space, strategy, budget, seed, *plain = name.split("/")
        return Supernet(space, strategy, budget, int(seed), not plain)


def single_paths(space: str) -> list[Supernet]:
    """The supernets that other benchmarks look into, one a seed."""
    return [Supernet(space, "single-path", "flops", seed) for seed in SEEDS]


def supernets(space: str) -> Iterator[Supernet]:
    """All of a space."""
    for seed in SEEDS:
        for strategy in STRATEGIES:
            for budget in ["flops"] if strategy == "single-path" else BUDGETS:
                yield Supernet(space, strategy, budget, seed)
        if space == "mobile":
            yield Supernet(space, "single-path", "flops", seed, nested=False)


def main(data: str | None, spaces: Sequence[str]) -> None:
    fashion(data)
    for space in spaces:
        compute([Job(__file__, f"{space}/proxies"), *(one.job for one in supernets(space))])
        compute(one.finetuned for one in supernets(space) if one.finetuned)
        tell(space)


def tell(space: str) -> None:
    """Write a space's table; the best of those that were trained by their τ."""
    found = table(space)
    best = max((r for r in found if r["trained"]), key=lambda r: r["τ"])
    alone = {r["evaluator"]: r["τ"] for r in found if r["evaluator"] in COUNTS}
    seed = next(r for r in found if (r["evaluator"], r["by"]) == ("standalone", "accuracy"))
    report(
        "ranks",
        __doc__,
        rows=[{k: v for k, v in r.items() if k != "trained"} for r in found],
        seeds=SEEDS,
        space=space,
        aim="τ at least 0.8 of the ceiling, partial τ given FLOPs and params 0.4",
        figure=f"{space}: best is {best['evaluator']} by {best['by']}, τ {best['τ']:.2f} of a "
        f"ceiling of {seed['τ']:.2f}, given FLOPs and params {best['given both']:.2f} of a ceiling "
        f"of {seed['given both']:.2f}; "
        f"alone these two come to {alone['flops']:.2f} and {alone['params']:.2f}",
    )


def table(space: str) -> list[dict[str, Any]]:
    """A row for each evaluator and score of a space; of supernets the mean over their seeds."""
    from nas.trust.table import rows

    found, trained = [as_scored(one) for one in Job(__file__, f"{space}/proxies").figures()], set()
    for one in supernets(space):
        name = f"{one.strategy}, {BUDGETS[one.budget]}"
        name += "" if one.nested else ", plain beginning"
        trained.add(name)
        scores = one.job.figures()["scored"]
        found += [replace(as_scored(score, name), seed=one.seed) for score in scores]
        if one.finetuned:
            trained.add(f"{name}, fine-tuned")
            found += [
                replace(as_scored(score, f"{name}, fine-tuned"), seed=one.seed)
                for score in one.finetuned.figures()
            ]
    whole = calibration(space, found)
    return [
        {
            "space": space,
            "evaluator": row.evaluator,
            "by": row.score,
            "τ": known(row.tau.value),
            "interval": f"{row.tau.low:.2f} to {row.tau.high:.2f}",
            "of seeds": " ".join(f"{one:.2f}" for one in by_seed(whole, row)),
            "given FLOPs": known(row.given_flops.value),
            "given params": known(row.given_params.value),
            "given both": known(row.given_both.value),
            "less FLOPs": str(row.over_flops),
            "less params": str(row.over_params),
            "regret@1": row.regret_1.value,
            "regret@5": row.regret_5.value,
            "CPU s": row.cpu_s,
            "trained": row.evaluator in trained,
        }
        for row in rows(whole, "fashion")
    ]


def by_seed(whole: Calibration, row: Row) -> list[float]:
    """τ of each of an evaluator's seeds, where there are several."""
    from nas.trust.statistics import tau

    truth = whole.truth("fashion").mean(1)
    columns = whole.scores("fashion", row.evaluator, row.score).T
    several = len(columns) > 1 and row.evaluator != "standalone"
    return [tau(column, truth) for column in columns] if several else []


def known(value: float) -> float | None:
    """A number as JSON has it: none where it is not defined."""
    return None if value != value else value


def calibration(space: str, more: Sequence[Scored] = ()) -> Calibration:
    """The ground truth of a space, its counts, and more scores."""
    from nas.trust.table import Calibration

    alone = [
        as_scored(
            {
                "evaluator": "standalone",
                "derivation": one["derivation"],
                "seed": run["seed"],
                "values": {"accuracy": run["test_accuracy"], "nll": run["test_nll"]},
                "seconds": run["seconds"],
                "cpu_s": run["cpu_s"],
            }
        )
        for one in truth(space)
        for run in one["runs"]
    ]
    counts = [
        as_scored(
            {
                "evaluator": name,
                "derivation": one["derivation"],
                "seed": 0,
                "values": {name: one[name]},
                "seconds": 0.0,
                "cpu_s": 0.0,
            }
        )
        for one in truth(space)
        for name in COUNTS
    ]
    return Calibration.of([*alone, *counts, *more], {"fashion": "accuracy"}, {})


def settings_of(one: Supernet, task: Task) -> Settings:
    from nas.search.settings import Settings

    return Settings.of(
        {
            "space": one.space,
            "tasks": [task.spec],
            "seed": one.seed,
            "supernet": {"lr": LR, "batch": BATCH, "nested": one.nested},
        }
    )


def trained(one: Supernet, task: Task) -> tuple[Any, dict[str, float]]:
    """A supernet's bank after its training, and its steps and CPU seconds."""
    import nas
    from nas.search.problem import Problem
    from nas.supernet import Space, strategy_of
    from nas.train import Trainer, train

    grammar, settings = nas.Grammar.load(one.space), settings_of(one, task)
    space, steps = Space(grammar, task.input), STEPS[one.space]

    def made() -> Any:
        return Problem(settings, grammar, (task,)).bank()

    if one.budget.isdigit():
        steps = int(one.budget)
    elif one.budget == "flops":
        whole = steps * _flops(space, "single-path", task)
        steps = round(whole / _flops(space, one.strategy, task))
    else:
        recipe = settings.supernet.recipe(one.seed)
        each = {
            name: _step_s(Trainer(made(), [task], recipe, 1000), strategy_of(name, space, 1000))
            for name in ("single-path", one.strategy)
        }
        steps = round(steps * each["single-path"] / each[one.strategy])
    bank, turn = made(), strategy_of(one.strategy, space, steps)
    trainer = Trainer(bank, [task], settings.supernet.recipe(one.seed), steps)

    def on_step(done: int, value: float) -> None:
        bank.version = done

    begun = time.process_time()
    train(trainer, lambda n: turn(n, random.Random(f"{one.seed}/supernet/{n}")), on_step=on_step)
    return bank, {"steps": steps, "cpu_s": time.process_time() - begun}


def loaded(one: Supernet, task: Task) -> Bank:
    """The bank that a supernet's training left."""
    import nas
    from nas.search.problem import Problem
    from nas.supernet.bank_file import load_bank

    grammar, settings = nas.Grammar.load(one.space), settings_of(one, task)
    bank: Bank = Problem(settings, grammar, (task,)).bank(trained=True)
    load_bank(bank, one.job.path.with_suffix(".safetensors"))
    return bank


def _flops(space: Space, strategy: str, task: Task) -> float:
    """Forward FLOPs of a step for one input, on average."""
    from nas.plan import plan
    from nas.supernet import strategy_of

    turn = strategy_of(strategy, space, 200)
    drawn = [turn(n, random.Random(f"flops/{n}")).derivations for n in range(200)]
    return statistics.mean(sum(plan(d, heads=[task]).flops for d in each) for each in drawn)


def _step_s(trainer: Any, turn: Any, steps: int = 40) -> float:
    """CPU seconds of a training step, on average."""
    trainer.step(0, turn(0, random.Random("0")))
    begun = time.process_time()
    for n in range(1, 1 + steps):
        trainer.step(n, turn(n, random.Random(f"time/{n}")))
    return (time.process_time() - begun) / steps


def one(job: Job) -> None:
    """A supernet trained and its bank's scores of every architecture, or the proxies' scores."""
    import torch

    import nas
    from nas.evaluate import EVALUATORS, Conditions
    from nas.search.problem import Problem
    from nas.supernet.bank_file import save_bank

    torch.set_num_threads(1)
    task, facts = fashion(None), {}
    space = job.name.split("/")[0]
    grammar = nas.Grammar.load(space)
    if job.name.endswith("/proxies"):
        names = ["synflow", "short"]
        conditions = Conditions([task], SPACES[space].recipe(100), short_steps=SHORT)
    elif job.name.endswith("/finetuned"):
        net = Supernet.of(job.name.removesuffix("/finetuned"))
        names, problem = ["finetuned"], Problem(settings_of(net, task), grammar, (task,))
        conditions = problem.conditions(loaded(net, task))
    else:
        bank, facts = trained(Supernet.of(job.name), task)
        save_bank(bank, job.path.with_suffix(".safetensors"))
        names, conditions = ["shared"], Conditions([task], bank=bank)
    found = [
        scored(name, str(d), 0, partial(EVALUATORS[name].measure, d, conditions))
        for name in names
        for d in architectures(grammar, task)
    ]
    told: Any = {**facts, "scored": found} if facts else found
    job.path.write_text(json.dumps(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    begin(__doc__, main, one, spaces=True)
