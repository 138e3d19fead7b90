"""Claims about the curves of what a run learned."""

from __future__ import annotations

from pathlib import Path

from nas.archive import Archive
from nas.evaluate.alone import PARTS
from nas.grammar import Grammar
from nas.report import report
from nas.report.learning import curves
from nas.retrain import Retraining, retrain_trials
from nas.search import search

SPACE = "net = conv({4, 8}, stride=2) batchnorm relu conv(8) batchnorm relu output(coarse)"


def test_the_page_draws_what_shared_weights_and_retrained_networks_learned(tmp_path: Path) -> None:
    run = search(
        Grammar.parse(SPACE, name="small"),
        "digits",
        out=tmp_path / "run",
        trials=2,
        generation=2,
        supernet={"steps": 120, "samples": 64},
        objectives=("accuracy", "flops"),
    )
    with Archive.open(run.folder) as archive:
        losses = [(note["step"], note["loss"]) for note in archive.notes("loss")]
    assert [step for step, _ in losses] == list(range(2, 121, 2))
    retrain_trials(run.folder, [run.pick()], Retraining(epochs=4.0))
    shared, net = curves(run, run.trials, set())
    assert shared["words"].startswith("The training loss went from ")
    (shared_path,), (net_path,) = shared["paths"], net["paths"]
    assert shared_path.count("L") == len(losses) - 1
    assert net_path.count("L") == 3
    page = report(run).read_text(encoding="utf-8")
    assert shared_path in page
    assert net["words"] in page


def test_the_page_draws_what_networks_learned_that_were_trained_alone(tmp_path: Path) -> None:
    run = search(
        Grammar.parse(SPACE, name="small"),
        "digits",
        out=tmp_path / "run",
        evaluator="standalone",
        trials=2,
        standalone={"epochs": 2.0},
        objectives=("accuracy", "flops"),
    )
    assert all(len(trial.losses) == PARTS for trial in run.trials)
    assert all(trial.losses[0] > trial.losses[-1] > 0 for trial in run.trials)
    front = {trial.id for trial in run.front()}
    (drawing,) = curves(run, run.trials, front)
    assert len(drawing["paths"]) == len(front)
    assert len(drawing["faint"]) == 2 - len(front)
    assert all(path.count("L") == PARTS - 1 for path in drawing["paths"])
    assert drawing["paths"][0] in report(run).read_text(encoding="utf-8")
