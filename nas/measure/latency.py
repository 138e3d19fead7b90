"""Latency by the clock. A latency names its runtime, device, threads, batch and dtype.

Medians of wall time move from round to round beside other load (benchmarks/latencies.py). Here
networks are timed in turn, in blocks of about a millisecond of CPU time, and of each a low quantile
is told: what the network takes where nothing disturbs it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.archive import Measurement
from nas.lazy import torch
from nas.measure.cost import CLOCK
from nas.measure.runtime import RUNTIMES, Forward, Params, device_name
from nas.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_S = 0.001  # of runs that are timed together
ROUNDS = 40  # blocks of each network
LONGEST_S = 0.6  # that one network is timed; of a slow one there are fewer blocks
FEWEST = 3  # blocks of even the slowest
QUANTILE = 0.1
WARM = 3  # blocks before any counts
NUMBERS = "float32", "int8"  # that networks run in
VERSION = re.compile(r" [0-9]\S*$")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """torch on `n` threads inside, on as many as before after."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Deployment:
    """How a network will be run: its latency there is the column `latency_ms`, or with a name
    `latency_ms@name`."""

    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    device: str = "cpu"
    name: str = ""

    @property
    def columns(self) -> tuple[str, str]:
        """Of its latency, and of the same by the wall's clock."""
        at = f"@{self.name}" if self.name else ""
        return f"latency_ms{at}", f"latency_wall_ms{at}"

    def of(self, plan: Plan) -> str:
        """How a plan's network is run: as str() says, in the numbers that its precision says."""
        return str(self) if plan.precision.bits == 32 else str(self).replace(*NUMBERS)

    def __str__(self) -> str:
        runtime = RUNTIMES[self.runtime]
        device = device_name(self.device if runtime.gpu else "cpu")
        how = f"threads {self.threads}, batch {self.batch}, {NUMBERS[0]}"
        return f"{runtime.version}, {device}, {how}"


def latency(plan: Plan, params: Params, deployment: Deployment | None = None) -> list[Measurement]:
    """A single network's latency: see `latencies`."""
    return latencies([(plan, params)], deployment or Deployment())[0]


def latencies(
    networks: Sequence[tuple[Plan, Params]], deployment: Deployment, *, rounds: int = ROUNDS
) -> list[list[Measurement]]:
    """For each network the time of one forward pass in milliseconds, and the same by the wall's
    clock; timed in turn, so that what disturbs one disturbs all.

    On one thread of a CPU the first is CPU time, which other processes hardly touch; otherwise
    both are wall time. The value is the 10 % quantile of `rounds` blocks, the spread half the
    range of those of their quarters. All networks are held at once. Raises NoOnnxForm where an
    operator has none and the runtime wants it.
    """
    runtime = RUNTIMES[deployment.runtime]
    device = deployment.device if runtime.gpu else "cpu"
    with threads(deployment.threads), torch.inference_mode():
        timed = [
            _Timed(
                plan,
                runtime.load(plan, params, deployment.threads, device),
                torch.zeros((deployment.batch, *plan.input.dims), device=device),
            )
            for plan, params in networks
        ]
        for number in range(rounds):
            for network in timed:
                if number < FEWEST or network.seconds < LONGEST_S:
                    network.block()
    alone = deployment.threads == 1 and device == "cpu"
    return [network.measurements(deployment, cpu=alone) for network in timed]


class _Timed:
    """A loaded network, warmed up, and the times of its blocks."""

    def __init__(self, plan: Plan, forward: Forward, x: Tensor):
        self.plan, self.forward, self.x = plan, forward, x
        self.runs, self.seconds = 1, 0.0
        self.blocks: list[tuple[float, float]] = []  # ms of one pass, by CPU and by the wall
        while len(self.blocks) < WARM and self.seconds < LONGEST_S:
            self.block()
        fastest_s = min(wall for _, wall in self.blocks) / 1e3
        self.runs = max(1, round(BLOCK_S / max(fastest_s, 1e-7)))
        self.seconds, self.blocks = 0.0, []

    def block(self) -> None:
        """Time some passes together."""
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(self.runs):
            self.forward(self.x)
        if self.x.is_cuda:
            torch.cuda.synchronize(self.x.device)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self.seconds += wall
        self.blocks.append((cpu * 1e3 / self.runs, wall * 1e3 / self.runs))

    def measurements(self, deployment: Deployment, *, cpu: bool) -> list[Measurement]:
        by_cpu, by_wall = zip(*self.blocks, strict=True)
        pairs = zip(deployment.columns, (by_cpu if cpu else by_wall, by_wall), strict=True)
        return [
            Measurement(
                name,
                low(times),
                "ms",
                evaluator=CLOCK,
                device=deployment.of(self.plan),
                spread=_spread(times),
            )
            for name, times in pairs
        ]


def same_way(device: str, other: str) -> bool:
    """Whether two latencies were measured alike, but for the version of what ran the networks, and
    for the numbers that these run in."""
    (runtime, *how, _), (other_runtime, *other_how, _) = device.split(", "), other.split(", ")
    return VERSION.sub("", runtime) == VERSION.sub("", other_runtime) and how == other_how


def low(times: Sequence[float]) -> float:
    """The quantile of times that is told."""
    return float(np.quantile(times, QUANTILE))


def _spread(times: Sequence[float]) -> float:
    parts = np.array_split(np.asarray(times), min(4, len(times)))
    quarters = [low(list(part)) for part in parts]
    return (max(quarters) - min(quarters)) / 2
