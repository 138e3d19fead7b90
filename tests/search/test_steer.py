"""Claims about steering: what preferences and budgets come to, exactly and at once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from nas.archive import Archive
from nas.cli import app
from nas.evaluate import EVALUATORS
from nas.events import Event, TrialDone
from nas.front import Limit, Objective
from nas.plan import plan
from nas.report import report
from nas.report.text import human
from nas.search import Run, RunError, load, resume, search
from nas.search.steer import ADDED, STEERING, Encoder, Scale, Sized, Steering
from nas.search.vary_decoders import _scale, part_costs, steering_of
from nas.terminal import show_run

TEXT = """
net      = encoder decoder
encoder  = layer({4, 8}, 2) layer({4, 8}){0..1}
decoder  = layer({2, 6}) (layer(4) | identity)
layer(c, s=1) = conv(c, kernel=3, stride=s) batchnorm relu
"""
TASKS = ("scenes-classify", "scenes-segment")
COLUMNS = ("scenes_classify_average_precision", "scenes_segment_mean_iou", "flops", "params")
WORDS: dict[str, Any] = {
    "trials": 8,
    "generation": 8,
    "workers": 1,
    "evaluate_in": "torch",
    "supernet": {"steps": 12, "batch": 16, "samples": 64},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("steer")
    (folder / "own.grammar").write_text(TEXT)
    return search(str(folder / "own.grammar"), list(TASKS), out=folder / "run", **WORDS)


def costs(flops: float) -> dict[str, float]:
    return dict.fromkeys(ADDED, flops)


def names(task: str, size: int) -> tuple[tuple[str, str], ...]:
    return ((f"for_{task}/decoder", f"{size}"),)


@st.composite
def known(draw: st.DrawFn) -> Steering:
    """What may be known of up to three tasks, encoders and decoders."""
    tasks = ["a", "b", "c"][: draw(st.integers(1, 3))]
    score = st.integers(0, 8).map(lambda n: n / 8)
    flops = st.integers(1, 9).map(float)
    encoders = tuple(
        Encoder(
            (("encoder", str(i)),),
            costs(draw(flops)),
            {
                task: tuple(
                    Sized(names(task, size), costs(draw(flops)), draw(score))
                    for size in range(draw(st.integers(1, 3)))
                )
                for task in tasks
            },
        )
        for i in range(draw(st.integers(1, 4)))
    )
    return Steering((1, 8, 8), {task: Scale(task, 0.0, 1.0) for task in tasks}, encoders)


def every(known: Steering) -> Iterator[tuple[dict[str, float], float]]:
    """The tasks' scores and the FLOPs of every network."""
    for encoder in known.encoders:
        for decoders in product(*encoder.decoders.values()):
            scores = {t: d.score for t, d in zip(encoder.decoders, decoders, strict=True)}
            yield scores, encoder.costs["flops"] + sum(d.costs["flops"] for d in decoders)


@given(known=known(), worth=st.lists(st.integers(0, 4), min_size=3, max_size=3), data=st.data())
def test_the_answer_is_the_best_of_all_networks_within_the_budget(
    known: Steering, worth: list[int], data: st.DataObject
) -> None:
    prefer = {task: float(w) for task, w in zip(known.scales, worth, strict=False)}
    if not any(prefer.values()):
        prefer = {}
    weights = prefer or dict.fromkeys(known.scales, 1.0)
    least, most = known.bounds["flops"]
    bound = data.draw(st.integers(int(least), int(most) + 2))
    limits = [Limit("flops", bound)] + data.draw(st.sampled_from([[], [Limit("params", bound)]]))
    answer = known.answer(prefer, limits)
    best = max(
        sum(weights[t] * s for t, s in scores.items()) / sum(weights.values())
        for scores, flops in every(known)
        if flops <= bound
    )
    assert answer.total == pytest.approx(best)
    assert answer.columns["flops"] <= bound
    assert (answer.scores, answer.columns["flops"]) in list(every(known))
    assert bool(answer.note) == (bound > most)


