"""What weight sharing costs: a supernet and 500 evaluations against 500 trainings from scratch.

The supernets (single path) and the trainings of ranks.py, in CPU seconds on one thread; an
evaluation is 512 images for batch statistics and 4,000 of validation, and its parts are timed on
the same architectures. Memory is the bank's, and what the process took at most beyond its start.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Any

import ranks
from measure import report
from ranking import Job, architectures, begin, compute, fashion, truth

EVALUATIONS = 500


def main(data: str | None, spaces: Sequence[str]) -> None:
    fashion(data)
    jobs = {space: Job(__file__, space) for space in spaces}
    compute(net.job for space in spaces for net in ranks.single_paths(space))
    compute(jobs.values())
    rows = [row(space, job.figures()) for space, job in jobs.items()]
    report(
        "sharing",
        __doc__,
        rows=rows,
        seeds=ranks.SEEDS,
        aim="none: what it costs",
        figure="; ".join(
            f"{row['space']}: {EVALUATIONS} evaluations and the supernet take "
            f"{row['shared / alone']:.2f} of the time of training each; it pays from "
            f"{row['pays from']} evaluations on; {row['evaluations a second']:.1f} evaluations a "
            f"second, {row['of them statistics']:.0%} of the time for batch statistics"
            for row in rows
        ),
    )


def row(space: str, timed: dict[str, Any]) -> dict[str, Any]:
    alone = statistics.mean(run["cpu_s"] for one in truth(space) for run in one["runs"])
    training = statistics.mean(net.job.figures()["cpu_s"] for net in ranks.single_paths(space))
    each = timed["statistics_s"] + timed["predictions_s"]
    return {
        "space": space,
        "supernet s": training,
        "evaluation s": each,
        "alone s": alone,
        "shared / alone": (training + EVALUATIONS * each) / (EVALUATIONS * alone),
        "pays from": round(training / (alone - each)),
        "evaluations a second": 1 / each,
        "of them statistics": timed["statistics_s"] / each,
        "bank MB": timed["bank_mb"],
        "process MB": timed["process_mb"],
    }


def one(job: Job) -> None:
    """The parts of an evaluation timed, and memory."""
    import torch

    import nas
    from nas.evaluate import statistics_inputs
    from nas.evaluate.scoring import predict
    from nas.plan import plan
    from nas.supernet import batch_statistics

    torch.set_num_threads(1)
    task = fashion(None)
    valid, x = task.splits().valid.x, statistics_inputs([task], 512, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bank = ranks.loaded(ranks.single_paths(job.name)[0], task)
    spent = {"statistics_s": 0.0, "predictions_s": 0.0}
    drawn = architectures(nas.Grammar.load(job.name), task)
    for derivation in drawn:
        begun = time.process_time()
        planned = plan(derivation, heads=[task])
        own = batch_statistics(planned, bank.views(planned), x)
        middle = time.process_time()
        tensors = [{**v, **s} for v, s in zip(bank.views(planned), own, strict=True)]
        predict(planned, tensors, valid)
        spent["statistics_s"] += (middle - begun) / len(drawn)
        spent["predictions_s"] += (time.process_time() - middle) / len(drawn)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {**spent, "bank_mb": bank.size_mb, "process_mb": (most - before) / 1e3}
    job.path.write_text(json.dumps(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    begin(__doc__, main, one, spaces=True)
