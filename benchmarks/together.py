"""Two processes train a supernet to the weights of one with the same turns, sooner.

A supernet of `mobile` for both tasks on scenes, 60 steps of two turns each, by one process on one
core and by two (gloo) on two; steps a second from the tenth step on. Beside them a step's turns
without the sum of gradients: one turn a step.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from measure import report

SEED, STEPS, FROM = 0, 60, 10
TASKS = ("scenes-classify", "scenes-segment")


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        rows, banks = [], list[Any]()
        for name, parts, processes in (
            ("one turn a step", 1, 1),
            ("two turns, one process", 2, 1),
            ("two turns, two processes", 2, 2),
        ):
            pace, bank = trained(Path(made) / name.replace(" ", "-"), parts, processes)
            rows.append({"training": name, "steps/s": pace, "turns/s": parts * pace})
            banks.append(bank)
    gap = max(float((banks[1][key] - banks[2][key]).abs().max()) for key in banks[1])
    ratio = rows[2]["steps/s"] / rows[1]["steps/s"]
    report(
        "together",
        __doc__,
        aim="equal weights to 1e-5",
        figure=f"weights differ by {gap:.1e} at most, {ratio:.2f} times the steps of one process",
        rows=rows,
        facts={"gap": gap},
        seeds=[SEED],
    )


def trained(folder: Path, parts: int, processes: int) -> tuple[float, Any]:
    """Steps a second, and the bank's tensors."""
    from safetensors.torch import load_file

    from nas.events import Event, StepDone
    from nas.search import search

    times = dict[int, float]()

    def heard(event: Event) -> None:
        if isinstance(event, StepDone):
            times[event.done] = time.perf_counter()

    search(
        "mobile",
        TASKS,
        out=folder,
        trials=2,
        generation=2,
        workers=1,
        processes=processes,
        supernet={"steps": STEPS, "parts": parts, "threads": processes, "checkpoint_s": 1000},
        listener=heard,
    )
    pace = (STEPS - FROM) / (times[STEPS] - times[FROM])
    return pace, load_file(folder / "bank.safetensors")


if __name__ == "__main__":
    main()
