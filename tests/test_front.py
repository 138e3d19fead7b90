"""Claims about dominance, hypervolume, crowding and the Pareto front."""

from __future__ import annotations

import csv
import io
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.archive import Measurement, Trial
from nas.dominance import (
    beyond_noise,
    crowding,
    dominates,
    growth,
    hypervolume,
    nondominated,
    sorted_fronts,
)
from nas.front import Limit, Objective, ParetoFront

inf, nan = math.inf, math.nan


def clouds(size: int, values: Any) -> Any:
    """Lists of points of 1 to 4 objectives, of one length a list."""
    return st.integers(1, 4).flatmap(
        lambda d: st.lists(st.tuples(*[values] * d), min_size=1, max_size=size)
    )


def trial(number: int, state: Any = "finished", **columns: float) -> Trial:
    measured = tuple(Measurement(name, value) for name, value in columns.items())
    return Trial(number, f"t{number}", {"": "conv"}, state, measurements=measured)


ACCURACY, LATENCY = Objective("accuracy", True), Objective("latency_ms", False)
TRIALS = [
    trial(0, accuracy=0.9, latency_ms=2.0, flops=2e6),
    trial(1, accuracy=0.8, latency_ms=1.0, flops=1e6, params=10),
    trial(2, accuracy=0.7, latency_ms=1.5),
    trial(3, accuracy=0.95, latency_ms=3.0, test_accuracy=0.9),
    trial(4, "failed", accuracy=1.0, latency_ms=0.1),
    trial(5, accuracy=1.0),
    trial(6, accuracy=nan, latency_ms=0.1),
]
FRONT = ParetoFront.of(TRIALS, [ACCURACY, LATENCY])


def ids(front: ParetoFront) -> list[str]:
    return [one.id for one in front.trials]


def test_dominance_is_nowhere_worse_and_somewhere_better() -> None:
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 2), (1, 2))
    assert not dominates((1, 3), (2, 2))
    assert not dominates((nan, 1), (2, 2))


@given(clouds(30, st.integers(0, 5) | st.sampled_from([0.5, inf, -inf, nan])))
def test_the_front_is_what_none_dominates(points: list[tuple[float, ...]]) -> None:
    expected = [
        i
        for i, point in enumerate(points)
        if not any(map(math.isnan, point))
        and not any(dominates(q, point) for q in points if not any(map(math.isnan, q)))
    ]
    assert nondominated(points) == expected


def inclusion_exclusion(points: list[tuple[int, ...]], reference: tuple[int, ...]) -> int:
    total = 0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(points, size):
            corner = [max(column) for column in zip(*some, strict=True)]
            sides = [max(0, r - x) for r, x in zip(reference, corner, strict=True)]
            total += (-1) ** (size + 1) * math.prod(sides)
    return total


@given(clouds(7, st.integers(0, 6)), st.lists(st.integers(2, 6), min_size=4, max_size=4))
@settings(deadline=None)
def test_hypervolume_equals_inclusion_exclusion(
    points: list[tuple[int, ...]], corner: list[int]
) -> None:
    reference = tuple(corner[: len(points[0])])
    assert hypervolume(points, reference) == inclusion_exclusion(points, reference)


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, math.inf, math.nan])] * n),
            min_size=1,
            max_size=30,
        )
    )
)
def test_fronts_are_what_none_dominates_of_what_is_left(points: list[tuple[float, ...]]) -> None:
    fronts, left = list(sorted_fronts(points)), list(range(len(points)))
    for front in fronts:
        assert front == [left[i] for i in nondominated([points[i] for i in left])]
        left = [i for i in left if i not in front]
    assert all(any(map(math.isnan, points[i])) for i in left)


def test_hypervolume_at_its_edges() -> None:
    assert hypervolume([], (1, 1)) == 0
    assert hypervolume([(0, 1), (1, 0), (nan, 0)], (1, 1)) == 0
    assert hypervolume([(0, -inf)], (1, 1)) == inf
    with pytest.raises(ValueError, match="finite"):
        hypervolume([(0, 0)], (1, inf))
    with pytest.raises(ValueError):
        hypervolume([(0, 0, 0)], (1, 1))


