"""Trains the architectures of the benchmarks of weight sharing from scratch: the ground truth."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

from measure import Kept
from ranking import SPACES, TRUTH, TRUTH_SEEDS, Job, architectures, begin, compute, fashion


def main(data: str | None) -> None:
    fashion(data)
    for space in SPACES:
        mine = [Job(__file__, f"{space}/{seed}") for seed in TRUTH_SEEDS]
        if not (TRUTH / f"{space}.json").exists():
            compute(mine)
            write(space, mine)


def write(space: str, jobs: list[Job]) -> None:
    """All seeds of a space in one file, an architecture after the other."""
    found: dict[str, dict[str, Any]] = {}
    for job in jobs:
        for text, one in job.figures().items():
            counts = {name: one.pop(name) for name in ("flops", "params")}
            kept = found.setdefault(text, {"derivation": text, **counts, "runs": []})
            kept["runs"].append(one)
    TRUTH.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(one) for one in found.values())
    (TRUTH / f"{space}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def one(job: Job) -> None:
    """Train every architecture of a space with one seed; carried on where it was interrupted."""
    import torch

    import nas

    torch.set_num_threads(1)
    space, seed = job.name.split("/")
    task = fashion(None)
    part = job.path.with_suffix(".part")
    kept = Kept(part)
    for derivation in architectures(nas.Grammar.load(space), task):
        kept(str(derivation), lambda: trained(derivation, task, space, int(seed)))  # noqa: B023
    part.rename(job.path)


def trained(derivation: Any, task: Any, space: str, seed: int) -> dict[str, Any]:
    from nas.evaluate import Conditions, Fidelity, fit, network_scores
    from nas.plan import plan

    recipe, planned = SPACES[space].recipe(seed), plan(derivation, heads=[task])
    begun, cpu = time.perf_counter(), time.process_time()
    conditions = Conditions([task], recipe)
    network = fit(derivation, conditions)
    found = {
        "seed": seed,
        "seconds": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
        "flops": planned.flops,
        "params": planned.params,
    }
    for split in ("valid", "test"):
        given = replace(conditions, split=split)
        scores = network_scores(network, given, evaluator="standalone", fidelity=Fidelity())
        found |= {f"{split}_{m.name}": m.value for m in scores if m.name in ("accuracy", "nll")}
    return found


if __name__ == "__main__":
    begin(__doc__, main, one)
