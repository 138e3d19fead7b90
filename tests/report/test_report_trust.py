"""Claims about what the page says of a calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_report_page import TRIALS, Reader, made

from nas.archive import Archive
from nas.report.page import render
from nas.report.text import estimate
from nas.report.trust import ranks, trust

VERDICT = "The evaluator to use is short training: its τ is at least 0.52 <b>."


def row(evaluator: str, score: str, tau: list[float | None], scores: list[float]) -> dict[str, Any]:
    none = [None, None, None]
    return {
        "task": "digits",
        "evaluator": evaluator,
        "words": f"{evaluator} words",
        "score": score,
        "tau": tau,
        "given_flops": none,
        "given_params": [0.25, 0.125, 0.5],
        "given_both": none,
        "regret_1": [0.0156, 0.0, 0.02],
        "regret_5": [0.0, 0.0, 0.0],
        "behind": none,
        "over_flops": none,
        "over_params": none,
        "cpu_s": 1.25,
        "seconds": 2.0,
        "before_s": 90.0,
        "scores": scores,
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    rows = [
        row("short", "accuracy", [0.7, 0.2, 0.9], [0.1, 0.3, 0.2]),
        row("short", "nll", [0.6, 0.4, 0.8], [-3.0, -2.0, -1.0]),
        row("standalone", "nll", [0.6, 0.4, 0.8], [-3.0, -2.0, -1.0]),
        row("flops", "flops", [None, None, None], [5.0, 5.0, 6.0]),
    ]
    task = {"metric": "accuracy", "ceiling": [0.75, 0.5, 0.9], "truth": [0.5, 0.7, 0.6]}
    facts = {
        "architectures": ["a", "b", "c"],
        "seeds": 2,
        "verdict": {"says": VERDICT},
        "tasks": {"digits": {**task, "rows": rows}},
    }
    (tmp_path / "trust.json").write_text(json.dumps(facts))
    return tmp_path / "trust.json"


def test_ranks_are_from_0_to_100_and_ties_share_their_mean() -> None:
    assert ranks([3.0, 1.0, 2.0]) == [100, 0, 50]
    assert ranks([5.0, 5.0, 6.0]) == [25, 25, 100]
    assert ranks([1.0]) == [0]


def test_each_evaluator_is_drawn_by_its_surer_score_and_the_truth_not_at_all(written: Path) -> None:
    found = trust(written)
    assert found is not None
    (task,) = found["tasks"]
    plots = [(plot["title"], plot["score"], plot["points"]) for plot in task["plots"]]
    assert plots == [
        ("short words", "NLL", [(0, 0), (50, 100), (100, 50)]),
        ("flops words", "", [(25, 0), (25, 100), (100, 50)]),
    ]
    assert task["rows"][0]["cells"][0] == ("0.70", " ", "[0.20, 0.90]")
    assert task["rows"][3]["cells"][0][0] == "–"


def test_a_run_without_a_calibration_has_no_such_section(tmp_path: Path) -> None:
    assert trust(tmp_path / "trust.json") is None
    run = made(tmp_path / "run", TRIALS)
    assert "Trust" not in Reader(render(run)).words


def test_the_page_says_the_verdict_and_draws_a_point_for_each_architecture(
    tmp_path: Path, written: Path
) -> None:
    run = made(tmp_path / "run", TRIALS)
    written.rename(run.folder / "trust.json")
    page = Reader(render(run))
    assert VERDICT in page.said
    assert "against training each from scratch with 2 seeds" in page.said
    assert "0.016 [0.000, 0.020]" in page.said
    assert "is 0.75 [0.50, 0.90]" in page.said
    circles = {(tag, name) for tag, name, _ in page.attributes if tag == "circle"}
    assert ("circle", "cx") in circles
    assert sum(tag == "circle" and name == "cx" for tag, name, _ in page.attributes) == 6


def test_the_time_of_calibrating_is_said_apart_from_training_and_evaluating(tmp_path: Path) -> None:
    run = made(tmp_path / "run", TRIALS)
    with Archive.open(run.folder, write=True) as archive:
        archive.note("bank", version=1, seconds=70.0)
        for _ in range(2):
            archive.note(
                "scored",
                derivation="",
                evaluator="short",
                seed=0,
                made="",
                measurements=[],
                reason="",
                seconds=20.0,
                cpu_s=1.0,
            )
    said = Reader(render(run)).said
    assert "1 min 10 s of training shared weights" in said
    assert "40 s of calibrating" in said


def test_a_statistic_is_written_with_its_interval() -> None:
    assert estimate([0.625, 0.41, 0.78]) == "0.62 [0.41, 0.78]"
    assert estimate([0.5, None, None]) == "0.50"
    assert estimate([None, None, None], 3) == "–"