def test_crowding_is_the_gap_between_neighbours_over_the_range() -> None:
    assert crowding([]) == []
    assert crowding([(1, 2)]) == [inf]
    assert crowding([(0, 4), (4, 0), (1, 3), (3, 1)]) == [inf, inf, 1.5, 1.5]
    assert crowding([(0, 1), (1, 1), (4, 1)])[1] == 1.0


@given(clouds(12, st.integers(-5, 5)))
def test_crowding_is_of_the_ends_and_of_no_point_negative(points: list[tuple[int, ...]]) -> None:
    distances = crowding(points)
    assert all(distance >= 0 for distance in distances)
    for column in zip(*points, strict=True):
        ends = {min(column), max(column)}
        assert ends <= {x for x, far in zip(column, distances, strict=True) if far == inf}


@pytest.mark.parametrize(
    ("name", "maximize"),
    [
        ("accuracy", True),
        ("digits_accuracy", True),
        ("nll", False),
        ("digits_nll", False),
        ("flops", False),
        ("digits_latency_ms", False),
        ("size_mb", False),
        ("miou", True),
    ],
)
def test_the_direction_follows_from_the_name(name: str, maximize: bool) -> None:
    assert Objective.named(name, iter([name])) == Objective(name, maximize)


def test_an_unknown_name_gets_a_suggestion_and_the_list() -> None:
    text = "'acuracy' is no known column. Did you mean 'accuracy'. Columns: accuracy, flops"
    with pytest.raises(ValueError, match=text):
        Objective.named("acuracy", ["flops", "accuracy"])
    with pytest.raises(ValueError, match="Did you mean 'flops'"):
        Limit.parse("flop=1", ["flops"])


def test_limits_read_units() -> None:
    known = ["latency_ms", "flops"]
    assert Limit.parse("latency_ms=1", known) == Limit("latency_ms", 1.0)
    assert Limit.parse(" flops = 2.5M ", known) == Limit("flops", 2.5e6)
    assert Limit.parse("flops=1e9", known) == Limit.parse("flops=1G", known)
    assert Limit.parse("flops=3k", known).bound == 3000
    for text in ("flops", "flops=", "=2", "flops=2T", "flops=nan", "flops=1=2", ""):
        with pytest.raises(ValueError, match="is not like latency_ms=1"):
            Limit.parse(text, known)


def test_the_front_leaves_out_what_failed_lacks_a_value_or_is_dominated() -> None:
    assert ids(FRONT) == ["t3", "t0", "t1"]
    assert ids(ParetoFront.of(TRIALS, [LATENCY, ACCURACY])) == ["t1", "t0", "t3"]
    assert ids(
        ParetoFront.of(TRIALS[:3] + [trial(9, accuracy=0.9, latency_ms=2.0)], FRONT.objectives)
    ) == ["t0", "t9", "t1"]


def test_a_limit_applies_before_dominance_and_to_any_column() -> None:
    assert ids(ParetoFront.of(TRIALS, [ACCURACY], [Limit("latency_ms", 1.5)])) == ["t1"]
    assert ids(ParetoFront.of(TRIALS, FRONT.objectives, [Limit("params", 10)])) == ["t1"]
    assert ParetoFront.of(TRIALS, FRONT.objectives, [Limit("depth", 1)]).trials == ()
    with pytest.raises(ValueError, match="at least one objective"):
        ParetoFront.of(TRIALS, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency_ms < 2", ["t1"]),
        ("latency_ms <= 2 and accuracy >= 0.9", ["t0"]),
        ("accuracy>0.8", ["t3", "t0"]),
        ("flops == 2M", ["t0"]),
        ("flops != 2M", ["t1"]),
        ("test_accuracy > -1e3", ["t3"]),
        ("latency_ms < 1 and accuracy > 1", []),
    ],
)
def test_where_keeps_what_it_says(text: str, expected: list[str]) -> None:
    assert ids(FRONT.where(text)) == expected


