"""What the benchmarks of weight sharing share: reduced Fashion-MNIST, a fixed set of architectures
of each space, their accuracies after training from scratch, and jobs in processes of their own.

The ground truth is kept in benchmarks/truth/SPACE.json: it is trained once, and only again where
the file is deleted. Banks and scores are kept in runs/bench-ranking, and carried on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from measure import HERE, ROOT

if TYPE_CHECKING:
    from nas.evaluate import Evaluated
    from nas.grammar import Derivation, Grammar
    from nas.task import Task
    from nas.train import Recipe
    from nas.trust.table import Scored

TRUTH, KEPT = HERE / "truth", ROOT / "runs" / "bench-ranking"
DRAWS, ARCHITECTURES, TRUTH_SEEDS, TRAIN, VALID = 512, 64, (0, 1), 4_000, 4_000
SIDE = 9  # of an image: 27 of the 28 pixels in means of 3 x 3


class Setting(NamedTuple):
    """How the networks of a space are trained from scratch, and the strategy that draws them:
    uniformly, or at a rate drawn first (uniform draws of many bits are all alike in size)."""

    epochs: float
    lr: float
    batch: int
    drawn: str = "single-path"

    def recipe(self, seed: int) -> Recipe:
        from nas.train import Recipe

        return Recipe(
            epochs=self.epochs, lr=self.lr, batch=self.batch, label_smoothing=0.0, seed=seed
        )


SPACES = {
    "mobile": Setting(epochs=5, lr=0.1, batch=64),
    "fbnetv5-small": Setting(epochs=5, lr=0.1, batch=64, drawn="spread"),
}


def fashion(folder: str | None) -> Task:
    """Fashion-MNIST in means of 3 x 3 pixels, 4,000 images to train on, 4,000 to validate on, and
    the 10,000 of its test file. folder: of its idx files; kept as an .npz file once read."""
    import numpy as np

    from nas.task import Task
    from nas.task.source.idx import read_idx_folder

    path = KEPT / "fashion.npz"
    if not path.exists():
        if folder is None:
            sys.exit("say --data FOLDER, of Fashion-MNIST's four idx files")
        pairs = read_idx_folder(Path(folder)).pairs
        order = np.random.default_rng(0).permutation(len(pairs["train"][0]))
        parts = {"train": order[:TRAIN], "valid": order[TRAIN : TRAIN + VALID]}
        arrays = {"x_test": _means(pairs["test"][0]), "y_test": pairs["test"][1]}
        for split, at in parts.items():
            arrays |= {f"x_{split}": _means(pairs["train"][0][at])}
            arrays |= {f"y_{split}": pairs["train"][1][at]}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
    return Task.load(f"fashion={path}")


def _means(images: Any) -> Any:
    whole = images[:, : 3 * SIDE, : 3 * SIDE].astype("float32") / 255
    return whole.reshape(-1, SIDE, 3, SIDE, 3).mean((2, 4))


def architectures(grammar: Grammar, task: Task) -> list[Derivation]:
    """The same 64 different architectures of a space on every call: of 512 draws those that spread
    the logarithm of FLOPs most evenly, in the order they were drawn."""
    from nas.plan import plan
    from nas.supernet import Space, strategy_of

    turn = strategy_of(SPACES[grammar.name].drawn, Space(grammar, task.input), 1)
    draws = [
        turn(0, random.Random(f"ranks/{grammar.name}/{n}")).derivations[0] for n in range(DRAWS)
    ]
    plans = {
        (planned := plan(one, heads=[task])).fingerprint: (one, log(planned.flops))
        for one in reversed(draws)
    }
    sizes = [size for _, size in plans.values()]
    low, span, left = min(sizes), max(sizes) - min(sizes), dict(plans)
    for n in range(ARCHITECTURES):
        wanted = low + span * n / (ARCHITECTURES - 1)
        del left[min(left, key=lambda key: abs(left[key][1] - wanted))]
    return [one for key, (one, _) in reversed(plans.items()) if key not in left]


def scored(
    evaluator: str, derivation: str, seed: int, measure: Callable[[], Evaluated]
) -> dict[str, Any]:
    """One architecture scored, as plain values: the metric and NLL, or what a baseline says."""
    begun, cpu = time.perf_counter(), time.process_time()
    found = {
        m.name: m.value for m in measure().measurements if m.name in ("accuracy", "nll", evaluator)
    }
    return {
        "evaluator": evaluator,
        "derivation": derivation,
        "seed": seed,
        "values": found,
        "seconds": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
    }


def as_scored(one: dict[str, Any], evaluator: str | None = None) -> Scored:
    from nas.archive import Measurement
    from nas.trust.table import Scored

    return Scored(
        one["derivation"],
        evaluator or one["evaluator"],
        one["seed"],
        tuple(Measurement(name, value, "") for name, value in one["values"].items()),
        seconds=one["seconds"],
        cpu_s=one["cpu_s"],
    )


def truth(space: str) -> list[dict[str, Any]]:
    """Test accuracy and NLL of each architecture from scratch, with each seed, and its counts."""
    path = TRUTH / f"{space}.json"
    if not path.exists():
        sys.exit(f"{space} has no ground truth yet: python benchmarks/truth.py --data FOLDER")
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


class Job(NamedTuple):
    """A part of a benchmark that is computed in a process of its own: `script --job NAME`."""

    script: str
    name: str

    @property
    def path(self) -> Path:
        return KEPT / f"{Path(self.script).stem}-{self.name.replace('/', '-')}.json"

    def figures(self) -> Any:
        return json.loads(self.path.read_text(encoding="utf-8"))


def begin(
    doc: str | None, main: Callable[..., None], one: Callable[[Job], None], *, spaces: bool = False
) -> None:
    """Run a benchmark as its command says: one of its jobs, or the whole, main(data). With `spaces`
    it is main(data, spaces): those that are asked for, or that have a ground truth."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--data", help="the folder of Fashion-MNIST's four idx files")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    if spaces:
        there = [space for space in SPACES if (TRUTH / f"{space}.json").exists()]
        parser.add_argument("--space", action="append", choices=SPACES, help="one or several")
    asked = parser.parse_args()
    if asked.job:
        one(Job(sys.argv[0], asked.job))
    else:
        main(asked.data, *([asked.space or there] if spaces else []))


def compute(jobs: Iterable[Job], told: Sequence[str] = ()) -> None:
    """Do the jobs whose figures are not there yet, one a core, with one thread each."""
    KEPT.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def do(job: Job) -> None:
        command = [sys.executable, job.script, "--job", job.name, *told]
        subprocess.run(command, check=True, env=environment)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(do, [job for job in jobs if not job.path.exists()]))
