"""Claims about time: a budget is kept, what was evaluated counts, what has ended has ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nas.archive import Archive
from nas.events import Event, StepDone, TrialDone
from nas.search import load, resume, search
from nas.search.loop import _spent
from nas.search.schedule import Schedule
from nas.train import Trainer

SPACE = "net = conv({4, 8, 12}, stride=2) batchnorm relu (block | identity) output(coarse)\n"
SPACE += "block = conv({4, 8}, kernel={1, 3}) batchnorm relu\n"
QUICK: dict[str, Any] = {
    "generation": 4,
    "supernet": {"steps": 8, "samples": 32},
    "trust": {"share": 0.0},
}


@pytest.fixture
def space(tmp_path: Path) -> Path:
    (tmp_path / "s.grammar").write_text(SPACE)
    return tmp_path / "s.grammar"


class Clock:
    """`time.perf_counter` that goes so much faster, or jumps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.late, real = 0.0, time.perf_counter
        monkeypatch.setattr(time, "perf_counter", lambda: real() + self.late)


def test_in_time_a_schedule_is_its_steps_and_late_it_is_the_share_of_time_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", clock := Clock.__new__(Clock))
    clock.late = 0.0
    type(clock).__call__ = lambda self: self.late  # type: ignore[attr-defined]
    plain = Schedule(tmp_path / "a", 4, None)
    assert [plain.at(step) for step in range(6)] == [0, 1, 2, 3, None, None]
    slow = Schedule(tmp_path / "b", 100, 10.0)
    places = []
    for step in range(6):
        clock.late = 1.99 * step  # each step takes two seconds where a tenth was foreseen
        places.append(slow.at(step))
    assert places == pytest.approx([0, 19.9, 39.8, 59.7, 79.6, 99.5])
    clock.late = 12.0
    assert slow.at(6) is None
    clock.late = 1000.0
    again = Schedule(tmp_path / "b", 100, 10.0)  # resumed: what was written down is repeated
    assert [again.at(step) for step in range(7)] == pytest.approx([*places, None])


def test_a_budget_cut_within_a_generation_keeps_what_was_evaluated_and_times_it(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)

    def listener(event: Event) -> None:
        if isinstance(event, TrialDone) and event.done == 3:
            clock.late += 1e6

    run = search(space, "digits", out=tmp_path / "run", budget_s=500.0, listener=listener, **QUICK)
    assert len(run.trials) == 3
    assert all(trial.value("latency_ms") for trial in run.trials)
    assert run.front().trials
    assert not resume(tmp_path / "run").trials[3:]


