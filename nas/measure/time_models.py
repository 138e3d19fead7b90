"""Time the networks of this folder on this device: python time_models.py --name pi4

It needs onnxruntime and numpy. All are timed in turn, three times, of which the least counts.
NAME.json is written anew after each: what was stopped goes on. Take that file home: nas search …
--profile pi4.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCK_S, BLOCKS, FEWEST, LONGEST_S, QUANTILE = 0.001, 40, 3, 2.0, 0.1
ROUNDS = 3


def forward_of(path: Path, shape: list[int], threads: int) -> Callable[[], Any]:
    """One pass of a network over zeros."""
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact without VNNI
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: numpy.zeros((1, *shape), numpy.float32)}
    return lambda: session.run(None, feed)


def low_ms(forward: Callable[[], Any], threads: int) -> float:
    """The milliseconds that nine of ten blocks of passes take at least: of the CPU on one thread,
    else of the clock."""
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(FEWEST):
        begun = time.perf_counter()
        forward()
    runs = max(1, round(BLOCK_S / max(time.perf_counter() - begun, 1e-7)))
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < FEWEST or (
        len(times) < BLOCKS and time.perf_counter() - started < LONGEST_S
    ):
        at = clock()
        for _ in range(runs):
            forward()
        times.append((clock() - at) / runs)
    return 1e3 * sorted(times)[int(QUANTILE * len(times))]


def begun(path: Path, manifest: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What the file holds already, of the same networks run the same way, or nothing yet."""
    keys = ("format", "space", "input", "tasks")
    fresh = {**{key: manifest[key] for key in keys}, **facts, "networks": []}
    if not path.exists():
        return fresh
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in fresh if key != "networks" and kept.get(key) != fresh[key]]
    if differing:
        raise SystemExit(f"{path} is of another {', '.join(differing)}: give another --name")
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="of the device, as pi4")
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    import onnxruntime

    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    facts = {
        "name": words.name,
        "runtime": f"ONNX Runtime {onnxruntime.__version__}",
        "device": platform.processor() or platform.machine(),
        "threads": words.threads,
    }
    path = folder / f"{words.name}.json"
    profile = begun(path, manifest, facts)
    timed = {entry["file"]: entry for entry in profile["networks"]}
    waiting = [
        entry
        for number in range(1, ROUNDS + 1)
        for entry in manifest["networks"]
        if timed.get(entry["file"], {}).get("rounds", 0) < number
    ]
    started = time.perf_counter()
    for number, entry in enumerate(waiting, start=1):
        forward = forward_of(folder / entry["file"], manifest["input"], words.threads)
        ms = low_ms(forward, words.threads)
        if not (math.isfinite(ms) and ms > 0):
            raise SystemExit(f"{entry['file']} takes {ms} ms: the clock cannot be trusted")
        before = timed.get(entry["file"], {"ms": math.inf, "rounds": 0})
        least, rounds = min(ms, before["ms"]), before["rounds"] + 1
        timed[entry["file"]] = {**entry, "ms": least, "rounds": rounds}
        profile["networks"] = list(timed.values())
        part = path.with_suffix(".part")
        part.write_text(json.dumps(profile, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
        left = (time.perf_counter() - started) / number * (len(waiting) - number)
        print(f"{entry['file']}: {ms:.3f} ms; {number}/{len(waiting)}, {left:.0f} s left")  # noqa: T201
    print(f"wrote {path}")  # noqa: T201


if __name__ == "__main__":
    main()
