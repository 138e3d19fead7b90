"""Searches in which children go on from their parents' weights, and that start from seeds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nas.archive import Archive, Measurement, Trial
from nas.events import Event, Progress, TrialDone
from nas.grammar import Grammar, GrammarError, seed
from nas.search import Run, RunError, SettingsError, load, resume, search
from nas.search.generations import as_searched
from nas.search.settings import Settings

SPACE = """
net = m output(coarse)
m = part | part m
part = 0.4: conv(8) batchnorm relu | conv(16, stride=2) batchnorm relu | batchnorm | linear(8)

seed narrow = conv(8) batchnorm relu batchnorm output(coarse)
seed wide = conv(16, stride=2) batchnorm relu output(coarse)
"""
QUICK: dict[str, Any] = {
    "trials": 20,
    "generation": 5,
    "population": 10,
    "sampler": "evolution",
    "size": (3, 12),
    "objectives": ("accuracy",),
    "limits": ("activations=20k",),
    "standalone": {"epochs": 0.5, "child_epochs": 0.25, "finalists": 2},
}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "layers.grammar"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def ran(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "bred"
    return search(str(space), ["digits"], out=folder, **QUICK)


def evaluators(run: Run) -> list[list[str]]:
    return [[m.evaluator for m in t.measurements if m.name == "accuracy"] for t in run.trials]


def outcome(run: Run) -> list[tuple[Any, ...]]:
    return [
        (
            t.number,
            t.id,
            t.derivations[""],
            sorted((m.name, m.value, m.evaluator) for m in t.measurements),
        )
        for t in run.trials
    ]


def test_children_go_on_from_parents_once_there_is_a_population(ran: Run) -> None:
    first = [some[0] for some in evaluators(ran)]
    assert first[:10] == ["standalone"] * 10
    assert first[10:].count("inherited") >= 8
    fidelity = {m.evaluator: m.fidelity for t in ran.trials for m in t.measurements if m.fidelity}
    assert fidelity == {"standalone": "0.5 epochs", "inherited": "0.25 epochs"}


def test_the_front_is_not_left_with_inherited_scores_alone(ran: Run) -> None:
    rescored = [some for some in evaluators(ran) if some == ["inherited", "standalone"]]
    assert len(rescored) <= 2
    last = [m.evaluator for m in ran.front().trials[0].measurements if m.name == "accuracy"][-1]
    assert last == "standalone" or len(rescored) == 2


def test_only_weights_of_those_that_may_be_parents_are_kept(ran: Run) -> None:
    kept = list((ran.folder / "weights").iterdir())
    assert 1 <= len(kept) <= 10
    assert all(path.suffix == ".safetensors" for path in kept)


def test_an_interrupted_search_with_inheritance_ends_as_the_whole_one(
    ran: Run, space: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"

    def stop(event: Event) -> None:
        if isinstance(event, TrialDone) and event.done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(str(space), ["digits"], out=folder, listener=stop, **QUICK)
    assert len(load(folder).trials) == 13
    assert outcome(resume(folder)) == outcome(ran)


def test_a_search_interrupted_among_its_finalists_ends_as_the_whole_one(
    ran: Run, space: Path, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "finalists":
            raise KeyboardInterrupt

    settings = {**QUICK, "trials": 25, "objectives": ("accuracy", "flops")}
    settings["standalone"] = {**QUICK["standalone"], "finalists": 1}
    whole = search(str(space), ["digits"], out=tmp_path / "whole", **settings)
    assert evaluators(whole).count(["inherited", "standalone"]) == 1
    assert evaluators(whole).count(["inherited"]) > 1
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        search(str(space), ["digits"], out=folder, listener=stop, **settings)
    assert outcome(resume(folder)) == outcome(whole)
    with Archive.open(folder) as archive:
        assert len(archive.notes("finalist")) == 1


def test_proposals_are_told_what_was_known_before_the_finalists() -> None:
    def measured(evaluator: str, value: float) -> Measurement:
        return Measurement("accuracy", value, task="digits", split="valid", evaluator=evaluator)

    once, then = measured("inherited", 0.5), measured("standalone", 0.25)
    trial = Trial(0, "a", {"": ""}, "finished", measurements=(once, then))
    assert trial.columns()["accuracy"] == 0.25
    assert as_searched(trial).columns()["accuracy"] == 0.5
    alone = Trial(0, "a", {"": ""}, "finished", measurements=(then,))
    assert as_searched(alone) == alone


def test_without_child_epochs_every_trial_is_trained_from_scratch(
    space: Path, tmp_path: Path
) -> None:
    run = search(
        str(space), ["digits"], out=tmp_path / "run", **{**QUICK, "standalone": {"epochs": 0.5}}
    )
    assert {name for some in evaluators(run) for name in some} == {"standalone"}
    assert not (run.folder / "weights").exists()


def test_a_search_begins_with_the_seeds_it_is_told(space: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "trials": 5, "start": ("wide", "narrow")}
    run = search(str(space), ["digits"], out=tmp_path / "run", **settings)
    wanted = [seed(run.grammar, name, input=(1, 8, 8)) for name in ("wide", "narrow")]
    assert [run.derivation(t.id) for t in run.trials[:2]] == wanted


def test_the_mix_is_every_seed_that_fits_the_input_and_the_limits(
    space: Path, tmp_path: Path
) -> None:
    grammar = Grammar.load(str(space))
    costs = [seed(grammar, name, input=(1, 8, 8)).cost.activations for name in grammar.seeds]
    limit = f"activations={min(costs)}"
    run = search(
        str(space),
        ["digits"],
        out=tmp_path / "run",
        **{**QUICK, "trials": 5, "start": ("mix",), "limits": (limit,)},
    )
    begun = run.problem.seeds()
    assert [one.cost.activations for one in begun] == [min(costs)]


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_a_start_is_refused_for_samplers_that_do_not_breed(tmp_path: Path, sampler: str) -> None:
    with pytest.raises(SettingsError, match="start is for samplers that breed, and this is"):
        search("mobile", ["digits"], out=tmp_path / "run", sampler=sampler, start=("mix",))
    assert not (tmp_path / "run").exists()


def test_a_seed_over_a_limit_is_refused_with_what_it_costs(space: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "start": ("narrow",), "limits": ("activations=100",)}
    with pytest.raises(RunError, match=r"the seed narrow has 5 terminals, .* activations at most"):
        search(str(space), ["digits"], out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    with pytest.raises(GrammarError, match="has no seed 'broad'; there are narrow, wide"):
        search(str(space), ["digits"], out=tmp_path / "next", **{**QUICK, "start": ("broad",)})


@pytest.mark.parametrize("name", ["einspace", "einspace-cpu"])
def test_shipped_settings_are_read_by_name(name: str) -> None:
    facts = Settings.read(Path(name))
    settings = Settings.of({"space": "einspace", "tasks": ("digits",), **facts})
    recipe = settings.standalone.recipe(0)
    assert (recipe.lr, recipe.weight_decay, recipe.momentum) == (0.04, 3e-4, 0.9)
    assert settings.retrain.epochs == 8 * settings.standalone.epochs
    assert settings.sampler == "evolution"


def test_settings_that_are_not_shipped_are_refused_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"'ein' is no shipped .*: there are einspace-cpu"):
        Settings.read(Path("ein"))


def test_a_copied_run_folder_holds_all_that_resuming_needs(ran: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ran.folder, copy)
    with Archive.open(copy) as archive:
        before = archive.trials
    assert outcome(resume(copy)) == outcome(ran)
    with Archive.open(copy) as archive:
        assert archive.trials == before
