"""What other tools read of a run."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.events import Event, RunEnded, StepDone, Told, TrialDone
from nas.search import Run, search
from nas.trackers import parsed, tracked

QUICK: dict[str, Any] = {
    "trials": 8,
    "generation": 4,
    "supernet": {"steps": 10, "samples": 64},
    "objectives": ("accuracy", "flops"),
    "limits": ("flops<=400k",),
    "evaluate_in": "torch",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    for package in ("tensorboard", "mlflow", "optuna_dashboard"):
        pytest.importorskip(package, reason=f"{package} is an extra")
    folder = tmp_path_factory.mktemp("tracked")
    out = folder / "run"
    places = ["tensorboard", f"mlflow=sqlite:///{folder / 'ml.db'}", "optuna"]
    hear = tracked(lambda event: None, [parsed(text, out) for text in places])
    return search("mobile", ["digits"], out=out, listener=hear, **QUICK)


def test_tensorboard_reads_losses_and_every_column(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder.parent / "tensorboard" / "run"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert "supernet/loss" in tags
    values = {e.step: e.value for e in events.Scalars("trials/accuracy")}
    assert values == {t.number: pytest.approx(t.value("accuracy")) for t in run.trials}


def test_mlflow_reads_a_search_with_a_child_a_trial(run: Run) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run.folder.parent / 'ml.db'}")
    experiment = client.get_experiment_by_name("nas")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert parent.info.status == "FINISHED"
    children = {r.data.tags["mlflow.runName"]: r for r in runs if r is not parent}
    assert children.keys() == {trial.id for trial in run.trials}
    for trial in run.trials:
        assert children[trial.id].data.metrics["accuracy"] == trial.value("accuracy")
        assert children[trial.id].data.params["derivation"] == trial.text[:500]


def test_optuna_dashboard_shows_objectives_sites_and_limits(run: Run) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    storage = f"sqlite:///{run.folder / 'study.db'}"
    command = [sys.executable, "-m", "optuna_dashboard._cli", storage]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        facts = read(f"http://127.0.0.1:{port}/api/studies/1")
    finally:
        process.kill()
        process.wait()
    assert facts["directions"] == ["maximize", "minimize"]
    assert facts["objective_names"] == ["accuracy", "flops"]
    for shown, trial in zip(facts["trials"], run.trials, strict=True):
        assert shown["values"] == [trial.value("accuracy"), trial.value("flops")]
        params = {p["name"]: p["param_external_value"] for p in shown["params"]}
        assert params == dict(run.derivation(trial.id).by_site)
        attributes = {a["key"]: a["value"] for a in shown["user_attrs"]}
        assert attributes["derivation"] == trial.text


def read(address: str) -> Any:
    """What a server answers once it is there."""
    ends = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.3)


def test_a_study_is_written_once_and_goes_on_with_its_run(run: Run, tmp_path: Path) -> None:
    from nas.trackers.study import mirrored

    storage = f"sqlite:///{tmp_path / 's.db'}"
    assert len(mirrored(run, storage).trials) == len(mirrored(run, storage).trials) == 8
    (limit,) = run.limits
    for frozen, trial in zip(mirrored(run, storage).trials, run.trials, strict=True):
        assert frozen.constraints == {str(limit): limit.excess(trial.value("flops") or 0)}


def test_a_study_of_an_open_space_is_written_too(tmp_path: Path) -> None:
    from nas.trackers.study import mirrored

    space = tmp_path / "open.grammar"
    space.write_text("net = part output(coarse)\npart = conv(4) | relu | part part\n")
    out = tmp_path / "run"
    words = {"standalone": {"epochs": 0.2}, "objectives": ("accuracy", "flops")}
    grown = search(str(space), ["digits"], out=out, trials=6, generation=3, **words)  # type: ignore[arg-type]
    study = mirrored(grown, f"sqlite:///{tmp_path / 's.db'}")
    for frozen, trial in zip(study.trials, grown.trials, strict=True):
        assert sorted(frozen.params.values()) == sorted(grown.derivation(trial.id).labels)


def test_a_tracker_that_fails_is_left_out_and_said(tmp_path: Path) -> None:
    heard, times = list[Event](), list[int]()

    def broken(event: Event) -> None:
        times.append(1)
        raise OSError("the server is gone")

    hear = tracked(heard.append, [broken])
    for done in range(3):
        hear(StepDone("supernet", done, 3))
    assert len(times) == 1
    (told,) = [event for event in heard if isinstance(event, Told)]
    assert "the search goes on: OSError: the server is gone" in told.text
    with pytest.raises(ValueError, match="tracks nothing: there are tensorboard, mlflow, optuna"):
        parsed("comet", tmp_path)


def logged(data: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, after a header of seven bytes."""
    at, parts, block = 7, b"", 1 << 15
    while at + 7 <= len(data):
        if (left := block - at % block) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb_keeps_every_trial_offline(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is an extra")
    from wandb.proto.wandb_internal_pb2 import Record

    hear = parsed(f"wandb={tmp_path}", run.folder)
    hear(StepDone("supernet", 10, 10, {"loss": 0.5}))
    for trial in run.trials:
        hear(TrialDone("trials", trial.number + 1, len(run.trials), {}, trial))
    hear(RunEnded(run.folder, len(run.trials)))
    (log,) = tmp_path.rglob("*.wandb")
    rows = []
    for data in logged(log.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            rows.append({".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    losses = [row["supernet/loss"] for row in rows if "supernet/loss" in row]
    accuracies = {
        row["trial/number"]: row["trial/accuracy"] for row in rows if "trial/number" in row
    }
    assert losses == [0.5]
    assert accuracies == {trial.number: trial.value("accuracy") for trial in run.trials}