def test_where_teaches_what_it_can_read() -> None:
    for text in ("", "latency_ms", "latency_ms = 1", "1 < accuracy", "accuracy > x", "accuracy >"):
        with pytest.raises(ValueError, match="Columns: accuracy, flops, |Columns: accuracy, lat"):
            FRONT.where(text)
    for text in ("accuracy > 0 and", "accuracy > 0 or flops < 1", "__import__('os') > 1"):
        with pytest.raises(ValueError, match="Columns: accuracy, "):
            FRONT.where(text)
    with pytest.raises(ValueError, match="Did you mean 'latency_ms'"):
        FRONT.where("latency < 1")
    empty = FRONT.where("accuracy > 2")
    assert empty.where("flops < 1") == empty


def test_sort_is_best_first_unless_told_and_puts_the_unknown_last() -> None:
    assert ids(FRONT.sort("latency_ms")) == ["t1", "t0", "t3"]
    assert ids(FRONT.sort("latency_ms", descending=True)) == ["t3", "t0", "t1"]
    assert ids(FRONT.sort("accuracy", descending=False)) == ["t1", "t0", "t3"]
    assert ids(FRONT.sort("flops")) == ["t1", "t0", "t3"]
    assert ids(FRONT.sort("flops", descending=True)) == ["t0", "t1", "t3"]
    assert ids(ParetoFront.of(TRIALS, [Objective("accuracy", False)]).sort("accuracy")) == ["t2"]
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        FRONT.sort("acuracy")


def test_rows_lead_with_id_objectives_and_costs() -> None:
    rows = FRONT.rows()
    names = ["id", "accuracy", "latency_ms", "flops", "params", "test_accuracy"]
    assert [list(row) for row in rows] == [names] * 3
    assert rows[2] == dict(zip(names, ["t1", 0.8, 1.0, 1e6, 10, None], strict=True))


def test_csv_and_pandas_hold_the_rows() -> None:
    read = list(csv.DictReader(io.StringIO(FRONT.to_csv())))
    rows = FRONT.rows()
    assert [row["id"] for row in read] == ids(FRONT)
    for text, row in zip(read, rows, strict=True):
        numbers = {name: float(one) if one else None for name, one in text.items() if name != "id"}
        assert {"id": text["id"], **numbers} == row
    table = FRONT.to_pandas()
    assert list(table.columns) == list(rows[0])
    assert table["accuracy"].tolist() == [0.95, 0.9, 0.8]
    empty = FRONT.where("accuracy > 2")
    assert empty.to_csv() == "id,accuracy,latency_ms\n"
    assert list(empty.to_pandas().columns) == ["id", "accuracy", "latency_ms"]


def versioned(number: int, version: int | None, accuracy: float, **more: float) -> Trial:
    costs = tuple(Measurement(name, value) for name, value in more.items())
    scored = Measurement("accuracy", accuracy, task="digits", bank_version=version)
    return Trial(number, f"t{number}", {"": "conv"}, "finished", measurements=(*costs, scored))


def test_versions_of_a_bank_are_never_compared_in_one_front() -> None:
    old, new = versioned(0, 600, 0.8, flops=1.0), versioned(1, 1200, 0.9, flops=2.0)
    flops = Objective("flops", False)
    with pytest.raises(
        ValueError, match=r"accuracy .* 600 supernet steps \(as t0\), 1200 supernet steps \(as t1\)"
    ):
        ParetoFront.of([old, new], [ACCURACY, flops])
    with pytest.raises(ValueError, match="several fidelities"):
        ParetoFront.of([old, new], [flops], [Limit("accuracy", 1.0)])
    assert ids(ParetoFront.of([old, new], [flops])) == ["t0"]
    assert ids(ParetoFront.of([old], [ACCURACY])) == ["t0"]


def test_what_was_measured_again_on_the_new_version_is_compared() -> None:
    old = versioned(0, 600, 0.8)
    again = Measurement("accuracy", 0.95, task="digits", bank_version=1200)
    old = Trial(0, "t0", {"": "conv"}, "finished", measurements=(*old.measurements, again))
    assert ids(ParetoFront.of([old, versioned(1, 1200, 0.9)], [ACCURACY])) == ["t0"]
    alone = versioned(2, None, 0.99)
    assert ids(ParetoFront.of([old, alone], [ACCURACY])) == ["t2"]


