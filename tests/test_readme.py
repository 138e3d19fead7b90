"""The commands and code of the README, and of each recipe of the cookbook, run in order in one
folder; searches are cut short."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nas.cli import app

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(bash|python|grammar)\n(.*?)^```", flags=re.M | re.S)
COOKBOOK = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", COOKBOOK, flags=re.M | re.S))
SHORT = "\n[supernet]\nsteps = 10\nsamples = 64\n"


def commands(text: str) -> list[str]:
    """The lines of a bash block, continued lines joined, set-up left out."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split(" && ")]
    return [p for p in parts if p and not p.startswith(("#", "pip ", "pytest"))]


def run_commands(block: str, folder: Path) -> int:
    """Run a block's commands, those of nas in this process but for what starts Ray; how many."""
    asked = commands(block)
    for command in asked:
        if command.startswith("python "):
            whole = [sys.executable, *shlex.split(command)[1:]]
            subprocess.run(whole, cwd=folder, check=True, timeout=300)
            continue
        assert command.startswith("nas "), command
        words = shortened(command)
        if "ray" in words:
            whole = [sys.executable, "-m", "nas", *words]
            subprocess.run(whole, cwd=folder, check=True, timeout=300)
        else:
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, f"{command}: {result.output[-2000:]}"
    return len(asked)


def shortened(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    if words[:2] == ["nas", "search"]:
        words += ["--trials", "30" if "runs/first" in words else "6"]  # something to learn from
        if "--config" not in words:
            words += ["--config", "short.toml"]
        elif (given := Path(words[words.index("--config") + 1])).suffix == ".toml":
            text = given.read_text(encoding="utf-8").replace("[supernet]", SHORT.strip())
            given.write_text(text, encoding="utf-8")
        words = [w for i, w in enumerate(words) if "--budget" not in (w, words[i - 1])]
    if words[:2] == ["nas", "resume"] and "--trials" in words:
        words[words.index("--trials") + 1] = "8"
    if words[:2] == ["nas", "retrain"] and "--epochs" in words:
        words[words.index("--epochs") + 1] = "1"
    if "--seeds" in words:
        words[words.index("--seeds") + 1] = "2"
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
            ran += run_commands(block, folder)
        else:
            block = re.sub(r"trials=\d+", 'trials=6, supernet={"steps": 10}', block)
            subprocess.run([sys.executable, "-c", block], cwd=folder, check=True, timeout=300)
            ran += 1
    assert ran >= 12


def pictures(folder: Path, rng: np.random.Generator) -> None:
    """Three classes of pictures, told by their colour, and masks of the same names."""
    for number in range(48):
        kind = ("oak", "ash", "elm")[number % 3]
        picture = rng.integers(0, 90, (20, 24, 3), dtype=np.uint8)
        picture[..., number % 3] += 120
        mask = np.zeros((20, 24), dtype=np.uint8)
        mask[4:12, number % 8 : 12] = 1
        picture[mask == 1] = 255 - picture[mask == 1]
        for place, array in (("photos", picture), ("pets/images", picture), ("pets/masks", mask)):
            path = folder / place / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


def tables(folder: Path, rng: np.random.Generator) -> None:
    """Houses, and series of three channels."""
    rooms, area = rng.integers(1, 9, 150), rng.random(150) * 200 + 30
    rows = [
        f"{i},{r},{a:.1f},{'north' if i % 3 else ''},{a * 900 + r * 5e3:.0f}"
        for i, (r, a) in enumerate(zip(rooms, area, strict=True))
    ]
    (folder / "houses.csv").write_text("\n".join(["id,rooms,area,side,price", *rows]) + "\n")
    y = np.arange(90) % 3
    x = rng.normal(size=(90, 3, 64)) + np.sin(np.arange(64) * (1 + y[:, None]) / 4)[:, None]
    np.savez(folder / "series.npz", x=x.astype("float32"), y=y)


@pytest.mark.parametrize("title", RECIPES)
def test_every_recipe_of_the_cookbook_runs(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs and spaces are files, by the name in their first line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.toml").write_text("generation = 3\n" + SHORT)
    rng = np.random.default_rng(0)
    pictures(tmp_path, rng)
    tables(tmp_path, rng)
    ran = 0
    for language, block in BLOCK.findall(RECIPES[title]):
        if language == "bash":
            ran += run_commands(block, tmp_path)
        else:
            (tmp_path / block.splitlines()[0].strip("# ")).write_text(block, encoding="utf-8")
    assert ran


def test_the_cookbook_has_ten_recipes() -> None:
    assert len(RECIPES) == 10
