"""How the ranking of subnets goes on as their supernet is trained for longer.

Supernets of ranks.py trained by `spread`, each from its own beginning to the end of its own
schedule, with three seeds: τ by NLL with training from scratch, partial τ given FLOPs and params,
and the accuracy of the 64 subnets on validation, its mean and standard deviation. The last row of a
space is training from scratch: τ of one seed with the other, and accuracy on the test split.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ranks
from measure import report
from ranking import as_scored, begin, compute, fashion, truth

STRATEGY, SCORE, ALONE = "spread", "nll", "from scratch"
STEPS = {"mobile": (750, 1500, 3000), "fbnetv5-small": (250, 500, 1000, 2000, 4000)}


def main(data: str | None, spaces: Sequence[str]) -> None:
    fashion(data)
    compute(net.job for space in spaces for net in nets(space))
    rows = [row for space in spaces for row in table(space)]
    report(
        "curve",
        __doc__,
        rows=rows,
        seeds=ranks.SEEDS,
        aim="none: what longer training brings",
        figure="; ".join(
            f"{space}: τ "
            + ", ".join(
                f"{row['τ']:.2f} (accuracy {row['accuracy']:.3f} ± {row['sd']:.3f}) "
                + (f"after {row['training']} steps" if row["training"] != ALONE else ALONE)
                for row in rows
                if row["space"] == space
            )
            for space in spaces
        ),
    )


def nets(space: str) -> list[ranks.Supernet]:
    return [
        ranks.Supernet(space, STRATEGY, str(steps), seed)
        for steps in STEPS[space]
        for seed in ranks.SEEDS
    ]


def table(space: str) -> list[dict[str, Any]]:
    """A row for each number of steps, the mean over its seeds, and one for training alone."""
    from nas.trust.table import rows

    told = {net: net.job.figures() for net in nets(space)}
    whole = ranks.calibration(
        space,
        [
            replace(as_scored(score, net.budget), seed=net.seed)
            for net, figures in told.items()
            for score in figures["scored"]
        ],
    )
    by = {(row.evaluator, row.score): row for row in rows(whole, "fashion")}
    found = []
    for steps in map(str, STEPS[space]):
        mine = [figures for net, figures in told.items() if net.budget == steps]
        row = by[steps, SCORE]
        found.append(
            {
                "space": space,
                "training": steps,
                **agreement(row),
                "of seeds": " ".join(f"{one:.2f}" for one in ranks.by_seed(whole, row)),
                **level(
                    [[score["values"]["accuracy"] for score in each["scored"]] for each in mine]
                ),
                "CPU s": statistics.mean(each["cpu_s"] for each in mine),
            }
        )
    alone = [one["runs"] for one in truth(space)]
    found.append(
        {
            "space": space,
            "training": ALONE,
            **agreement(by["standalone", "accuracy"]),
            **level([[run["test_accuracy"] for run in seed] for seed in zip(*alone, strict=True)]),
            "CPU s": statistics.mean(run["cpu_s"] for runs in alone for run in runs),
        }
    )
    return found


def agreement(row: Any) -> dict[str, Any]:
    return {
        "τ": row.tau.value,
        "interval": f"{row.tau.low:.2f} to {row.tau.high:.2f}",
        "given both": row.given_both.value,
    }


def level(by_seed: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean and standard deviation of architectures' accuracies, averaged over the seeds."""
    return {
        "accuracy": statistics.mean(map(statistics.mean, by_seed)),
        "sd": statistics.mean(map(statistics.pstdev, by_seed)),
    }


if __name__ == "__main__":
    begin(__doc__, main, ranks.one, spaces=True)
