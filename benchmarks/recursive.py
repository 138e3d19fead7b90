"""How well shared weights rank the networks of a recursive grammar, by what shares a slot.

32 random networks of einspace (reduced Fashion-MNIST; at most 1 MFLOPs, 100,000 parameters, 50,000
activations, 8 to 60 operators), trained from scratch for 4 epochs with two seeds; three banks each
trained on random networks for STEPS steps (those that a bank of 8 GB has room for), with a slot for
each operator at each stage or for each operator alone; and 80 steps from scratch. τ with the mean
test accuracy from scratch, the mean over the banks, with 90 % intervals.
"""

from __future__ import annotations

import json
import random
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from measure import Kept, report
from ranking import Job, as_scored, begin, compute, fashion, scored

if TYPE_CHECKING:
    from nas.grammar import Derivation
    from nas.supernet import Space
    from nas.task import Task
    from nas.train import Recipe

NETWORKS, SEEDS, STEPS, SHORT, POLICIES = 32, (0, 1), 2000, 80, ("stage", "operator")
BANKS, BANK_MB = (10, 11, 12), 8_000  # seeds of the banks


def main(data: str | None) -> None:
    from nas.trust.table import Calibration, ceiling, rows

    fashion(data)
    alone = [Job(__file__, f"alone/{seed}") for seed in SEEDS]
    others = [Job(__file__, f"{policy}/{seed}") for policy in POLICIES for seed in BANKS]
    others.append(Job(__file__, "proxies"))
    compute([*alone, *others])
    found = [as_scored(one) for job in [*alone, *others] for one in job.figures()]
    calibration = Calibration.of(found, {"fashion": "accuracy"}, {})
    table = [
        {
            "evaluator": row.evaluator,
            "by": row.score,
            "τ": row.tau.value,
            "interval": f"{row.tau.low:.2f} to {row.tau.high:.2f}",
            "given FLOPs": row.given_flops.value,
            "given params": row.given_params.value,
            "CPU s": row.cpu_s,
        }
        for row in rows(calibration, "fashion")
    ]
    named = {(row["evaluator"], row["by"]): row["τ"] for row in table}
    report(
        "recursive",
        __doc__,
        rows=table,
        seeds=SEEDS,
        aim="none: whatever it says",
        figure="τ by NLL: "
        + ", ".join(f"{name} {named[name, 'nll']:.2f}" for name in [*POLICIES, "short"])
        + f"; the ceiling is {ceiling(calibration, 'fashion').value:.2f}",
    )


def space_of(task: Task) -> Space:
    import nas
    from nas.supernet import Space

    limits = nas.Limits(terminals=60, params=100_000, flops=1_000_000, activations=50_000)
    return Space(nas.Grammar.load("einspace"), task.input, limits, (8, 60))


def networks(task: Task) -> list[Derivation]:
    space = space_of(task)
    return [space.draw(random.Random(f"recursive/{n}")) for n in range(NETWORKS)]


def recipe(seed: int) -> Recipe:
    from nas.train import Recipe

    return Recipe(epochs=4, lr=0.05, batch=64, label_smoothing=0.0, seed=seed)


def one(job: Job) -> None:
    import torch

    torch.set_num_threads(1)
    task, (kind, _, which) = fashion(None), job.name.partition("/")
    if kind == "alone":
        found = alone(task, int(which), job)
    else:
        found = on_bank(task, kind, int(which)) if kind in POLICIES else proxies(task)
    job.path.write_text(json.dumps(found) + "\n", encoding="utf-8")


def alone(task: Task, seed: int, job: Job) -> list[dict[str, Any]]:
    """Test scores from scratch, each kept at once."""
    from nas.evaluate import EVALUATORS, Conditions

    kept = Kept(job.path.with_suffix(".part"))

    def trained(network: Derivation) -> dict[str, Any]:
        conditions = Conditions([task], recipe(seed), split="test")
        measure = partial(EVALUATORS["standalone"].measure, network, conditions)
        return scored("standalone", str(network), seed, measure)

    return [kept(str(network), partial(trained, network)) for network in networks(task)]


def proxies(task: Task) -> list[dict[str, Any]]:
    from nas.evaluate import EVALUATORS, Conditions

    conditions = Conditions([task], recipe(100), short_steps=SHORT)
    return [
        scored(name, str(network), 0, partial(EVALUATORS[name].measure, network, conditions))
        for name in ("flops", "params", "short")
        for network in networks(task)
    ]


def on_bank(task: Task, policy: str, seed: int) -> list[dict[str, Any]]:
    """Scores on a bank that shares weights by a policy, trained on random networks."""
    from nas.evaluate import EVALUATORS, Conditions
    from nas.plan import plan
    from nas.supernet import Bank
    from nas.train import Recipe, Trainer, Turn, train

    space = space_of(task)
    bank = Bank({}, grows=True, share=policy, seed=seed, memory_mb=BANK_MB)
    given = Recipe(lr=0.05, weight_decay=1e-4, batch=64, label_smoothing=0.0, seed=seed)

    def turn(step: int) -> Turn:
        draws = (random.Random(f"{seed}/supernet/{step}" + again * "/again") for again in count())
        drawn = (space.draw(rng) for rng in draws)
        return Turn((next(one for one in drawn if bank.fits([plan(one, heads=[task])])),))

    train(Trainer(bank, [task], given, STEPS), turn)
    bank.version = STEPS
    measure, conditions = EVALUATORS["shared"].measure, Conditions([task], bank=bank)
    return [
        scored(policy, str(network), seed, partial(measure, network, conditions))
        for network in networks(task)
    ]


if __name__ == "__main__":
    begin(__doc__, main, one)
