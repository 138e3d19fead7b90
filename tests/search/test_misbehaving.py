"""One bad operator fails its trials and steps alone, and a search that is stopped can go on.

What forks or hangs here is bounded: by the pool's limit of time, and by tests' own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nas.archive import Archive
from nas.search import RunError, load, resume, search

BAD = """
import ctypes, os, time
from pathlib import Path
import torch

def bad(x, odd=0):
    if x.is_meta or not odd:
        return x * 1
    {harm}
"""
HARM = {
    "hangs": ("while True:\n        time.sleep(0.1)", "took more than"),
    "exits": ("os._exit(3)", "exit code 3"),
    "crashes": ("return ctypes.string_at(0)", "SIGSEGV"),
    "leaves": ("raise SystemExit(1)", "SystemExit"),
    "raises": ("raise KeyError('x')", "KeyError"),
    "not a number": ("return x * float('nan')", "nan"),
    "in place": ("return x.mul_(2)", "writes into its input"),
    "other shape": ("return x[..., 1:]", "on the meta device"),
    "gradient": ("return x + 0 * torch.sqrt(x - x)", "gradient is not finite"),
}
SPACE = "use ./bad.py:bad as bad\nnet = conv({4, 6}, stride=2) relu bad({0, 1}) output(coarse)\n"
QUICK: dict[str, Any] = {
    "trials": 4,
    "generation": 4,
    "objectives": ("accuracy", "flops"),
    "trust_code": True,
    "standalone": {"epochs": 0.2},
}


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What hangs is ended soon, and nothing else is on a busy machine."""
    name = request.node.name
    hangs = 25.0 if "alone" in name else 10.0  # where others train within the limit, on a busy one
    seconds = hangs if "hangs" in name else 120.0
    for module in ("nas.search.local", "nas.search.apart", "nas.search.trial_run"):
        monkeypatch.setattr(f"{module}.longest_s", lambda settings: seconds)


def space(folder: Path, harm: str) -> Path:
    (folder / "bad.py").write_text(BAD.replace("{harm}", harm))
    (folder / "s.grammar").write_text(SPACE)
    return folder / "s.grammar"


@pytest.mark.parametrize("name", HARM)
def test_trained_alone_it_fails_its_trials_with_the_reason(tmp_path: Path, name: str) -> None:
    harm, reason = HARM[name]
    run = search(
        space(tmp_path, harm), "digits", out=tmp_path / "run", evaluator="standalone", **QUICK
    )
    failed = [trial for trial in run.trials if trial.state == "failed"]
    assert len(run.trials) == 4
    assert len(failed) == 2
    assert all("odd=1" in trial.derivations[""] for trial in failed)
    assert all(reason in trial.reason for trial in failed)
    if name == "raises":
        for trial in failed:
            assert trial.traceback.splitlines()[-1].startswith("bad.py:9 in bad: raise KeyError")
            assert tmp_path.name not in trial.traceback
    journal = (run.folder / "journal.jsonl").read_bytes()
    assert resume(run.folder, trust_code=True).trials == run.trials  # and none is met again
    assert (run.folder / "journal.jsonl").read_bytes() == journal


@pytest.mark.parametrize("name", ["exits", "hangs", "raises", "not a number", "gradient"])
def test_in_a_supernet_its_steps_are_passed_over_and_said(tmp_path: Path, name: str) -> None:
    """Of four steps some draw it; ten in a row would stop the training."""
    harm, reason = HARM[name]
    words = {**QUICK, "supernet": {"steps": 2 if name == "hangs" else 4, "samples": 16}}
    run = search(space(tmp_path, harm), "digits", out=tmp_path / "run", **words)
    notes = Archive.open(run.folder).notes("passed")
    assert notes
    assert all("odd=1" in str(note["derivation"]) for note in notes)
    assert all(reason in str(note["reason"]) for note in notes)
    assert {t.state for t in run.trials if "odd=0" in t.derivations[""]} == {"finished"}
    assert {t.state for t in run.trials if "odd=1" in t.derivations[""]} <= {"failed", "finished"}


def test_a_supernet_in_which_every_step_fails_stops_with_the_name(tmp_path: Path) -> None:
    path = space(tmp_path, "return x if not x.requires_grad else x.no_such_thing()")
    path.write_text(SPACE.replace("bad({0, 1})", "bad(1)"))
    with pytest.raises(RunError, match=r"10 steps .* failed where 0 were done.*no_such_thing"):
        search(path, "digits", out=tmp_path / "run", supernet={"steps": 50, "samples": 16}, **QUICK)


def test_a_first_network_that_crashes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = space(tmp_path, "return ctypes.string_at(0)")
    path.write_text(SPACE.replace("bad({0, 1})", "bad(1)"))
    with pytest.raises(RunError, match="none of the first.*SIGSEGV"):
        search(path, "digits", out=tmp_path / "run", **QUICK)
    assert not (tmp_path / "run").exists()


