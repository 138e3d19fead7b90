"""Claims about tasks that each find an architecture of their own in one run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from nas.cli import app
from nas.export import load as load_net
from nas.front import Objective
from nas.grammar import Grammar
from nas.search import Run, RunError, SettingsError, load, resume, search
from nas.search.columns import Aim, aims_of
from nas.search.preferred import preferred
from nas.search.propose import Proposer
from nas.search.settings import Settings
from nas.supernet import Space
from nas.task import load_tasks, score

TASKS = ["scenes-classify", "scenes-segment"]
SPACE = (
    "net = conv({4, 8}, stride=2) batchnorm relu output(fine)\n"
    "      conv({8, 12, 16}, stride=2) batchnorm relu output(middle)\n"
    "      (conv(8) relu | identity) conv({8, 16}, stride=2) batchnorm relu output(coarse)\n"
)
QUICK: dict[str, Any] = {
    "per_task": True,
    "trials": 12,
    "generation": 6,
    "supernet": {"steps": 12, "samples": 64, "strategy": "by-task", "batch": 16},
    "limits": ("flops<=700k",),
    "evaluate_in": "torch",
}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "small.grammar"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def found(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(space, TASKS, out=tmp_path_factory.mktemp("runs") / "each", **QUICK)


def test_each_task_has_a_front_over_its_own_metric_and_network(found: Run) -> None:
    assert list(found.fronts()) == TASKS
    for task, metric in zip(TASKS, ("average_precision", "mean_iou"), strict=True):
        prefix = task.replace("-", "_")
        front = found.front(task=task)
        assert [o.name for o in front.objectives] == [f"{prefix}_{metric}", f"{prefix}_flops"]
        assert front.trials
        for trial in front.trials:
            assert trial.columns()[f"{prefix}_flops"] <= 700e3
            network = found.network(trial.id, task)
            assert network.plan.flops == trial.columns()[f"{prefix}_flops"]
            assert network.plan.params == trial.columns()[f"{prefix}_params"]
            assert list(network.plan.outputs) == [task]


def test_a_bare_name_is_the_own_column_of_the_task_that_is_asked_for(found: Run) -> None:
    front = found.front(["average_precision", "params"], task=TASKS[0])
    names = [objective.name for objective in front.objectives]
    assert names == ["scenes_classify_average_precision", "scenes_classify_params"]
    whole = found.front(["scenes_segment_mean_iou", "flops"], task=TASKS[0])
    assert whole.objectives[0].name == "scenes_segment_mean_iou"


def test_latencies_are_of_a_network_for_each_task(space: Path, tmp_path: Path) -> None:
    words = {**QUICK, "limits": (), "trials": 4, "supernet": {"steps": 2, "samples": 64}}
    words["objectives"] = ("latency_ms",)
    run = search(space, TASKS, out=tmp_path / "run", **words)
    for task in TASKS:
        column = f"{task.replace('-', '_')}_latency_ms"
        assert run.front(task=task).objectives[1].name == column
        assert all(trial.columns()[column] > 0 for trial in run.trials)
    columns = run.trials[-1].columns()
    assert columns["scenes_classify_latency_ms"] < columns["scenes_segment_latency_ms"]


def test_a_network_for_one_task_does_what_was_measured(found: Run) -> None:
    for task in found.tasks:
        best, split = found.pick(task=task.name), task.splits().valid
        network = found.network(best, task.name)
        with torch.no_grad():
            logits = network(split.x)[task.name]
        column = f"{task.name.replace('-', '_')}_{task.metric}"
        measured = found.trial(best).columns()[column]
        assert score(task, logits, split.y)[task.metric] == pytest.approx(measured, abs=1e-6)
        assert score(task, found.extract(best, task.name)(split.x), split.y)[
            task.metric
        ] == pytest.approx(measured, abs=1e-5)


def test_a_saved_network_holds_one_task_alone(found: Run, tmp_path: Path) -> None:
    found.save(found.pick(task=TASKS[1]), tmp_path / "net", task=TASKS[1])
    _, tasks, _, source = load_net(tmp_path / "net")
    assert [task.name for task in tasks] == TASKS[1:]
    assert source["trial"] == found.pick(task=TASKS[1])


def test_what_tasks_learned_begins_the_search(found: Run) -> None:
    assert set(found.preferences) == set(TASKS)
    first = preferred(found)
    ends = list(found.problem.space.ends())
    assert first[:2] == ends
    texts = {trial.text for trial in found.trials}
    assert {str(derivation) for derivation in first[:6]} <= texts
    for aim in found.aims:
        columns = [found.problem.costs(derivation) for derivation in first[2:]]
        assert any(all(limit.keeps(c) for limit in aim.limits) for c in columns)


def test_a_run_that_is_carried_on_goes_as_a_longer_one(
    found: Run, space: Path, tmp_path: Path
) -> None:
    search(space, TASKS, out=tmp_path / "run", **{**QUICK, "trials": 6})
    resume(tmp_path / "run", trials=12)
    again = load(tmp_path / "run")
    assert [t.text for t in again.trials] == [t.text for t in found.trials]
    assert again.preferences == found.preferences


def test_costs_and_metrics_are_asked_for_by_their_bare_names() -> None:
    tasks = load_tasks(TASKS)

    def asked(**words: Any) -> tuple[Aim, ...]:
        settings = {"space": "mobile", "tasks": TASKS, "per_task": True, **words}
        return aims_of(Settings.of(settings), tasks)

    first, second = asked()
    assert [o.name for o in second.objectives] == [
        "scenes_segment_mean_iou",
        "scenes_segment_flops",
    ]
    first, second = asked(objectives=("nll", "latency_ms", "scenes_segment_params"))
    assert [o.name for o in first.objectives] == [
        "scenes_classify_nll",
        "scenes_classify_latency_ms",
    ]
    assert [o.name for o in second.objectives][2] == "scenes_segment_params"
    assert not any(o.maximize for o in second.objectives)
    first, second = asked(limits=("flops<=1M", "scenes_classify_params<=2k"))
    assert [str(limit) for limit in first.limits] == [
        "scenes_classify_flops <= 1e+06",
        "scenes_classify_params <= 2000",
    ]
    assert [limit.name for limit in second.limits] == ["scenes_segment_flops"]
    with pytest.raises(ValueError, match="no known column"):
        asked(objectives=("speed",))


OPTIONS = "identity | relu | gelu | silu"
ROW = Grammar.parse(f"net = e{{8}} output(coarse)\ne = {OPTIONS}")


def planted(proposer: Proposer, best: dict[str, str], rounds: int, batch: int) -> dict[str, int]:
    """The fewest sites at which a proposal differs from each task's best, after some rounds."""
    nearest = dict.fromkeys(best, 8)
    for _ in range(rounds):
        proposals = [proposer.ask() for _ in range(batch)]
        for proposal in proposals:
            labels = list(proposal.derivation.by_site.values())
            wrong = {
                task: sum(label != option for label in labels) for task, option in best.items()
            }
            nearest = {task: min(n, wrong[task]) for task, n in nearest.items()}
            proposer.tell(proposal, {f"{task}_accuracy": -float(n) for task, n in wrong.items()})
    return nearest


