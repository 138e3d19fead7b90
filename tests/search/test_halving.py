"""Claims about successive halving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nas.archive import Archive, Measurement
from nas.front import Limit, Objective
from nas.search import SettingsError, load, resume, search
from nas.search.columns import Aim
from nas.search.generations import as_searched
from nas.search.halving import HalvingPool, rungs
from nas.search.job import Job, Outcome
from nas.search.parts import Standalone

OBJECTIVES = (Objective("accuracy", True), Objective("flops", False))
GIVEN = Standalone(epochs=9, rungs=3, reduction=3)


class Trained:
    """A pool that knows how good each architecture is, and what it was asked to train."""

    workers = parallel = 1

    def __init__(self, worth: dict[str, tuple[float, float]], most: int = 10**9):
        self.worth, self.most = worth, most
        self.asked: list[tuple[str, float]] = []

    def evaluate(self, jobs: Sequence[Job], **_: Any) -> Iterator[Outcome]:
        for job in reversed(jobs):  # in any order
            if len(self.asked) == self.most:
                return
            assert job.epochs is not None
            self.asked.append((job.derivation, job.epochs))
            accuracy, flops = self.worth[job.derivation]
            figures = (
                Measurement("accuracy", accuracy, task="t", fidelity=f"{job.epochs:g} epochs"),
                Measurement("flops", flops),
            )
            reason = "it failed" if accuracy < 0 else ""
            losses, traceback = (job.epochs, 0.5), "a.py:1 in a: b" if reason else ""
            measured = () if reason else figures
            yield Outcome(
                job.number, measured, reason, job.epochs, losses=losses, traceback=traceback
            )

    def close(self) -> None:
        pass


def jobs(worth: dict[str, tuple[float, float]]) -> list[Job]:
    return [Job(i, text, "standalone", 0) for i, text in enumerate(worth)]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.create(tmp_path) as archive:
        yield archive


def halving(pool: Trained, archive: Archive, *limits: Limit) -> HalvingPool:
    return HalvingPool(pool, archive, GIVEN, [Aim(OBJECTIVES, limits)])


def test_a_third_of_each_rung_goes_on_for_three_times_as_long(archive: Archive) -> None:
    worth = {f"a{i}": (i / 10, 1.0) for i in range(9)}
    pool = Trained(worth)
    outcomes = list(halving(pool, archive).evaluate(jobs(worth)))
    assert rungs(GIVEN) == (1.0, 3.0, 9.0)
    by_epochs = {e: {text for text, epochs in pool.asked if epochs == e} for e in (1, 3, 9)}
    assert by_epochs == {1: set(worth), 3: {"a6", "a7", "a8"}, 9: {"a8"}}
    assert {o.number for o in outcomes} == set(range(9))
    assert [o.number for o in outcomes if not o.stopped] == [8]
    (best,) = (o for o in outcomes if o.number == 8)
    assert [m.fidelity for m in best.measurements if m.task] == ["1 epochs", "3 epochs", "9 epochs"]
    assert best.seconds == 13


def test_no_one_objective_decides(archive: Archive) -> None:
    """The smallest is on the front, however poor."""
    worth = {"good": (0.9, 9.0), "small": (0.1, 1.0), **{f"bad{i}": (0.05, 9.0) for i in range(4)}}
    pool = Trained(worth)
    list(halving(pool, archive).evaluate(jobs(worth)))
    assert {text for text, epochs in pool.asked if epochs == 3} == {"good", "small"}


def test_what_breaks_a_limit_goes_on_last(archive: Archive) -> None:
    worth = {"over": (0.9, 9.0), "a": (0.5, 1.0), "b": (0.1, 2.0)}
    pool = Trained(worth)
    list(halving(pool, archive, Limit("flops", 5.0)).evaluate(jobs(worth)))
    assert {text for text, epochs in pool.asked if epochs == 3} == {"a"}


def test_later_candidates_are_held_against_all_that_were_on_the_rung(archive: Archive) -> None:
    worth = {f"a{i}": (0.9, 1.0) for i in range(6)}
    poor = {f"b{i}": (0.1, 1.0) for i in range(3)}
    pool = Trained(worth | poor)
    climbing = halving(pool, archive)
    list(climbing.evaluate(jobs(worth)))
    late = [Job(10 + i, text, "standalone", 0) for i, text in enumerate(poor)]
    assert all(outcome.stopped for outcome in climbing.evaluate(late))


def test_a_failed_candidate_is_said_to_have_failed(archive: Archive) -> None:
    worth = {"a": (0.9, 1.0), "broken": (-1.0, 1.0)}
    outcomes = {o.number: o for o in halving(Trained(worth), archive).evaluate(jobs(worth))}
    assert outcomes[1].reason == "it failed"
    assert not outcomes[1].stopped
    assert not outcomes[0].reason


def test_what_was_trained_before_an_interruption_is_not_trained_again(archive: Archive) -> None:
    worth = {f"a{i}": (i / 10, 1.0) for i in range(9)}
    whole = Trained(worth)
    expected = {o.number: o.stopped for o in halving(whole, archive).evaluate(jobs(worth))}
    for most in (1, 5, 9, 10, 12):
        folder = archive._path.parent / f"at{most}"
        folder.mkdir()
        with Archive.create(folder) as again:
            first = Trained(worth, most)
            list(halving(first, again).evaluate(jobs(worth)))
            second = Trained(worth)
            outcomes = {o.number: o.stopped for o in halving(second, again).evaluate(jobs(worth))}
            assert outcomes == expected
            assert sorted(first.asked + second.asked) == sorted(whole.asked)


def test_a_search_by_halving_ends_and_resumes_as_one_would_have(tmp_path: Path) -> None:
    (tmp_path / "s.grammar").write_text(
        "net = conv({4, 8, 12, 16}, kernel={1, 3}) batchnorm relu conv({4, 8, 12}) output(coarse)\n"
    )
    settings = {
        "trials": 9,
        "generation": 9,
        "objectives": ("accuracy", "flops", "latency_ms"),
        "limits": ("latency_ms<=1000",),
        "evaluator": "standalone",
        "standalone": {"epochs": 0.9, "rungs": 2, "reduction": 3},
        "sampler": "tree",
    }
    run = search(str(tmp_path / "s.grammar"), ["digits"], out=tmp_path / "run", **settings)
    states = [trial.state for trial in run.trials]
    assert states.count("finished") == 3
    assert states.count("stopped") == 6
    assert {t.state for t in run.front().trials} == {"finished"}
    for trial in run.trials:
        accuracies = [m for m in trial.measurements if m.name == "accuracy"]
        assert [m.fidelity for m in accuracies] == ["0.3 epochs", "0.9 epochs"][: len(accuracies)]
        assert as_searched(trial).value("accuracy") == accuracies[0].value
        assert trial.value("latency_ms") is not None  # proposals hear of it too
    whole = run.trials
    journal = (tmp_path / "run" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / "journal.jsonl").write_bytes(b"".join(journal[:7]))
    resume(tmp_path / "run")
    again = load(tmp_path / "run").trials
    assert {t.id for t in again} == {t.id for t in whole}
    # latencies are measured anew, and with them who goes on may change, but not how many
    assert sorted(t.state for t in again) == sorted(t.state for t in whole)


def test_children_of_parents_are_not_halved() -> None:
    from nas.search.settings import Settings

    with pytest.raises(SettingsError, match="rungs 1 with child_epochs"):
        Settings.of(
            {"space": "mobile", "tasks": ["digits"], "standalone": {"rungs": 2, "child_epochs": 1}}
        )
