"""Claims about retraining with a teacher, on all labels, and over seeds."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nas.cli import app
from nas.export import ExportError, load
from nas.grammar import Grammar
from nas.retrain import Curve, Retraining, figures, retrain, retrain_seeds
from nas.retrain.seeds import SEEDS
from nas.retrain.teacher import teacher_of
from nas.search import search
from nas.task import Task

SPACE = (
    "net = conv({4, 8}, stride=2) batchnorm relu conv(8, stride=2) batchnorm relu output(coarse)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    words = {"trials": 2, "generation": 2, "objectives": ("accuracy", "flops")}
    run = search(
        Grammar.parse(SPACE, name="small"),
        "digits",
        out=folder / "run",
        supernet={"steps": 30, "samples": 64},
        **words,
    )
    run.save(run.pick(), folder / "net")
    return folder


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder / "net", to)
    return to


def test_a_teacher_is_a_network_or_the_largest_of_a_runs_shared_weights(folder: Path) -> None:
    task = Task.load("digits")
    x = task.splits().valid.x[:8]
    network, tasks, _, _ = load(folder / "net")
    ask = teacher_of(Retraining(teacher=folder / "net"), tasks, "cpu")
    assert ask
    with torch.no_grad():
        assert torch.equal(ask(x)["digits"], network(x)["digits"])
    ask_largest = teacher_of(Retraining(teacher=folder / "run"), tasks, "cpu")
    assert ask_largest
    assert ask_largest(x)["digits"].shape == (8, 10)


def test_a_taught_network_comes_nearer_to_its_teachers_answers(
    folder: Path, tmp_path: Path
) -> None:
    teacher = copied(folder, tmp_path / "teacher")
    retrain(teacher, Retraining(epochs=3))
    _, tasks, _, _ = load(teacher)
    ask = teacher_of(Retraining(teacher=teacher), tasks, "cpu")
    x = tasks[0].splits().valid.x
    assert ask

    def distance(options: Retraining, name: str) -> float:
        net = copied(folder, tmp_path / name)
        retrain(net, options)
        with torch.no_grad():
            answers = load(net)[0](x)["digits"].softmax(1)
        return float((answers - ask(x)["digits"].softmax(1)).abs().mean())

    taught = Retraining(epochs=2, seed=5, teacher=teacher)
    assert distance(taught, "taught") < distance(Retraining(epochs=2, seed=5), "alone")


def test_seeds_begin_with_what_there_was_before_any_retraining(
    folder: Path, tmp_path: Path
) -> None:
    net = copied(folder, tmp_path / "net")
    first, _ = retrain(net, Retraining(epochs=2.0))
    retrain_seeds(net, 2, Retraining(epochs=0.5))
    assert load(net)[3]["test_before"]["digits_accuracy"] == next(
        m.value for m in first if m.name == "accuracy"
    )


def test_a_teacher_of_something_else_is_refused(folder: Path) -> None:
    with pytest.raises(ExportError, match="a teacher is for a task of that name"):
        teacher_of(Retraining(teacher=folder / "net"), [Task.load("scenes-classify")], "cpu")


MODULE = """
import torch
from torch import nn

class Taught(nn.Module):
    def forward(self, x):
        return {answer}

def build():
    return Taught()
