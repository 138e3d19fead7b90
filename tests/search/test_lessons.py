"""Earlier runs as a search reads them: what is passed over, kept, and how a resumed run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas.cli import app
from nas.events import Event, Told
from nas.grammar import Grammar
from nas.search import RunError, load, resume, search
from nas.search.earlier import Lessons
from nas.search.folder import EARLIER
from nas.search.lessons import kept, learned

QUICK: dict[str, Any] = {
    "trials": 20,
    "generation": 10,
    "supernet": {"steps": 12, "samples": 64},
    "objectives": ("accuracy", "flops"),
    "evaluate_in": "torch",
    "workers": 1,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to learn from, one that was cut short, and one of another space."""
    folder = tmp_path_factory.mktemp("runs")
    search("mobile", ["digits"], out=folder / "whole", **QUICK)
    search("mobile", ["digits"], out=folder / "short", **{**QUICK, "trials": 6, "seed": 1})
    tiny = folder / "tiny.grammar"
    tiny.write_text("net = conv({4, 8}) batchnorm relu output(coarse)\n")
    search(str(tiny), ["digits"], out=folder / "other", **{**QUICK, "trials": 2})
    return folder


MOBILE = Grammar.load("mobile")


def test_runs_that_teach_nothing_are_passed_over_and_named(runs: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    shutil.copytree(runs, bank)
    (bank / "newer").mkdir()
    text = (runs / "whole" / "run.toml").read_text()
    (bank / "newer" / "run.toml").write_text(text.replace("format = 1", "format = 99"))
    shutil.copytree(runs / "whole", bank / "torn")
    journal = bank / "torn" / "journal.jsonl"
    journal.write_text("{}\n" + journal.read_text())
    (bank / "link").symlink_to(runs / "whole")
    lessons, notes = learned([bank], MOBILE, (1, 8, 8))
    assert [task.name for task in lessons.earlier] == [f"{bank / 'whole'}: digits"]
    told = "\n".join(notes)
    for words in (
        f"{bank / 'whole'}: digits: 20 trials, they predict each other with τ ",
        f"{bank / 'short'}: digits is passed over: 6 trials, and 15 tell something",
        f"{bank / 'other'} is passed over: its space is",
        f"{bank / 'newer'} is passed over: ",
        f"{bank / 'torn'} is passed over: ",
    ):
        assert words in told
    assert "link" not in told
    with pytest.raises(RunError, match="there is no run in it"):
        learned([tmp_path / "nowhere"], MOBILE)


def test_losses_are_of_validation_and_less_is_better(runs: Path) -> None:
    lessons, _ = learned([runs / "whole"], MOBILE)
    (task,) = lessons.earlier
    by_text = {t.text: t.columns()["nll"] for t in load(runs / "whole").trials}
    assert dict(zip(map(str, task.derivations), task.losses, strict=True)) == by_text


def test_what_was_learned_for_another_input_is_the_same_choices(runs: Path) -> None:
    (here,), (there,) = (
        learned([runs / "whole"], MOBILE, input)[0].earlier for input in (None, (3, 32, 32))
    )
    for a, b in zip(here.derivations, there.derivations, strict=True):
        shared = a.by_site.keys() & b.by_site.keys()
        assert len(shared) >= len(a.by_site) - 1
        assert all(a.by_site[site] == b.by_site[site] for site in shared)
        assert b.input.dims == (3, 32, 32)


def test_a_search_that_learns_goes_on_without_what_it_learned_from(
    runs: Path, tmp_path: Path
) -> None:
    bank, out = tmp_path / "bank", tmp_path / "out"
    shutil.copytree(runs / "whole", bank / "whole")
    told = list[str]()

    def hear(event: Event) -> None:
        if isinstance(event, Told):
            told.append(event.text)

    asked = {**QUICK, "seed": 3, "learn_from": (str(bank),)}
    run = search("mobile", ["digits"], out=out, listener=hear, **asked)
    assert "1 earlier task to learn from" in told
    first = kept(run).first(run.problem.space.allows, 5, True)
    assert set(map(str, first)) <= {t.text for t in run.trials[:10]}
    wanted = [t.text for t in run.trials]
    shutil.rmtree(bank)
    again = resume(out, trials=30)
    assert [t.text for t in again.trials[:20]] == wanted and len(again.trials) == 30
    (out / "journal.jsonl").unlink()
    anew = resume(out)
    assert [t.text for t in anew.trials] == [t.text for t in again.trials]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]x",
        '[{"name": 1}]',
        '[{"name": "a", "derivations": ["mobile@0 1x8x8: x"], "losses": [1]}]',
    ],
)
def test_a_damaged_memory_is_named(runs: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(runs / "whole", out)
    facts = (out / "run.toml").read_text().replace("learn_from = []", 'learn_from = ["x"]')
    (out / "run.toml").write_text(facts)
    (out / EARLIER).write_text(text)
    with pytest.raises(RunError, match="cannot be read"):
        kept(load(out))
    (out / EARLIER).write_text(json.dumps([]))
    assert kept(load(out)) == Lessons(())


def test_what_was_learned_is_written_as_a_space(runs: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["learn", str(runs), "--space", "mobile"])
    assert result.exit_code == 0
    assert "is passed over: 6 trials" in result.stderr
    path = tmp_path / "learned.grammar"
    path.write_text(result.stdout)
    assert "kernel={3, 5: 0." in result.stdout
    checked = runner.invoke(app, ["check", str(path), "--input", "1x8x8", "--samples", "20"])
    assert checked.exit_code == 0 and "679,352,184" not in checked.stdout
    nothing = runner.invoke(app, ["learn", str(runs / "short"), "--space", "mobile"])
    assert nothing.exit_code != 0 and "6 trials" in nothing.stderr
