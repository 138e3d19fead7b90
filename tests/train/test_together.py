"""Claims about processes that train together: they come to what one does, and outlive a loss."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nas.search.crew
from nas.events import Event, StepDone, Told
from nas.retrain import Retraining, retrain
from nas.search import Run, SettingsError, resume, search
from nas.search.child import Child

TINY: dict[str, Any] = {
    "trials": 2,
    "generation": 2,
    "objectives": ("accuracy", "flops"),
    "supernet": {"steps": 10, "samples": 32, "batch": 16, "parts": 2, "checkpoint_s": 0.01},
}


def bank(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "bank.safetensors")


def gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("alone") / "run"
    return search("mobile", ["digits"], out=folder, processes=1, **TINY)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    begun: list[Child] = []

    class Noted(Child):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            begun.append(self)

    monkeypatch.setattr(nas.search.crew, "Child", Noted)
    return begun


def test_two_processes_come_to_the_weights_of_one_with_the_same_turns(
    alone: Run, children: list[Child], tmp_path: Path
) -> None:
    steps: list[Event] = []
    both = search(
        "mobile", ["digits"], out=tmp_path / "run", processes=2, listener=steps.append, **TINY
    )
    assert len(children) == 2
    assert gap(bank(alone), bank(both)) < 1e-5
    losses = [event.figures["loss"] for event in steps if isinstance(event, StepDone)][:10]
    assert len(losses) == 10


def test_a_process_that_is_killed_begins_again_at_the_last_checkpoint(
    alone: Run, children: list[Child], tmp_path: Path
) -> None:
    said: list[str] = []

    def listener(event: Event) -> None:
        if isinstance(event, StepDone) and event.done == 5 and len(children) == 2:
            os.kill(children[1].process.pid or 0, signal.SIGKILL)
        if isinstance(event, Told):
            said.append(event.text)

    both = search(
        "mobile", ["digits"], out=tmp_path / "run", processes=2, listener=listener, **TINY
    )
    assert len(children) == 4
    assert any("goes on from the last checkpoint" in text for text in said)
    assert gap(bank(alone), bank(both)) < 1e-5


def test_more_processes_than_a_step_has_parts_are_refused(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise Stop

    with pytest.raises(Stop):
        search("mobile", ["digits"], out=tmp_path / "run", listener=stop, **TINY)
    with pytest.raises(SettingsError, match="a step of this run has 2 parts"):
        resume(tmp_path / "run", processes=4)


def test_a_retraining_by_two_processes_comes_to_that_of_one(alone: Run, tmp_path: Path) -> None:
    figures = []
    for name, processes in (("one", 1), ("two", 2)):
        net = tmp_path / name
        alone.save(alone.trials[0].id, net)
        recipe = (net / "recipe.toml").read_text()
        (net / "recipe.toml").write_text(recipe.replace("parts = 1", "parts = 2"))
        retrain(net, Retraining(epochs=0.5, processes=processes))
        figures.append(load_file(net / "weights.safetensors"))
        assert not [path for path in net.iterdir() if path.name.startswith("training")]
    assert gap(*figures) < 1e-5