@given(known=known(), worth=st.lists(st.integers(1, 4), min_size=3, max_size=3), data=st.data())
def test_to_prefer_or_to_allow_more_never_brings_less(
    known: Steering, worth: list[int], data: st.DataObject
) -> None:
    prefer = {task: float(w) for task, w in zip(known.scales, worth, strict=False)}
    least, most = known.bounds["flops"]
    bound = data.draw(st.integers(int(least), int(most)))
    before = known.answer(prefer, [Limit("flops", bound)])
    more = known.answer(prefer, [Limit("flops", bound + data.draw(st.integers(0, 9)))])
    assert more.total >= before.total - 1e-12
    task = data.draw(st.sampled_from(list(prefer)))
    dearer = {**prefer, task: prefer[task] * data.draw(st.integers(2, 9))}
    after = known.answer(dearer, [Limit("flops", bound)])
    assert after.scores[task] >= before.scores[task]


def test_less_is_better_of_a_metric_that_says_so() -> None:
    scale = Scale("rmse", 2.0, 0.5)
    assert (scale.share(2.0), scale.share(0.5), scale.share(1.25)) == (0.0, 1.0, 0.5)
    assert Scale("rmse", 1.0, 1.0).share(1.0) == 0.0


def test_where_nothing_betters_the_trivial_predictor_the_better_is_still_preferred() -> None:
    objective = Objective("accuracy", True)
    scale = _scale(objective, [0.3, 0.4], {"accuracy": 0.5})
    assert (scale.nothing, scale.best) == (0.3, 0.4)
    assert scale.share(0.4) > scale.share(0.3)
    less = _scale(Objective("rmse", False), [0.3, 0.4], {"rmse": 0.9})
    assert (less.nothing, less.best, less.share(0.3)) == (0.9, 0.3, 1.0)


def test_budgets_that_another_limit_leaves_nothing_of_are_passed_over() -> None:
    sizes = [({"flops": 1.0, "params": 100.0}, 0.2), ({"flops": 20.0, "params": 1.0}, 0.4)]
    own = tuple(
        Sized(names("a", i), {**costs(1), **given}, score) for i, (given, score) in enumerate(sizes)
    )
    known = Steering(
        (1, 8, 8),
        {"a": Scale("a", 0.0, 1.0), "b": Scale("b", 0.0, 1.0)},
        (Encoder((), costs(10), {"a": own, "b": own}),),
        {"params": 115.0},
    )
    answered = [answer.columns["params"] for _, _, answer in known.asked()]
    assert answered and max(answered) <= 115


def test_a_search_of_which_nothing_was_scored_tells_so(run: Run, tmp_path: Path) -> None:
    steering_of(run, [], {}).save(tmp_path)
    with pytest.raises(RunError, match="no network was measured yet"):
        Steering.load(tmp_path)


def test_a_network_that_was_not_measured_is_what_its_answer_says(run: Run) -> None:
    """To the bit: scores of tasks from different trials, costs from parts."""
    measured, new = {trial.text for trial in run.trials}, 0
    assert run.settings.supernet.strategy == "aligned"
    conditions = run.problem.conditions(run.bank())
    for worth, budget in product((0.0, 0.3, 0.5, 0.9, 1.0), (0.35, 0.6, 1.0)):
        bound = budget * Steering.load(run.folder).bounds["flops"][1]
        answer = run.steer({TASKS[0]: worth, TASKS[1]: 1 - worth}, [f"flops<={bound}"])
        derivation = answer.derivation(run.grammar)
        figures = EVALUATORS["shared"].measure(derivation, conditions).measurements
        values = {(m.task, m.name): m.value for m in figures}
        for task in run.tasks:
            assert values[task.name, task.metric] == answer.scores[task.name]
        whole = plan(derivation, heads=run.tasks)
        assert (whole.flops, whole.params) == (answer.columns["flops"], answer.columns["params"])
        assert whole.flops <= bound
        new += str(derivation) not in measured
    assert new


def test_what_no_sampler_proposed_is_none_of_its_gain(run: Run) -> None:
    with Archive.open(run.folder) as archive:
        varied = {note["id"] for note in archive.notes("varied")}
    assert len(varied) == len(run.trials) - 8
    assert varied == {trial.id for trial in run.trials if trial.number >= 8}