"""


def module(folder: Path, answer: str) -> str:
    (folder / "mine.py").write_text(MODULE.replace("{answer}", answer))
    return f"{folder / 'mine.py'}:build"


def test_a_module_of_ones_own_teaches_from_samples_as_they_are_found(
    folder: Path, tmp_path: Path
) -> None:
    task = Task.load("digits")
    teacher = module(tmp_path, "{'digits': x.flatten(1)[:, :10], 'other': x}")
    ask = teacher_of(Retraining(teacher=teacher, trust_code=True), [task], "cpu")
    assert ask
    split = task.splits().valid
    answers = ask(split.x[:50])
    assert answers.keys() == {"digits"}
    found = split.inputs.as_found(np.arange(50)).float().flatten(1)[:, :10]
    assert torch.allclose(answers["digits"], found, atol=1e-4)


def test_a_network_learns_from_a_module(folder: Path, tmp_path: Path) -> None:
    net = copied(folder, tmp_path / "net")
    one_class = "nn.functional.one_hot(torch.full((len(x),), 3), 10) * 50."
    teacher = module(tmp_path, one_class)
    retrain(net, Retraining(epochs=2, teacher=teacher, trust_code=True))
    x = Task.load("digits").splits().valid.x
    with torch.no_grad():
        taught = load(net)[0](x)["digits"].softmax(1)[:, 3].mean()
        free = load(folder / "net")[0](x)["digits"].softmax(1)[:, 3].mean()
    assert taught > 0.3 > free


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("x.flatten(1)", r"says \[2, 64\] of two samples for digits, whose head says \[2, 10\]"),
        ("{'a': x, 'b': x}", "cannot teach digits: .*gives a dict of a, b"),
        ("x.no_such_thing()", "cannot teach digits: AttributeError"),
    ],
)
def test_a_module_that_cannot_teach_is_refused(tmp_path: Path, answer: str, message: str) -> None:
    options = Retraining(teacher=module(tmp_path, answer), trust_code=True)
    with pytest.raises(ExportError, match=message):
        teacher_of(options, [Task.load("digits")], "cpu")


def test_a_module_is_not_run_unless_its_code_is_trusted(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="allow it with --trust-code"):
        Retraining(teacher=module(tmp_path, "x"))


def test_what_is_learned_from_validation_too_has_no_look_at_it(
    folder: Path, tmp_path: Path
) -> None:
    task = Task.load("digits")
    splits = task.splits()
    whole = splits.with_validation()
    assert len(whole.train) == len(splits.train) + len(splits.valid)
    assert torch.equal(whole.train.x[len(splits.train) :], splits.valid.x)
    assert torch.equal(whole.train.y[: len(splits.train)], splits.train.y)
    net = copied(folder, tmp_path / "net")
    _, after = retrain(net, Retraining(epochs=2, train_on="train+valid"))
    assert Curve.load(net).rows == []
    assert {m.name for m in after} >= {"accuracy"}
    with pytest.raises(ExportError, match="test is never learned"):
        Retraining(train_on="test")


def test_seeds_say_how_much_chance_matters_and_the_best_by_validation_is_kept(
    folder: Path, tmp_path: Path
) -> None:
    net = copied(folder, tmp_path / "net")
    after = retrain_seeds(net, 3, Retraining(epochs=1.0))
    nets = sorted((net / SEEDS).iterdir())
    merits = [Curve.load(one).best["merit"] for one in nets]  # type: ignore[index]
    best = nets[merits.index(max(merits))]
    kept, _, _, facts = load(net)
    assert all(torch.equal(v, load(best)[0].state_dict()[k]) for k, v in kept.state_dict().items())
    accuracies = [m.value for one in nets for m in figures(load(one)[3])[1] if m.name == "accuracy"]
    assert len(set(accuracies)) > 1
    assert facts["seeds"]["mean"]["digits_accuracy"] == pytest.approx(mean(accuracies))
    assert next(m.value for m in after if m.name == "accuracy") in accuracies
    card = (net / "card.md").read_text()
    assert "mean of 3 seeds" in card
    assert f"{mean(accuracies):.4f} ±" in card
    before = {one: (one / "weights.safetensors").read_bytes() for one in nets}
    result = CliRunner().invoke(app, ["retrain", str(net), "--epochs", "1", "--seeds", "3"])
    assert result.exit_code == 0, result.output
    assert "deviation" in result.output
    assert before == {one: (one / "weights.safetensors").read_bytes() for one in nets}
    recipe = net / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("momentum = 0.9", "momentum = 0.8"))
    retrain_seeds(net, 2, Retraining(epochs=1.0))
    assert before[nets[0]] != (nets[0] / "weights.safetensors").read_bytes()
    retrain(net, Retraining(epochs=0.5))
    assert "seeds" not in (net / "card.md").read_text()
