"""What a search will cost, measured on a few steps before it starts."""

from __future__ import annotations

import random
import time

from nas.measure import latency
from nas.network import Network
from nas.search.loop import prepare
from nas.search.settings import Settings
from nas.search.shared import space_of, step_s
from nas.search.worker import kind, short_steps
from nas.trust.evaluators import from_scratch, on_bank


def estimate(settings: Settings) -> dict[str, float]:
    """bank_mb (of a recursive space the most that it may grow to), step_ms, evaluation_ms (latency
    included) and eta_s of a search, by trying a few of each; nothing is written."""
    settings, grammar, tasks = prepare(settings)
    rng, space = random.Random(settings.seed), space_of(settings, grammar, tasks)
    found = {"bank_mb": 0.0, "step_ms": 0.0}
    drawn = [space.draw(rng) for _ in range(3)]
    steps, name = 0, kind(settings, grammar)
    evaluator = from_scratch(
        settings.standalone.recipe(0), device=settings.device,
        steps=short_steps(settings, tasks) if name == "short" else None,
    )  # fmt: skip
    if name == "shared":
        each, bank = step_s(settings, grammar, tasks)
        found = {"bank_mb": bank.most_mb if bank.grows else bank.size_mb, "step_ms": each * 1e3}
        steps = settings.supernet.steps
        evaluator = on_bank(
            bank, samples=settings.supernet.samples, device=settings.device
        )
    begun = time.perf_counter()
    for derivation in drawn:
        evaluator.measure(derivation, tasks)
        network = Network(derivation, heads=tasks).eval().to(settings.device)
        latency(network.plan, network.tensors(), device=settings.device)
    each = (time.perf_counter() - begun) / len(drawn)
    found["evaluation_ms"] = each * 1e3
    found["eta_s"] = settings.budget_s or (
        steps * found["step_ms"] / 1e3 + settings.trials * each
    )
    return found
