"""The README's commands and code run, in order, in one folder; searches are cut short."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nas.cli import app

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", flags=re.M | re.S)
SHORT = "\n[supernet]\nsteps = 10\nsamples = 64\n"


def commands(text: str) -> list[str]:
    """The lines of a bash block, continued lines joined, set-up left out."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [p for p in parts if p and not p.startswith(("#", "pip ", "pytest"))]


def shortened(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    if words[:2] == ["nas", "search"]:
        words += ["--trials", "30" if "runs/first" in words else "6"]  # something to learn from
        words += ["--config", "short.toml"] if "--config" not in words else []
        words = [w for i, w in enumerate(words) if "--budget" not in (w, words[i - 1])]
    if words[:2] == ["nas", "resume"] and "--trials" in words:
        words[words.index("--trials") + 1] = "8"
    if words[:2] == ["nas", "retrain"] and "--epochs" in words:
        words[words.index("--epochs") + 1] = "1"
    if words[:2] == ["nas", "trust"]:
        words = [*words[:3], "--standalone", "8", "--epochs", "0.2"]
    return words[1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "short.toml").write_text("generation = 3\n" + SHORT)
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (rng.random((120, 12, 12)) + y[:, None, None]).astype("float32")
    np.savez(folder / "data.npz", x=x, y=y)
    shown = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
    (folder / "my.grammar").write_text(re.findall(r"```grammar\n(.*?)```", shown, flags=re.S)[-1])
    return folder


def test_every_block_of_the_readme_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands one after the other in this process, but for what starts Ray."""
    monkeypatch.chdir(folder)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ran = 0
    for language, block in BLOCK.findall(text):
        if language == "bash":
            for command in commands(block):
                assert command.startswith("nas "), command
                words = shortened(command)
                if "ray" in words:
                    whole = [sys.executable, "-m", "nas", *words]
                    subprocess.run(whole, cwd=folder, check=True, timeout=300)
                else:
                    result = CliRunner().invoke(app, words)
                    assert result.exit_code == 0, f"{command}: {result.output[-2000:]}"
                ran += 1
        else:
            block = re.sub(r"trials=\d+", 'trials=6, supernet={"steps": 10}', block)
            subprocess.run([sys.executable, "-c", block], cwd=folder, check=True, timeout=300)
            ran += 1
    assert ran >= 12
