"""Files of any content are read, or refused in words: some of what benchmarks/fuzz.py tries."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from fuzz import fuzz, made


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return made(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("run.toml", 1_500),
        ("recipe.toml", 700),
        ("architecture.json", 1_000),
        ("journal.jsonl", 3_000),
    ],
)
def test_files_of_any_content_are_read_or_refused_in_words(
    folders: tuple[Path, Path], kind: str, count: int
) -> None:
    found = fuzz(kind, count, 1, *folders)
    assert sum(found.values()) == count
    assert found["read"] < 0.9 * count  # most changes are noticed
