"""Claims about scripts in benchmarks that need hardware: their part for a CPU runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_script_for_gpus_agrees_with_itself_on_a_cpu_and_claims_nothing() -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--steps", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("without a GPU")
    figures = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines()[2:])
    assert float(figures["weights, largest difference"].replace(",", "")) == 0
    assert float(figures["images/s, random subnets"].replace(",", "")) > 0
