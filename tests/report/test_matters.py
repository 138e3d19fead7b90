"""Claims about which choices matter, on cases where that is known."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nas.archive import Archive, Measurement, Trial
from nas.front import Objective
from nas.grammar import Derivation, Grammar, Limits, sample
from nas.plan import plan
from nas.report import report
from nas.report.matters import compared, matters, omega, sites
from nas.search import Settings, load
from nas.search.folder import create

ACCURACY = Objective("accuracy", True)


def test_the_site_that_decides_comes_first_and_its_best_label_too() -> None:
    rng, grammar = random.Random(0), Grammar.load("mobile")
    drawn = [sample(grammar, rng, input=(1, 16, 16)).by_site for _ in range(300)]
    worth = {"c=16": 0.9, "c=8": 0.8, "c=4": 0.5}
    pairs = [(d, worth[d["stage.0:c"]] + rng.gauss(0, 0.01)) for d in drawn]
    first, *others = sites(pairs, ACCURACY)
    assert first.name == "stage.0:c"
    assert first.told > 0.98
    assert [label for label, _, _ in first.means] == ["c=16", "c=8", "c=4"]
    assert all(site.told < 0.1 for site in others)


def test_a_value_that_is_no_number_is_passed_over(tmp_path: Path) -> None:
    grammar, rng = Grammar.load("mobile"), random.Random(5)
    words = {"space": "mobile", "tasks": ("digits",), "objectives": ("accuracy", "flops")}
    create(tmp_path / "run", Settings.of(words), grammar)
    with Archive.create(tmp_path / "run") as archive:
        for number in range(30):
            derivation = sample(grammar, rng, input=(1, 8, 8))
            best = float(derivation.by_site["stage.0:c"] == "c=16") if number else float("nan")
            figures = (
                Measurement("accuracy", best, "fraction", "digits", "valid", "shared", 1),
                Measurement("flops", float(number), "FLOPs", evaluator="arithmetic"),
            )
            texts = {"": str(derivation)}
            archive.record(Trial(number, f"{number:08x}", texts, "finished", measurements=figures))
    run = load(tmp_path / "run")
    said = matters(run, run.trials, run.front())
    assert said is not None
    assert said["sites"][0].name == "stage.0:c"


def test_what_tells_nothing_is_told_to_tell_nothing() -> None:
    rng = random.Random(1)
    shares = [omega([[rng.gauss(0, 1) for _ in range(20)] for _ in range(4)]) for _ in range(200)]
    assert sum(shares) / len(shares) < 0.03
    assert omega([[1.0, 2.0, 3.0]]) == omega([[1.0], [2.0]]) == omega([[1.0, 1.0], [1.0]]) == 0.0


def test_options_that_a_front_wants_come_first() -> None:
    rng, grammar = random.Random(2), Grammar.load("einspace")
    limits = Limits(terminals=40, params=200_000)
    drawn = [sample(grammar, rng, input=(3, 16, 16), limits=limits) for _ in range(60)]

    def softmaxes(derivation: Derivation) -> int:
        return sum(label == "softmax" for label in derivation.labels)

    front = sorted(drawn, key=softmaxes)[-10:]
    options = compared(front, drawn)
    wanted = next(option for option in options if option.label == "softmax")
    assert wanted.front > wanted.general
    differences = [abs(option.front - option.general) for option in options]
    assert differences == sorted(differences, reverse=True)
    assert compared(drawn, drawn) == []


@pytest.mark.parametrize("space", ["mobile", "einspace"])
def test_the_page_has_them_for_spaces_of_either_kind(space: str, tmp_path: Path) -> None:
    grammar, rng = Grammar.load(space), random.Random(3)
    words = {"space": space, "tasks": ("digits",), "objectives": ("accuracy", "flops")}
    create(tmp_path / "run", Settings.of(words), grammar)
    limits = Limits(terminals=60, params=100_000)
    with Archive.create(tmp_path / "run") as archive:
        for number in range(40):
            derivation = sample(grammar, rng, input=(1, 8, 8), limits=limits)
            flops = float(plan(derivation).flops)
            accuracy = (
                derivation.by_site["stage.0:c"] == "c=16" if space == "mobile" else rng.random()
            )
            figures = (
                Measurement(
                    "accuracy", float(accuracy), "fraction", "digits", "valid", "shared", 1
                ),
                Measurement("flops", flops, "FLOPs", evaluator="arithmetic"),
            )
            texts = {"": str(derivation)}
            archive.record(Trial(number, f"{number:08x}", texts, "finished", measurements=figures))
    run = load(tmp_path / "run")
    said = matters(run, run.trials, run.front())
    assert said is not None
    assert bool(said["sites"]) is (space == "mobile")
    assert bool(said["options"]) is (space == "einspace")
    page = report(run).read_text(encoding="utf-8")
    assert "Which choices matter" in page
    assert matters(run, run.trials[:5], run.front()) is None
