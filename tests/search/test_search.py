"""A run from beginning to end, and everything that may interrupt it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nas.archive import Archive, ArchiveError
from nas.evaluate import EVALUATORS, Conditions, Fidelity, network_scores
from nas.events import BankSaved, Event, RunEnded, Told, TrialDone
from nas.grammar import Grammar, GrammarError
from nas.grammar.count import enumerate_all
from nas.plan import plan
from nas.search import RunError, SettingsError, load, resume, search
from nas.search.generations import as_searched
from nas.search.settings import Settings, seconds
from nas.supernet import Bank, BankError, Space, chain
from nas.task import Task, TaskError
from nas.train import Recipe, Trainer, Turn, train

RNG = np.random.default_rng(7)
QUICK: dict[str, Any] = {
    "trials": 12,
    "generation": 6,
    "supernet": {"steps": 12, "samples": 64},
    "objectives": ("accuracy", "flops"),
    "evaluate_in": "torch",  # the faster of two is chosen by the clock
}
TINY = """
net = conv({4, 8}, stride=2) batchnorm relu (block | identity) output(coarse)
block = conv(8, kernel={1, 3}) batchnorm relu
"""


def facts(folder: Path) -> list[tuple[Any, ...]]:
    """What must be equal in equal runs: everything but times."""
    return [
        (
            t.number,
            t.id,
            t.state,
            t.reason,
            dict(t.derivations),
            sorted((m.name, m.value) for m in t.measurements if not m.name.startswith("latency")),
        )
        for t in load(folder).trials
    ]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "quick"
    search("mobile", ["digits"], out=folder, **QUICK)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "tiny.grammar"
    path.write_text(TINY)
    return path


def test_a_run_holds_distinct_trials_with_all_their_columns(run_folder: Path) -> None:
    trials = load(run_folder).trials
    assert [t.number for t in trials] == list(range(12))
    assert len({t.derivations[""] for t in trials}) == 12
    for trial in trials:
        columns = trial.columns()
        assert {"accuracy", "nll", "flops", "params", "size_mb"} <= set(columns)
        measured = {m.name: m for m in trial.measurements}
        assert measured["accuracy"].split == "valid"
        assert measured["accuracy"].bank_version == 12


def test_with_adam_the_usual_rates_are_adams_unless_said() -> None:
    def given(**supernet: Any) -> tuple[float, float]:
        said = Settings.of({"space": "mobile", "tasks": ["digits"], "supernet": supernet})
        recipe = said.supernet.recipe(0)
        return recipe.lr, recipe.weight_decay

    assert given() == (0.15, 1e-4)
    assert given(optimizer="adam") == (0.005, 0.05)
    assert given(optimizer="adam", lr=0.01) == (0.01, 0.05)


def test_transformers_are_trained_by_adam_unless_something_is_said() -> None:
    def optimizers(space: str, **more: dict[str, Any]) -> list[str]:
        settings = Settings.of({"space": space, "tasks": ["digits"], **more})
        suited = settings.suited(Grammar.load(space))
        parts = suited.supernet, suited.standalone, suited.retrain
        assert all(part.lr == 0.005 for part in parts if part.optimizer == "adam")
        assert suited.suited(Grammar.load(space)) == suited
        return [part.optimizer for part in parts]

    assert optimizers("vit") == ["adam"] * 3
    assert optimizers("vit", supernet={"steps": 9}, standalone={"lr": 0.01}) == [
        "adam",
        "sgd",
        "adam",
    ]
    assert optimizers("vit", retrain={"optimizer": "sgd"}) == ["adam", "adam", "sgd"]
    assert optimizers("mobile") == optimizers("einspace") == ["sgd"] * 3


def test_what_a_sorted_supernet_is_selected_from_is_its_chain(tiny: Path, tmp_path: Path) -> None:
    given = {**QUICK, "supernet": {**QUICK["supernet"], "strategy": "sorted"}, "trials": 50}
    run = search(str(tiny), ["digits"], out=tmp_path / "run", **given)
    members = [str(d) for d in chain(Space(run.grammar, (1, 8, 8)).largest)]
    tried = [t.derivations[""] for t in run.trials]
    assert sorted(tried) == sorted(members)
    assert len(members) == 4
    assert tried[:2] == [members[0], members[-1]]  # so that a budget's end leaves no end out


def test_of_a_chain_only_what_keeps_the_limits_is_tried(tiny: Path, tmp_path: Path) -> None:
    given = {**QUICK, "supernet": {**QUICK["supernet"], "strategy": "sorted"}, "trials": 50}
    grammar, task = Grammar.load(tiny), Task.load("digits")
    members = chain(Space(grammar, (1, 8, 8)).largest)
    flops = sorted(plan(one, heads=[task]).flops for one in members)

    def tried(most: int, folder: str) -> list[float]:
        limits = (f"flops={most}",)
        run = search(str(tiny), ["digits"], out=tmp_path / folder, limits=limits, **given)
        return sorted(m.value for t in run.trials for m in t.measurements if m.name == "flops")

    assert tried(flops[1], "two") == flops[:2]
    with pytest.raises(RunError, match="has flops of at most .* the smallest for digits has"):
        tried(flops[0] - 1, "none")
    assert not (tmp_path / "none").exists()


def test_a_listener_is_told_of_every_task_before_anything_is_trained(tmp_path: Path) -> None:
    heard: list[tuple[str, object]] = []

    def listener(event: Event) -> None:
        heard.append(event)

    search("mobile", ["digits"], out=tmp_path / "run", listener=listener, **QUICK)
    assert heard[0] == Told(Task.load("digits").describe())
    assert sum(isinstance(event, Told) for event in heard) == 1
    assert sum(isinstance(event, BankSaved) for event in heard) == 1
    assert isinstance(heard[-1], RunEnded)


def test_the_same_seed_gives_the_same_archive(run_folder: Path, tmp_path: Path) -> None:
    search("mobile", ["digits"], out=tmp_path / "again", **QUICK)
    assert facts(tmp_path / "again") == facts(run_folder)


def test_another_seed_gives_other_proposals(run_folder: Path, tmp_path: Path) -> None:
    search("mobile", ["digits"], out=tmp_path / "other", seed=1, **QUICK)
    assert {f[1] for f in facts(tmp_path / "other")} != {f[1] for f in facts(run_folder)}


def test_resuming_a_finished_run_changes_nothing(run_folder: Path) -> None:
    before = (run_folder / "journal.jsonl").read_bytes()
    resume(run_folder)
    assert (run_folder / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("lines", [1, 2, 4, 8])
def test_a_run_cut_anywhere_ends_as_the_whole_one(
    run_folder: Path, tmp_path: Path, lines: int
) -> None:
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(run_folder, folder)
    journal = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(journal[:lines]) + journal[lines][:20])
    if lines < 3:
        (folder / "bank.safetensors").unlink()
    resume(folder)
    assert facts(folder) == facts(run_folder)


def test_kill_9_in_the_middle_loses_nothing_recorded(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = (
        f"from nas.search import search\n"
        f"search('mobile', ['digits'], out={str(folder)!r}, **{QUICK!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.time() + 120
    while time.time() < deadline:
        path = folder / "journal.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") >= 6:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = facts(folder)
    assert held
    resume(folder)
    assert facts(folder)[: len(held)] == held
    assert facts(folder) == facts(run_folder)


@pytest.mark.parametrize(
    "sampler", ["random", "tpe", "nsga2", "gp", "tree", "evolution", "predicted"]
)
def test_every_sampler_proposes_and_resumes(tiny: Path, tmp_path: Path, sampler: str) -> None:
    folder = tmp_path / "run"
    search("mobile", ["digits"], out=folder, **{**QUICK, "sampler": sampler})
    whole = facts(folder)
    journal = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(journal[:9]))
    resume(folder)
    assert facts(folder) == whole


def test_a_recursive_space_is_evolved_and_resumes_within_a_generation(tmp_path: Path) -> None:
    (tmp_path / "s.grammar").write_text(
        "net = conv(4) m output(coarse)\nm = 0.6: leaf | m m\nleaf = relu | conv(4) | tanh | norm\n"
    )
    settings = {**QUICK, "trials": 8, "generation": 3, "standalone": {"epochs": 0.1}}
    run = search(str(tmp_path / "s.grammar"), ["digits"], out=tmp_path / "run", **settings)
    whole = facts(tmp_path / "run")
    assert len({plan(run.derivation(trial.id)).fingerprint for trial in run.trials}) == 8
    journal = (tmp_path / "run" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "journal.jsonl").write_bytes(b"".join(journal[:6]))
    resume(tmp_path / "run")
    assert facts(tmp_path / "run") == whole


def test_limits_hold_on_the_front(tmp_path: Path) -> None:
    run = search("mobile", ["digits"], out=tmp_path / "run", **{**QUICK, "limits": ("flops=400k",)})
    front = run.front()
    assert all(t.value("flops") <= 400_000 for t in front.trials)
    assert all(t.value("flops") <= 400_000 for t in run.trials)


def test_latency_says_what_it_was_measured_on(tmp_path: Path) -> None:
    settings = {**QUICK, "trials": 2, "generation": 2, "objectives": ()}
    run = search("mobile", ["digits"], out=tmp_path / "run", **settings)
    for trial in run.trials:
        clocked = [m for m in trial.measurements if m.name == "latency_ms"]
        assert clocked
        for measurement in clocked:
            assert measurement.value > 0
            assert measurement.unit == "ms"
            for word in ("ONNX Runtime", "cpu", "threads 1", "batch 1", "float32"):
                assert word in measurement.device


def test_several_latencies_are_columns_of_their_own(tmp_path: Path) -> None:
    latency = [{}, {"name": "server", "runtime": "torch", "threads": 2, "batch": 4}]
    given = {"trials": 2, "objectives": ("accuracy", "latency_ms"), "latency": latency}
    run = search("mobile", ["digits"], out=tmp_path / "run", **{**QUICK, **given})
    for trial in run.trials:
        columns = trial.newest()
        assert "ONNX Runtime" in columns["latency_ms"].device
        assert "torch" in columns["latency_ms@server"].device
        assert "threads 2, batch 4" in columns["latency_ms@server"].device
        assert columns["latency_wall_ms@server"].value > 0
    assert [o.name for o in load(tmp_path / "run").objectives] == ["accuracy", "latency_ms"]


def test_the_front_is_timed_again_and_a_resumed_run_is_told_what_was_first(tmp_path: Path) -> None:
    folder, given = tmp_path / "run", {"objectives": ("accuracy", "latency_ms")}
    run = search("mobile", ["digits"], out=folder, **{**QUICK, **given})
    front = {trial.id for trial in run.front().trials}
    for trial in run.trials:
        times = [m.value for m in trial.measurements if m.name == "latency_ms"]
        assert len(times) >= 1 + (trial.id in front)
        assert as_searched(trial).value("latency_ms") == times[0]
        assert trial.value("latency_ms") == times[-1]
    before = (folder / "journal.jsonl").read_bytes()
    more = resume(folder, trials=QUICK["trials"] + 2)
    assert (folder / "journal.jsonl").read_bytes().startswith(before)
    assert len(more.trials) == QUICK["trials"] + 2


def test_an_open_grammar_is_searched_by_training_from_scratch(tmp_path: Path) -> None:
    path = tmp_path / "open.grammar"
    path.write_text(
        "net = conv(4, stride=2) relu body output(coarse)\n"
        "body = 0.3: body body | conv({4, 8}) | relu | batchnorm\n"
    )
    settings = {**QUICK, "trials": 3, "generation": 3, "standalone": {"epochs": 0.2}}
    run = search(str(path), ["digits"], out=tmp_path / "run", **settings)
    assert len(run.trials) == 3
    assert all(m.evaluator == "standalone" for t in run.trials for m in t.measurements if m.task)


def test_several_tasks_share_one_trunk_and_have_a_front_each(tmp_path: Path) -> None:
    tasks = ["scenes-classify", "scenes-segment"]
    settings = {"trials": 4, "generation": 4, "supernet": {"steps": 2, "samples": 64}}
    path = tmp_path / "small.grammar"
    path.write_text(
        "net = conv({4, 8}, stride=2) batchnorm relu output(fine)\n"
        "      conv({8, 12}, stride=2) batchnorm relu output(middle)\n"
        "      conv(8, stride=2) batchnorm relu output(coarse)\n"
    )
    run = search(str(path), tasks, out=tmp_path / "two", **settings)
    assert set(run.fronts()) == {"", *tasks}
    names = {"scenes_classify_average_precision", "scenes_segment_mean_iou", "flops"}
    assert {o.name for o in run.objectives} == names
    network = run.network(run.pick())
    assert set(network.plan.outputs) == set(tasks)


def test_a_trial_that_fails_says_why_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(
        "import torch\ndef poison(x, odd=0):\n    return x * (float('nan') if odd else 1.0)\n"
    )
    (tmp_path / "s.grammar").write_text(
        "use ./ops.py:poison as poison\nnet = conv(4, stride=2) poison({0, 1}) output(coarse)\n"
    )
    settings = {
        **QUICK,
        "trials": 2,
        "generation": 4,
        "evaluator": "standalone",
        "standalone": {"epochs": 0.2},
    }
    space = str(tmp_path / "s.grammar")
    run = search(space, ["digits"], out=tmp_path / "run", trust_code=True, **settings)
    states = {t.state: t for t in run.trials}
    assert set(states) == {"finished", "failed"}
    assert "nan" in states["failed"].reason
    assert len(run.front().trials) == 1
    with pytest.raises(GrammarError, match="--trust-code"):
        resume(tmp_path / "run")


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "run"
    y = np.arange(40) % 2
    picture, table = (RNG.normal(size=(40, *shape)) for shape in ((8, 8), (5,)))
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (GrammarError, "Did you mean 'mobile'", {"space": "mobil"}),
        (TaskError, "Did you mean 'digits'", {"tasks": ["digit"]}),
        (ValueError, "Did you mean 'accuracy'", {"objectives": ("accurcy",)}),
        (ValueError, "latency_ms", {"limits": ("latncy_ms=1",)}),
        (SettingsError, "sampler", {"sampler": "magic"}),
        (SettingsError, "trails", {"trails": 3}),
        (SettingsError, "give a budget", {"trials": 0}),
        (SettingsError, "local, ray", {"on": "cloud"}),
        (BankError, "cannot be read as a bank", {"supernet": {"weights": "none.safetensors"}}),
        (SettingsError, "there are auto, .*cpu", {"device": "abacus"}),
        (
            RunError,
            "einspace is recursive, and the strategy sandwich needs a finite space",
            {"space": "einspace", "evaluator": "shared", "supernet": {"strategy": "sandwich"}},
        ),
        (
            RunError,
            "and kernel_transform needs",
            {"space": "einspace", "evaluator": "shared", "supernet": {"kernel_transform": True}},
        ),
        (SettingsError, "is none of single-path, spread", {"supernet": {"strategy": "best"}}),
        (
            ValueError,
            "is no strategy",
            {"supernet": {"strategy": "./none.py:mine"}, "trust_code": True},
        ),
        (RunError, "--trust-code", {"supernet": {"strategy": "./none.py:mine"}}),
        (TaskError, "differ", {"tasks": ["digits", "digits"]}),
        (TaskError, "share their input", {"tasks": {"a": (picture, y), "b": (table, y)}}),
    ]
    for kind, said, changed in cases:
        words = {"space": "mobile", "tasks": ["digits"], **QUICK, **changed}
        with pytest.raises(kind, match=said):
            search(words.pop("space"), words.pop("tasks"), out=out, **words)
        assert not out.exists()


def test_an_existing_folder_is_never_touched(run_folder: Path) -> None:
    before = sorted((p.name, p.stat().st_mtime_ns) for p in run_folder.iterdir())
    with pytest.raises(RunError, match="nas resume"):
        search("mobile", ["digits"], out=run_folder, **QUICK)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in run_folder.iterdir()) == before


def test_a_run_of_a_newer_version_is_refused(run_folder: Path, tmp_path: Path) -> None:
    text = (run_folder / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace("format = 1", "format = 2", 1))
    with pytest.raises(RunError, match="newer nas"):
        load(tmp_path)


def test_two_searches_cannot_write_one_run(run_folder: Path) -> None:
    with Archive.open(run_folder, write=True), pytest.raises(ArchiveError):
        resume(run_folder)


def test_ones_own_data_is_searched(tmp_path: Path, tiny: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 3
    x = (rng.random((200, 9, 9)) + y[:, None, None]).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    run = search(str(tiny), [f"mine={tmp_path / 'data.npz'}"], out=tmp_path / "run", **QUICK)
    assert run.tasks[0].classes == ("0", "1", "2")
    assert run.front().trials


def test_nothing_in_a_run_is_pickled(run_folder: Path) -> None:
    kinds = {".toml", ".jsonl", ".grammar", ".safetensors"}
    assert {p.suffix for p in run_folder.iterdir()} <= kinds
    for line in (run_folder / "journal.jsonl").read_text().splitlines():
        json.loads(line.partition(" ")[2])


def test_durations_read_as_written() -> None:
    assert [seconds(t) for t in ("90", "90s", "10m", "1.5h")] == [90, 90, 600, 5400]
    with pytest.raises(SettingsError, match="10m"):
        seconds("soon")


@pytest.mark.parametrize("name", ["one task", "inputs of their own"])
def test_what_is_extracted_is_what_was_measured(tmp_path: Path, tiny: Path, name: str) -> None:
    """To the last digit, for every trial and task."""
    tasks = ["digits"]
    if name != "one task":
        images = np.random.default_rng(0).normal(size=(300, 8, 8)).astype("float32")
        np.savez(tmp_path / "other.npz", x=3 * images, y=(images.mean((1, 2)) > 0).astype(int))
        tasks.append(f"other={tmp_path / 'other.npz'}")
    run = search(
        str(tiny),
        tasks,
        out=tmp_path / "run",
        trials=4,
        supernet={"steps": 12, "samples": 64},
        generation=4,
    )
    for trial in run.trials:
        network = run.network(trial.id)
        conditions = Conditions(run.tasks)
        every = network_scores(network, conditions, evaluator="", fidelity=Fidelity())
        found = [m for m in every if m.task]
        wanted = [m for m in trial.measurements if m.task]
        assert [(m.task, m.name, m.value) for m in found] == [
            (m.task, m.name, m.value) for m in wanted
        ]
    assert len(run.trials) == 4


def test_a_network_that_is_not_what_was_measured_is_not_taken_out(
    tmp_path: Path, tiny: Path
) -> None:
    words = {"trials": 4, "supernet": {"steps": 60, "samples": 64}, "generation": 4}
    run = search(str(tiny), ["digits"], out=tmp_path / "run", **words)
    run.save(run.pick(), tmp_path / "net")
    path = run.folder / "bank.safetensors"
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    spoiled = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        if value.is_floating_point()
        else value
        for name, value in tensors.items()
    }
    save_file(spoiled, path, metadata=facts)
    with pytest.raises(RunError, match="is not what it was then"):
        run.save(run.pick(), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    run.save(run.pick(), tmp_path / "other", checked=False)


def test_tasks_with_inputs_of_their_own_share_statistics_in_training_and_in_use(
    tmp_path: Path,
) -> None:
    """So one network serves digits and their negatives about as well as digits alone, by shared
    weights and trained from scratch."""
    data = Task.load("digits").splits()
    x, y = data.train.x[:, 0].numpy(), data.train.y.numpy()
    np.savez(tmp_path / "negative.npz", x=-x, y=y)
    space = tmp_path / "one.grammar"
    space.write_text(
        "net = conv(16, stride=2) batchnorm relu conv(16) batchnorm relu output(coarse)"
    )
    tasks = [Task.load("digits"), Task.load(f"negative={tmp_path / 'negative.npz'}")]
    derivation = next(iter(enumerate_all(Grammar.load(str(space)), input=tasks[0].input)))
    recipe = Recipe(epochs=6, lr=0.1)
    conditions = Conditions(tasks, recipe, samples=2048)

    def accuracies(name: str, given: Conditions) -> dict[str | None, float]:
        measurements = EVALUATORS[name].measure(derivation, given).measurements
        return {m.task: m.value for m in measurements if m.name == "accuracy"}

    accuracy = accuracies("standalone", conditions)
    assert min(accuracy.values()) > 0.85
    bank = Bank.of([plan(derivation, heads=tasks)], seed=recipe.seed)
    train(Trainer(bank, tasks, recipe, recipe.steps(tasks)), lambda step: Turn((derivation,)))
    assert accuracies("shared", replace(conditions, bank=bank)) == accuracy


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(BankError, match=r"needs 2 MB .* 1 MB are free or allowed"):
        search("mobile", ["digits"], out=folder, supernet={"memory_mb": 1})
    with pytest.raises(SettingsError, match="supernet.steps 0 .* give a budget or steps"):
        search("mobile", ["digits"], out=folder, supernet={"steps": 0})
    assert not folder.exists()


def test_a_bank_that_is_full_goes_on_with_what_it_has_room_for(tmp_path: Path) -> None:
    space = tmp_path / "open.grammar"
    space.write_text(
        "net = m output(coarse)\nm = part | part m\n"
        "part = conv(16) relu | conv(128, 5) relu | conv(64, 7) relu"
    )
    given: dict[str, Any] = {
        "trials": 4,
        "generation": 4,
        "size": (2, 12),
        "evaluator": "shared",
        "objectives": ("accuracy", "flops"),
    }
    sizes = {}
    for memory_mb in (2, 0):
        supernet = {"steps": 12, "samples": 64, "memory_mb": memory_mb}
        run = search(
            str(space), ["digits"], out=tmp_path / f"{memory_mb}", supernet=supernet, **given
        )
        bank = run.bank()
        assert (bank.version, len(run.trials)) == (12, 4)
        sizes[memory_mb] = 2 * bank.size_mb  # in training, with momentum
    assert 0 < sizes[2] <= 2 < sizes[0]


def test_a_budget_is_kept(tmp_path: Path, tiny: Path) -> None:
    told = list[tuple[int, int]]()

    def listener(event: Event) -> None:
        if isinstance(event, TrialDone):
            told.append((event.done, event.total))

    for budget_s in (12.0, 30.0, 90.0):  # on a busy machine there may be no trial in the first
        begun, folder = time.perf_counter(), tmp_path / f"{budget_s:g}"
        run = search(
            "mobile",
            ["digits"],
            out=folder,
            budget_s=budget_s,
            trials=0,
            generation=4,
            listener=listener,
        )
        assert time.perf_counter() - begun < 5 * budget_s
        if run.trials:
            break
    assert load(folder).trials
    assert told
    assert all(done <= total < 10_000 for done, total in told)  # an ETA, with no number of trials


def test_candidates_trained_alone_are_never_one_architecture_twice_nor_trivial(
    tmp_path: Path,
) -> None:
    """Of this grammar's draws most are trivial, and the others one of a few architectures."""
    (tmp_path / "s.grammar").write_text(
        "net = m output(coarse)\nm = relu | identity m | conv(2) relu | conv(3) relu | conv(4)\n"
    )
    settings = {**QUICK, "trials": 2, "sampler": "random", "standalone": {"epochs": 0.1}}
    run = search(str(tmp_path / "s.grammar"), ["digits"], out=tmp_path / "run", **settings)
    plans = [plan(run.derivation(trial.id)) for trial in run.trials]
    assert len(plans) == 2
    assert len({one.fingerprint for one in plans}) == 2
    assert not any(one.trivial for one in plans)


