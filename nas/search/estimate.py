"""What a search will cost, measured on a few steps before it starts."""

from __future__ import annotations

import random
import time

from nas.evaluate import EVALUATORS, TRUTH
from nas.measure.latency import latency
from nas.network import Network
from nas.search.apart import processes_of
from nas.search.course import step_s
from nas.search.prepare import prepare
from nas.search.settings import Settings


def estimate(settings: Settings, *, trust_code: bool = False) -> dict[str, float]:
    """bank_mb (of a recursive space the most that it may grow to), step_ms, evaluation_ms (latency
    included) and eta_s of a search, by trying a few of each; nothing is written."""
    problem = prepare(settings, trust_code=trust_code)
    settings, rng = problem.settings, random.Random(problem.settings.seed)
    costs = {"bank_mb": 0.0, "step_ms": 0.0}
    derivations = [problem.space.draw(rng) for _ in range(3)]
    steps, bank = 0, None
    if problem.banked:
        each_s, bank = step_s(problem)
        each_s /= processes_of(settings)
        costs = {"bank_mb": bank.most_mb if bank.grows else bank.size_mb, "step_ms": each_s * 1e3}
        steps = settings.supernet.steps
    evaluator, conditions = EVALUATORS[problem.evaluator], problem.conditions(bank)
    begun = time.perf_counter()
    for derivation in derivations:
        evaluator.measure(derivation, conditions)
        network = Network(derivation, heads=problem.tasks).eval().to(settings.resolved_device)
        for deployment in problem.deployments:
            latency(network.plan, network.tensors(), deployment)
    each_s = (time.perf_counter() - begun) / len(derivations)
    if problem.evaluator == TRUTH:
        given = settings.standalone  # of a rung all are trained for as long as of any other
        each_s *= given.rungs / given.reduction ** (given.rungs - 1)
    costs["evaluation_ms"] = each_s * 1e3
    training_s = steps * costs["step_ms"] / 1e3
    costs["eta_s"] = settings.budget_s or training_s + settings.trials * each_s
    return costs
