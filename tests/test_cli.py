"""The command, as a person or a script uses it."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.search import load, search

COMMAND = [sys.executable, "-c", "from nas.cli import main; main()"]
TOML = """
space = "mobile"
tasks = ["digits"]
trials = 8
generation = 4
objectives = ["accuracy", "flops"]
[supernet]
steps = 8
samples = 64
"""


def nas(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    search(
        "mobile", ["digits"], out=folder, trials=8, generation=4,
        supernet={"steps": 8, "samples": 64},
    )  # fmt: skip
    return folder


def test_help_needs_no_torch_and_shows_examples() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from nas.cli import app;"
        "print(CliRunner().invoke(app, ['--help']).output);"
        "assert not {'torch', 'ray', 'optuna', 'pandas'} & set(sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "nas search mobile" in said.stdout
    for verb in ("search", "front", "check", "retrain", "extract", "export", "report"):
        assert "nas " + verb in nas(verb, "--help")


def test_it_says_its_version_spaces_and_tasks() -> None:
    assert nas("--version").startswith("nas 0.")
    assert {"mobile", "einspace", "fbnetv5-tiny"} <= set(nas("spaces").split())
    assert {"digits", "scenes-classify", "scenes-segment"} <= set(nas("tasks").split())


def test_check_counts_ranges_and_shows() -> None:
    found = json.loads(nas("check", "fbnetv5-tiny", "--input", "3x32x32", "--json"))
    assert found["architectures"] == "65,536"
    flops = next(row for row in found["ranges"] if row["quantity"] == "flops")
    assert flops["smallest"] < flops["median"] < flops["largest"]
    assert "mobile@" in nas("check", "mobile", "--input", "1x8x8", "--samples", "5")
    assert "endlessly many" in nas("check", "einspace", "--input", "1x8x8", "--samples", "5")


def test_front_filters_sorts_and_writes_csv(run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(nas("front", run, "--csv"))))
    ids = [t.id for t in load(run).front().trials]
    assert [row["id"] for row in rows] == ids
    ordered = list(csv.DictReader(io.StringIO(nas("front", run, "--csv", "--sort", "flops"))))
    flops = [float(row["flops"]) for row in ordered]
    assert flops == sorted(flops)
    few = nas("front", run, "--csv", "--where", f"flops <= {flops[0]}")
    assert len(few.splitlines()) == 2
    assert "id" in nas("front", run)


def test_extract_retrain_and_export_walk_a_network_home(run: Path, tmp_path: Path) -> None:
    net = tmp_path / "net"
    id = load(run).best()
    assert "params" in nas("extract", run, "--id", id[:5], "--to", net)
    names = {"model.py", "weights.safetensors", "architecture.json", "recipe.toml"}
    assert {p.name for p in net.iterdir()} == names
    assert "accuracy" in nas("retrain", net, "--epochs", "1")
    facts = json.loads((net / "architecture.json").read_text())
    assert "digits_accuracy" in facts["source"]["test_after"]
    assert "model.onnx" in nas("export", net, "--onnx")
    assert {p.name for p in net.iterdir()} == names | {"model.onnx"}


def test_a_finalists_test_accuracy_joins_the_archive(run: Path) -> None:
    id = load(run).best()
    nas("retrain", run, "--id", id, "--epochs", "0.5")
    assert load(run).trial(id).value("test_accuracy") is not None
    assert load(run).trial(id).value("accuracy") is not None


def test_report_is_written(run: Path) -> None:
    assert "report.html" in nas("report", run)
    assert (run / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "mobil", "--task", "digits"], "Did you mean 'mobile'"),
        (["search", "mobile"], "say a space and a task"),
        (["search", "mobile", "--task", "digits", "--sampler", "magic"], "sampler"),
        (["search", "mobile", "--task", "digits", "--max", "speed=1"], "speed"),
        (["search", "mobile", "--task", "digits", "--budget", "soon"], "10m"),
        (["front", "nowhere"], "no run"),
        (["extract", "nowhere"], "no run"),
        (["retrain", "nowhere"], "nowhere"),
        (["export", "nowhere", "--onnx"], "nowhere"),
        (["check", "mobile", "--input", "cat"], "3x32x32"),
    ],
)
def test_bad_input_is_one_clear_line(words: list[str], said: str, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert said in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


def test_an_unknown_id_names_the_nearest(run: Path) -> None:
    id = load(run).best()
    wrong = ("0" if id[0] != "0" else "1") + id[1:]
    assert id in nas("extract", run, "--id", wrong, "--to", "elsewhere", code=1)


def test_everything_can_be_said_in_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(TOML)
    nas("search", "--config", tmp_path / "search.toml", "--out", tmp_path / "run", "--seed", "3")
    settings = load(tmp_path / "run").settings
    assert (settings.trials, settings.seed, settings.supernet.steps) == (8, 3, 8)


def test_ctrl_c_says_how_to_resume_and_resuming_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(TOML.replace("steps = 8", "steps = 400"))
    words = ["search", "--config", str(tmp_path / "search.toml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "training the supernet" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"nas resume {tmp_path / 'run'}" in " ".join(said.split())
    assert "Traceback" not in said
    assert (tmp_path / "run" / "training.safetensors").exists()
    nas("resume", tmp_path / "run")
    assert len(load(tmp_path / "run").trials) == 8


def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(TOML.replace("trials = 8", "trials = 9"))
    words = ["search", "--config", str(tmp_path / "search.toml"), "--out", str(tmp_path / "run")]

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    process = subprocess.run(
        [*COMMAND, *words], stderr=subprocess.PIPE, text=True, preexec_fn=small_disk, timeout=120
    )
    assert process.returncode == 1
    assert "is the disk full?" in " ".join(process.stderr.split())
    assert "Traceback" not in process.stderr
    assert "nas resume" in " ".join(process.stderr.split())
    nas("resume", tmp_path / "run")
    assert len(load(tmp_path / "run").trials) == 9


def test_dry_run_says_memory_and_eta_and_writes_nothing(tmp_path: Path) -> None:
    said = nas("search", "mobile", "--task", "digits", "--out", tmp_path / "run", "--dry-run")
    assert "bank_mb" in said
    assert "eta_s" in said
    assert not (tmp_path / "run").exists()