def test_what_was_begun_twice_without_an_end_is_a_failed_trial(tmp_path: Path) -> None:
    words = {**QUICK, "evaluator": "standalone", "trials": 2}
    run = search(space(tmp_path, "return x"), "digits", out=tmp_path / "run", **words)
    text = next(t for t in run.trials if "odd=0" in t.derivations[""]).derivations[""]
    lost = tmp_path / "lost"
    cases = (("twice", 2, True), ("once", 1, False), ("stopped", 2, False), ("ended", 2, False))
    for name, notes, failed in cases:
        folder = lost / name
        folder.mkdir(parents=True)
        for file in ("run.toml", "space.grammar"):
            (folder / file).write_bytes((run.folder / file).read_bytes())
        with Archive.create(folder) as archive:
            for _ in range(notes):
                archive.note("begun", derivation=text)
            if name == "stopped":
                archive.note("stopped")
            if name == "ended":
                archive.note("ended", trials=1, budget_s=2.0)
        found = resume(folder, trust_code=True)
        (trial,) = (t for t in found.trials if t.derivations[""] == text)
        assert (trial.state == "failed") == failed
        assert ("never ended" in trial.reason) == failed


def test_a_budget_is_not_held_up_by_a_step_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.search.apart.longest_s", lambda settings: 600.0)
    monkeypatch.setattr("nas.search.trial_run.TRY_S", 4.0)
    words = {
        **QUICK,
        "trials": 0,
        "trust": {"share": 0.0},
        "supernet": {"steps": 0, "samples": 16, "share": 0.5},
    }
    path = space(tmp_path, HARM["hangs"][0])
    reasons: list[str] = []
    for budget_s in (20.0, 30.0, 90.0, 270.0):  # on a busy machine a child begins late
        begun = time.monotonic()
        run = search(path, "digits", out=tmp_path / f"{budget_s:g}", budget_s=budget_s, **words)
        assert time.monotonic() - begun < budget_s + 120
        assert (run.folder / "bank.safetensors").exists()
        reasons = [str(note["reason"]) for note in Archive.open(run.folder).notes("passed")]
        if reasons:
            break
    assert any("took more than" in reason for reason in reasons)


def test_a_strategy_that_exits_or_raises_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "def exits(space, step, rng):\n    os._exit(3)\n"
        "def raises(space, step, rng):\n    return [][1]\n"
    )
    (tmp_path / "s.grammar").write_text("net = conv({4, 8}, stride=2) relu output(coarse)\n")
    for name, reason in (("exits", "exit code 3"), ("raises", "IndexError at step 0")):
        given = {**QUICK, "supernet": {"strategy": f"{tmp_path / 'mine.py'}:{name}", "steps": 4}}
        with pytest.raises(RunError, match=reason):
            search(tmp_path / "s.grammar", "digits", out=tmp_path / name, **given)


COMMAND = "from nas.cli import main; main()"


@pytest.mark.parametrize("phase", ["training the supernet", "evaluating subnets"])
def test_sigterm_is_as_ctrl_c(tmp_path: Path, phase: str) -> None:
    (tmp_path / "c.toml").write_text(
        'trials = 400\ngeneration = 4\nobjectives = ["accuracy", "flops"]\n'
        f"[supernet]\nsteps = {5_000 if 'supernet' in phase else 2}\nsamples = 512\n"
    )
    words = ["search", "mobile", "--task", "digits", "--config", str(tmp_path / "c.toml")]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words, "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if phase in line:
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped." in said
    assert f"nas resume {tmp_path / 'run'}" in " ".join(said.split())
    assert "Traceback" not in said
    held = load(tmp_path / "run").trials
    if held:
        assert resume(tmp_path / "run", trials=len(held) + 1).trials[: len(held)] == held


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """Also where the parent is killed while the child hangs."""
    path = space(tmp_path, HARM["hangs"][0])
    code = (
        "import nas.search.local, nas.search; from multiprocessing import active_children\n"
        "import threading, time\n"
        "def say():\n    while not active_children():\n        time.sleep(0.1)\n    time.sleep(1)\n"
        "    print(*[c.pid for c in active_children()], flush=True)\n"
        "threading.Thread(target=say, daemon=True).start()\n"
        f"nas.search.search({str(path)!r}, 'digits', out={str(tmp_path / 'run')!r}, trials=4,"
        " generation=4, evaluator='standalone', trust_code=True,"
        " standalone={'epochs': 0.2, 'limit_s': 300}, listener=lambda *_: None)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert pids
    ends = time.time() + 10
    while any(map(_alive, pids)) and time.time() < ends:
        time.sleep(0.1)
    assert not any(map(_alive, pids))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
