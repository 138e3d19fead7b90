"""Ray: the same run as in this process, deaths and hangs survived, loopback alone, Tune trials."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ray.thirdparty_files import psutil

import nas.search.ray as on_ray
from nas.archive import Archive
from nas.events import Event, TrialDone
from nas.grammar import Grammar, GrammarError
from nas.search import RunError, search
from nas.search.choose_evaluator import trust
from nas.search.folder import create
from nas.search.ray import RayPool, connected
from nas.search.run import Run
from nas.search.settings import Settings

TINY: dict[str, Any] = {
    "trials": 16,
    "generation": 8,
    "supernet": {"steps": 30},
    "objectives": ("accuracy", "flops"),
}
OWN = """
use {folder}/mine.py:hurt as hurt
net = conv({{4, 8, 12}}, kernel={{1, 3, 5}}, stride=2) batchnorm relu hurt output(coarse)
"""
HURT = '''
"""Does what a file beside this one is named for, once."""
import os, signal, time
from pathlib import Path

def once(name):
    try:
        (Path(__file__).parent / name).unlink()
    except FileNotFoundError:
        return False
    return True

def hurt(x):
    if x.device.type != "meta" and once("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if x.device.type != "meta" and once("hang"):
        time.sleep(600)
    return x
'''


def said(run: Run) -> list[tuple[Any, ...]]:
    """All that must not depend on where a run was evaluated."""
    return [
        (t.number, t.id, t.state, t.derivations, t.columns(), t.measurements) for t in run.trials
    ]


def below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def heard_by(process: psutil.Process) -> set[str]:
    """The addresses on which a process takes connections."""
    try:
        found = process.net_connections("inet")
    except psutil.Error:
        return set()
    return {c.laddr.ip.removeprefix("::ffff:") for c in found if c.status == psutil.CONN_LISTEN}


def test_ray_and_this_process_make_the_same_archive(cluster: None, tmp_path: Path) -> None:
    here = search("mobile", ["digits"], out=tmp_path / "here", **TINY)
    there = search("mobile", ["digits"], out=tmp_path / "there", on="ray", workers=2, **TINY)
    assert len(here.trials) == 16
    assert said(here) == said(there)
    tables = [trust(run.folder, standalone=8, epochs=0.2)["tasks"] for run in (here, there)]
    scores = [
        [(row["evaluator"], row["score"], row["scores"]) for row in table["digits"]["rows"]]
        for table in tables
    ]
    assert scores[0] == scores[1]


def test_a_search_on_ray_measures_its_evaluators_as_one_in_this_process(
    cluster: None, tmp_path: Path
) -> None:
    """But for seconds, and what follows from them: the verdict weighs those."""
    words: dict[str, Any] = {
        **TINY,
        "trials": 8,
        "budget_s": 1e4,
        "trust": {"architectures": 8, "least": 8},
        "standalone": {"epochs": 0.5},
        "evaluate_in": "torch",  # else each takes what is faster while it looks
    }
    search("mobile", ["digits"], out=tmp_path / "here", **words)
    there = search("mobile", ["digits"], out=tmp_path / "there", on="ray", workers=2, **words)
    tables = [
        json.loads((tmp_path / name / "trust.json").read_text())["tasks"]["digits"]["rows"]
        for name in ("here", "there")
    ]
    scores = [
        [(row["evaluator"], row["score"], row["scores"], row["tau"]) for row in table]
        for table in tables
    ]
    assert scores[0] == scores[1]
    with Archive.open(there.folder) as archive:
        (verdict,) = archive.notes("verdict")
    used = {m.evaluator for t in there.trials for m in t.measurements if m.task}
    assert used == {verdict["evaluator"]} == {there.evaluator}
    assert len(there.trials) == 8


def test_children_inherit_the_same_weights_on_ray(cluster: None, tmp_path: Path) -> None:
    space = tmp_path / "layers.grammar"
    space.write_text("net = m output(coarse)\nm = part | part m\npart = conv(8) batchnorm relu")
    settings: dict[str, Any] = {
        "trials": 12,
        "generation": 4,
        "population": 10,
        "sampler": "tree",
        "size": (4, 20),
        "objectives": ("accuracy", "flops"),
        "limits": ("activations=20k",),
        "standalone": {"epochs": 0.5, "child_epochs": 0.25, "finalists": 1},
    }
    here = search(str(space), ["digits"], out=tmp_path / "here", **settings)
    there = search(str(space), ["digits"], out=tmp_path / "there", on="ray", workers=2, **settings)
    assert any(m.evaluator == "inherited" for t in here.trials for m in t.measurements)
    assert said(here) == said(there)


def test_a_worker_that_dies_or_hangs_fails_its_trial_alone(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "longest_s", lambda settings: 6.0)
    (tmp_path / "mine.py").write_text(HURT)
    (tmp_path / "own.grammar").write_text(OWN.format(folder=tmp_path))

    def listener(event: Event) -> None:
        harm = {2: "die", 5: "hang"}.get(event.done) if isinstance(event, TrialDone) else None
        if harm:
            (tmp_path / harm).touch()

    words = TINY | {"trials": 8}
    run = search(
        str(tmp_path / "own.grammar"),
        ["digits"],
        out=tmp_path / "run",
        on="ray",
        workers=2,
        listener=listener,
        trust_code=True,
        **words,
    )
    assert len(run.trials) == 8
    reasons = sorted(trial.reason for trial in run.trials if trial.state == "failed")
    assert len(reasons) == 2
    assert reasons[0] == "it took more than 6 s"
    assert reasons[1].startswith("its worker died (killed, out of memory, or crashed): Worker")
    assert "\n" not in reasons[1]
    assert all(trial.value("accuracy") for trial in run.trials if trial.state == "finished")


def test_workers_are_as_urgent_as_the_search(cluster: None) -> None:
    """Ray gives them the lowest priority but four: beside other work they would hardly begin."""
    niceness = on_ray.ray.remote(lambda: __import__("os").nice(0))
    assert on_ray.ray.get(niceness.remote()) == os.nice(0)


def test_what_a_worker_raises_on_loading_the_run_comes_back(cluster: None, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HURT)
    settings = Settings(space="own", tasks=("digits",), on="ray", workers=1)
    create(tmp_path / "run", settings, Grammar.load("mobile"))
    (tmp_path / "run" / "space.grammar").write_text(OWN.format(folder=tmp_path))
    pool = RayPool(tmp_path / "run", settings, trust_code=False)
    try:
        with pytest.raises(GrammarError, match="trust"):
            list(pool.evaluate([on_ray.Job(0, "", "shared", 0)]))
    finally:
        pool.close()


def test_a_cluster_that_is_not_there_is_named_at_once() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(RunError, match=rf"127\.0\.0\.1:{port}.*ray start --head"), _apart(port):
        pass
    assert time.monotonic() - begun < 5


def _apart(port: int) -> Any:
    """A connection as another process without a Ray would make it."""
    was = on_ray.ray.is_initialized
    on_ray.ray.is_initialized = lambda: False
    try:
        made = connected(f"ray:127.0.0.1:{port}")
        made.__enter__()
    finally:
        on_ray.ray.is_initialized = was
    return made


SCRIPT = """
import ray, sys
from nas.search.ray import Actor, connected
with connected("ray", 2):
    worker = ray.remote(Actor).remote()
    ray.get(worker.__ray_ready__.remote())
    print("up", flush=True)
    sys.stdin.read(1)
    ray.get(ray.remote(lambda: __import__("time").sleep(600)).remote())
