"""Claims about the curve of a retraining: the best epoch is kept, and none better ends it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import nas.retrain.net
from nas.cli import app
from nas.evaluate import Conditions, network_scores
from nas.evaluate.base import Fidelity
from nas.export import ExportError, load
from nas.export.curve import CURVE, Curve
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.retrain import Retraining, retrain
from nas.supernet import Bank

SPACE = Grammar.parse(
    "net = conv(16) batchnorm relu conv(32, stride=2) batchnorm relu output(coarse)\n", name="small"
)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    import random

    from nas.export import save
    from nas.task import Task
    from nas.train import Recipe

    task = Task.load("digits")
    derivation = sample(SPACE, random.Random(0), input=task.input)
    network = Network(derivation, heads=[task]).eval()
    recipe = Recipe(epochs=6, batch=32)
    save(network, tmp_path / "net", tasks=[task], recipe=recipe, source={})
    return tmp_path / "net"


def changed(net: Path, line: str, to: str) -> None:
    text = (net / "recipe.toml").read_text()
    assert line in text
    (net / "recipe.toml").write_text(text.replace(line, to))


def test_the_weights_of_the_best_epoch_by_validation_are_kept(net: Path) -> None:
    changed(net, "lr = 0.1", "lr = 1.5")  # so high that epochs differ
    retrain(net)
    curve = Curve.load(net)
    assert [row["epoch"] for row in curve.rows] == [1, 2, 3, 4, 5, 6]
    network, tasks, recipe, facts = load(net)
    conditions = Conditions(tasks, recipe)
    scores = network_scores(network, conditions, evaluator="", fidelity=Fidelity())
    accuracy = {m.name: m.value for m in scores if m.task}["accuracy"]
    assert curve.best is not None and facts["best_epoch"] == curve.best["epoch"]
    assert accuracy == pytest.approx(curve.best["accuracy"], abs=0.02)  # of more for statistics
    assert curve.best["merit"] == max(row["merit"] for row in curve.rows)


def test_training_ends_when_nothing_became_better_for_as_long_as_the_recipe_says(net: Path) -> None:
    changed(net, "patience = 0", "patience = 2")
    changed(net, "lr = 0.1", "lr = 9.0")
    retrain(net, Retraining(epochs=40))
    rows = Curve.load(net).rows
    merits = [row["merit"] for row in rows]
    assert len(rows) == merits.index(max(merits)) + 3 < 40


def test_the_average_of_weights_is_what_is_kept_where_the_recipe_says_so(net: Path) -> None:
    changed(net, "average = 0.0", "average = 0.99")
    _, after = retrain(net)
    assert {m.name: m.value for m in after if m.task}["accuracy"] > 0.8


def test_the_curve_is_shown_and_reads_back(net: Path) -> None:
    result = CliRunner().invoke(app, ["retrain", str(net), "--epochs", "2"])
    assert result.exit_code == 0, result.output
    assert result.output.count("on validation ") == 1 and "which is kept" in result.output
    assert (net / CURVE).read_text().startswith("epoch,step,lr,loss,accuracy,nll,")


def test_weights_are_taken_by_name_and_what_is_new_is_said(net: Path, tmp_path: Path) -> None:
    tensors = load_file(net / "weights.safetensors")
    head = next(name for name in tensors if "head" in name or "linear" in name)
    other = {**tensors, head: torch.zeros(3, 3)}
    save_file(other, tmp_path / "w.safetensors")
    said: list[str] = []
    retrain(
        net,
        Retraining(epochs=1, weights=tmp_path / "w.safetensors"),
        listener=lambda event: said.append(getattr(event, "text", "")),
    )
    (text,) = filter(None, said)
    assert f"{len(tensors) - 1} of {len(tensors)} tensors begin" in text and head in text
    save_file({"nothing": torch.zeros(1)}, tmp_path / "n.safetensors")
    with pytest.raises(ExportError, match="none of this network's tensors.*there are nothing"):
        retrain(net, Retraining(epochs=1, weights=tmp_path / "n.safetensors"))


def test_a_network_goes_on_from_its_own_weights(net: Path) -> None:
    retrain(net)
    first = Curve.load(net).rows[0]["accuracy"]
    retrain(net, Retraining(lr=1e-4, weights=net))
    assert Curve.load(net).rows[0]["accuracy"] > first


def test_a_curve_of_somebody_else_is_numbers_or_nothing(net: Path) -> None:
    for text in (
        b"epoch,step,merit,\x1b[2Jaccuracy\n1,1,inf,1\n2,2,0.5,1\n",
        b"step,merit\n1,1\n",
        b"\xff\xfe\x00",
        b"epoch,step,merit\n1,1,x\n",
        b"epoch,step,merit\n1,1,nan\n",
    ):
        (net / CURVE).write_bytes(text)
        assert "\x1b" not in str(Curve.load(net)) and "nan" not in str(Curve.load(net))


def test_what_a_file_lacks_is_new_and_not_the_folders_own(net: Path, tmp_path: Path) -> None:
    retrain(net, Retraining(epochs=1))
    own = load_file(net / "weights.safetensors")
    head = next(name for name in own if "head" in name or "linear" in name)
    save_file({k: v for k, v in own.items() if k != head}, tmp_path / "w.safetensors")
    begun: list[dict[str, torch.Tensor]] = []
    usual = nas.retrain.net.save_bank

    def kept(bank: Bank, path: Path, **words: object) -> None:
        begun.append({key: value.clone() for key, value in bank.tensors.items()})
        usual(bank, path, **words)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nas.retrain.net, "save_bank", kept)
        retrain(net, Retraining(epochs=1, weights=tmp_path / "w.safetensors"))
    network, _, recipe, _ = load(net)
    fresh = Bank.of([network.plan], seed=recipe.seed)
    same = {key for key in fresh.tensors if torch.equal(begun[0][key], fresh.tensors[key])}
    assert any(own[head].shape == fresh.tensors[key].shape for key in same)
