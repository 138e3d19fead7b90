"""Claims about latency by the clock."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nas.grammar import Grammar, sample
from nas.measure import latency as module
from nas.measure.latency import BLOCK_S, FEWEST, Deployment, latencies, latency, same_way, threads
from nas.measure.runtime import RUNTIMES
from nas.network import Network

GRAMMAR = Grammar.parse("net = conv(4) relu output(coarse)", name="small")


def network() -> Network:
    return Network(sample(GRAMMAR, random.Random(0), input=(1, 8, 8))).eval()


def of(*networks: Network) -> list[Any]:
    return [(network.plan, network.tensors()) for network in networks]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still unless a network runs, which takes `ms` of CPU, and of the wall
    what another process takes beside."""
    now = SimpleNamespace(cpu=0.0, wall=0.0, ms=7.0, beside_ms=0.0, order=[], runs=0)

    def load(plan: Any, params: Any, n: int, device: str, ranged: Any) -> Any:
        name = len(now.order)
        now.order.append([])

        def forward(x: Any) -> dict[str, Any]:
            ms = now.ms(name) if callable(now.ms) else now.ms
            now.cpu += ms / 1e3
            now.wall += (ms + now.beside_ms) / 1e3
            now.order[name].append(now.runs)
            now.runs += 1
            return {}

        return forward

    monkeypatch.setattr(module.time, "process_time", lambda: now.cpu)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now.wall)
    monkeypatch.setitem(
        module.RUNTIMES, "torch", RUNTIMES["torch"].__class__("torch", "torch", "torch", load)
    )
    return now


def test_a_latency_is_cpu_time_and_the_walls_stands_beside(clock: SimpleNamespace) -> None:
    clock.beside_ms = 5.0
    cpu, wall = latency(*of(network())[0], Deployment("torch"))
    assert (cpu.name, cpu.unit, wall.name) == ("latency_ms", "ms", "latency_wall_ms")
    assert cpu.value == pytest.approx(7.0)
    assert wall.value == pytest.approx(12.0)
    assert cpu.spread == pytest.approx(0.0, abs=1e-9)


def test_on_several_threads_both_are_of_the_wall(clock: SimpleNamespace) -> None:
    clock.beside_ms = 5.0
    values = [m.value for m in latency(*of(network())[0], Deployment("torch", threads=2))]
    assert values == pytest.approx([12.0, 12.0])


def test_what_disturbs_most_runs_does_not_count(clock: SimpleNamespace) -> None:
    noise = random.Random(0)
    clock.ms = lambda name: 2.0 if noise.random() < 0.3 else 2.0 + 8 * noise.random()
    (cpu, _) = latency(*of(network())[0], Deployment("torch"))
    assert cpu.value == pytest.approx(2.0, rel=0.1)


def test_networks_are_timed_in_turn(clock: SimpleNamespace) -> None:
    clock.ms = lambda name: 3.0 + name
    figures = latencies(of(network(), network()), Deployment("torch"), rounds=10)
    assert [pair[0].value for pair in figures] == pytest.approx([3.0, 4.0])
    first, second = (runs[3:] for runs in clock.order)  # after the warm-up
    assert all(a < b for a, b in zip(first, second, strict=True))
    assert all(b < a for b, a in zip(second, first[1:], strict=False))


def test_quick_networks_run_often_in_a_block_and_slow_ones_seldom(clock: SimpleNamespace) -> None:
    clock.ms = lambda name: (0.01, 500.0)[name]
    latencies(of(network(), network()), Deployment("torch"))
    quick, slow = map(len, clock.order)
    assert quick - 3 == 40 * round(BLOCK_S / 1e-5)
    assert slow == 2 + FEWEST  # two of these to warm up


@pytest.mark.parametrize("n", [1, 2])
def test_torch_runs_on_as_many_threads_as_it_says(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()

    def load(plan: Any, params: Any, n: int, device: str, ranged: Any) -> Any:
        return lambda x: seen.add(torch.get_num_threads())

    record = RUNTIMES["torch"].__class__("torch", "torch", "torch", load)
    monkeypatch.setitem(module.RUNTIMES, "torch", record)
    with threads(3):
        (figure, _) = latency(*of(network())[0], Deployment("torch", threads=n))
        assert torch.get_num_threads() == 3
    assert seen == {n}
    assert f"threads {n}," in figure.device


def test_a_new_version_of_a_runtime_is_no_other_way_to_measure() -> None:
    old = "ONNX Runtime 1.31.0, cpu x86_64, threads 1, batch 1, float32"
    assert same_way(old, old.replace("1.31.0", "1.32.1"))
    assert not same_way(old, old.replace("threads 1", "threads 2"))
    assert not same_way(old, old.replace("ONNX Runtime", "torch"))


def test_a_name_is_part_of_the_columns() -> None:
    pair = latency(*of(network())[0], Deployment("torch", batch=3, name="pi4"))
    assert [m.name for m in pair] == ["latency_ms@pi4", "latency_wall_ms@pi4"]
    assert all("torch" in m.device and "batch 3" in m.device for m in pair)
