"""Claims about limits: what is over one is not evaluated, and one that nothing keeps is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nas.events import Event, TrialDone
from nas.front import Limit
from nas.grammar import Grammar
from nas.grammar.count import extreme
from nas.plan import plan
from nas.search import RunError, load, search
from nas.search.course import Turns
from nas.search.problem import Problem
from nas.search.settings import Settings
from nas.supernet import STRATEGIES
from nas.supernet.strategies import ALIGNED, LEARNING
from nas.task import Task

DIGITS = Task.load("digits")
QUICK: dict[str, Any] = {
    "trials": 16,
    "generation": 8,
    "objectives": ("accuracy", "flops"),
    "supernet": {"steps": 6, "samples": 32},
}


def settings(space: str, *limits: str, **more: Any) -> Settings:
    return Settings.of({"space": space, "tasks": ("digits",), "limits": limits, **more})


@pytest.mark.parametrize(
    "sampler", ["nsga2", "tpe", "gp", "random", "tree", "evolution", "predicted"]
)
def test_every_sampler_proposes_within_the_limits(sampler: str, tmp_path: Path) -> None:
    """A limit that one random network in hundreds keeps."""
    trials = 9 if sampler == "gp" else 16  # after 8 it begins, and takes long to propose
    run = search(
        "mobile",
        "digits",
        out=tmp_path / "run",
        limits=("flops<=40k", "params=3k"),
        sampler=sampler,
        **{**QUICK, "trials": trials},
    )
    costs = [(trial.value("flops"), trial.value("params")) for trial in run.trials]
    assert len(costs) == trials
    assert all(flops <= 40_000 and params <= 3_000 for flops, params in costs)


@pytest.mark.parametrize("space", ["mobile", "fbnetv5-small"])
@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"sorted", ALIGNED, *LEARNING}))
def test_every_strategy_trains_within_the_limits(space: str, strategy: str) -> None:
    grammar = Grammar.load(space)
    least = plan(extreme(grammar, input=DIGITS.input, largest=False), heads=[DIGITS]).flops
    given = settings(space, f"flops={least * 1.5}", supernet={"strategy": strategy})
    problem = Problem(given, grammar, (DIGITS,))
    turns = Turns(problem, 20, problem.bank())
    for step in (0, 7, 19):
        for derivation in turns.draw(step, step)[0].derivations:
            assert plan(derivation, heads=[DIGITS]).flops <= least * 1.5


def test_draws_within_limits_still_reach_all_sizes() -> None:
    space = Problem(settings("mobile", "flops=100k"), Grammar.load("mobile"), (DIGITS,)).space
    rng = random.Random(0)
    drawn = [plan(space.draw(rng), heads=[DIGITS]).flops for _ in range(60)]
    assert max(drawn) > 90_000
    assert len(set(drawn)) > 40


def test_parts_that_no_head_reads_cost_nothing_under_a_limit() -> None:
    grammar = Grammar.load("fbnetv5-small")
    space = Problem(settings("fbnetv5-small", "flops=600k"), grammar, (DIGITS,)).space
    rng = random.Random(1)
    drawn = [space.draw(rng) for _ in range(40)]
    assert any(plan(one).flops > 600_000 for one in drawn)
    assert all(plan(one, heads=[DIGITS]).flops <= 600_000 for one in drawn)


def test_what_nothing_keeps_is_refused_at_once_with_the_smallest_there_is(tmp_path: Path) -> None:
    least = plan(extreme(Grammar.load("mobile"), input=DIGITS.input, largest=False))
    with pytest.raises(RunError, match=r"flops of at most 10: the smallest for digits has 2\d,\d+"):
        search("mobile", "digits", out=tmp_path / "run", limits=("flops=10",), **QUICK)
    with pytest.raises(RunError, match="params of at most"):
        search("mobile", "digits", out=tmp_path / "run", limits=("size_mb=0.0001",), **QUICK)
    assert not (tmp_path / "run").exists()
    assert least.flops > 10


def test_progress_shows_the_best_within_the_limits(tmp_path: Path) -> None:
    shown: list[float] = []

    def listener(event: Event) -> None:
        if isinstance(event, TrialDone):
            shown.extend(event.figures.values())

    words = {**QUICK, "objectives": ("nll", "flops"), "limits": ("accuracy>=0.999999",)}
    run = search("mobile", "digits", out=tmp_path / "run", listener=listener, **words)
    assert not shown
    assert not run.front().trials


def test_a_limit_on_the_wrong_side_is_refused_with_the_right_one() -> None:
    known = ["accuracy", "flops", "a_b_test_mean_iou", "nll"]
    assert Limit.parse("accuracy>=0.9", known) == Limit("accuracy", 0.9, least=True)
    assert Limit.parse("flops <= 2M", known) == Limit("flops", 2e6)
    for text, fix in (
        ("accuracy=0.9", "--min accuracy=0.9"),
        ("accuracy<=0.9", "--min accuracy=0.9"),
        ("flops>=2M", "--max flops=2M"),
        ("nll>=1", "--max nll=1"),
    ):
        with pytest.raises(ValueError, match=fix):
            Limit.parse(text, known)
    with pytest.raises(ValueError, match="is not like"):
        Limit.parse("flops<=1e999", known)
    low, high = Limit("accuracy", 0.9, least=True), Limit("flops", 10.0)
    assert low.keeps({"accuracy": 0.9})
    assert not low.keeps({"accuracy": 0.89})
    assert not low.keeps({})
    assert high.keeps({"flops": 10})
    assert not high.keeps({"flops": 11})


def test_the_command_takes_min_and_max(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from nas.cli import app

    (tmp_path / "c.toml").write_text(
        'trials = 2\ngeneration = 2\nmax = ["flops=2M"]\nmin = "accuracy=0.01"\n'
        'objectives = ["accuracy", "flops"]\n[supernet]\nsteps = 2\nsamples = 8\n'
    )
    words = ["search", "mobile", "--task", "digits", "--config", str(tmp_path / "c.toml")]
    assert CliRunner().invoke(app, [*words, "--out", str(tmp_path / "a")]).exit_code == 0
    assert load(tmp_path / "a").settings.limits == ("flops<=2M", "accuracy>=0.01")
    said = CliRunner().invoke(app, [*words, "--max", "accuracy=0.9", "--out", str(tmp_path / "b")])
    assert "--min accuracy=0.9" in " ".join(said.output.split())
    more = ["--min", "accuracy=0.9", "--max", "flops=1M", "--out", str(tmp_path / "c")]
    assert CliRunner().invoke(app, [*words, *more]).exit_code == 0
    assert load(tmp_path / "c").settings.limits == ("flops<=1M", "accuracy>=0.9")
