"""Claims about the figures, and about numbers as a person reads them."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from front_png import front_png
from hypothesis import given
from hypothesis import strategies as st

from nas.archive import Measurement, Trial
from nas.dominance import dominates
from nas.front import Limit, Objective, ParetoFront
from nas.report import figure
from nas.report.figures import marks, planes, stairs
from nas.report.text import commands, digits, duration, human, label, listed, mark, scaled

ACCURACY, FLOPS, LATENCY = (
    Objective("accuracy", True),
    Objective("flops", False),
    Objective("latency_ms", False),
)


def trial(number: int, state: Any = "finished", **columns: float) -> Trial:
    measurements = tuple(Measurement(name, value) for name, value in columns.items())
    return Trial(number, f"t{number}", {"": "none"}, state, measurements=measurements)


TRIALS = (
    trial(0, accuracy=0.9, flops=2e6, latency_ms=1.0),
    trial(1, "failed"),
    trial(2, accuracy=0.8, flops=1e6, latency_ms=2.0),
    trial(3, accuracy=0.7, flops=3e6, latency_ms=0.5),
    trial(4, accuracy=0.6, flops=4e6, latency_ms=3.0),
    trial(5, flops=1e5),
)
FRONT = ParetoFront.of(TRIALS, (ACCURACY, FLOPS, LATENCY))


def test_a_figure_is_one_that_plotly_accepts() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    drawn = graph_objects.Figure(figure(FRONT, TRIALS, ACCURACY, "flops", [Limit("flops", 2e6)]))
    assert drawn.layout.xaxis.type == "log"
    assert [trace.meta for trace in drawn.data] == ["all", "line", "front"]


def test_all_trials_are_muted_the_front_emphasised_and_its_plane_stepped() -> None:
    everyone, line, front = figure(FRONT, TRIALS, ACCURACY, "flops")["data"]
    assert everyone["customdata"] == [0, 2, 3, 4]
    assert front["customdata"] == [0, 2, 3]  # 3 is there for its latency: off the line
    assert list(zip(line["x"], line["y"], strict=True)) == [(1e6, 0.8), (2e6, 0.9)]
    assert line["line"]["shape"] == "hv"


def test_the_trivial_predictor_is_a_line_where_it_is_near_the_trials() -> None:
    near, far = (
        figure(FRONT, TRIALS, ACCURACY, "flops", trivial={"accuracy": value, "f1": 0.7})
        for value in (0.5, 0.1)
    )
    (line,) = near["layout"]["shapes"]
    assert (line["y0"], line["y1"], line["yref"]) == (0.5, 0.5, "y")
    assert line["label"]["text"] == "trivial 0.5"
    assert far["layout"]["shapes"] == []


def test_the_first_plane_is_the_first_metric_against_flops() -> None:
    assert planes(FRONT, TRIALS) == [(ACCURACY, "flops"), (ACCURACY, "latency_ms")]
    assert planes(ParetoFront((FLOPS, LATENCY), ()), TRIALS) == [(FLOPS, "latency_ms")]
    assert planes(FRONT, ()) == []


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=20), st.booleans())
def test_stairs_only_ever_climb(points: list[tuple[float, float]], maximize: bool) -> None:
    kept, sign = stairs(points, maximize), -1 if maximize else 1
    for (x, y), (further, better) in itertools.pairwise(kept):
        assert x < further
        assert sign * better < sign * y
    losses = [(x, sign * y) for x, y in points]
    assert set(kept) == {
        p for p, at in zip(points, losses, strict=True) if not any(dominates(o, at) for o in losses)
    }


@given(st.floats(1e-3, 1e12), st.floats(1, 1e6))
def test_a_logarithmic_axis_has_some_marks_but_not_many(low: float, ratio: float) -> None:
    assert 1 <= len(marks(low, low * ratio)) <= 20


def test_a_column_name_cannot_bring_markup_into_a_figure() -> None:
    titles = figure(FRONT, TRIALS, ACCURACY, "flops", label=lambda name: "<a href='x'>")["layout"]
    assert "<" not in titles["xaxis"]["title"]["text"] + titles["yaxis"]["title"]["text"]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("flops", 999, "999"),
        ("flops", 605472, "605 k"),
        ("flops", 999999, "1.00 M"),
        ("params", 21728, "21.7 k"),
        ("flops", 4.2e9, "4.20 G"),
        ("latency_ms", 0.7024, "0.702 ms"),
        ("latency_ms", 12.34, "12.3 ms"),
        ("size_mb", 0.086912, "86.9 kB"),
        ("size_mb", 1.5, "1.50 MB"),
        ("accuracy", 0.97222, "0.9722"),
        ("accuracy", None, "–"),
        ("nll", float("nan"), "not a number"),
        ("flops", 0, "0"),
    ],
)
def test_values_are_short_and_have_units(column: str, value: float | None, said: str) -> None:
    assert human(column, value) == said


@given(st.floats(1e-9, 1e12))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    assert float(digits(value)) == pytest.approx(value, rel=0.00501)
    number, _, unit = scaled(max(value, 1000)).partition(" ")
    assert float(number) * {"k": 1e3, "M": 1e6, "G": 1e9}[unit] == pytest.approx(
        max(value, 1000), rel=0.00501
    )


def test_words_for_columns_durations_marks_and_lists() -> None:
    assert label("scenes_segment_mean_iou", ["scenes-segment"]) == "scenes-segment mean IoU"
    assert label("flops") == "FLOPs"
    assert [duration(s) for s in (0.25, 12, 133)] == ["0.250 s", "12 s", "2 min 13 s"]
    assert duration(7500) == "2 h 5 min"
    assert [mark(v) for v in (500, 5e5, 2e6)] == ["500", "500k", "2M"]
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_commands_quote_what_a_shell_would_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands(Path("my runs/a"), "3f")[0] == "nas extract 'my runs/a' --id 3f --to net"
    assert commands(tmp_path / "runs" / "a", "3f")[0] == "nas extract runs/a --id 3f --to net"
    assert commands(Path("/elsewhere/secret/a"), "3f")[0] == "nas extract a --id 3f --to net"


def run_of(trials: tuple[Trial, ...]) -> Any:
    front = ParetoFront.of(trials, (ACCURACY, FLOPS, LATENCY))
    return SimpleNamespace(
        trials=trials,
        fronts=lambda: {"": front},
        named=[SimpleNamespace(name="digits")],
        settings=SimpleNamespace(space="mobile"),
    )


@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1], TRIALS[1:2], ()])
def test_the_picture_has_the_size_asked_for(tmp_path: Path, trials: tuple[Trial, ...]) -> None:
    pytest.importorskip("matplotlib")
    path = front_png(run_of(trials), tmp_path / "front.png", width=640, height=360)
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (640, 360)
