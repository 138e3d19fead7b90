"""`nas --help` answers at once, and what looks at a run soon: torch is not imported.

Wall time, the median of 11 interleaved runs, beside an empty Python and `import torch`. `nas front`
shows a run of 40 trials.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import ROOT, interleaved, ms, report

RUNS = 11
MAIN = "from nas.cli import main; main()"
LOADED = f"""
import sys
try:
    {MAIN}
finally:
    heavy = [m for m in ("torch", "optuna", "ray", "pandas", "sklearn") if m in sys.modules]
    print(*heavy, len(sys.modules), file=sys.stderr)
"""


def python(text: str, *words: str) -> str:
    """Run a text in a new Python with the checkout's nas; what comes back is its stderr."""
    return _run([sys.executable, "-c", text, *words])


def _run(command: list[str]) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stderr


SEARCH = """
import sys, nas
if __name__ == "__main__":
    quick = {"steps": 20, "samples": 64}
    nas.search("mobile", "digits", out=sys.argv[1], trials=40, supernet=quick)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        python(SEARCH, f"{scratch}/run")
        measure(f"{scratch}/run")


def measure(run: str) -> None:
    installed = Path(sys.executable).with_name("nas")

    def nas(*words: str) -> str:
        return _run([str(installed), *words]) if installed.exists() else python(MAIN, *words)

    runs = {
        "nas --help": lambda: nas("--help"),
        "nas front": lambda: nas("front", run),
        "python -c pass": lambda: python("pass"),
        "python -c 'import torch'": lambda: python("import torch"),
    }
    for command in runs.values():
        command()
    times = interleaved(runs, RUNS, clock=time.perf_counter)
    *heavy, modules = python(LOADED, "--help").split()
    *heavier, _ = python(LOADED, "front", run).split()
    heavy = [*dict.fromkeys([*heavy, *heavier])]
    rows = [
        {
            "command": name,
            "wall ms": ms(found),
            "fastest ms": min(found) * 1e3,
            "slowest ms": max(found) * 1e3,
        }
        for name, found in times.items()
    ]
    mine, front, empty, torch = (ms(found) / 1e3 for found in times.values())
    report(
        "help",
        __doc__,
        aim="under 0.5 s, without torch",
        figure=f"{mine:.2f} s, nas front {front:.2f} s (an empty Python {empty:.3f} s, `import "
        f"torch` {torch:.2f} s); "
        + (f"imported: {', '.join(heavy)}" if heavy else "torch not imported"),
        rows=rows,
        facts={"heavy_modules": heavy, "modules": int(modules)},
    )


if __name__ == "__main__":
    main()
