"""Architecture and precision searched together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nas.cli import app
from nas.evaluate.scoring import statistics_inputs
from nas.export import save, to_int8
from nas.export.error import ExportError
from nas.grammar import Grammar, GrammarError, derive
from nas.measure.runtime import RUNTIMES
from nas.network import Network
from nas.plan import FLOAT, Precision, plan
from nas.plan.onnx import session
from nas.search import Run, RunError, SettingsError, load, search
from nas.supernet import Subnet
from nas.task import Scorer, Task
from nas.train import Recipe

TEXT = """
deployed = (precision(32) | precision(8, low={0, 100})) net
net      = conv({4, 8}, stride=2) batchnorm relu conv({4, 8}) batchnorm relu output(coarse)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("precision")
    (folder / "own.grammar").write_text(TEXT)
    return search(
        str(folder / "own.grammar"),
        ["digits"],
        out=folder / "run",
        trials=12,
        generation=6,
        objectives=("accuracy", "size_mb", "latency_ms"),
        limits=("size_mb<=0.01",),
        supernet={"steps": 60},
        trust={"share": 0.0},
    )


def test_every_precision_is_a_choice_like_others(run: Run) -> None:
    derivations = {trial.id: run.derivation(trial.id) for trial in run.trials}
    plans = {id: plan(d, heads=run.tasks) for id, d in derivations.items()}
    assert len(run.trials) == 12 == len({p.fingerprint for p in plans.values()})
    assert {p.precision for p in plans.values()} == {FLOAT, Precision(8, 0), Precision(8, 100)}
    for trial in run.trials:
        columns, planned = trial.columns(), plans[trial.id]
        assert columns["size_mb"] == planned.size_mb <= 0.01
        assert columns["memory_kb"] == planned.memory_kb
        numbers = "float32" if planned.precision == FLOAT else "int8"
        assert trial.newest()["latency_ms"].device.endswith(numbers)


def test_the_accuracy_of_a_network_in_integers_is_that_of_its_integers(run: Run) -> None:
    task, seed = run.tasks[0], run.settings.seed
    split, checked = task.splits().valid, 0
    inputs = statistics_inputs([task], 256, seed)
    for trial in run.trials:
        subnet = Subnet.of(run.bank(), run.derivation(trial.id), [task], inputs)
        if subnet.plan.precision == FLOAT:
            continue
        forward = RUNTIMES["onnxruntime"].load(subnet.plan, subnet.tensors, x=inputs)
        scorer = Scorer(task)
        scorer.add(forward(split.x)["digits"], split.y)
        assert trial.value("accuracy") == pytest.approx(scorer.score()["accuracy"])
        checked += 1
    assert checked


def test_torch_runs_no_integers() -> None:
    grammar = Grammar.parse("net = precision(8) conv(4) relu output(coarse)")
    network = Network(derive(grammar, lambda site, options: 0, input=(1, 8, 8)))
    for name in ("torch", "torch.compile"):
        with pytest.raises(ValueError, match=f"{name.partition('.')[0]} runs no network of 8 bits"):
            RUNTIMES[name].load(network.plan, network.tensors())


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("precision(16)", "a network of 16 bits: 8 and 32 can be run"),
        ("precision(32, low=25)", "of a network of 32 bits no weights have 4"),
        ("precision(8, low=101)", "wants at most 100"),
    ],
)
def test_a_precision_that_cannot_be_run_is_named(term: str, words: str) -> None:
    with pytest.raises(GrammarError, match=words):
        grammar = Grammar.parse(f"net = {term} conv(4) output(coarse)")
        derive(grammar, lambda site, options: 0, input=(1, 8, 8))


def test_a_network_taken_home_is_written_in_integers(run: Run, tmp_path: Path) -> None:
    best = run.front().trials[0].id
    task = Task.load("digits")
    save(run.network(best), tmp_path / "net", tasks=[task], recipe=Recipe(), source={})
    for low in (None, 0, 50):
        written = to_int8(tmp_path / "net", low=low)
        loaded = session(Path(written.path).read_bytes())
        split = task.splits().test
        found = split.x * 0.375 + 0.3043  # as they are before the preparation, nearly
        (name,) = (entry.name for entry in loaded.get_inputs())
        logits = torch.from_numpy(loaded.run(None, {name: found.numpy()})[0])
        accuracy = float((logits.argmax(1) == split.y).float().mean())
        (judged,) = written.judged
        assert judged.integers == pytest.approx(accuracy, abs=0.01)
        assert judged.metric == "accuracy" and written.integers_mb < written.floats_mb
    prepared = to_int8(tmp_path / "net", prepared=True)
    loaded = session(Path(prepared.path).read_bytes())
    assert loaded.get_inputs()[0].shape == ["batch", 1, 8, 8]


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    text, task = "net = conv(4) relu conv(4) output(coarse)", Task.load("digits")
    grammar = Grammar.parse(text)
    network = Network(derive(grammar, lambda site, options: 0, input=(1, 8, 8)), heads=[task])
    with torch.no_grad():
        network.tensors()[0]["weight"].fill_(float("nan"))
    save(network.eval(), tmp_path / "net", tasks=[task], recipe=Recipe(), source={})
    with pytest.raises(ExportError, match="is not finite on the samples"):
        to_int8(tmp_path / "net")
    assert not (tmp_path / "net" / "model.int8.onnx").exists()


def test_a_run_with_precisions_opens_again(run: Run) -> None:
    again = load(run.folder)
    assert [trial.text for trial in again.trials] == [trial.text for trial in run.trials]


def test_what_runs_no_integers_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="torch runs none: measure latency_ms@own in onnx"):
        search(
            "mobile-int8",
            ["digits"],
            out=tmp_path / "run",
            latency=({"name": "own", "runtime": "torch"},),
        )
    (tmp_path / "own.py").write_text("def twice(x):\n    return 2 * x\n")
    path = tmp_path / "own.grammar"
    path.write_text(
        f"use {tmp_path}/own.py:twice as twice\nnet = precision({{8, 32}}) conv(4) twice\n"
    )
    with pytest.raises(RunError, match="operators of your own .twice. have no form there"):
        search(str(path), ["digits"], out=tmp_path / "run", trust_code=True)
    assert not (tmp_path / "run").exists()


def test_a_size_that_no_network_has_is_named(tmp_path: Path) -> None:
    for limit in ("size_mb<=0.0005", "memory_kb<=0.001"):
        with pytest.raises(RunError, match=f"{limit.partition('<')[0]} is .* and .* is asked for"):
            search("mobile-int8", ["digits"], out=tmp_path / "run", limits=(limit,))


def test_a_front_tells_networks_in_integers_by_their_size(run: Run) -> None:
    words = ["front", str(run.folder), "--objectives", "accuracy,memory_kb"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and "size_mb" in shown.output.splitlines()[0]
