"""A folder of networks to be timed on a device that knows nothing of this package."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nas.files import new_folder, write
from nas.grammar import Derivation, Grammar, sample
from nas.grammar.count import extreme
from nas.measure import time_models
from nas.measure.profile import FORMAT, LEAST, ProfileError, features
from nas.measure.runtime import onnx_bytes
from nas.network import Network
from nas.plan import plan
from nas.task import Task

MANIFEST, SCRIPT = "manifest.json", "time_models.py"


def probe(
    grammar: Grammar,
    tasks: Sequence[Task],
    folder: Path,
    *,
    networks: int = 60,
    seed: int = 0,
    listener: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a new folder of ONNX networks of a space, with what is to be known of each in
    manifest.json and time_models.py, which times them where onnxruntime is.

    The largest and the smallest are among them, the others are drawn, spread in FLOPs. Raises
    ProfileError for too few networks; NoOnnxForm where an operator has none.
    """
    if networks < LEAST:
        raise ProfileError(f"{networks} networks tell too little of a device: {LEAST} at least")
    derivations = _spread(grammar, tasks, networks, seed)
    entries: list[dict[str, object]] = []
    with new_folder(folder) as part:
        for number, derivation in enumerate(derivations):
            network = Network(derivation, heads=tasks, seed=seed).eval()
            name = f"{number:03}.onnx"
            write(part / name, onnx_bytes(network.plan, network.tensors()))
            entries.append({"file": name, "features": features(network.plan)})
            listener(number + 1, len(derivations))
        facts = {
            "format": FORMAT,
            "space": grammar.hash,
            "input": list(tasks[0].input),
            "tasks": [task.name for task in tasks],
            "networks": entries,
        }
        write(part / MANIFEST, (json.dumps(facts, indent=1) + "\n").encode())
        write(part / SCRIPT, Path(time_models.__file__).read_bytes())


def _spread(grammar: Grammar, tasks: Sequence[Task], count: int, seed: int) -> list[Derivation]:
    """Networks of a space whose FLOPs are spread evenly in logarithms."""
    rng, input = random.Random(seed), tasks[0].input
    drawn = {str(d): d for d in (sample(grammar, rng, input=input) for _ in range(8 * count))}
    ends = list[Derivation]()
    if grammar.finite:
        ends = [extreme(grammar, input=input, largest=largest) for largest in (True, False)]
    sizes = {text: np.log(plan(d, heads=tasks).flops + 1.0) for text, d in drawn.items()}
    left = sorted(sizes, key=lambda text: sizes[text])
    chosen = {str(derivation): derivation for derivation in ends}
    for target in np.linspace(sizes[left[0]], sizes[left[-1]], count):
        others = [text for text in left if text not in chosen]
        if others and len(chosen) < count:
            nearest = min(others, key=lambda text: abs(sizes[text] - target))
            chosen[nearest] = drawn[nearest]
    if len(chosen) < LEAST:
        raise ProfileError(
            f"{len(chosen)} networks were found in {grammar.name}, and {LEAST} at least tell "
            "something of a device: time them all there instead"
        )
    return list(chosen.values())
