"""Claims about networks that are retrained as Tune trials."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas.archive import Measurement
from nas.export import facts, save
from nas.grammar import Grammar, derive
from nas.network import Network
from nas.retrain import Retraining, retrain, retrained
from nas.retrain.tune import _halving, retrain_on_ray
from nas.search import RunError
from nas.task import Task
from nas.train import Recipe


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks of one small space, as folders."""
    grammar = Grammar.parse("net = conv(8, kernel={3, 5}, stride=2) batchnorm relu output(coarse)")
    task = Task.load("digits")
    folder = tmp_path_factory.mktemp("nets")
    for index, name in enumerate(("a", "b")):
        derivation = derive(grammar, lambda site, options, i=index: i, input=task.input)
        network = Network(derivation, heads=[task]).eval()
        save(network, folder / name, tasks=[task], recipe=Recipe(epochs=20), source={})
    return [folder / "a", folder / "b"]


def values(measurements: list[Measurement]) -> dict[str, float]:
    return {m.name: m.value for m in measurements if m.task}


def test_finalists_are_tune_trials_and_are_not_done_twice(
    cluster: None, nets: list[Path], tmp_path: Path
) -> None:
    steps: list[Any] = []
    words: dict[str, Any] = {"on": "ray", "storage": tmp_path / "run" / "tune"}
    words["options"] = Retraining(epochs=3)
    found = retrain_on_ray(nets, listener=steps.append, **words)
    assert list(found) == nets
    for net, after in found.items():
        assert {m.split for m in after} == {"test"}
        assert values(after)["accuracy"] == facts(net)["test_after"]["digits_accuracy"]
        assert values(after)["accuracy"] > facts(net)["test_before"]["digits_accuracy"]
        assert not (net / "training.safetensors").exists()
    assert steps[-1].done == steps[-1].total
    assert len(list((tmp_path / "run").rglob("checkpoint_*/training.safetensors"))) == 2

    files = sorted((tmp_path / "run").rglob("*"))
    begun = time.monotonic()
    assert retrain_on_ray(nets, **words) == found
    assert time.monotonic() - begun < 2
    assert sorted((tmp_path / "run").rglob("*")) == files


def test_what_falls_behind_at_a_ninth_and_a_third_of_the_epochs_is_stopped(
    nets: list[Path],
) -> None:
    """Its rule, told of nine trainings in turn; none is stopped later, however far behind it is."""
    scheduler = _halving(nets, Retraining(epochs=9.0))
    trials = [SimpleNamespace(trial_id=str(number)) for number in range(9)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)

    def said(number: int, epoch: float, merit: float) -> str:
        facts = {"epoch": epoch, "merit": merit}
        return str(scheduler.on_trial_result(None, trials[number], facts))

    assert [said(n, 1.0, 0.9 - n / 100) for n in range(9)] == ["CONTINUE", *["STOP"] * 8]
    assert said(0, 2.0, 0.1) == "CONTINUE"
    assert [said(n, 3.0, n / 100) for n in (8, 7)] == ["CONTINUE", "STOP"]
    assert [said(8, epoch, 0.0) for epoch in (4.0, 8.0, 9.0)] == ["CONTINUE"] * 3


def test_with_asha_each_is_finished_or_may_go_on(
    cluster: None, nets: list[Path], tmp_path: Path
) -> None:
    nets = [Path(shutil.copytree(net, tmp_path / net.name)) for net in nets]
    words: dict[str, Any] = {"on": "ray", "storage": tmp_path / "tune", "asha": True}
    done = retrain_on_ray(nets, Retraining(epochs=2.0), **words)
    assert any(done.values())
    assert all(done[net] or (net / "training.safetensors").exists() for net in nets)
    with pytest.raises(RunError, match="say one of both"):
        retrain_on_ray(nets, Retraining(train_on="train+valid"), **words)


def test_a_trial_carries_on_and_one_that_fails_is_named_after_the_others(
    cluster: None, nets: list[Path], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(file: Path, done: int, total: int, row: Any) -> None:
        if done * 2 >= total:
            raise Stop

    with pytest.raises(Stop):
        retrain(nets[0], Retraining(epochs=4), kept=stop)
    assert retrained(nets[0], Retraining(epochs=4)) is None
    (nets[1] / "training.safetensors").write_bytes(b"no tensors")
    heard: list[float] = []
    with pytest.raises(RunError, match=r"1 of 2 .*/b: .*damaged"):
        retrain_on_ray(
            nets,
            Retraining(epochs=4),
            on="ray",
            storage=tmp_path / "tune",
            listener=lambda event: heard.append(8 * event.done / event.total),
        )
    assert heard == [3, 4]
    assert retrained(nets[0], Retraining(epochs=4)) is not None
    assert retrained(nets[1], Retraining(epochs=4)) is None
