"""From a space to a device and back: networks, their times there, a search by what they tell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.grammar import Grammar
from nas.measure.profile import Profile, ProfileError
from nas.plan import plan
from nas.probe import probe
from nas.search import Run, SettingsError, load, resume, search
from nas.task import Task

SPACE = (
    "net = conv({4, 8, 16}, stride=2) relu conv({4, 8, 16}, kernel={1, 3, 5}) relu output(coarse)"
)
DIGITS = Task.load("digits")


def timed(folder: Path, name: str, *words: str, count: int = 200) -> Any:
    """The device's own script, stopped after so many lines."""
    script = [sys.executable, str(folder / "time_models.py"), "--name", name, *words]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as own:
        assert own.stdout and own.stderr
        lines = []
        for line in own.stdout:
            lines.append(line)
            if len(lines) >= count:
                own.kill()
        return subprocess.CompletedProcess(script, own.wait(), "".join(lines), own.stderr.read())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("device") / "probe"
    probe(Grammar.parse(SPACE), [DIGITS], made, networks=20)
    return made


@pytest.fixture(scope="module")
def profile(folder: Path) -> Path:
    stopped = timed(folder, "pi4", count=7)
    assert stopped.returncode < 0  # killed in the middle
    begun = json.loads((folder / "pi4.json").read_text())["networks"]
    assert 0 < len(begun) < 20
    with pytest.raises(ProfileError, match=r"at least 20 items.*let time_models\.py end"):
        Profile.load(folder / "pi4.json")
    ended = timed(folder, "pi4")
    assert ended.returncode == 0, ended.stderr
    assert begun[0]["file"] not in ended.stdout.splitlines()[0]
    return folder / "pi4.json"


def test_a_device_that_was_stopped_goes_on(profile: Path) -> None:
    networks = json.loads(profile.read_text())["networks"]
    assert {entry["rounds"] for entry in networks} == {3}
    assert len(Profile.load(profile).networks) == len(networks) == 20


def test_the_script_needs_nothing_of_this_package(folder: Path) -> None:
    text = (folder / "time_models.py").read_text()
    assert "import nas" not in text and "from nas" not in text
    other = timed(folder, "pi4", "--threads", "2")
    assert other.returncode and "is of another threads: give another --name" in other.stderr


def searched(folder: Path, profile: Path, **more: Any) -> Run:
    (folder / "own.grammar").write_text(SPACE)
    given: dict[str, Any] = {
        "trials": 8,
        "generation": 4,
        "profiles": (str(profile),),
        "objectives": ("accuracy", "latency_ms@pi4"),
        "supernet": {"steps": 6, "samples": 32},
        "trust": {"share": 0.0},
    }
    path = str(folder / "own.grammar")
    return search(path, ["digits"], out=folder / "run", **{**given, **more})


def test_a_search_is_by_what_the_device_takes(profile: Path, tmp_path: Path) -> None:
    told = Profile.load(profile)
    whole = searched(tmp_path, profile)
    bound = sorted(trial.value("latency_ms@pi4") or 0 for trial in whole.trials)[4]
    (tmp_path / "bound").mkdir()
    run = searched(tmp_path / "bound", profile, limits=(f"latency_ms@pi4<={bound}",))
    for trial in run.trials:
        planned = plan(run.derivation(trial.id), heads=run.tasks)
        measurement = trial.newest()["latency_ms@pi4"]
        assert (
            measurement.value == pytest.approx(told.predict(planned)) and measurement.value <= bound
        )
        assert measurement.evaluator == "profile" and "median error" in measurement.device
    assert len(load(run.folder).front().trials) >= 1


def test_a_run_is_carried_on_where_it_and_the_profile_moved(profile: Path, tmp_path: Path) -> None:
    own = tmp_path / "devices" / profile.name
    own.parent.mkdir()
    own.write_bytes(profile.read_bytes())
    before = searched(tmp_path, own, trials=2, generation=2)
    own.unlink()
    moved = before.folder.rename(tmp_path / "moved")
    after = resume(moved, trials=4)
    assert all(trial.value("latency_ms@pi4") for trial in after.trials)
    assert len(after.trials) == 4


def test_what_if_it_were_another_device(profile: Path, tmp_path: Path) -> None:
    run = searched(tmp_path, profile, profiles=(), objectives=("accuracy", "flops"))
    assert run.trials[0].value("latency_ms@pi4") is None
    words = ["front", str(run.folder), "--profile", str(profile)]
    shown = CliRunner().invoke(app, [*words, "--objectives", "accuracy,latency_ms@pi4"])
    assert shown.exit_code == 0 and "latency_ms@pi4" in shown.output


def test_a_profile_of_another_space_is_refused_before_anything(
    profile: Path, tmp_path: Path
) -> None:
    with pytest.raises(ProfileError, match="cannot be told of mobile: it knows nothing of add"):
        search("mobile", ["digits"], out=tmp_path / "run", profiles=(str(profile),))
    assert not (tmp_path / "run").exists()
    with pytest.raises(SettingsError, match="two latencies are latency_ms@pi4"):
        search(
            "mobile",
            ["digits"],
            out=tmp_path / "run",
            profiles=(str(profile),),
            latency=({"name": "pi4"},),
        )


def test_too_few_networks_tell_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="5 networks tell too little of a device: 20 at least"):
        probe(Grammar.parse(SPACE), [DIGITS], tmp_path / "probe", networks=5)
    few = Grammar.parse("net = conv({4, 8}, stride=2) relu output(coarse)")
    with pytest.raises(ProfileError, match="2 networks were found"):
        probe(few, [DIGITS], tmp_path / "probe", networks=20)
    assert not (tmp_path / "probe").exists()