def test_a_machine_that_becomes_slower_still_leaves_evaluation_its_share(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step takes ten seconds once the timing of a few is over: training ends at its share."""
    clock = Clock(monkeypatch)
    steps = []

    def listener(event: Event) -> None:
        if isinstance(event, StepDone):
            clock.late += 10.0
            steps.append(event.done)

    settings = {**QUICK, "supernet": {"steps": 0, "samples": 32}}
    run = search(
        space,
        "digits",
        out=tmp_path / "run",
        budget_s=200.0,
        trials=6,
        listener=listener,
        **settings,
    )
    assert 8 <= len(steps) <= 11  # of 100 seconds
    assert len(run.trials) == 6


def test_a_training_by_the_clock_that_is_resumed_repeats_what_the_clock_said(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its checkpoint on, with the same places in its schedule and so the same rates."""
    clock, places, stop = Clock(monkeypatch), list[tuple[int, float | None]](), 7
    usual = Trainer.train_turns

    def step(self: Trainer, number: int, turns: Any, place: float | None = None) -> Any:
        places.append((number, place))
        return usual(self, number, turns, place)

    def listener(event: Event) -> None:
        if isinstance(event, StepDone):
            clock.late += 7.0
            if event.done == stop:
                raise KeyboardInterrupt

    given = {**QUICK, "supernet": {"steps": 0, "samples": 32, "checkpoint_s": 20.0}}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_turns", step)
        with pytest.raises(KeyboardInterrupt):
            search(space, "digits", out=tmp_path / "c", budget_s=300.0, listener=listener, **given)
        first = dict(places[-7:])  # after those that were timed
        places.clear()
        stop = 10**9
        resume(tmp_path / "c", listener=listener)
    again = dict(places)
    repeated = first.keys() & again.keys()
    assert 0 < len(repeated) < 7  # a checkpoint was taken on the way
    assert all(again[number] == first[number] for number in repeated)
    assert max(again) > 6
    assert not (tmp_path / "c" / "training.clock").exists()  # gone with its training


def test_a_run_is_extended_by_trials_or_by_time_and_then_has_ended_again(
    space: Path, tmp_path: Path
) -> None:
    settings = {**QUICK, "objectives": ("accuracy", "flops")}
    search(space, "digits", out=tmp_path / "run", trials=4, **settings)
    first = load(tmp_path / "run").trials
    journal = (tmp_path / "run" / "journal.jsonl").read_bytes()
    assert resume(tmp_path / "run").trials == first
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == journal
    more = resume(tmp_path / "run", trials=9)
    assert more.trials[:4] == first
    assert len(more.trials) == 9
    assert load(tmp_path / "run").settings.trials == 9
    assert len(resume(tmp_path / "run", budget_s=3.0).trials) == 15  # all that the space holds


def test_a_resumed_training_has_what_was_left_of_its_time(tmp_path: Path) -> None:
    """And not the share of what is left of the whole."""
    half = Schedule(tmp_path / "a", 100, 200.0)
    for step in range(50):
        half.at(step)
    assert half.share == pytest.approx(0.49)
    again = Schedule(tmp_path / "a", 100, 200.0)
    assert [again.at(step) for step in range(50, 101)] == [*map(float, range(50, 100)), None]
    late = Schedule(tmp_path / "b", 100, 200.0, until=time.perf_counter() - 1)
    assert late.at(0) is None


def test_a_run_whose_steps_the_budget_said_goes_on_by_trials_alone(
    space: Path, tmp_path: Path
) -> None:
    """Also where it was interrupted before it knew its steps."""
    given = {**QUICK, "supernet": {"steps": 0, "samples": 32}}

    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(space, "digits", out=tmp_path / "run", budget_s=9.0, listener=stop, **given)
    assert len(resume(tmp_path / "run", trials=3).trials) == 3


def test_the_seconds_of_a_calibration_are_spent(space: Path, tmp_path: Path) -> None:
    run = search(space, "digits", out=tmp_path / "run", trials=2, **QUICK)
    with Archive.open(run.folder, write=True) as archive:
        before = _spent(run, archive)
        archive.note("verdict", evaluator="shared", reason="", warning="", seconds=70.0)
        assert _spent(run, archive) == pytest.approx(before + 70)
    trained = next(n for n in Archive.open(run.folder).notes("bank"))
    assert before >= float(str(trained["seconds"]))


def test_with_a_budget_and_no_word_of_trials_there_are_as_many_as_fit() -> None:
    from nas.search import Settings

    given = {"space": "mobile", "tasks": ["digits"]}
    assert Settings.of(given).trials == 200
    assert Settings.of({**given, "budget_s": 60}).trials == 0
    assert Settings.of({**given, "budget_s": 60, "trials": 7}).trials == 7


def test_a_pool_leaves_what_would_come_after_the_end_of_time(space: Path, tmp_path: Path) -> None:
    """Also where one evaluation alone would take until long after it."""
    from nas.search.job import Job
    from nas.search.local import LocalPool

    run = search(space, "digits", out=tmp_path / "run", trials=2, **QUICK)
    settings = run.settings.model_copy(
        update={"standalone": run.settings.standalone.model_copy(update={"epochs": 10_000})}
    )
    pool = LocalPool(run.folder, settings, trust_code=False)
    jobs = [Job(i, run.trials[i].derivations[""], "standalone", 0) for i in range(2)]
    try:
        assert not list(pool.evaluate(jobs, ends=time.monotonic() - 1))
        begun = time.monotonic()
        assert not list(pool.evaluate(jobs, ends=time.monotonic() + 8))
        assert time.monotonic() - begun < 30
        assert not pool.calls
    finally:
        pool.close()
