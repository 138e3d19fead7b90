"""What a search will cost, measured on a few steps before it starts."""

from __future__ import annotations

import random
import time

from nas.measure import latency
from nas.network import Network
from nas.search.loop import prepare
from nas.search.settings import Settings
from nas.search.shared import space_of, step_s
from nas.search.worker import banked, evaluator_of, kind


def estimate(settings: Settings, *, trust_code: bool = False) -> dict[str, float]:
    """bank_mb (of a recursive space the most that it may grow to), step_ms, evaluation_ms (latency
    included) and eta_s of a search, by trying a few of each; nothing is written."""
    settings, grammar, tasks = prepare(settings, trust_code=trust_code)
    rng, space = random.Random(settings.seed), space_of(settings, grammar, tasks)
    found = {"bank_mb": 0.0, "step_ms": 0.0}
    drawn = [space.draw(rng) for _ in range(3)]
    steps, bank = 0, None
    if banked(settings, grammar):
        each, bank = step_s(settings, grammar, tasks)
        found = {"bank_mb": bank.most_mb if bank.grows else bank.size_mb, "step_ms": each * 1e3}
        steps = settings.supernet.steps
    evaluator = evaluator_of(kind(settings, grammar), settings, tasks, bank, seed=settings.seed)
    begun = time.perf_counter()
    for derivation in drawn:
        evaluator.measure(derivation, tasks)
        network = Network(derivation, heads=tasks).eval().to(settings.device)
        latency(network.plan, network.tensors(), device=settings.device)
    each = (time.perf_counter() - begun) / len(drawn)
    found["evaluation_ms"] = each * 1e3
    found["eta_s"] = settings.budget_s or (steps * found["step_ms"] / 1e3 + settings.trials * each)
    return found
