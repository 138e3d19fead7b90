"""What batch statistics of its own bring a subnet of shared weights: ranks and accuracy.

The banks of ranks.py (single path) and its architectures. Without recalibration a supernet holds
running means and variances that all subnets share: here averaged over 500 random subnets, a batch
of 64 each, with momentum 0.1, on the trained weights. With it each subnet has statistics of its
own, over so many training images. τ with training from scratch, the mean of 3 supernets.
"""

from __future__ import annotations

import json
import random
import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import ranks
from measure import report
from ranking import Job, architectures, as_scored, begin, compute, fashion, scored

if TYPE_CHECKING:
    from nas.supernet import Bank, Space
    from nas.supernet.statistics import Statistics
    from nas.task import Task

SPACE, SAMPLES, SUBNETS, BATCH, MOMENTUM = "mobile", (32, 64, 128, 512, 2048), 500, 64, 0.1


def main(data: str | None) -> None:
    from nas.trust.table import rows

    fashion(data)
    jobs = [Job(__file__, f"{SPACE}/{seed}") for seed in ranks.SEEDS]
    compute(net.job for net in ranks.single_paths(SPACE))
    compute(jobs)
    found = []
    for name in ["shared statistics", *map(str, SAMPLES)]:
        runs = [[one for one in job.figures() if one["evaluator"] == name] for job in jobs]
        tables = [
            rows(ranks.calibration(SPACE, [as_scored(one) for one in run]), "fashion")
            for run in runs
        ]
        taus = {
            by: statistics.mean(
                row.tau.value
                for each in tables
                for row in each
                if (row.evaluator, row.score) == (name, by)
            )
            for by in ("accuracy", "nll")
        }
        found.append(
            {
                "statistics": name if name == "shared statistics" else f"own, {name} images",
                "τ by accuracy": taus["accuracy"],
                "τ by nll": taus["nll"],
                "mean accuracy": statistics.mean(o["values"]["accuracy"] for r in runs for o in r),
                "CPU ms": 1e3 * statistics.mean(one["cpu_s"] for run in runs for one in run),
            }
        )
    shared, own = found[0], found[SAMPLES.index(512) + 1]
    report(
        "recalibration",
        __doc__,
        rows=found,
        seeds=ranks.SEEDS,
        aim="none: what it brings",
        figure=f"{SPACE}: τ by accuracy {shared['τ by accuracy']:.2f} without, "
        f"{own['τ by accuracy']:.2f} with 512 images; mean accuracy "
        f"{shared['mean accuracy']:.3f} and {own['mean accuracy']:.3f}",
    )


def one(job: Job) -> None:
    """Every architecture scored on one bank, with each kind of statistics."""
    import torch

    import nas
    from nas.evaluate import EVALUATORS, Conditions
    from nas.supernet import Space

    torch.set_num_threads(1)
    task, seed = fashion(None), int(job.name.split("/")[1])
    grammar = nas.Grammar.load(SPACE)
    bank = ranks.loaded(ranks.Supernet(SPACE, "single-path", "flops", seed), task)
    common = running(bank, Space(grammar, task.input), task)
    drawn = architectures(grammar, task)
    found = [
        scored(
            str(n),
            str(d),
            0,
            partial(EVALUATORS["shared"].measure, d, Conditions([task], bank=bank, samples=n)),
        )
        for n in SAMPLES
        for d in drawn
    ]
    found += [
        scored("shared statistics", str(d), 0, lambda: with_common(bank, d, task, common))  # noqa: B023
        for d in drawn
    ]
    job.path.write_text(json.dumps(found) + "\n", encoding="utf-8")


def running(bank: Bank, space: Space, task: Task) -> dict[str, Any]:
    """Running statistics by slot that all subnets share, each as long as the widest."""
    import torch

    from nas.plan import plan
    from nas.supernet import batch_statistics

    x, common = task.splits().train.x, dict[str, Any]()
    for number in range(SUBNETS):
        planned = plan(space.draw(random.Random(f"running/{number}")), heads=[task])
        at = torch.randperm(len(x), generator=torch.Generator().manual_seed(number))[:BATCH]
        own = batch_statistics(planned, bank.views(planned), x[at])
        for step, values in zip(planned.steps, own, strict=True):
            for name, value in values.items():
                key = f"{step.slot}/{name}"
                kept = common.get(key, value)
                if len(kept) < len(value):
                    kept = torch.cat([kept, value[len(kept) :]])
                kept = kept.clone()
                kept[: len(value)] += MOMENTUM * (value - kept[: len(value)])
                common[key] = kept
    return common


def with_common(bank: Bank, derivation: Any, task: Task, common: dict[str, Any]) -> Any:
    """A subnet's scores with its part of the shared statistics."""
    import torch

    from nas.evaluate import Conditions, Evaluated, Fidelity
    from nas.evaluate.scoring import scores
    from nas.plan import plan

    planned = plan(derivation, heads=[task])
    own: Statistics = [
        {
            name: common.get(
                f"{step.slot}/{name}", torch.full((width,), float(name.endswith("var")))
            )[:width]
            for name in step.operator.statistics
        }
        for step in planned.steps
        for width in [step.shapes[0].channels]
    ]
    tensors = [{**v, **s} for v, s in zip(bank.views(planned), own, strict=True)]
    conditions = Conditions([task], bank=bank)
    return Evaluated(scores(planned, tensors, conditions, evaluator="shared", fidelity=Fidelity()))


if __name__ == "__main__":
    begin(__doc__, main, one)
