"""Claims about latency by the clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nas.grammar import Grammar, sample
from nas.measure.latency import latency, threads
from nas.network import Network

GRAMMAR = Grammar.parse("net = conv(4) relu output(coarse)", name="small")


def network() -> Network:
    return Network(sample(GRAMMAR, random.Random(0), input=(1, 8, 8))).eval()


def test_a_latency_is_the_median_and_its_spread_half_the_middle_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = [5.0, 1.0, 2.0, 3.0, 100.0, 4.0, 6.0]
    module = __import__("nas.measure.latency", fromlist=["_times"])
    monkeypatch.setattr(module, "_times", lambda *_: times)
    one = network()
    found = latency(one.plan, one.tensors())
    assert found.value == 4.0
    assert found.spread == 2.0  # of 2 to 6
    assert found.unit == "ms"


@pytest.mark.parametrize("n", [1, 2])
def test_a_latency_is_measured_on_as_many_threads_as_it_says(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = __import__("nas.measure.latency", fromlist=["run"])
    seen: set[int] = set()
    usual = module.run

    def run(*words: Any) -> Any:
        seen.add(torch.get_num_threads())
        return usual(*words)

    monkeypatch.setattr(module, "run", run)
    one = network()
    with threads(3):
        found = latency(one.plan, one.tensors(), n_threads=n, repeats=5)
        assert torch.get_num_threads() == 3
    assert seen == {n}
    assert f"threads {n}," in found.device


def test_time_is_taken_around_a_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    module = __import__("nas.measure.latency", fromlist=["time"])
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)

    def slow(*_: Any) -> dict[str, Any]:
        clock.now += 0.007
        return {}

    monkeypatch.setattr(module, "run", slow)
    one = network()
    forward: Callable[[], Any] = lambda: latency(one.plan, one.tensors())  # noqa: E731
    assert forward().value == pytest.approx(7.0)