def test_each_task_has_proposals_of_its_own() -> None:
    best = {"a": "relu", "b": "gelu", "c": "silu"}
    aims = [Aim((Objective(f"{task}_accuracy", True),), task=task) for task in best]
    proposer = Proposer(Space(ROW, (4,)), "predicted", aims, seed=0, population=12)
    assert planted(proposer, best, 7, 12) == {"a": 0, "b": 0, "c": 0}
    assert set(proposer.agreement) == {f"{task}_accuracy" for task in best}
    drawn = Proposer(Space(ROW, (4,)), "random", aims, seed=0, population=12)
    assert min(planted(drawn, best, 7, 12).values()) > 0


@pytest.mark.parametrize(
    ("error", "rule", "words"),
    [
        (SettingsError, "per_task is for several tasks", {"tasks": TASKS[:1]}),
        (SettingsError, "nsga2 has none: say predicted", {"sampler": "nsga2"}),
        (RunError, "within a budget: say per_task .* --max flops", {"limits": ()}),
        (RunError, "within a budget: say per_task", {"per_task": False}),
        (RunError, "the smallest for .* has", {"limits": ("flops<=1k",)}),
        (
            SettingsError,
            "latency_ms is asked for, and every latency has a name",
            {"objectives": ("latency_ms",), "latency": [{"name": "server"}]},
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_trains(
    space: Path, tmp_path: Path, error: type[Exception], rule: str, words: dict[str, Any]
) -> None:
    given = {**QUICK, "tasks": TASKS, **words}
    tasks = given.pop("tasks")
    with pytest.raises(error, match=rule):
        search(space, tasks, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_front_of_all_tasks_is_refused_where_each_has_its_own(found: Run) -> None:
    with pytest.raises(RunError, match="each task has its own front: say which"):
        found.front()
    with pytest.raises(
        RunError, match="'depth' is no task of .* of scenes-classify, scenes-segment"
    ):
        found.front(task="depth")


def test_many_trials_are_looked_at_in_part_by_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.search.predicted.BEST", 24)
    monkeypatch.setattr("nas.search.predicted.OTHERS", 12)
    best = {"a": "relu", "b": "gelu"}
    aims = [Aim((Objective(f"{task}_accuracy", True),), task=task) for task in best]
    proposer = Proposer(Space(ROW, (4,)), "predicted", aims, seed=1, population=12)
    assert planted(proposer, best, 7, 12) == {"a": 0, "b": 0}


def test_one_architecture_for_all_tasks_can_be_taken_home_for_one(
    space: Path, tmp_path: Path
) -> None:
    words = {**QUICK, "per_task": False, "trials": 3, "supernet": {"steps": 2, "samples": 64}}
    run = search(space, TASKS, out=tmp_path / "joint", **words)
    front = run.front(task=TASKS[0])
    assert [o.name for o in front.objectives] == ["scenes_classify_average_precision", "flops"]
    network = run.network(run.pick(task=TASKS[0]), TASKS[0])
    assert network.plan.flops < run.trial(run.pick(task=TASKS[0])).columns()["flops"]


def test_preferences_from_elsewhere_are_read_with_care(found: Run, tmp_path: Path) -> None:
    empty = '{"scenes-classify": {"site": {}}, "scenes-segment": {"site": {}}}'
    faults = {"{": "it holds no shares", "{}": "holds nothing of scenes-classify"}
    for text, rule in {**faults, empty: "it holds no shares"}.items():
        folder = tmp_path / str(len(text))
        shutil.copytree(found.folder, folder)
        (folder / "preferences.json").write_text(text)
        with pytest.raises(RunError, match=rule):
            _ = load(folder).preferences


def test_the_commands_know_tasks(found: Run, tmp_path: Path) -> None:
    def nas(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    rows = nas("front", found.folder, "--task", TASKS[1], "--csv").splitlines()
    assert len(rows) == 1 + len(found.front(task=TASKS[1]).trials)
    assert "scenes_segment_flops" in rows[0]
    both = nas("front", found.folder)
    assert all(f"For {task}" in both for task in TASKS)
    written = nas("extract", found.folder, "--task", TASKS[0], "--to", tmp_path / "net")
    flops = int(found.network(found.pick(task=TASKS[0]), TASKS[0]).plan.flops)
    assert f"{flops:,} FLOPs" in written
    page = tmp_path / "page"
    shutil.copytree(found.folder, page)
    assert (
        "The front for scenes-segment"
        in Path(nas("report", page).split("wrote ")[1].strip()).read_text()
    )
