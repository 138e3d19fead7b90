"""What the documents show works as shown."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nas.grammar import Grammar, sample, seed
from nas.network import Network
from nas.op import OPERATORS
from nas.search.settings_page import page
from nas.supernet import STRATEGIES

ROOT = Path(__file__).parents[1]


def blocks(path: str, language: str) -> list[str]:
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.mark.parametrize("text", blocks("docs/spaces.md", "grammar"))
def test_every_space_in_the_docs_derives_and_runs(text: str) -> None:
    import torch

    grammar = Grammar.parse(text, name="docs")
    drawn = [sample(grammar, random.Random(number), input=(1, 8, 8)) for number in range(10)]
    for derivation in (*drawn, *(seed(grammar, name, input=(1, 8, 8)) for name in grammar.seeds)):
        network = Network(derivation).eval()
        assert network(torch.zeros(1, 1, 8, 8))["coarse"].isfinite().all()


@pytest.mark.parametrize(("page", "says"), [("search", "einspace@"), ("spaces", r"\d+ \w+ ")])
def test_every_program_in_the_docs_runs(page: str, says: str, tmp_path: Path) -> None:
    programs = blocks(f"docs/{page}.md", "python")
    assert programs
    for text in programs:
        said = subprocess.run(
            [sys.executable, "-c", text], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout
        assert re.match(says, said)


def test_the_docs_name_every_sampler() -> None:
    from nas.search.parts import SAMPLERS

    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    for name in SAMPLERS:
        assert f"`{name}`" in text


def test_the_settings_of_trust_are_shown_at_their_defaults() -> None:
    import tomllib

    from nas.search.parts import Trust

    (text,) = blocks("docs/trust.md", "toml")
    assert tomllib.loads(text)["trust"] == Trust().model_dump()


def test_the_docs_name_every_strategy() -> None:
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in STRATEGIES)


def test_the_docs_name_every_operator_that_a_space_can_use() -> None:
    text = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
    unsaid = {n for n in OPERATORS if not re.search(rf"`{n}\b", text)}
    assert unsaid <= {"mean_space", "mean_positions", "output"}


def test_ci_runs_the_readmes_two_commands_each_in_an_environment_of_its_own() -> None:
    ran = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [b.strip() for b in blocks("README.md", "bash") if b.startswith("pip install")]
    assert len(commands) == 2
    parts = ran.split("\nenvironment ")[1:]
    for command in commands:
        (part,) = (one for one in parts if f"\n{command}\n" in one)
        assert part.index("pip install") == part.index(command)


def test_a_wheel_finds_its_spaces_and_tasks_outside_the_checkout(tmp_path: Path) -> None:
    """The wheel's own files, on a path of their own, without a top-level tasks or search_spaces."""
    import zipfile

    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "-w",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"nas"}
    code = (
        "import nas; from nas.grammar import shipped_spaces; from nas.task import shipped_tasks;"
        "print(nas.__file__, *shipped_spaces(), *shipped_tasks(), nas.Grammar.load('mobile').hash)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
    ).stdout
    assert str(tmp_path) in said
    for word in ("mobile", "einspace", "fbnetv5-small", "digits", "scenes-segment"):
        assert word in said


def test_the_first_line_of_a_journal_is_the_one_that_is_shown() -> None:
    from nas.archive import _HEADER

    shown = (ROOT / "runs" / "README.md").read_text(encoding="utf-8")
    assert f"    {_HEADER.decode().rstrip()}\n" in shown


def test_the_page_of_settings_is_what_nas_settings_prints() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == page()


def test_every_setting_says_what_it_is() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    for row in rows:
        assert len(row.split("|")[3].strip()) > 10, row