def test_encoders_that_are_answered_were_measured_with_decoders_of_every_size(run: Run) -> None:
    known = Steering.load(run.folder)
    for _, _, answer in known.asked():
        encoder = next(e for e in known.encoders if e.labels == answer.encoder)
        assert {len(own) for own in encoder.decoders.values()} == {4}
    assert len(run.trials) > 8


@pytest.mark.parametrize("at", [9, 11, 12])
def test_a_search_cut_among_decoders_ends_as_the_whole_one(
    run: Run, tmp_path: Path, at: int
) -> None:
    class Cut(Exception):
        pass

    def cut(event: Event) -> None:
        if isinstance(event, TrialDone) and event.done == at:
            raise Cut

    space = str(run.folder.parent / "own.grammar")
    with pytest.raises(Cut):
        search(space, list(TASKS), out=tmp_path / "run", listener=cut, **WORDS)
    assert len(load(tmp_path / "run").trials) == at
    again = resume(tmp_path / "run", workers=1)
    assert [(t.number, t.id, t.columns()) for t in again.trials] == [
        (t.number, t.id, t.columns()) for t in run.trials
    ]
    written, whole = (folder / STEERING for folder in (again.folder, run.folder))
    assert json.loads(written.read_bytes()) == json.loads(whole.read_bytes())


def test_answers_keep_the_limits_of_the_search(run: Run, tmp_path: Path) -> None:
    most = 0.6 * Steering.load(run.folder).bounds["flops"][1]
    words = {**WORDS, "limits": (f"flops<={most}",)}
    space = str(run.folder.parent / "own.grammar")
    narrow = search(space, list(TASKS), out=tmp_path / "run", **words)
    assert all(trial.columns()["flops"] <= most for trial in narrow.trials)
    for worth in (0.0, 0.5, 1.0):
        answer = narrow.steer({TASKS[0]: worth, TASKS[1]: 1 - worth})
        assert answer.columns["flops"] <= most


def test_networks_that_are_trained_alone_tell_nothing_of_others(run: Run, tmp_path: Path) -> None:
    words = {**WORDS, "trials": 2, "generation": 2, "evaluator": "standalone"}
    words["standalone"] = {"epochs": 0.05}
    space = str(run.folder.parent / "own.grammar")
    alone = search(space, list(TASKS), out=tmp_path / "run", **words)
    assert not (alone.folder / STEERING).exists()


@pytest.mark.parametrize(
    ("prefer", "limits", "words"),
    [
        (
            {"scenes-segmen": 1.0},
            [],
            "'scenes-segmen' is no task of the run: prefer some of scenes-",
        ),
        ({TASKS[0]: -1.0}, [], "scenes-classify is preferred by -1: by a number from 0 on"),
        ({TASKS[0]: float("nan")}, [], "is preferred by nan"),
        ({TASKS[0]: 0.0}, [], "nothing is preferred: give one of"),
        ({}, ["flops<=10"], "no network of the run has flops <= 10: the smallest has"),
        ({}, ["latency_ms<=1"], "cannot be added up over an encoder and decoders: bound some of"),
    ],
)
def test_what_cannot_be_answered_is_named(
    run: Run, prefer: dict[str, float], limits: list[str], words: str
) -> None:
    with pytest.raises(RunError, match=words):
        run.steer(prefer, limits)


def test_a_budget_above_the_largest_is_said_and_answered(run: Run) -> None:
    answer = run.steer({}, ["flops<=1G"])
    assert "flops <= 1e+09 bounds nothing: the largest here has" in answer.note


def test_a_run_that_is_not_steered_says_what_is(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / STEERING).unlink()
    with pytest.raises(RunError, match="nas search steered --task"):
        load(tmp_path / "run").steer({})
    with pytest.raises(RunError, match=r"mobile has none: say net = encoder decoder"):
        search("mobile", ["digits"], out=tmp_path / "m", supernet={"strategy": "aligned"})


