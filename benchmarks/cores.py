"""A second core is used: the README's first command, and evaluations side by side.

The first command on one core and on both (by the process's affinity), as a whole, the median of
two runs each, one after the other in turn. Then 120 evaluations of `mobile` on digits with the
shared weights of such a run, by 1, 2 and 4 processes, from when they have begun.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from measure import ROOT, report

SEED, ROUNDS, JOBS = 0, 2, 120
COMMAND = "search mobile --task digits --out".split()


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as made:
        for number in range(ROUNDS):
            for count in (1, 2):
                seconds[count].append(
                    first_command(Path(made) / f"{count}-{number}", cores[:count])
                )
        rows: list[dict[str, Any]] = [
            {"what": "first command", "cores": count, "s": median(values)}
            for count, values in seconds.items()
        ]
        run = Path(made) / "2-0"
        for workers in (1, 2, 4):
            rows.append(
                {"what": "evaluations", "processes": workers, "a second": evaluations(run, workers)}
            )
    ratio = median(seconds[2]) / median(seconds[1])
    paces = ", ".join(f"{row['a second']:.1f}" for row in rows[2:])
    report(
        "cores",
        __doc__,
        aim="at most 0.6 of the time on two cores",
        figure=f"{ratio:.2f} of the time ({median(seconds[1]):.0f}, {median(seconds[2]):.0f} s); "
        f"{paces} evaluations a second by 1, 2 and 4 processes",
        rows=rows,
        seeds=[SEED],
    )


def first_command(out: Path, cores: list[int]) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "nas", *COMMAND, str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return time.perf_counter() - begun


def evaluations(folder: Path, workers: int) -> float:
    """Evaluations a second of a run's pool, once its processes have begun."""
    from nas.search import load
    from nas.search.job import Job
    from nas.search.local import LocalPool

    run = load(folder)
    rng = random.Random(SEED)
    texts = [str(run.problem.space.draw(rng)) for _ in range(JOBS + 2 * workers)]
    jobs = [Job(number, text, "shared", SEED) for number, text in enumerate(texts)]
    settings = run.settings.model_copy(update={"workers": workers})
    pool = LocalPool(folder, settings, trust_code=False)
    try:
        list(pool.evaluate(jobs[: 2 * workers]))
        begun = time.perf_counter()
        list(pool.evaluate(jobs[2 * workers :]))
        return JOBS / (time.perf_counter() - begun)
    finally:
        pool.close()


if __name__ == "__main__":
    main()
