"""What a search will cost, measured on a few steps before it starts."""

from __future__ import annotations

import random
import time

from nas.evaluate import shared, standalone
from nas.measure import latency
from nas.network import Network
from nas.search.loop import prepare
from nas.search.settings import Settings
from nas.search.shared import space_of, step_s
from nas.search.worker import kind


def estimate(settings: Settings) -> dict[str, float]:
    """bank_mb (of a recursive space the most that it may grow to), step_ms, evaluation_ms (latency
    included) and eta_s of a search, by trying a few of each; nothing is written."""
    grammar, tasks = prepare(settings)
    rng, space = random.Random(settings.seed), space_of(settings, grammar, tasks)
    found = {"bank_mb": 0.0, "step_ms": 0.0}
    drawn = [space.draw(rng) for _ in range(3)]
    steps = 0
    if kind(settings, grammar) == "shared":
        each, bank = step_s(settings, grammar, tasks)
        found = {"bank_mb": bank.most_mb if bank.grows else bank.size_mb, "step_ms": each * 1e3}
        steps = settings.supernet.steps
    begun = time.perf_counter()
    for derivation in drawn:
        if kind(settings, grammar) == "shared":
            shared(bank, derivation, tasks, samples=settings.supernet.samples)
        else:
            standalone(derivation, tasks, settings.standalone.recipe(0), device=settings.device)
        network = Network(derivation, heads=tasks).eval()
        latency(network.plan, network.tensors(), device=settings.device)
    each = (time.perf_counter() - begun) / len(drawn)
    found["evaluation_ms"] = each * 1e3
    found["eta_s"] = settings.budget_s or (
        steps * found["step_ms"] / 1e3 + settings.trials * each
    )
    return found
