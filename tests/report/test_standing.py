"""How runs stand, and which of several is better."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.archive import Archive
from nas.cli import app
from nas.dominance import hypervolume
from nas.report.standing import compared, standing, standings
from nas.search import RunError, load, search

QUICK: dict[str, Any] = {
    "trials": 12,
    "generation": 6,
    "supernet": {"steps": 10, "samples": 64},
    "objectives": ("accuracy", "flops"),
    "evaluate_in": "torch",
}
RUNNER = CliRunner()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        search("mobile", ["digits"], out=folder / f"s{seed}", seed=seed, **QUICK)
    return folder


def test_a_run_that_ended_says_what_it_came_to(runs: Path) -> None:
    now, run = standing(runs / "s0"), load(runs / "s0")
    assert (now.phase, now.running, now.done, now.total, now.failed) == ("ended", False, 12, 12, 0)
    assert now.eta_s is None
    assert now.best == {"accuracy": max(t.value("accuracy") or 0 for t in run.trials)}
    assert now.front == {"": len(run.front().trials)} and 0 < now.volume[""] <= 1


def test_a_run_that_goes_on_is_seen_from_another_process(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "live"
    code = (
        "import nas; nas.search('mobile', ['digits'], out=%r, trials=4000, generation=6, "
        "objectives=('accuracy', 'flops'), evaluate_in='torch', "
        "supernet={'steps': 200, 'samples': 64})"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        [sys.executable, "-c", code % str(out)],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    phases = dict[str, Any]()
    try:
        ends = time.monotonic() + 300
        while time.monotonic() < ends and "evaluating" not in phases:
            if (out / "journal.jsonl").exists():
                now = standing(out)
                if now.running:
                    phases[now.phase] = now
            time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert phases["training"].total == 200
    last = phases["evaluating"]
    assert last.total == 4000 and (not last.done or last.eta_s > 0)
    after = standing(out)
    assert not after.running and after.words == "evaluating, not running"
    shown = RUNNER.invoke(app, ["status", str(out), "--watch"])
    assert shown.exit_code == 0 and "not running" in shown.stdout


def test_the_list_says_what_cannot_be_read(runs: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    shutil.copytree(runs, bank)
    (bank / "s1" / "run.toml").write_text("settings = 3")
    (bank / "notes.txt").write_text("no run")
    pairs, faults = standings(bank)
    assert [now.folder.name for _, now in pairs] == ["s0"]
    assert len(faults) == 1 and str(bank / "s1") in faults[0]
    result = RUNNER.invoke(app, ["list", str(bank), "--json"])
    (row,) = json.loads(result.stdout)
    assert (row["run"], row["space"], row["tasks"], row["stands"]) == (
        "s0",
        "mobile",
        "digits",
        "ended",
    )
    assert RUNNER.invoke(app, ["list", str(bank / "nowhere")]).exit_code == 1


def test_runs_are_compared_by_volume_and_by_whom_they_dominate(runs: Path) -> None:
    both = [load(runs / "s0"), load(runs / "s1")]
    rows = compared(both)
    points = [
        [(-(t.value("accuracy") or 0), t.value("flops") or 0) for t in run.trials] for run in both
    ]
    every = [*points[0], *points[1]]
    low, high = (tuple(f(p[i] for p in every) for i in (0, 1)) for f in (min, max))
    for row, own in zip(rows, points, strict=True):
        scaled = [
            tuple((x - a) / (b - a) for x, a, b in zip(p, low, high, strict=True)) for p in own
        ]
        assert row["hypervolume"] == pytest.approx(hypervolume(scaled, (1, 1)), abs=1e-6)
    best, other = sorted(rows, key=lambda row: -row["hypervolume"])
    assert best["trials to the least other"] is not None
    assert other["trials to the least other"] is None
    assert all(0 <= row["dominated"] <= 1 for row in rows)
    assert compared([both[0], both[0]])[0]["dominated"] == 0


def test_runs_of_other_objectives_are_compared_by_columns_alone(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "s1", tmp_path / "other")
    facts = (tmp_path / "other" / "run.toml").read_text()
    assert '"flops"' in facts
    (tmp_path / "other" / "run.toml").write_text(facts.replace('"flops"', '"params"', 1))
    pair = [load(runs / "s0"), load(tmp_path / "other")]
    with pytest.raises(RunError, match="by the same columns"):
        compared(pair)
    assert len(compared(pair, columns=["accuracy", "flops"])) == 2
    result = RUNNER.invoke(app, ["compare", str(runs / "s0")])
    assert result.exit_code == 1 and "two runs or more" in result.stderr


def test_a_run_without_trials_stands_too(runs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    shutil.copytree(runs / "s0", empty)
    (empty / "journal.jsonl").unlink()
    assert standing(empty).phase == "begun"
    Archive.create(empty).close()
    now = standing(empty)
    assert (now.done, now.best, now.front) == (0, {}, {})
    assert RUNNER.invoke(app, ["status", str(empty)]).exit_code == 0