"""


def test_ray_hears_loopback_alone_and_an_interrupt_leaves_nothing() -> None:
    """Also where ray was imported before: it reads its variable on import."""
    words: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    words |= {"stderr": subprocess.DEVNULL, "start_new_session": True}
    # a shell's background job, and what it starts, would ignore interrupts
    words |= {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], **words) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == b"up\n"
            family = below(process.pid)
            addresses = set().union(*map(heard_by, [psutil.Process(process.pid), *family]))
            assert addresses == {"127.0.0.1"}
            assert any("Worker" in " ".join(one.cmdline()) for one in family)
            process.stdin.write(b"\n")
            process.stdin.flush()
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_scratch_of_processes_that_are_no_more_is_swept_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "SCRATCH", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = (f"nas-{gone.pid}-abc", f"nas-{os.getpid()}-abc", "nas-mine", "other-1-abc")
    for name in names:
        (tmp_path / name / "session").mkdir(parents=True)
    (tmp_path / f"nas-{gone.pid}-link").symlink_to(tmp_path / "other-1-abc")
    on_ray._sweep()
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], f"nas-{gone.pid}-link"}
    assert (tmp_path / "other-1-abc" / "session").exists()


def test_a_ray_started_here_asks_for_a_token_and_leaves_the_users_choice() -> None:
    code = (
        "import os, nas.search.ray; print(os.environ.get('RAY_AUTH_MODE'),"
        " len(os.environ.get('RAY_AUTH_TOKEN', '')))"
    )
    home = {**os.environ, "HOME": "/nowhere"}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        home.pop(name, None)
    for more, said in (({}, "token 64"), ({"RAY_AUTH_MODE": "disabled"}, "disabled 0")):
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**home, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert found.strip() == said
