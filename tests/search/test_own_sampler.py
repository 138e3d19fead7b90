"""Claims about samplers of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.search import RunError, SettingsError, resume, search
from nas.search.settings import Settings

QUICK = {"trials": 6, "generation": 3, "supernet": {"steps": 4, "samples": 64}}
SAMPLER = """
import optuna


class Backwards(optuna.samplers.RandomSampler):
    def sample_independent(self, study, trial, name, distribution):
        return distribution.choices[-1]


def last(seed, generation):
    return Backwards(seed=seed)


def none(seed, generation):
    return seed
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(SAMPLER)
    return f"{tmp_path / 'own.py'}:last"


def test_a_sampler_of_ones_own_proposes(own: str, tmp_path: Path) -> None:
    run = search("mobile", "digits", out=tmp_path / "run", sampler=own, trust_code=True, **QUICK)
    largest = max(trial.columns()["params"] for trial in run.trials)
    proposed = [trial for trial in run.trials if not trial.drawn]
    assert largest in [trial.columns()["params"] for trial in proposed]
    assert run.trust == " --trust-code"


def test_it_is_not_run_unasked_not_by_resuming_either(own: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not run unasked"):
        search("mobile", "digits", out=tmp_path / "run", sampler=own, **QUICK)
    assert not (tmp_path / "run").exists()
    search("mobile", "digits", out=tmp_path / "run", sampler=own, trust_code=True, **QUICK)
    with pytest.raises(RunError, match="not run unasked"):
        resume(tmp_path / "run", trials=8)


def test_what_gives_no_sampler_is_refused_by_name(own: str, tmp_path: Path) -> None:
    wrong = own.replace(":last", ":none")
    with pytest.raises(SettingsError, match="gives a int, no optuna sampler"):
        search("mobile", "digits", out=tmp_path / "a", sampler=wrong, trust_code=True, **QUICK)
    with pytest.raises(SettingsError, match="AttributeError"):
        missing = own.replace(":last", ":missing")
        search("mobile", "digits", out=tmp_path / "b", sampler=missing, trust_code=True, **QUICK)
    with pytest.raises(SettingsError, match=r"is none of auto, .* ./file.py:name"):
        Settings.of({"space": "mobile", "tasks": ("digits",), "sampler": "nsga3"})