@pytest.mark.parametrize("harm", ["cut", "unknown", "no task", "no encoder", "no number"])
def test_a_file_from_somebody_else_is_read_by_a_schema(run: Run, tmp_path: Path, harm: str) -> None:
    facts = json.loads((run.folder / STEERING).read_bytes())
    text = json.dumps(facts)
    if harm == "unknown":
        facts["code"] = "import os"
    elif harm == "no task":
        facts["encoders"][0]["decoders"].pop(TASKS[0])
    elif harm == "no encoder":
        facts["encoders"] = []
    elif harm == "no number":
        facts["encoders"][0]["costs"]["flops"] = "NaN"
    (tmp_path / STEERING).write_text(text[:-9] if harm == "cut" else json.dumps(facts))
    with pytest.raises(RunError, match="steering.json|no network"):
        Steering.load(tmp_path).answer({})


def test_the_command_answers_and_takes_a_network_out(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worth = f"{TASKS[1]}=0.7,{TASKS[0]}=0.3"
    bound = int(0.5 * Steering.load(run.folder).bounds["flops"][1])
    words = [str(run.folder), "--prefer", worth, "--max", f"flops={bound}"]
    shown = CliRunner().invoke(app, ["steer", *words, "--json"])
    assert shown.exit_code == 0
    answer = run.steer({TASKS[1]: 0.7, TASKS[0]: 0.3}, [f"flops<={bound}"])
    assert json.loads(shown.output) == {**answer.columns, "total": answer.total, "note": ""}
    table = CliRunner().invoke(app, ["steer", *words])
    assert "scenes_segment_mean_iou" in table.output
    assert f"nas extract {run.folder} --prefer {worth} --max flops={bound} --to net" in table.output
    taken = CliRunner().invoke(app, ["extract", *words, "--to", str(tmp_path / "net")])
    assert taken.exit_code == 0, taken.output
    assert f"{answer.columns['params']:,.0f} params" in taken.output
    facts = json.loads((tmp_path / "net" / "architecture.json").read_bytes())
    assert facts["source"]["columns"] == answer.columns
    alike = CliRunner().invoke(app, ["steer", str(run.folder)])
    assert f"--prefer {TASKS[0]}=1,{TASKS[1]}=1 --to net" in alike.output
    show_run(run)
    assert f"nas steer {run.folder} --prefer {TASKS[0]}=1,{TASKS[1]}=1" in capsys.readouterr().out
    wrong = CliRunner().invoke(app, ["extract", *words, "--id", "ab", "--to", str(tmp_path / "b")])
    assert wrong.exit_code == 1
    unread = CliRunner().invoke(app, ["steer", str(run.folder), "--prefer", "a=b"])
    assert unread.exit_code == 1


def test_the_page_says_what_preferences_come_to(run: Run) -> None:
    page = report(run).read_text(encoding="utf-8")
    section = page.partition("<h2>What preferences come to</h2>")[2].partition("</section>")[0]
    rows = [row for row in section.split("<tr>") if "<code>nas extract" in row]
    assert len(rows) > 3
    for row in rows:
        worth, flops = re.findall(r"--prefer (\S+) --max flops=(\d+) --to net", row)[0]
        prefer = {name: float(n) for name, _, n in (w.partition("=") for w in worth.split(","))}
        answer = run.steer(prefer, [f"flops<={flops}"])
        cells = re.findall(r"<td class=.number.>(.*?)</td>", row)
        assert cells == [human(name, answer.columns[name]) for name in COLUMNS]


def test_weights_that_are_not_what_was_measured_are_not_taken(run: Run, tmp_path: Path) -> None:
    answer = run.steer({})
    other = answer._replace(scores=dict.fromkeys(answer.scores, 0.9))
    with pytest.raises(RunError, match="what preferences came to was measured with"):
        run.save(other, tmp_path / "net")


def test_what_is_answered_needs_neither_torch_nor_data(run: Run) -> None:
    code = (
        "import sys; from pathlib import Path; from nas.search.steer import Steering\n"
        f"print(Steering.load(Path({str(run.folder)!r})).answer({{}}).total)\n"
        "assert not {'torch', 'optuna', 'ray', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == run.steer({}).total


def test_parts_cost_what_the_whole_does(run: Run) -> None:
    for trial in run.trials:
        derivation = run.derivation(trial.id)
        whole = plan(derivation, heads=run.tasks)
        apart = part_costs(whole, run.tasks)
        for name in ADDED:
            total = sum(part[name] for part in apart.values())
            assert total == pytest.approx(trial.columns()[name])
        assert set(apart) == {"", *TASKS}
