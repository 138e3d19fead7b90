"""Claims about what a page says of failures."""

from __future__ import annotations

from pathlib import Path

from nas.archive import Archive, Trial
from nas.grammar import Grammar
from nas.report import report
from nas.report.failures import failures
from nas.search import Run, Settings, load
from nas.search.folder import create

WHERE = "bad.py:7 in bad: raise KeyError('<x>')"


def failed(number: int, reason: str, traceback: str = "") -> Trial:
    text = {"": "mobile@0 1x8x8: none"}
    return Trial(number, f"{number:08x}", text, "failed", reason, traceback=traceback)


def run_of(folder: Path, trials: list[Trial], passed: list[tuple[int, str]]) -> Run:
    create(folder, Settings.of({"space": "mobile", "tasks": ("digits",)}), Grammar.load("mobile"))
    with Archive.create(folder) as archive:
        for step, reason in passed:
            archive.note("passed", step=step, derivation="none", reason=reason)
        for trial in trials:
            archive.record(trial)
    return load(folder)


def test_failures_of_one_kind_differ_in_numbers_and_quotes_alone(tmp_path: Path) -> None:
    trials = [
        failed(0, "KeyError: 'a'", WHERE),
        failed(1, "it took more than 10 s"),
        failed(2, "KeyError: 'b'"),
        failed(3, "it took more than 12.5 s"),
        failed(4, "KeyError: 'c'"),
        failed(5, "ValueError: 'c'"),
        failed(6, ""),
    ]
    run = run_of(tmp_path / "run", trials, [(4, "it took more than 3 s"), (9, "KeyError: 'z'")])
    kinds = failures(run, run.trials)
    assert [kind.times for kind in kinds] == [4, 3, 1, 1]
    assert [kind.kind for kind in kinds] == ["KeyError", "", "ValueError", ""]
    assert kinds[0].reason in ("KeyError: 'a'", "KeyError: 'z'")
    assert kinds[0].traceback == WHERE
    assert kinds[0].steps == [9]
    assert [trial.number for trial in kinds[1].trials] == [1, 3]
    assert kinds[3].reason == "no reason was recorded"


def test_exits_and_words_with_apostrophes_stay_apart(tmp_path: Path) -> None:
    reasons = [
        "its process ended with exit code 1",
        "its process ended with exit code 139",
        "can't grow a, it isn't open",
        "can't shrink b, it isn't open",
    ]
    run = run_of(tmp_path / "run", [failed(i, reason) for i, reason in enumerate(reasons)], [])
    assert [kind.reason for kind in failures(run, run.trials)] == reasons


def test_of_many_kinds_the_most_frequent_are_told(tmp_path: Path) -> None:
    words = [a + b for a in "abcdefgh" for b in "abcdefgh"]
    trials = [failed(i, f"no {word}") for i, word in enumerate([*words, "hh"])]
    page = report(run_of(tmp_path / "run", trials, [])).read_text(encoding="utf-8")
    assert page.index("no hh") < page.index("no aa")
    assert "And 24 kinds more" in page


def test_steps_that_were_passed_over_are_no_failed_trials(tmp_path: Path) -> None:
    page = report(run_of(tmp_path / "run", [], [(3, "nan")])).read_text(encoding="utf-8")
    assert "No trial has finished yet." in page


def test_the_page_shows_the_traceback_as_text(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [failed(0, "KeyError: '<x>'", WHERE)], [(3, "nan")])
    page = report(run).read_text(encoding="utf-8")
    assert "raise KeyError(&#39;&lt;x&gt;&#39;)" in page
    assert "<x>" not in page.partition("What failed")[2].partition("The run itself")[0]
    assert "1 step of training shared weights passed over" in page


def test_a_run_without_failures_says_nothing_of_them(tmp_path: Path) -> None:
    assert "What failed" not in report(run_of(tmp_path / "run", [], [])).read_text("utf-8")
