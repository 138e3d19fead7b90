"""What runs the subnets that a run evaluates: torch, or on a CPU ONNX Runtime where that is
faster and comes to the same. Measured once, when the shared weights are trained, and noted.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor

from nas.archive import Archive
from nas.evaluate import BANKED
from nas.evaluate.scoring import batch_size, statistics_inputs
from nas.events import Listener, Told
from nas.measure.latency import threads
from nas.measure.runtime import RUNTIMES
from nas.plan import FLOAT
from nas.search.problem import Problem
from nas.search.run import Run
from nas.search.settings import Settings
from nas.supernet import Bank, Subnet
from nas.train import groups

TRIED, INPUTS = 3, 64  # subnets that are tried, and training inputs for their statistics
TOLERANCE = 1e-4  # in shares of the largest output, where that is above 1
USUAL, OTHER = "torch", "onnxruntime"


def choose_runtime(run: Run, archive: Archive, listener: Listener) -> Settings:
    """The run's settings with what evaluates its subnets settled: the same for all its trials."""
    settings, problem = run.settings, run.problem
    runtime: str = settings.evaluate_in
    if runtime == "auto":
        noted = archive.notes("runtime")
        open_choice = problem.evaluator in BANKED and settings.resolved_device == "cpu"
        if not open_choice or problem.grammar.used:
            runtime = USUAL
        elif noted:
            runtime = str(noted[0]["name"])
        elif archive.trials:
            runtime = USUAL
        else:
            runtime, reason = faster(problem, run.bank())
            archive.note("runtime", name=runtime, reason=reason)
            listener(Told(reason))
    return settings.model_copy(update={"evaluate_in": runtime})


def faster(problem: Problem, bank: Bank) -> tuple[str, str]:
    """The faster runtime for the validation split of a few random subnets, and why."""
    tasks = groups(problem.tasks)[0]
    split = tasks[0].splits().valid
    x = split.x_at(torch.arange(min(len(split), batch_size(split))))
    passes = ceil(len(split) / len(x))
    inputs = statistics_inputs(tasks, INPUTS, problem.settings.seed)
    spent = {USUAL: 0.0, OTHER: 0.0}
    for number in range(TRIED + 1):  # the first begins what all use
        derivation = problem.space.draw(random.Random(f"{problem.settings.seed}/{number}"))
        subnet = Subnet.of(bank, derivation, list(tasks), inputs)
        planned = replace(subnet.plan, precision=FLOAT)  # integers are always run by the other
        results = {}
        for name in spent:
            begun = time.process_time()
            try:
                with threads(1), torch.inference_mode():
                    forward = RUNTIMES[name].load(planned, subnet.tensors, 1, "cpu")
                    loaded = time.process_time()
                    results[name] = forward(x)
            except Exception as error:
                if name == USUAL:
                    raise
                return USUAL, f"subnets are evaluated in torch: {type(error).__name__}: {error}"
            ended = time.process_time()
            if number:
                spent[name] += loaded - begun + passes * (ended - loaded)
        gaps = [_gap(y, results[USUAL][task]) for task, y in results[OTHER].items()]
        if not all(gap <= TOLERANCE for gap in gaps):
            reason = f"ONNX Runtime's results differ from torch's by {max(gaps):.2g}"
            return USUAL, f"subnets are evaluated in torch: {reason}"
    runtime, other = sorted(spent, key=lambda name: spent[name])
    words = RUNTIMES[runtime].words
    return runtime, (
        f"subnets are evaluated in {words}: {1e3 * spent[runtime] / TRIED:.0f} ms each for "
        f"{len(split):,} samples, {1e3 * spent[other] / TRIED:.0f} ms in {RUNTIMES[other].words}"
    )


def _gap(y: Tensor, wanted: Tensor) -> float:
    return ((y - wanted).abs().max() / wanted.abs().max().clamp(min=1)).item()
