"""Where a search went, as it is drawn; and what notebooks show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.archive import Archive
from nas.plan import plan
from nas.report import plot_architecture, plot_front, plot_history, render
from nas.report.blocks import blocks_of
from nas.report.history import History, drawing, histories
from nas.search import Run, RunError, search

QUICK: dict[str, Any] = {
    "trials": 24,
    "generation": 12,
    "supernet": {"steps": 10, "samples": 64},
    "objectives": ("accuracy", "flops"),
    "evaluate_in": "torch",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search("mobile", ["digits"], out=tmp_path_factory.mktemp("runs") / "run", **QUICK)


def test_a_history_grows_to_the_front_and_knows_its_draws(run: Run) -> None:
    (history,) = histories(run)
    assert list(history.volumes) == sorted(history.volumes)
    assert history.numbers == tuple(range(24))
    assert history.drawn == tuple(trial.drawn for trial in run.trials) and any(history.drawn)
    proposed, drawn = history.gained
    assert proposed + drawn == sum(
        after > before
        for before, after in zip((0.0, *history.volumes), history.volumes, strict=False)
    )


def test_the_drawing_has_a_step_a_trial_and_a_dot_a_draw() -> None:
    history = History("", (0, 1, 4), (0.1, 0.4, 0.8), (False, True, False))
    picture = drawing(history)
    assert picture["path"] == "M0.0 170 H0.0 V148.8 H160.0 V85.0 H640.0 V0.0"
    assert picture["dots"] == [(160.0, 85.0)]
    assert "after trial 1. 2 proposals" in picture["words"]
    assert "and 1 of 1 random draws" in picture["words"]


def test_the_page_shows_where_the_search_went_and_asks_for_nothing(run: Run) -> None:
    page = render(run)
    (section,) = re.findall(r"<h2>Where the search went</h2>.*?</section>", page, re.S)
    assert section.count("<circle") == sum(trial.drawn for trial in run.trials)
    assert 'class="curve"' in section and "http" not in section


def test_notebooks_show_fronts_and_figures(run: Run, tmp_path: Path) -> None:
    front = run.front()
    assert len(front) == len(front.trials) and [t.id for t in front] == [t.id for t in front.trials]
    assert front._repr_html_().count("<tr") == len(front) + 1
    assert all(trial.id in run._repr_html_() for trial in front)
    shown = run.derivation(front.trials[0].id)._repr_html_()
    assert "mbconv" in shown and "<script" not in shown
    figure = plot_front(run)
    assert [trace.name for trace in figure.data] == ["all trials", "best so far", "front"]
    id = front.trials[0].id
    names = ["input", *(block.name for block in blocks_of(plan(run.derivation(id))))]
    drawn = plot_architecture(run, id).data
    assert all(trace.text[0].startswith(n) for trace, n in zip(drawn, names, strict=True))
    (curve,) = plot_history(run).data
    assert tuple(curve.y) == histories(run)[0].volumes
    assert nas.plot_front is plot_front
    empty = search("mobile", ["digits"], out=tmp_path / "run", **{**QUICK, "trials": 1})
    assert not plot_history(empty).data
    (tmp_path / "run" / "journal.jsonl").unlink()
    Archive.create(tmp_path / "run").close()
    with pytest.raises(RunError, match="no trial has a metric"):
        plot_front(empty)