def test_a_budget_that_ends_within_a_generation_stops_the_run_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps an hour when three subnets are recorded, and again at eight."""
    late = 0.0
    clock = time.perf_counter

    def listener(event: Event) -> None:
        nonlocal late
        if isinstance(event, TrialDone) and event.done in (3, 8):
            late += 3600.0

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late)
    settings = {
        **QUICK,
        "workers": 1,
        "trials": 0,
        "generation": 8,
        "budget_s": 500.0,
        "trust": {"share": 0},
    }
    settings["supernet"] = {**settings["supernet"], "steps": 2}
    settings["workers"] = 1
    run = search("mobile", ["digits"], out=tmp_path / "run", listener=listener, **settings)
    first = [(trial.number, trial.id) for trial in run.trials]
    assert [number for number, _ in first] == [0, 1, 2]
    assert resume(tmp_path / "run", listener=listener).trials == run.trials  # it has ended
    again = resume(tmp_path / "run", listener=listener, budget_s=500.0)
    assert [(trial.number, trial.id) for trial in again.trials][:3] == first
    assert [trial.number for trial in again.trials] == list(range(8))


def test_settings_read_back_equal(run_folder: Path) -> None:
    import tomllib

    import tomli_w

    settings = load(run_folder).settings
    assert Settings.of(tomllib.loads(tomli_w.dumps(settings.written()))) == settings
    assert os.path.exists(run_folder / "run.toml")


def test_a_candidate_over_its_time_fails_with_its_reason(tmp_path: Path) -> None:
    settings = {
        **QUICK,
        "trials": 2,
        "generation": 2,
        "evaluator": "standalone",
        "standalone": {"epochs": 50, "limit_s": 0.3},
    }
    run = search("mobile", ["digits"], out=tmp_path / "run", **settings)
    assert all("longer than 0.3 s" in t.reason for t in run.trials)
    assert not run.front().trials


def test_a_metric_of_ones_own_takes_the_place_of_a_targets_of_its_name() -> None:
    from nas.search.columns import column_clash, columns_of

    task = replace(Task.load("digits"), own="mine.py:macro_f1")
    assert column_clash([task]) == ""
    assert (
        columns_of(Settings.of({"space": "mobile", "tasks": ["digits"]}), [task]).count("macro_f1")
        == 1
    )
