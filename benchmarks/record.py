"""Proposing a trial and recording it durably costs little beyond the sampler's own time.

200 trials of `mobile` for digits with the default objectives, in generations of 20, evaluated by
nothing: accuracy and latency are drawn at random, costs are arithmetic. Wall time of what the
search does for each: ask without the sampler's own ask, the text and its hash, the trial's record
(one fsync), its share of its generation's latencies (one fsync for all), tell without the sampler's
own. Beside it the least a durable record can cost here: a line as long appended to a file and
synced, at the same moments.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from measure import ROOT, ms, report

from nas.archive import Archive, Measurement, Trial
from nas.grammar import Grammar
from nas.measure import costs
from nas.plan import plan
from nas.search import Settings
from nas.search.columns import aims_of
from nas.search.propose import Proposer
from nas.search.recorded import identity
from nas.supernet import Space
from nas.task import Task

SEED, TRIALS, GENERATION = 0, 200, 20
PARTS = ("ask", "text", "record", "measure", "tell")


class Watch:
    """Seconds of wall and of CPU time by part, a list each."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    def time(self, part: str, call: Callable[..., Any], *args: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = call(*args)
        self.cpu.setdefault(part, []).append(time.process_time() - cpu)
        self.seconds.setdefault(part, []).append(time.perf_counter() - wall)
        return result

    def share(self, part: str, among: int) -> None:
        """Divide what a part last took among so many trials."""
        for times in (self.seconds[part], self.cpu[part]):
            whole = times.pop()
            times += [whole / among] * among

    def within(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, watched at each call."""

        def watched(*args: Any, **named: Any) -> Any:
            return self.time(part, lambda: call(*args, **named))

        return watched


def beyond(times: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """What each part took without the sampler's own share in it."""
    return {
        part: [
            whole - own
            for whole, own in zip(
                times[part], times.get(f"{part} sampler", [0.0] * len(times[part])), strict=True
            )
        ]
        for part in PARTS
    }


def sums(parts: Mapping[str, list[float]]) -> list[float]:
    """By trial."""
    return [sum(each) for each in zip(*parts.values(), strict=True)]


def main() -> None:
    rows = [row(sampler) for sampler in ("random", "nsga2")]
    said = " and ".join(f"{r['each ms']:.1f} ms with {r['sampler']}" for r in rows)
    cpu, bare = (max(r[f"{name} ms"] for r in rows) for name in ("CPU", "bare"))
    report(
        "record",
        __doc__,
        aim="at most 5 ms a trial",
        rows=rows,
        seeds=[SEED],
        figure=f"{said}; CPU time {cpu:.1f} ms; a bare append with fsync {bare:.1f} ms",
    )


def row(sampler: str) -> Mapping[str, Any]:
    """Medians in milliseconds of each part, and of their sum over a trial."""
    watch = Watch()
    with (
        tempfile.TemporaryDirectory(dir=ROOT / "runs", prefix="bench-record-") as folder,
        Archive.create(Path(folder)) as archive,
    ):
        propose(sampler, archive, watch, Path(folder) / "bare")
    parts = beyond(watch.seconds)
    own = {part: watch.seconds[f"{part} sampler"] for part in ("ask", "tell")}
    return {
        "sampler": sampler,
        "trials": TRIALS,
        **{f"{part} ms": ms(found) for part, found in parts.items()},
        "each ms": ms(sums(parts)),
        "mean ms": statistics.mean(sums(parts)) * 1e3,
        "CPU ms": ms(sums(beyond(watch.cpu))),
        "bare ms": ms(watch.seconds["bare"]),
        "sampler's own ms": ms(sums(own)),
    }


def propose(sampler: str, archive: Archive, watch: Watch, bare: Path) -> None:
    """Ask, record and tell TRIALS trials. All are told, whether their derivation is new or not,
    and all recorded, under a name of their own."""
    task = Task.load("digits")
    settings = Settings.of({"space": "mobile", "tasks": ["digits"], "sampler": sampler})
    rng = random.Random(SEED)
    proposer = Proposer(
        Space(Grammar.load("mobile"), task.input),
        sampler,
        aims_of(settings, [task]),
        seed=SEED,
        population=GENERATION,
    )
    study: Any = proposer.study
    study.ask = watch.within("ask sampler", study.ask)
    study.tell = watch.within("tell sampler", study.tell)
    for first in range(0, TRIALS, GENERATION):
        proposals = [watch.time("ask", proposer.ask) for _ in range(GENERATION)]
        clocks: dict[str, list[Measurement]] = {}
        for number, proposal in enumerate(proposals, first):
            found = measurements(proposal.derivation, task, rng)
            clock = Measurement(
                "latency_ms",
                rng.random(),
                "ms",
                evaluator="clock",
                spread=0.1,
                device="torch eager, cpu, threads 1, batch 1, float32",
            )

            def text(proposal: Any = proposal, number: int = number) -> tuple[str, str]:
                said = str(proposal.derivation)
                return identity(f"{said} {number}"), said

            id, said = watch.time("text", text)
            trial = Trial(number, id, {"": said}, "finished", "", tuple(found), rng.random())
            watch.time("record", archive.record, trial)
            clocks[id] = [clock]
            watch.time("bare", append, bare, said.encode())
        watch.time("measure", archive.measure, clocks)
        watch.share("measure", len(clocks))
        values = [archive.trial(id).columns() for id in clocks]
        for proposal, columns in zip(proposals, values, strict=True):
            watch.time("tell", proposer.tell, proposal, columns)


def measurements(derivation: Any, task: Task, rng: random.Random) -> list[Measurement]:
    """As many as an evaluation on shared weights gives."""
    shared = {
        "task": task.name,
        "split": "valid",
        "evaluator": "shared",
        "bank_version": 1500,
        "fidelity": "1500 supernet steps",
        "seed": 0,
        "device": "cpu",
    }
    return [
        Measurement("accuracy", rng.random(), "fraction", **shared),
        Measurement("nll", rng.random(), "nats", **shared),
        *costs(plan(derivation, heads=[task])),
    ]


def append(path: Path, text: bytes) -> None:
    """A line of the length of a trial's record, synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, text.ljust(1000) + b"\n")
    os.fsync(fd)
    os.close(fd)


if __name__ == "__main__":
    main()
