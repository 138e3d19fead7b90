"""With successive halving a front is reached in fewer epochs of training.

`python benchmarks/halving.py --tables FOLDER`. NAS-Bench-201 (Dong and Yang 2020) with latencies of
HW-NAS-Bench (Li et al. 2021), as in fronts.py: accuracy after 12 and after 200 epochs is known, so
nothing is trained. The hypervolume of networks that were trained for 200 epochs, as a share of the
whole table's, after so many epochs of training in all: every candidate trained to the end, and one
in 17 of those that were trained for 12. With random draws and with the predicted sampler.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from measure import report
from tables import OPERATIONS, Table, cells

from nas.archive import Archive, Measurement
from nas.dominance import hypervolume
from nas.front import Objective
from nas.grammar import Derivation
from nas.search.columns import Aim
from nas.search.halving import HalvingPool, rungs
from nas.search.job import Job, Outcome
from nas.search.parts import Standalone
from nas.search.propose import Proposer

SEEDS, BATCH, AT = range(6), 20, (2_500, 5_000, 10_000)
WAYS = {
    "to the end": Standalone(epochs=204, rungs=1),
    "halving": Standalone(epochs=204, rungs=2, reduction=17),
}
OBJECTIVES = (Objective("accuracy", True), Objective("latency_ms", False))


class Looked:
    """A pool that looks up what training would come to, and adds up its epochs."""

    workers = parallel = 1

    def __init__(self, table: Table, early: dict[tuple[int, ...], float], longest: float):
        self.table, self.early, self.longest = table, early, longest
        self.derivations: dict[str, Derivation] = {}
        self.spent: list[tuple[float, Derivation]] = []  # epochs up to the end of each
        self.epochs = 0.0

    def evaluate(self, jobs: Sequence[Job], **_: Any) -> Iterator[Outcome]:
        for job in jobs:
            derivation = self.derivations[job.derivation]
            columns = self.table.columns(derivation)
            epochs = job.epochs or self.longest
            self.epochs += epochs
            if epochs < self.longest:
                indices = tuple(chosen.index for chosen in derivation.choices)
                columns["accuracy"] = self.early[indices]
            else:
                self.spent.append((self.epochs, derivation))
            figures = tuple(Measurement(name, value) for name, value in columns.items())
            yield Outcome(job.number, figures, "", 0.0)

    def close(self) -> None:
        pass


def search(table: Table, early: Any, way: str, sampler: str, seed: int) -> list[float]:
    """The share of the table's hypervolume at each number of epochs."""
    given = WAYS[way]
    proposer = Proposer(table.space, sampler, [Aim(OBJECTIVES)], seed=seed, population=BATCH)
    looked, told = Looked(table, early, rungs(given)[-1]), dict[str, dict[str, float]]()
    with tempfile.TemporaryDirectory() as folder, Archive.create(Path(folder)) as archive:
        pool: Any = (
            HalvingPool(looked, archive, given, [Aim(OBJECTIVES)]) if given.rungs > 1 else looked
        )
        while looked.epochs < max(AT):
            proposals = [proposer.ask() for _ in range(BATCH)]
            texts = [str(proposal.derivation) for proposal in proposals]
            looked.derivations |= dict(zip(texts, (p.derivation for p in proposals), strict=True))
            fresh = [text for text in dict.fromkeys(texts) if text not in told]
            jobs = [Job(len(told) + i, text, "standalone", 0) for i, text in enumerate(fresh)]
            numbers = {job.number: job.derivation for job in jobs}
            for outcome in pool.evaluate(jobs):
                first: dict[str, float] = {}
                for measurement in outcome.measurements:  # the first rung, on which all were
                    first.setdefault(measurement.name, measurement.value)
                told[numbers[outcome.number]] = first
            for proposal, text in zip(proposals, texts, strict=True):
                proposer.tell(proposal, told[text])
    volumes = []
    for epochs in AT:
        ended = [derivation for spent, derivation in looked.spent if spent <= epochs]
        volumes.append(hypervolume([table.losses(d) for d in ended], (1.0, 1.0)) / table.whole)
    return volumes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--tables", type=Path, required=True, help="A folder of the tables, as CSV."
    )
    folder = parser.parse_args().tables
    table, rows = cells(folder), list[dict[str, Any]]()
    frame = pd.read_csv(folder / "nas-bench-201.csv.gz")
    early = {
        tuple(
            OPERATIONS.index(edge.partition("~")[0])
            for edge in cell.replace("+", "").split("|")
            if edge
        ): float(accuracy) / 100
        for cell, accuracy in zip(frame["cell"], frame["cifar10_valid_12ep"], strict=True)
    }
    for sampler in ("random", "predicted"):
        for way in WAYS:
            runs = [search(table, early, way, sampler, seed) for seed in SEEDS]
            means = zip(AT, map(statistics.mean, zip(*runs, strict=True)), strict=True)
            rows.append({"sampler": sampler, "way": way, **{f"{n} epochs": v for n, v in means}})
    report(
        "halving",
        __doc__,
        aim="ahead of training every candidate to the end, at every number of epochs",
        figure="; ".join(
            f"{row['sampler']}, {row['way']} "
            + ", ".join(f"{row[f'{n} epochs']:.3f} at {n}" for n in AT)
            for row in rows
        ),
        rows=rows,
        seeds=list(SEEDS),
    )


if __name__ == "__main__":
    main()
