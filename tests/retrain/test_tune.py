"""Claims about networks that are retrained as Tune trials."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nas.archive import Measurement
from nas.export import facts, save
from nas.grammar import Grammar, derive
from nas.network import Network
from nas.retrain import Retraining, retrain, retrained
from nas.retrain.tune import retrain_on_ray
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


def test_what_falls_behind_is_stopped_and_carries_on_if_it_is_asked_for(
    cluster: None, tmp_path: Path
) -> None:
    """Two networks of one channel beside one of sixteen, which every epoch is ahead."""
    task, nets = Task.load("digits"), []
    for index, width in enumerate((16, 1, 1)):
        grammar = Grammar.parse(f"net = conv({width}) batchnorm relu output(coarse)")
        derivation = derive(grammar, lambda site, options: 0, input=task.input)
        network = Network(derivation, heads=[task], seed=index).eval()
        nets.append(tmp_path / f"net{index}")
        save(network, nets[-1], tasks=[task], recipe=Recipe(epochs=9), source={})
    words: dict[str, Any] = {"on": "ray", "storage": tmp_path / "tune"}
    done = retrain_on_ray(nets, asha=True, **words)
    assert done[nets[0]]
    stopped = [net for net in nets if not done[net]]
    assert stopped
    assert all((net / "training.safetensors").exists() for net in stopped)
    assert values(retrain(stopped[0])[1])["accuracy"] < values(done[nets[0]])["accuracy"]


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
