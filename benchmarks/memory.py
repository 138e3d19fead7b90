"""A search over 100,000 pictures needs less than 1 GB of memory beyond one over a handful.

JPEG files of 64 pixels, made here. A search of `mobile` with a short supernet and a few trials, in
a process of its own, whose private memory is looked at every 50 ms: the pages of the store that it
maps are the system's and can be taken back at any time (they are listed apart), and other processes
share them. The baseline is the same search over 256 of the pictures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loader import make_pictures
from measure import ROOT, report

SEED, LARGE, FEW, SIDE = 0, 100_000, 256, 64
SEARCH = """
import sys
from nas.search import search

if __name__ == "__main__":
    search(
        "mobile",
        [f"photos={sys.argv[1]}"],
        out=sys.argv[2],
        trials=4,
        generation=4,
        supernet={"steps": 20, "samples": 256, "batch": 64},
    )
"""


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("NAS_BENCH_TMP")) as made:
        folder = Path(made)
        os.environ["NAS_CACHE"] = f"{made}/cache"
        for n in (FEW, LARGE):
            make_pictures(folder / f"{n}", n, (SIDE, SIDE + 1), SEED)
        rows = [row(folder, n, label) for n, label in ((FEW, "few"), (LARGE, "many"))]
        rows.append(row(folder, LARGE, "many, from the store"))
    more = [(r["private MB"] - rows[0]["private MB"]) / 1e3 for r in rows[1:]]
    report(
        "memory",
        __doc__,
        aim="under 1 GB above the baseline",
        figure=f"{more[0]:.2f} GB above it, the store made, and {more[1]:.2f} GB from the store",
        rows=rows,
        seeds=[SEED],
    )


def row(folder: Path, n: int, label: str) -> Mapping[str, Any]:
    """The largest private and mapped memory of a search and its children, and its seconds."""
    script = folder / "search.py"
    script.write_text(SEARCH)
    run = folder / f"run-{label.replace(' ', '-')}"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder / f"{n}"), str(run)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    private = mapped = 0.0
    while process.poll() is None:
        now = [memory(pid) for pid in family(process.pid)]
        private = max(private, sum(p for p, _ in now))
        mapped = max([mapped, *(m for _, m in now)])
        time.sleep(0.05)
    assert process.returncode == 0
    seconds = time.perf_counter() - begun
    return {
        "search": label,
        "pictures": n,
        "private MB": private,
        "mapped MB": mapped,
        "s": seconds,
    }


def memory(pid: int) -> tuple[float, float]:
    """Megabytes of a process that are its own, and that are of files."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    sizes = {k: int(v) / 1e3 for k, v in re.findall(r"(Rss\w+):\s+(\d+) kB", text)}
    return sizes.get("RssAnon", 0.0), sizes.get("RssFile", 0.0)


def family(pid: int) -> list[int]:
    """A process and its children's children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(other for child in children for other in family(int(child)))]


if __name__ == "__main__":
    main()
