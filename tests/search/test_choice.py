"""Claims about measuring a run's evaluators, and about a search that chooses among them."""

from __future__ import annotations

import json
import math
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from journal_case import chained

from nas.archive import Archive
from nas.evaluate import EVALUATORS, Conditions, Fidelity, network_scores
from nas.events import Event, Told
from nas.grammar import Derivation, Grammar
from nas.grammar.count import count, enumerate_all
from nas.network import Network
from nas.plan import plan
from nas.search import Run, RunError, SettingsError, load, resume, search
from nas.search.calibration import architectures
from nas.search.choose_evaluator import _most, hopeless, trust
from nas.search.estimate import estimate
from nas.search.folder import create
from nas.search.local import usual_workers
from nas.search.settings import Settings, Supernet
from nas.supernet import Space, chain

SPACE = """
net = conv({4, 8}, stride=2) batchnorm relu (block | identity) (block | identity) output(coarse)
block = conv({8, 16}, kernel={1, 3}) batchnorm relu
"""
OPEN = """
net = conv(4, stride=2) relu body output(coarse)
body = 0.3: body body | conv({4, 8}) | relu | batchnorm
"""
QUICK: dict[str, Any] = {
    "trials": 8,
    "generation": 4,
    "supernet": {"steps": 12, "samples": 64},
    "objectives": ("accuracy", "flops"),
    "standalone": {"epochs": 0.5},
}
SCORES = 8  # of an architecture: shared, finetuned, short, twice alone, three baselines
BUDGET: dict[str, Any] = {**QUICK, "budget_s": 1e4, "trust": {"architectures": 8, "least": 8}}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "small.grammar"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def ran(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(str(space), ["digits"], out=tmp_path_factory.mktemp("runs") / "run", **QUICK)


@pytest.fixture(scope="module")
def calibrated(ran: Run) -> tuple[Run, dict[str, Any]]:
    return ran, trust(ran.folder, standalone=9)


@pytest.fixture(scope="module")
def chosen(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(str(space), ["digits"], out=tmp_path_factory.mktemp("runs") / "auto", **BUDGET)


def outcome(run: Run) -> list[tuple[Any, ...]]:
    """All of the trials but times."""
    return [(t.number, t.id, t.derivations[""], t.measurements) for t in run.trials]


def measured(facts: dict[str, Any]) -> list[tuple[Any, ...]]:
    """All of a table that must not depend on when and how often it was made."""
    return [
        (task, row["evaluator"], row["score"], row["tau"], row["regret_1"], row["scores"])
        for task, each in facts["tasks"].items()
        for row in each["rows"]
    ]


def scored(folder: Path) -> list[dict[str, Any]]:
    with Archive.open(folder) as archive:
        return list(archive.notes("scored"))


def test_the_set_is_distinct_spread_over_sizes_and_more_of_it_extends_fewer(ran: Run) -> None:
    few, many = (list(islice(architectures(ran.problem), n)) for n in (8, 40))
    assert many[:8] == few
    assert len(set(many)) == 40
    sizes = [math.log(Derivation.read(text, ran.grammar).cost.flops) for text in many]
    low, high = min(sizes), max(sizes)
    thirds = [
        sum(low + i * (high - low) / 3 <= s <= low + (i + 1) * (high - low) / 3 for s in sizes)
        for i in range(3)
    ]
    assert min(thirds) >= 8


def test_the_set_ends_where_the_space_does_and_keeps_the_runs_limits(
    ran: Run, tmp_path: Path
) -> None:
    everything = list(architectures(ran.problem))
    assert 45 <= len(everything) <= count(ran.grammar, input=(1, 8, 8)) == 50
    settings = ran.settings.model_copy(update={"limits": ("flops=20k",)})
    create(tmp_path / "limited", settings, ran.grammar, ran.tasks)
    few = list(architectures(load(tmp_path / "limited").problem))
    assert 0 < len(few) < len(everything)
    assert all(Derivation.read(text, ran.grammar).cost.flops <= 20_000 for text in few)


def test_limits_on_the_set_are_those_of_networks_with_their_heads(ran: Run, tmp_path: Path) -> None:
    """Streams that no head reads cost nothing, however large the whole derivation is."""
    given = {"space": "fbnetv5-small", "limits": ("flops=600k",)}
    settings = ran.settings.model_copy(update=given)
    create(tmp_path / "run", settings, Grammar.load("fbnetv5-small"), ran.tasks)
    found = list(islice(architectures(load(tmp_path / "run").problem), 8))
    made = [Derivation.read(text, Grammar.load("fbnetv5-small")) for text in found]
    assert len(made) == 8
    assert all(plan(one, heads=ran.tasks).flops <= 600_000 for one in made)
    assert any(one.cost.flops > 600_000 for one in made)


def test_a_limit_that_few_random_draws_keep_leaves_enough_to_calibrate_with(
    ran: Run, tmp_path: Path
) -> None:
    """Of uniform draws of mobile one in five hundred has so few FLOPs."""
    settings = ran.settings.model_copy(update={"space": "mobile", "limits": ("flops=52k",)})
    create(tmp_path / "run", settings, Grammar.load("mobile"), ran.tasks)
    assert len(list(islice(architectures(load(tmp_path / "run").problem), 33))) == 33


def test_the_set_of_a_sorted_run_is_its_chain_within_the_limits(ran: Run, tmp_path: Path) -> None:
    given = {"limits": ("flops=20k",), "supernet": Supernet(strategy="sorted")}
    create(tmp_path / "run", ran.settings.model_copy(update=given), ran.grammar, ran.tasks)
    run = load(tmp_path / "run")
    members = chain(Space(ran.grammar, (1, 8, 8)).largest)
    allowed = [str(one) for one in members if plan(one, heads=ran.tasks).flops <= 20_000]
    assert 0 < len(allowed) < len(members)
    assert sorted(architectures(run.problem)) == sorted(allowed)
    assert _most(run.problem, ["shared", "short"]) == {"shared": len(allowed), "short": 50}
    assert _most(run.problem, ["finetuned", "short"]) == {"finetuned": len(allowed), "short": 50}


def test_trust_tells_of_every_evaluator_and_leaves_trials_and_front_alone(
    ran: Run, calibrated: tuple[Run, dict[str, Any]]
) -> None:
    run, facts = calibrated
    rows = facts["tasks"]["digits"]["rows"]
    assert [(row["evaluator"], row["score"]) for row in rows] == [
        *(
            (name, score)
            for name in ("shared", "finetuned", "short", "standalone")
            for score in ("accuracy", "nll")
        ),
        ("flops", "flops"),
        ("params", "params"),
        ("synflow", "synflow"),
    ]
    by = {(row["evaluator"], row["score"]): row for row in rows}
    assert by["shared", "nll"]["before_s"] == by["finetuned", "nll"]["before_s"] > 0
    assert by["short", "nll"]["before_s"] == 0
    assert by["standalone", "nll"]["cpu_s"] > by["flops", "flops"]["cpu_s"]
    assert len(facts["architectures"]) == 9
    assert facts["verdict"]["evaluator"] in ("shared", "finetuned", "short", "standalone")
    assert json.loads((run.folder / "trust.json").read_text()) == json.loads(json.dumps(facts))
    assert len(run.trials) == 8
    assert not {t.derivations[""] for t in run.front().trials} - {
        t.derivations[""] for t in run.trials
    }
    assert {m.evaluator for t in run.trials for m in t.measurements if m.task} == {"shared"}


def test_the_truth_is_of_seeds_that_no_evaluator_shares(
    calibrated: tuple[Run, dict[str, Any]],
) -> None:
    seeds: dict[str, set[int]] = {}
    for note in scored(calibrated[0].folder):
        seeds.setdefault(note["evaluator"], set()).add(note["seed"])
    assert len(seeds["standalone"]) == 2
    assert not seeds["standalone"] & seeds["short"]


def test_trust_again_does_nothing_twice_and_more_architectures_extend_it(
    calibrated: tuple[Run, dict[str, Any]], tmp_path: Path
) -> None:
    run, facts = calibrated
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    before = scored(folder)
    assert measured(trust(folder, standalone=9)) == measured(facts)
    assert scored(folder) == before
    more = trust(folder, standalone=10)
    assert more["architectures"][:9] == facts["architectures"]
    after = scored(folder)
    assert after[: len(before)] == before
    assert len(after) == len(before) + SCORES


@pytest.mark.parametrize("lines", [3, 20, 41])
def test_trust_killed_anywhere_goes_on_where_it_was(
    calibrated: tuple[Run, dict[str, Any]], tmp_path: Path, lines: int
) -> None:
    """The journal is what a kill leaves: whole lines, and a part of the one being written."""
    run, facts = calibrated
    folder = tmp_path / "cut"
    shutil.copytree(run.folder, folder)
    journal = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    first = next(i for i, line in enumerate(journal) if b'"kind":"scored"' in line)
    kept = first + lines
    (folder / "journal.jsonl").write_bytes(b"".join(journal[:kept]) + journal[kept][:30])
    assert measured(trust(folder, standalone=9)) == measured(facts)
    assert len(scored(folder)) == len(scored(run.folder))


def test_a_recursive_space_has_no_bank_to_measure(tmp_path: Path) -> None:
    (tmp_path / "open.grammar").write_text(OPEN)
    run = search(
        str(tmp_path / "open.grammar"),
        ["digits"],
        out=tmp_path / "run",
        **{**QUICK, "trials": 2, "generation": 2, "size": (4, 12)},
    )
    facts = trust(run.folder, standalone=8)
    names = {row["evaluator"] for row in facts["tasks"]["digits"]["rows"]}
    assert names == {"short", "standalone", "flops", "params", "synflow"}


def test_inherited_scores_are_measured_on_the_children_that_have_them(tmp_path: Path) -> None:
    (tmp_path / "layers.grammar").write_text(
        "net = m output(coarse)\nm = part | part m\n"
        "part = 0.4: conv(8) batchnorm relu | conv(16, stride=2) batchnorm relu | linear(8)\n"
    )
    settings = {**QUICK, "trials": 24, "population": 10, "size": (3, 10), "sampler": "evolution"}
    settings |= {"limits": ("activations=20k",), "objectives": ("accuracy",)}
    settings["standalone"] = {"epochs": 0.4, "child_epochs": 0.2, "finalists": 0}
    run = search(str(tmp_path / "layers.grammar"), ["digits"], out=tmp_path / "run", **settings)
    children = {
        t.derivations[""]: t.value("accuracy")
        for t in run.trials
        if any(m.evaluator == "inherited" for m in t.measurements)
    }
    assert len(children) >= 8
    facts = trust(run.folder, standalone=8)
    assert set(facts["architectures"]) <= set(children)
    (row,) = (
        row
        for row in facts["tasks"]["digits"]["rows"]
        if (row["evaluator"], row["score"]) == ("inherited", "accuracy")
    )
    assert row["scores"] == [children[text] for text in facts["architectures"]]


def test_trust_asks_for_a_bank_and_for_enough_architectures(ran: Run, tmp_path: Path) -> None:
    folder = tmp_path / "unfinished"
    shutil.copytree(ran.folder, folder)
    (folder / "bank.safetensors").unlink()
    with pytest.raises(RunError, match="no trained bank: nas resume"):
        trust(folder)
    shutil.copytree(ran.folder, tmp_path / "few")
    with pytest.raises(RunError, match="standalone is 3: at least 8 architectures"):
        trust(tmp_path / "few", standalone=3)
    with pytest.raises(SettingsError, match=r"standalone.epochs is -1"):
        trust(tmp_path / "few", epochs=-1)


def test_a_search_with_a_budget_measures_its_evaluators_and_uses_the_verdict(chosen: Run) -> None:
    with Archive.open(chosen.folder) as archive:
        (verdict,) = archive.notes("verdict")
        kinds = [note["kind"] for note in archive.notes()]
    assert kinds.index("bank") < kinds.index("scored") < kinds.index("verdict")
    assert "on 8 architectures" in verdict["reason"]
    assert chosen.evaluator == verdict["evaluator"]
    evaluators = {m.evaluator for t in chosen.trials for m in t.measurements if m.task}
    assert evaluators == {verdict["evaluator"]}
    assert [t.number for t in chosen.trials] == list(range(8))
    assert len(scored(chosen.folder)) == 8 * SCORES
    assert (chosen.folder / "trust.json").exists()


@pytest.mark.parametrize("lines", [5, 30, 66, 68])
def test_a_search_killed_while_or_after_it_calibrates_ends_as_the_whole_one(
    chosen: Run, tmp_path: Path, lines: int
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(chosen.folder, folder)
    journal = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(journal[:lines]) + journal[lines][:20])
    resume(folder)
    assert outcome(load(folder)) == outcome(chosen)
    with Archive.open(folder) as archive:
        assert len(archive.notes("verdict")) == 1
    assert len(scored(folder)) == 8 * SCORES


def test_what_is_measured_of_a_run_later_takes_nothing_from_its_budget(
    chosen: Run, tmp_path: Path
) -> None:
    """A search stopped after its first trials goes on, however long somebody calibrated since."""
    folder = tmp_path / "run"
    shutil.copytree(chosen.folder, folder)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    trials = [i for i, line in enumerate(lines) if '"kind":"trial"' in line]
    (folder / "journal.jsonl").write_text("".join(lines[: trials[3] + 1]))
    with Archive.open(folder, write=True) as archive:
        verdict = archive.notes("verdict")[0]
        scored = sum(float(str(note["seconds"])) for note in archive.notes("scored"))
        # a calibration counts once, with it; its trainings were done side by side
        assert float(str(verdict["seconds"])) >= scored / usual_workers("cpu")
        known = {**archive.notes("scored")[0], "made": "9 epochs", "seconds": 1e6}
        archive.note("scored", **{k: v for k, v in known.items() if k != "kind"})
    assert outcome(resume(folder)) == outcome(chosen)


def test_a_run_that_has_trials_keeps_what_evaluated_them(chosen: Run, tmp_path: Path) -> None:
    """As one that was begun before evaluators were measured."""
    folder = tmp_path / "old"
    shutil.copytree(chosen.folder, folder)
    journal = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    kept = [one for one in journal if b'"scored"' not in one and b'"verdict"' not in one]
    (folder / "journal.jsonl").write_bytes(chained(kept[:-4]))
    run = resume(folder)
    assert len(run.trials) == 8
    assert run.evaluator == "shared"
    assert not scored(folder)


def test_a_budget_too_short_to_calibrate_says_so_and_uses_the_default(
    space: Path, tmp_path: Path
) -> None:
    told: list[str] = []

    def listener(event: Event) -> None:
        if isinstance(event, Told) and event.text.startswith("The evaluator"):
            told.append(event.text)

    run = search(
        str(space),
        ["digits"],
        out=tmp_path / "run",
        listener=listener,
        **{**QUICK, "trials": 4, "budget_s": 4.0},
    )
    assert run.evaluator == "shared"
    (said,) = told
    assert "too few architectures can be trained from scratch in 20% of the budget" in said
    assert not scored(run.folder)


def test_nothing_is_measured_where_the_evaluator_is_named_or_the_share_is_0(
    space: Path, tmp_path: Path
) -> None:
    words = {**QUICK, "trials": 2, "generation": 2, "budget_s": 900.0}
    for name, more in (("named", {"evaluator": "shared"}), ("none", {"trust": {"share": 0}})):
        run = search(str(space), ["digits"], out=tmp_path / name, **words, **more)
        assert run.evaluator == "shared"
        assert not scored(run.folder)


@pytest.mark.parametrize("name", ["short", "standalone"])
def test_a_verdict_other_than_the_default_is_what_evaluates_the_trials(
    ran: Run, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(ran.folder, folder)
    (folder / "journal.jsonl").unlink()
    with Archive.create(folder) as archive:
        archive.note("verdict", evaluator=name, reason="it ranks best", warning="", seconds=0.5)
    run = resume(folder)
    assert {m.evaluator for t in run.trials for m in t.measurements if m.task} == {name}
    assert run.evaluator == name
    trial = run.trials[0]
    conditions = run.problem.conditions()
    found = EVALUATORS[name].measure(run.derivation(trial.id), conditions).measurements
    assert [m.value for m in found] == [m.value for m in trial.measurements][: len(found)]
    fresh = Network(run.derivation(trial.id), heads=run.tasks, seed=run.settings.seed)
    taken = run.network(trial.id).state_dict()
    assert all(torch.equal(value, taken[key]) for key, value in fresh.state_dict().items())


def test_a_network_of_finetuned_weights_is_the_one_that_was_measured(
    space: Path, tmp_path: Path
) -> None:
    words = {**QUICK, "trials": 3, "evaluator": "finetuned", "trust": {"finetune": 40}}
    run = search(str(space), ["digits"], out=tmp_path / "run", **words)
    before = (run.folder / "bank.safetensors").read_bytes()
    assert run.evaluator == "finetuned"
    for trial in run.trials:
        measured = {m.name: m for m in trial.measurements if m.task}
        assert {(m.evaluator, m.fidelity, m.bank_version) for m in measured.values()} == {
            ("finetuned", "12 supernet steps and 40 alone", 12)
        }
        network = run.network(trial.id)
        every = network_scores(network, Conditions(run.tasks), evaluator="", fidelity=Fidelity())
        for one in (m for m in every if m.task):
            assert one.value == pytest.approx(measured[one.name].value, abs=1e-6)
        conditions = Conditions(run.tasks, bank=run.bank(), samples=64)
        shared = EVALUATORS["shared"].measure(run.derivation(trial.id), conditions)
        (alike,) = (m.value for m in shared.measurements if m.name == "nll")
        assert measured["nll"].value < alike - 1e-3
    assert (run.folder / "bank.safetensors").read_bytes() == before


def test_training_from_scratch_that_shared_weights_outdo_ends_the_calibration(
    space: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        **QUICK,
        "budget_s": 1e4,
        "trust": {"architectures": 16, "least": 12},
        "supernet": {"steps": 200, "samples": 64},
        "standalone": {"epochs": 0.2},
    }
    run = search(str(space), ["digits"], out=tmp_path / "run", **given)
    told = json.loads((run.folder / "trust.json").read_text())
    assert run.evaluator == told["verdict"]["evaluator"] == "shared"
    assert "does not tell how good networks become" in told["verdict"]["reason"]
    assert len(told["architectures"]) < 12


def test_a_large_architecture_among_the_first_does_not_end_a_calibration_that_may_fit() -> None:
    first = [4.2, 2.3, 13.9]  # seconds, of which the next nine may take a few each
    assert not hopeless(first, least=12, share_s=60.0)
    assert hopeless(first, least=12, share_s=30.0)
    assert not hopeless([], least=12, share_s=0.1)


def test_an_estimate_is_of_the_evaluator_that_is_asked_for(space: Path) -> None:
    def cost(**more: Any) -> dict[str, float]:
        words = {**QUICK, "space": str(space), "tasks": ("digits",), **more}
        return estimate(Settings.of(words))

    shared, finetuned = cost(), cost(evaluator="finetuned", trust={"finetune": 200})
    assert shared["bank_mb"] == finetuned["bank_mb"] > 0
    assert finetuned["step_ms"] > 0
    assert finetuned["evaluation_ms"] > 2 * shared["evaluation_ms"]
    assert cost(evaluator="short")["bank_mb"] == 0


def test_short_training_can_be_asked_for_and_has_no_children(space: Path, tmp_path: Path) -> None:
    words = {**QUICK, "trials": 2, "generation": 2, "evaluator": "short"}
    run = search(str(space), ["digits"], out=tmp_path / "run", **words)
    assert {m.fidelity for t in run.trials for m in t.measurements if m.task} == {"4 steps"}
    assert not (run.folder / "bank.safetensors").exists()
    with pytest.raises(SettingsError, match="child_epochs 0 with short"):
        Settings.of(
            {
                "space": "mobile",
                "tasks": ("digits",),
                "evaluator": "short",
                "standalone": {"child_epochs": 1},
            }
        )
    with pytest.raises(SettingsError, match="trust.*least is 12, and architectures at most 8"):
        Settings.of({"space": "mobile", "tasks": ("digits",), "trust": {"architectures": 8}})


def test_the_front_found_on_the_bank_is_the_exhaustive_front_of_the_same_evaluator(
    space: Path, tmp_path: Path
) -> None:
    """Each of 50 that the grammar enumerates is evaluated here once more; the search met all."""
    run = search(
        str(space), ["digits"], out=tmp_path / "run", **{**QUICK, "trials": 200, "generation": 20}
    )
    everything = list(enumerate_all(Grammar.load(str(space)), input=(1, 8, 8)))
    assert len(run.trials) == len(everything) == 50
    conditions = run.problem.conditions(run.bank())
    points = {}
    for derivation in everything:
        evaluated = EVALUATORS["shared"].measure(derivation, conditions)
        found = {m.name: m.value for m in evaluated.measurements}
        points[str(derivation)] = (-found["accuracy"], found["flops"])
    front = {
        text
        for text, (loss, flops) in points.items()
        if not any(a <= loss and b <= flops and (a, b) != (loss, flops) for a, b in points.values())
    }
    assert {t.derivations[""] for t in run.front().trials} == front
    assert len(front) > 1