def trained(number: int, epochs: float, accuracy: float, evaluator: str = "standalone") -> Trial:
    fidelity = f"{epochs:g} epochs"
    scored = Measurement(
        "accuracy", accuracy, task="digits", split="valid", evaluator=evaluator, fidelity=fidelity
    )
    return Trial(number, f"t{number}", {"": "conv"}, "finished", measurements=(scored,))


def test_fidelities_of_one_evaluator_are_never_compared_in_one_front() -> None:
    with pytest.raises(ValueError, match=r"2 epochs \(as t0\), 8 epochs \(as t1\)"):
        ParetoFront.of([trained(0, 2, 0.8), trained(1, 8, 0.9)], [ACCURACY])
    child = trained(1, 1, 0.9, "inherited")  # goes on from what its parents' epochs came to
    assert ids(ParetoFront.of([trained(0, 2, 0.8), child], [ACCURACY])) == ["t1"]


def test_networks_retrained_for_as_long_as_each_needs_are_compared() -> None:
    retrained = Objective("retrained_accuracy", True)
    trials = [trained(0, 2, 0.8, "retrained"), trained(1, 8, 0.9, "retrained")]
    assert ids(ParetoFront.of(trials, [retrained])) == ["t1"]


def clocked(number: int, accuracy: float, latency: float, spread: float) -> Trial:
    made = trial(number, accuracy=accuracy)
    measured = Measurement("latency_ms", latency, "ms", evaluator="clock", spread=spread)
    return replace(made, measurements=(*made.measurements, measured))


def test_a_difference_within_the_noise_is_no_reason_to_be_on_a_front() -> None:
    trials = [
        clocked(0, 0.90, 1.00, 0.02),
        clocked(1, 0.80, 0.97, 0.02),  # quicker by less than both spreads
        clocked(2, 0.70, 0.90, 0.02),
        clocked(3, 0.95, 1.03, 0.02),  # takes the place of the first, and of that alone
    ]
    assert ids(ParetoFront.of(trials, [ACCURACY, LATENCY])) == ["t3", "t1", "t2"]
    assert ids(ParetoFront.of(trials[:3], [ACCURACY, LATENCY])) == ["t0", "t2"]
    exact = [
        replace(t, measurements=tuple(replace(m, spread=None) for m in t.measurements))
        for t in trials
    ]
    assert ids(ParetoFront.of(exact, [ACCURACY, LATENCY])) == ["t3", "t0", "t1", "t2"]


def test_a_dense_front_is_thinned_and_not_emptied() -> None:
    """Each differs from its neighbours by less than the noise, the ends by far more."""
    trials = [clocked(i, 0.5 + i / 1000, 1 + 0.02 * i, 0.02) for i in range(100)]
    kept = [t.value("latency_ms") for t in ParetoFront.of(trials, [ACCURACY, LATENCY]).trials]
    assert 25 < len(kept) < 50
    assert max(kept) - min(kept) > 1.9


def test_a_circle_within_the_noise_leaves_one() -> None:
    points = [(0.0, 0.0, 0.0), (1.5, -0.75, -0.75), (0.75, 0.75, -1.5)]
    assert beyond_noise(points, [(0.5, 0.5, 0.5)] * 3)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.2)), max_size=12))
def test_the_best_of_each_exact_objective_stays_whatever_the_noise(points: list[Any]) -> None:
    front = nondominated([point[:2] for point in points])
    kept = beyond_noise([points[i][:2] for i in front], [(0.0, points[i][2]) for i in front])
    assert bool(kept) == bool(points)
    if points:
        best = min(points[i][0] for i in front)
        assert best in {points[front[i]][0] for i in kept}


@settings(max_examples=60, deadline=None)
@given(clouds(8, st.integers(0, 6)))
def test_a_hypervolume_grows_by_what_each_point_adds(points: list[tuple[int, ...]]) -> None:
    reference = (5,) * len(points[0])
    wanted = [hypervolume(points[:n], reference) for n in range(1, len(points) + 1)]
    assert growth(points, reference) == pytest.approx(wanted)
