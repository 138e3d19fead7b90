"""Latency by the clock. A latency names its runtime, device, threads, batch and dtype."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from nas.archive import Measurement
from nas.plan import Plan, run


@contextmanager
def threads(n: int) -> Iterator[None]:
    """torch on `n` threads inside, on as many as before after."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def latency(
    plan: Plan,
    params: Sequence[Mapping[str, Tensor]],
    *,
    device: str = "cpu",
    batch: int = 1,
    n_threads: int = 1,
    repeats: int = 30,
    seconds: float = 0.5,
) -> Measurement:
    """The median time of one forward pass in eager torch, in milliseconds.

    Warmed up, on `n_threads` pinned threads, over `repeats` runs or as many as fit `seconds`
    (at least 5). The spread is half the interquartile range.
    """
    x = torch.zeros((batch, *plan.input.dims), device=device)
    with threads(n_threads), torch.inference_mode():
        times = _times(lambda: run(plan, params, x), device, repeats, seconds)
    quarters = statistics.quantiles(times, n=4)
    return Measurement(
        "latency_ms",
        statistics.median(times),
        "ms",
        evaluator="clock",
        device=f"torch {torch.__version__} eager, {device_name(device)}, threads {n_threads}, "
        f"batch {batch}, float32",
        spread=(quarters[2] - quarters[0]) / 2,
    )


def _times(forward: Callable[[], object], device: str, repeats: int, seconds: float) -> list[float]:
    def once() -> float:
        begun = time.perf_counter()
        forward()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return (time.perf_counter() - begun) * 1e3

    for _ in range(3):
        once()
    end = time.perf_counter() + seconds
    times = [once() for _ in range(5)]
    while len(times) < repeats and time.perf_counter() < end:
        times.append(once())
    return times


def device_name(device: str) -> str:
    """The device as a latency names it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device} {platform.processor() or platform.machine()}"
