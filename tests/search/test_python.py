"""Claims about searching from Python: what may be given, what is shown, how it is carried on."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

import nas
from nas.events import Event, StepDone
from nas.report import report
from nas.search import RunError, load, resume, search
from nas.task import Task, TaskError, trivial_score

SPACE = "net = conv({4, 8}, stride=2) batchnorm relu output(coarse)\n"
QUICK: dict[str, Any] = {
    "trials": 2,
    "generation": 2,
    "objectives": ("accuracy", "flops"),
    "supernet": {"steps": 3, "samples": 16},
}
RNG = np.random.default_rng(0)


def bank(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "bank.safetensors")


def test_a_grammar_a_task_and_arrays_are_arguments(tmp_path: Path) -> None:
    grammar = nas.Grammar.parse(SPACE, name="mine")
    run = nas.search(grammar, Task.load("digits"), out=tmp_path / "a", **QUICK)
    assert run.grammar.hash == grammar.hash
    x, y = RNG.normal(size=(80, 1, 8, 8)), np.arange(80) % 2
    given = {
        "mine": (torch.tensor(x), torch.tensor(y)),
        "split": {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:]},
    }
    names = ("mine_accuracy", "flops")
    run = search(grammar, given, out=tmp_path / "b", **{**QUICK, "objectives": names})
    assert [task.name for task in run.tasks] == ["mine", "split"]
    again = load(tmp_path / "b")  # what was given as arrays is kept in the run
    assert torch.equal(again.tasks[0].splits().train.x, run.tasks[0].splits().train.x)
    assert {path.name for path in (tmp_path / "b" / "data").iterdir()} == {"mine.npz", "split.npz"}
    assert len(resume(tmp_path / "b", trials=2).trials) == 2


def test_what_is_no_task_is_named_by_its_type_alone(tmp_path: Path) -> None:
    for wrong in (RNG.normal(size=(50, 8, 8)), 3, [RNG.normal(size=(50, 8))], {"a": 3}):
        with pytest.raises(TaskError, match=r"tasks=\{'mine': \(x, y\)\}") as caught:
            search("mobile", wrong, out=tmp_path / "run", **QUICK)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 250
    with pytest.raises(TaskError, match="class"):
        search("mobile", {"a": (RNG.normal(size=(9, 8, 8)), np.zeros(9))}, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_progress_is_shown_unless_somebody_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grammar = nas.Grammar.parse(SPACE, name="mine")
    search(grammar, "digits", out=tmp_path / "a", **QUICK)
    said = capsys.readouterr().err
    assert "training the supernet" in said
    assert "evaluating subnets: 2/2" in said
    search(grammar, "digits", out=tmp_path / "b", listener=lambda *_: None, **QUICK)
    assert capsys.readouterr().err == ""


def test_optunas_log_is_the_users_own() -> None:
    code = (
        "import optuna; optuna.logging.set_verbosity(optuna.logging.INFO); import nas.search;"
        "assert optuna.logging.get_verbosity() == optuna.logging.INFO"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert optuna.logging.get_verbosity() in (logging.INFO, logging.WARNING)


def test_where_a_run_is_carried_on_is_no_part_of_it(tmp_path: Path) -> None:
    grammar = nas.Grammar.parse(SPACE, name="mine")
    search(grammar, "digits", out=tmp_path / "run", **QUICK)
    text = (tmp_path / "run" / "run.toml").read_text()
    assert not any(word in text for word in ("\non =", "workers =", "device ="))
    changed = load(tmp_path / "run", on="ray", workers=3, device="meta").settings
    assert (changed.on, changed.workers, changed.device) == ("ray", 3, "meta")
    assert load(tmp_path / "run").settings.resolved_device == "cpu"
    with pytest.raises(ValueError, match="there are auto, .*cpu"):
        resume(tmp_path / "run", trials=3, device="abacus")
    old = text.replace("[settings]", '[settings]\non = "ray"\nworkers = 2\ndevice = "cpu"')
    (tmp_path / "run" / "run.toml").write_text(old)  # as runs once were written
    assert load(tmp_path / "run").settings.on == "local"


def test_a_space_that_was_edited_inside_a_run_is_said(tmp_path: Path) -> None:
    run = search(nas.Grammar.parse(SPACE, name="mine"), "digits", out=tmp_path / "run", **QUICK)
    path = run.folder / "space.grammar"
    path.write_text(path.read_text().replace("{4, 8}", "{4, 16}"))
    with pytest.raises(RunError, match="the space has changed since the run began"):
        load(run.folder).extract(run.trials[0].id)


def test_data_that_has_moved_is_said_with_where_its_path_is_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=RNG.normal(size=(60, 8, 8)), y=np.arange(60) % 2)
    grammar = nas.Grammar.parse(SPACE, name="mine")
    run = search(grammar, f"mine={tmp_path / 'd.npz'}", out=tmp_path / "run", **QUICK)
    (tmp_path / "d.npz").rename(tmp_path / "e.npz")
    assert load(run.folder).front().trials
    assert report(load(run.folder)).exists()
    with pytest.raises(TaskError, match=r"d\.npz.*run\.toml.*\[settings\] tasks.*write its path"):
        load(run.folder).network(run.trials[0].id)
    text = (run.folder / "run.toml").read_text().replace("d.npz", "e.npz")
    (run.folder / "run.toml").write_text(text)
    assert load(run.folder).network(run.trials[0].id)


def test_a_front_may_be_asked_for_any_column_that_was_measured(tmp_path: Path) -> None:
    from nas.retrain import Retraining, front_of, retrain_trials

    run = search(nas.Grammar.parse(SPACE, name="mine"), "digits", out=tmp_path / "run", **QUICK)
    with pytest.raises(ValueError, match="no known column"):
        run.front(["test_accuracy", "flops"])
    ids = [trial.id for trial in run.trials]
    retrain_trials(run.folder, ids, Retraining(epochs=0.5))
    front = run.front(["test_accuracy", "flops"])
    assert front.trials
    nets = [run.folder / "nets" / id for id in ids]
    shown = front_of(nets)
    assert [o.name for o in shown.objectives] == ["test_accuracy", "flops"]
    assert sorted(t.value("test_accuracy") or 0 for t in shown.trials) == sorted(
        t.value("test_accuracy") or 0 for t in front.trials
    )
    before = (run.folder / "journal.jsonl").read_bytes()
    stamps = [(net / "weights.safetensors").stat().st_mtime_ns for net in nets]
    rows = retrain_trials(run.folder, ids, Retraining(epochs=0.5))  # by the same recipe: not again
    assert [(net / "weights.safetensors").stat().st_mtime_ns for net in nets] == stamps
    assert (run.folder / "journal.jsonl").read_bytes() == before
    assert all(row["before"] is not None and row["after"] is not None for row in rows)
    retrain_trials(run.folder, ids[:1], Retraining(epochs=0.5, lr=0.05))  # by another it is
    assert (nets[0] / "weights.safetensors").stat().st_mtime_ns != stamps[0]


def test_another_writer_costs_no_training(tmp_path: Path) -> None:
    from nas.archive import Archive, ArchiveError
    from nas.retrain import Retraining, retrain_trials

    run = search(nas.Grammar.parse(SPACE, name="mine"), "digits", out=tmp_path / "run", **QUICK)
    with Archive.open(run.folder, write=True), pytest.raises(ArchiveError, match="another process"):
        retrain_trials(run.folder, [run.trials[0].id], Retraining(epochs=1e6))
    assert not (run.folder / "nets").exists()


def test_a_run_writes_down_its_threads_and_keeps_to_them(tmp_path: Path) -> None:
    grammar, before = nas.Grammar.parse(SPACE, name="mine"), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run = search(grammar, "digits", out=tmp_path / "run", **QUICK)
        assert run.settings.supernet.threads == 2
        seen = set[int]()

        def listener(*_: Any) -> None:
            seen.add(torch.get_num_threads())

        torch.set_num_threads(1)
        (run.folder / "bank.safetensors").unlink()
        resume(run.folder, listener=listener)
        assert 2 in seen
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("rule", ["mean", "momentum", "square", "count"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_rule_may_have_any_name_and_its_supernet_resumes(
    tmp_path: Path, rule: str, optimizer: str
) -> None:
    """Names of users and of the optimizer's state are told apart in a checkpoint."""
    (tmp_path / "s.grammar").write_text(
        f"net = {rule} output(coarse)\n{rule} = conv({{4, 8}}, stride=2) batchnorm relu\n"
    )
    words = {
        **QUICK,
        "supernet": {"steps": 6, "samples": 16, "checkpoint_s": 0.0, "optimizer": optimizer},
    }
    whole = search(tmp_path / "s.grammar", "digits", out=tmp_path / "whole", **words)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "s.grammar", "digits", out=tmp_path / "cut", listener=stop, **words)
    resume(tmp_path / "cut")
    ours, theirs = bank(tmp_path / "cut"), bank(whole.folder)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_small_things_are_said(tmp_path: Path) -> None:
    from nas.search import Settings, SettingsError

    given = {"space": "mobile", "tasks": ["digits"]}
    with pytest.raises(SettingsError, match="did you mean 'steps'"):
        Settings.of({**given, "supernet": {"step": 5}})
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbftrials = 3\n")
    assert Settings.read(tmp_path / "bom.toml") == {"trials": 3}
    (tmp_path / "own.toml").write_bytes(b'\xef\xbb\xbfname = "mine"\n[data]\nkind = "digits"\n')
    assert Task.load(str(tmp_path / "own.toml")).licence == "not stated"
    head = '[head]\nreads = ["coarse"]\nterm = "pool linear(7)"\n'
    (tmp_path / "head.toml").write_text('name = "mine"\n[data]\nkind = "digits"\n' + head)
    with pytest.raises(TaskError, match="logits of shape .n, 7."):
        search("mobile", str(tmp_path / "head.toml"), out=tmp_path / "run", **QUICK)
    fixed = nas.Grammar.parse("net = conv(4, stride=2) relu output(coarse)\n", name="one")
    words = {k: v for k, v in QUICK.items() if k != "supernet"}
    run = search(fixed, "digits", out=tmp_path / "one", standalone={"epochs": 0.2}, **words)
    assert not (run.folder / "bank.safetensors").exists()  # nothing is shared by one network
    assert len(run.trials) == 1
    assert 0 < run.trivial["accuracy"] < 0.2
    (tmp_path / "file").write_text("")
    for place, reason in (("file/run", "Not a directory|cannot|file"), ("file", "is a file")):
        with pytest.raises((RunError, OSError), match=reason):
            search("mobile", "digits", out=tmp_path / place, **QUICK)


