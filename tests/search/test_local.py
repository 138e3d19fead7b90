"""Claims about evaluation in several processes here: the same figures, sooner, and none is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nas.events import Event, TrialDone
from nas.search import Run, search
from nas.search.local import LocalPool, usual_workers
from nas.search.worker import calls

TINY: dict[str, Any] = {
    "trials": 12,
    "generation": 6,
    "objectives": ("accuracy", "flops"),
    "evaluate_in": "torch",  # the faster of two is chosen by the clock
    "supernet": {"steps": 10, "samples": 64},
}


def figures(run: Run) -> dict[str, dict[str, object]]:
    return {trial.id: trial.columns() for trial in run.trials}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("here") / "run"
    return search("mobile", ["digits"], out=folder, workers=1, **TINY)


def test_two_processes_evaluate_as_one_does(here: Run, tmp_path: Path) -> None:
    both = search("mobile", ["digits"], out=tmp_path / "run", workers=2, **TINY)
    assert figures(both) == figures(here)
    assert [trial.number for trial in both.trials] == sorted(t.number for t in here.trials)


def test_an_evaluation_whose_process_is_killed_is_a_failed_trial_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[LocalPool] = []
    usual = LocalPool.__init__

    def noted(self: LocalPool, *words: Any, **more: Any) -> None:
        usual(self, *words, **more)
        pools.append(self)

    monkeypatch.setattr(LocalPool, "__init__", noted)
    killed: list[int] = []

    def listener(event: Event) -> None:
        busy = [call for call in pools[0].calls if call.job] if pools else []
        if isinstance(event, TrialDone) and event.done == 3 and busy and not killed:
            killed.append(busy[0].child.process.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    run = search("mobile", ["digits"], out=tmp_path / "run", workers=2, listener=listener, **TINY)
    failed = [trial for trial in run.trials if trial.state == "failed"]
    assert len(run.trials) == 12 and len(killed) == 1
    assert len(failed) <= 1  # it may have ended just before
    assert all("ended by SIGKILL" in trial.reason for trial in failed)
    assert not any(child.process.is_alive() for child in pools[0].free)


def test_few_and_quick_evaluations_are_not_worth_a_process(
    here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: list[object] = []
    monkeypatch.setattr("nas.search.local.Child", lambda *words: begun.append(words))
    run = search("mobile", ["digits"], out=tmp_path / "run", **TINY)
    assert figures(run) == figures(here) and not begun


def test_an_accelerator_is_used_by_one_process() -> None:
    assert usual_workers("cuda") == 1
    assert usual_workers("cpu") >= 1


def test_where_an_error_was_raised_is_told_whatever_led_to_it() -> None:
    def fails(how: str) -> None:
        if how == "itself":
            error = ValueError("a")
            raise error from error
        if how == "unraised":
            raise ValueError("b") from KeyError("never raised")
        try:
            Path("~/secret/data.npy").read_bytes()
        except OSError as error:
            raise RuntimeError("c") from error

    told = dict[str, str]()
    for how in ("itself", "unraised", "led"):
        try:
            fails(how)
        except Exception as error:
            told[how] = calls(error)
    assert all("test_local.py" in text and " in fails: " in text for text in told.values())
    assert "raise error from error" in told["itself"]
    assert """Path("…/data.npy").read_bytes()""" in told["led"]
