"""The command, as a person or a script uses it."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import pkgutil
import re
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
        "mobile",
        ["digits"],
        out=folder,
        trials=8,
        generation=4,
        supernet={"steps": 8, "samples": 64},
    )
    return folder


def test_no_name_of_a_package_that_loads_late_is_also_a_module_of_it() -> None:
    """Which would stand in its place once it was imported."""
    for package in ("nas.export", "nas.report", "nas.search"):
        loaded = importlib.import_module(package)
        modules = {info.name for info in pkgutil.iter_modules(loaded.__path__)}
        assert not modules & set(loaded.__all__), package


def test_help_needs_no_torch_and_shows_examples() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from nas.cli import app;"
        "print(CliRunner().invoke(app, ['--help']).output);"
        "assert not {'torch', 'ray', 'optuna', 'pandas'} & set(sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "nas search mobile" in said.stdout
    for verb in ("search", "front", "check", "retrain", "extract", "export", "report", "trust"):
        assert "nas " + verb in nas(verb, "--help")


@pytest.mark.parametrize("words", [("front",), ("status",), ("report",), ("front", "--csv")])
def test_what_looks_at_a_run_needs_no_torch(run: Path, words: tuple[str, ...]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from nas.cli import app;"
        "result = CliRunner().invoke(app, sys.argv[1:]); assert result.exit_code == 0;"
        "assert not {'torch', 'ray', 'optuna', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    verb, *more = words
    subprocess.run([sys.executable, "-c", code, verb, str(run), *more], check=True)


def test_it_says_its_version_spaces_and_tasks() -> None:
    assert nas("--version").startswith("nas 0.")
    assert {"mobile", "einspace", "fbnetv5-small"} <= set(nas("spaces").split())
    assert {"digits", "scenes-classify", "scenes-segment"} <= set(nas("tasks").split())


def test_check_counts_ranges_and_shows() -> None:
    words = ["check", "fbnetv5-small", "--input", "3x32x32", "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)
    assert found["architectures"] == "17,179,869,184"
    flops = next(row for row in found["ranges"] if row["quantity"] == "flops")
    assert flops["smallest"] < flops["median"] < flops["largest"]
    assert "mobile@" in nas("check", "mobile", "--input", "1x8x8", "--samples", "5")
    said = nas("check", "einspace", "--input", "1x8x8", "--samples", "5")
    assert "endlessly many" in said
    assert "of 5 drawn: 0 invalid" in said
    assert "0.98 a generation, 1.74 with copies counted" in said


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
    id = load(run).pick()
    assert "params" in nas("extract", run, "--id", id[:5], "--to", net)
    names = {"model.py", "weights.safetensors", "architecture.json", "recipe.toml", "card.md"}
    assert {p.name for p in net.iterdir()} == names
    assert "accuracy" in nas("retrain", net, "--epochs", "1")
    facts = json.loads((net / "architecture.json").read_text())
    assert "digits_accuracy" in facts["source"]["test_after"]
    assert "model.onnx" in nas("export", net, "--onnx")
    assert {p.name for p in net.iterdir()} == names | {
        "model.onnx",
        "weights.before.safetensors",
        "curve.csv",
    }


def test_a_finalists_test_accuracy_joins_the_archive(run: Path) -> None:
    id = load(run).pick()
    nas("retrain", run, "--id", id, "--epochs", "0.5")
    assert load(run).trial(id).value("test_accuracy") is not None
    assert load(run).trial(id).value("accuracy") is not None


def test_trust_shows_a_table_and_its_json_is_the_runs_file(run: Path) -> None:
    words = ["trust", str(run), "--standalone", "8", "--epochs", "0.2"]
    said = nas(*words)
    assert re.search(r"shared weights +nll +-?\d\.\d\d \[", said)
    assert "ceiling, one seed with another" in said
    assert re.search(r"The evaluator to use is \w+", said)
    found = json.loads(CliRunner().invoke(app, [*words, "--budget", "10m", "--json"]).stdout)
    assert found == json.loads((run / "trust.json").read_text())
    assert found["verdict"]["gains"]["short"]["evaluations"] > 100


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
    id = load(run).pick()
    wrong = ("0" if id[0] != "0" else "1") + id[1:]
    assert id in nas("extract", run, "--id", wrong, "--to", "elsewhere", code=1)


def test_everything_can_be_said_in_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(TOML)
    nas("search", "--config", tmp_path / "search.toml", "--out", tmp_path / "run", "--seed", "3")
    settings = load(tmp_path / "run").settings
    assert (settings.trials, settings.seed, settings.supernet.steps) == (8, 3, 8)


def heeding_interrupts() -> None:
    """A shell's background job, and what it starts, would ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_resume_and_resuming_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(TOML.replace("steps = 8", "steps = 120"))
    words = ["search", "--config", str(tmp_path / "search.toml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*COMMAND, *words], stderr=subprocess.PIPE, text=True, preexec_fn=heeding_interrupts
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "training the supernet: 12/120" in line:
            break
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


def test_dry_run_of_a_recursive_space_draws_what_the_search_would(tmp_path: Path) -> None:
    said = nas(
        "search",
        "einspace",
        "--task",
        "digits",
        "--config",
        "einspace-cpu",
        "--out",
        tmp_path / "run",
        "--max",
        "activations=20k",
        "--dry-run",
    )
    assert "evaluation_ms" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "order",
    [
        "import nas; nas.load; f = nas.search",
        "import nas; f = nas.search; nas.load; f = nas.search",
        "import nas.search; import nas; f = nas.search",
        "from nas import *; f = search",
        "from nas.search import load; import nas; f = nas.search",
    ],
)
def test_search_can_be_called_in_every_order_of_imports(order: str) -> None:
    code = f"{order}; assert callable(f)\ntry: f('mobil', ['digits'], out='x')\n"
    code += "except ValueError as error: assert 'mobile' in str(error)\nelse: raise SystemExit(1)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_module_is_the_command() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "nas", "--version"], check=True, capture_output=True, text=True
    )
    assert said.stdout.startswith("nas 0.")