def test_a_metric_of_the_users_own_is_measured_and_optimised(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "def recall(logits, y):\n"
        "    assert isinstance(logits, np.ndarray) and logits.shape == (len(y), 10)\n"
        "    return (logits.argmax(1) == y)[y == 3].mean()\n"
        "def broken(logits, y):\n    return 'many'\n"
    )
    definition = (
        'name = "threes"\nmetric = "./own.py:recall"\n'
        '[data]\nkind = "code"\nfunction = "digits:digits"\n'
    )
    (tmp_path / "own.toml").write_text(definition)
    (tmp_path / "s.grammar").write_text("net = conv({4, 8}, stride=2) relu output(coarse)\n")
    words: dict[str, Any] = {"trials": 2, "generation": 2, "supernet": {"steps": 20, "samples": 32}}
    with pytest.raises(TaskError, match=r"this task would run recall\(\) of .*own.py"):
        search(tmp_path / "s.grammar", f"{tmp_path}/own.toml", out=tmp_path / "run", **words)
    run = search(
        tmp_path / "s.grammar",
        f"{tmp_path}/own.toml",
        out=tmp_path / "run",
        trust_code=True,
        **words,
    )
    assert [o.name for o in run.objectives] == ["recall", "flops", "latency_ms"]
    assert run.objectives[0].maximize
    task = Task.load(f"{tmp_path}/own.toml", trust_code=True)
    for trial in run.trials:
        network, valid = run.network(trial.id), task.splits().valid
        right = (network(valid.x)["threes"].argmax(1) == valid.y)[valid.y == 3]
        assert trial.value("recall") == pytest.approx(float(right.double().mean()))
        assert trial.value("accuracy") is not None
    (tmp_path / "own.toml").write_text(definition.replace("recall", "broken"))
    with pytest.raises(TaskError, match=r"broken raised ValueError: .* that returns a number"):
        trivial_score(Task.load(f"{tmp_path}/own.toml", trust_code=True))
