"""Claims about retraining: nothing better is lost, and weights and figures are one record."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nas.retrain.net
from nas.export import facts, load
from nas.grammar import Grammar
from nas.retrain import Retraining, retrain, retrained
from nas.retrain.net import BEFORE, CHECKPOINT
from nas.search import search

SPACE = "net = conv({4, 8}, stride=2) batchnorm relu output(coarse)\n"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    run = search(
        Grammar.parse(SPACE, name="small"),
        "digits",
        out=folder / "run",
        trials=2,
        generation=2,
        supernet={"steps": 60, "samples": 64},
        objectives=("accuracy", "flops"),
    )
    run.save(run.pick(), folder / "net")
    return folder / "net"


@pytest.fixture
def own(net: Path, tmp_path: Path) -> Path:
    shutil.copytree(net, tmp_path / "net")
    return tmp_path / "net"


def test_what_was_there_stays_beside_what_came_of_it(own: Path) -> None:
    before = (own / "weights.safetensors").read_bytes()
    first, after = retrain(own, Retraining(epochs=0.5))
    assert (own / BEFORE).read_bytes() == before
    assert not (own / CHECKPOINT).exists()
    known = facts(own)
    assert known["measurements"] == [nas.retrain.net.plain(m) for m in after]
    said = json.loads((own / "architecture.json").read_text())["source"]
    accuracy = {m.name: m.value for m in first if m.task}["accuracy"]
    assert said["test_before"]["digits_accuracy"] == accuracy
    assert load(own)[3]["epochs"] == 0.5


@pytest.mark.parametrize("place", ["write", "_end", "note", "save_weights"])
def test_a_retraining_that_dies_anywhere_at_its_end_says_the_same_when_run_again(
    net: Path, own: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its end weights are replaced, figures noted and the checkpoint removed."""
    shutil.copytree(net, tmp_path / "whole")
    whole = retrain(tmp_path / "whole", Retraining(epochs=0.5))

    class Killed(BaseException):
        pass

    usual = getattr(nas.retrain.net, place)
    for when in ("before", "after")[: 1 if place == "_end" else 2]:  # after it, all was done
        shutil.rmtree(own)
        shutil.copytree(net, own)

        def dies(*words: Any, when: str = when, **more: Any) -> None:
            if when == "after":
                usual(*words, **more)
            raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(nas.retrain.net, place, dies)
            retrain(own, Retraining(epochs=0.5))
        assert retrain(own, Retraining(epochs=0.5)) == whole
        assert facts(own)["measurements"] == facts(tmp_path / "whole")["measurements"]


def test_a_kill_while_it_trains_loses_neither_weights_nor_figures(own: Path) -> None:
    before = (own / "weights.safetensors").read_bytes()
    code = "import sys; from nas.retrain import Retraining, retrain; from pathlib import Path\n"
    code += "retrain(Path(sys.argv[1]), Retraining(epochs=300))"
    process = subprocess.Popen([sys.executable, "-c", code, str(own)])
    ends = time.time() + 60
    while not (own / CHECKPOINT).exists() and time.time() < ends:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (own / "weights.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="repeat that one's options, or remove the file"):
        retrain(own, Retraining(epochs=1))


def test_a_network_counts_as_retrained_by_its_whole_recipe(own: Path) -> None:
    assert retrained(own, Retraining(epochs=0.5)) is None
    _, after = retrain(own, Retraining(epochs=0.5))
    assert retrained(own, Retraining(epochs=0.5)) == [m for m in after if m.task]
    assert retrained(own, Retraining(epochs=0.5, lr=0.01)) is None
    assert retrained(own, Retraining(epochs=0.5, weights=own)) is None
    text = (own / "recipe.toml").read_text()
    (own / "recipe.toml").write_text(text.replace("weight_decay = 0.0005", "weight_decay = 0.001"))
    assert retrained(own, Retraining(epochs=0.5)) is None


def test_an_extraction_that_dies_half_way_is_not_in_its_own_way(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nas.export.folder as folder
    from nas.search import load as load_run

    run = load_run(net.parent / "run")

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folder, "_write_record", die)
        run.save(run.pick(), tmp_path / "net")
    assert not list(tmp_path.iterdir())
    run.save(run.pick(), tmp_path / "net")
    assert load(tmp_path / "net")