def test_a_toml_file_takes_the_flags_names(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(
        TOML.replace('tasks = ["digits"]', 'task = "digits"\nmax = ["flops=2M"]')
        .replace("trials = 8", f"trials = 3\nout = '{tmp_path / 'run'}'")
        .replace("generation = 4", "generation = 3")
    )
    nas("search", "--config", tmp_path / "search.toml")
    assert load(tmp_path / "run").settings.limits == ("flops<=2M",)


def test_what_was_found_of_ones_data_is_shown(tmp_path: Path) -> None:
    said = nas("search", "mobile", "--task", "digits", "--out", tmp_path / "r", "--dry-run")
    assert "10 classes" in said


def test_a_run_is_read_from_anywhere_and_without_its_data(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "a b").mkdir()
    os.chdir(tmp_path / "a b")
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 8, 8)).astype("float32"), np.arange(60) % 2
    np.savez("data.npz", x=x, y=y)
    Path("ops.py").write_text("def twice(x, by=2):\n    return x * by\n")
    Path("s.grammar").write_text(
        "use ./ops.py:twice as twice\n"
        "net = conv({4, 6}, stride=2) batchnorm relu twice({2, 3}) output(coarse)\n"
    )
    Path("c.toml").write_text(TOML)
    words = ["search", "./s.grammar", "--task", "m=data.npz", "--config", "c.toml", "--out", "r"]
    assert "--trust-code" in nas(*words, code=1)
    assert not Path("r").exists()
    assert "--trust-code" in nas(*words, "--trust-code")
    folder = (tmp_path / "a b" / "r").resolve()
    os.chdir(tmp_path)
    assert "id" in nas("front", folder)
    assert "--trust-code" in nas("resume", folder, "--trials", "9", code=1)
    nas("resume", folder, "--trials", "9", "--trust-code")
    (tmp_path / "a b" / "data.npz").unlink()
    assert "id" in nas("front", folder)


def test_retraining_refuses_nonsense_and_another_recipes_checkpoint(
    run: Path, tmp_path: Path
) -> None:
    net = tmp_path / "net"
    nas("extract", run, "--to", net)
    before = (net / "weights.safetensors").read_bytes()
    for words in (["--epochs", "-3"], ["--epochs", "0"], ["--lr", "900"], ["--lr", "0"]):
        assert "epochs are above 0" in nas("retrain", net, *words, code=1).replace("\n", " ")
    process = subprocess.Popen(
        [*COMMAND, "retrain", str(net), "--epochs", "200"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding_interrupts,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "retraining" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted retraining" in nas("retrain", net, "--epochs", "1", code=1)
    assert (net / "weights.safetensors").read_bytes() == before
