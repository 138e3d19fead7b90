"""Where a network's latency goes: the share of each of its steps, by ONNX Runtime's own profile."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import torch

from nas.measure.runtime import Params, forward_of, onnx_bytes
from nas.plan import Plan
from nas.plan.onnx import session

RUNS = 20  # of a network; of each kernel the median counts
KERNEL = "_kernel_time"  # how the profile's names of kernels end
Shares = Mapping[str, float]


def latency_by_step(plan: Plan, params: Params, *, threads: int = 1, batch: int = 1) -> Shares:
    """The share of its time that each step takes in ONNX Runtime on the CPU, by the step's name;
    they sum to 1. Kernels that the runtime adds (changes of layout) or makes of several steps are
    counted with the step before them. Raises NoOnnxForm where an operator has none."""
    with tempfile.TemporaryDirectory(prefix="nas-") as scratch:
        loaded = session(onnx_bytes(plan, params), threads, profile=f"{scratch}/profile")
        forward, x = forward_of(loaded), torch.zeros(batch, *plan.input.dims)
        for _ in range(RUNS):
            forward(x)
        events = json.loads(Path(loaded.end_profiling()).read_bytes())
    kernels, steps = defaultdict[str, list[float]](list), {step.name for step in plan.steps}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            kernels[event["name"].removesuffix(KERNEL)].append(event["dur"])
    taken, step = dict[str, float](), plan.steps[0].name
    for kernel, times in kernels.items():  # in the order in which they run
        name = kernel.partition("/")[0]
        step = name if name in steps else step
        taken[step] = taken.get(step, 0.0) + median(times)
    whole = sum(taken.values())
    return {name: time / whole for name, time in taken.items()} if whole else {}
