"""A device's profile: what it tells of networks that were never there."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from nas.grammar import Grammar, replay, sample
from nas.measure.profile import Profile, ProfileError, column_of, features, loaded
from nas.plan import Plan, plan

MOBILE, INPUT = Grammar.load("mobile"), (3, 32, 32)


def plans(count: int, seed: int = 0) -> list[Plan]:
    rng = random.Random(seed)
    return [plan(sample(MOBILE, rng, input=INPUT)) for _ in range(count)]


def planted(planned: Plan, rng: random.Random, noise: float = 0.01) -> float:
    """What a network takes on a device that is known."""
    ms = 0.02
    for kind, value in features(planned).items():
        if kind.endswith(" MFLOPs"):
            ms += (0.09 if kind.startswith("depthwise") else 0.02) * value
        elif kind.endswith(" k"):
            ms += 0.0004 * value
    return ms * rng.uniform(1 - noise, 1 + noise)


def facts(count: int = 60, **changed: Any) -> dict[str, Any]:
    rng = random.Random(1)
    networks = [
        {
            "file": f"{number:03}.onnx",
            "features": features(planned),
            "ms": planted(planned, rng),
            "rounds": 3,
        }
        for number, planned in enumerate(plans(count))
    ]
    return {
        "format": 1,
        "name": "pi4",
        "space": MOBILE.hash,
        "input": [*INPUT],
        "tasks": ["mine"],
        "runtime": "ONNX Runtime 1.20",
        "device": "cortex",
        "threads": 1,
        "networks": networks,
        **changed,
    }


def written(folder: Path, **changed: Any) -> Path:
    path = folder / "pi4.json"
    path.write_text(json.dumps(facts(**changed)))
    return path


def test_a_device_that_is_known_is_told_within_its_noise(tmp_path: Path) -> None:
    profile, rng = Profile.load(written(tmp_path)), random.Random(2)
    assert profile.error < 0.05 and profile.rank_correlation > 0.98
    errors = [
        abs(profile.predict(planned) / planted(planned, rng, 0) - 1)
        for planned in plans(40, seed=9)
    ]
    assert sorted(errors)[len(errors) // 2] < 0.04
    assert "predicted from 60 networks, median error" in str(profile)


def test_what_is_told_at_once_is_the_sum_of_the_features(tmp_path: Path) -> None:
    profile = Profile.load(written(tmp_path))
    weights = profile._fitted[0]
    assert min(weights.values()) >= 0
    for planned in plans(5, seed=3):
        total = sum(weights.get(kind, 0.0) * value for kind, value in features(planned).items())
        assert profile.predict(planned) == pytest.approx(total, abs=1e-6)


def test_what_a_profile_knows_nothing_of_is_named(tmp_path: Path) -> None:
    profile = Profile.load(written(tmp_path))
    assert profile.lacks(plans(4, seed=5), INPUT) == ""
    assert "an input of [3, 32, 32], and this is of [1, 8, 8]" in profile.lacks([], (1, 8, 8))
    grammar = Grammar.parse("net = precision(8) conv(4, kernel=9) output(coarse)")
    other = plan(replay(grammar, [], input=INPUT))
    assert "knows nothing of int8 conv 9" in profile.lacks([other], INPUT)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"networks": facts(3)["networks"]}, "at least 20 items"),
        ({"format": 2}, "format"),
        ({"threads": 0}, "threads"),
        ({"name": "../pi4"}, "name"),
        ({"own": 1}, "own: Extra inputs"),
        ({"name": "pi5"}, r"is of pi5: call it pi5\.json"),
    ],
)
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, changed: Any, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        Profile.load(written(tmp_path, **changed))


@pytest.mark.parametrize("ms", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, ms: float) -> None:
    broken = facts()
    broken["networks"][4]["ms"] = ms
    path = tmp_path / "pi4.json"
    path.write_text(json.dumps(broken))
    with pytest.raises(ProfileError, match=r"networks\.4\.ms"):
        Profile.load(path)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    for text in ("", "[1", '"a"', "[" * 100_000):
        path = tmp_path / "pi4.json"
        path.write_text(text)
        with pytest.raises(ProfileError, match="is no profile"):
            Profile.load(path)
    with pytest.raises(ProfileError, match="cannot be read"):
        Profile.load(tmp_path / "none.json")


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    paths = [written(tmp_path), written(tmp_path / "other")]
    with pytest.raises(ProfileError, match="two profiles have one name"):
        loaded(paths)
    assert column_of(paths[0]) == "latency_ms@pi4"
