"""The card of a network says what is known, and nothing that it was told to say otherwise."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import pytest
from scipy.stats import binomtest

from nas.export import Recipe, save
from nas.export.folder import note
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.task import Task

SPACE = Grammar.parse("net = conv(4, stride=2) relu output(coarse)", name="s")


def saved(folder: Path, **source: object) -> str:
    task = Task.load("digits")
    network = Network(sample(SPACE, random.Random(0), input=task.input), heads=[task]).eval()
    save(network, folder, tasks=[task], recipe=Recipe(), source=source)  # type: ignore[arg-type]
    return (folder / "card.md").read_text()


def test_the_card_has_figures_cost_licence_and_hashes(tmp_path: Path) -> None:
    columns = {"accuracy": 0.9, "digits_accuracy": 0.9, "flops": 10.0, "latency_ms@pi4": 2.5}
    text = saved(tmp_path / "net", run="first", trial="ab12", columns=columns)
    assert "| accuracy | 0.9000 |  |  |  |" in text and "Not retrained yet" in text
    assert "| latency\\_ms@pi4 | 2.5 ms |" in text
    assert "CC BY 4.0" in text and "run first, trial ab12" in text
    for name in ("model.py", "weights.safetensors", "architecture.json", "recipe.toml"):
        digest = hashlib.sha256((tmp_path / "net" / name).read_bytes()).hexdigest()
        assert f"| {name} | `{digest}` |" in text


def test_after_retraining_accuracies_have_their_interval(tmp_path: Path) -> None:
    columns, splits = {"digits_accuracy": 0.9}, {"digits": {"train": 9, "valid": 9, "test": 360}}
    saved(tmp_path / "net", columns=columns, splits=splits)
    note(
        tmp_path / "net",
        test_before={"digits_accuracy": 0.85},
        test_after={"digits_accuracy": 0.95},
        epochs=5,
    )
    text = (tmp_path / "net" / "card.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| accuracy")]
    low, high = map(float, re.search(r"0.9500 \[([\d.]+), ([\d.]+)\]", row).groups())  # type: ignore[union-attr]
    wanted = binomtest(342, 360).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=2e-4)
    digest = hashlib.sha256((tmp_path / "net" / "architecture.json").read_bytes()).hexdigest()
    assert digest in text and "Not retrained" not in text
    assert "\n- **retrained** 5 epochs\n" in text


def test_what_others_wrote_stays_in_its_line(tmp_path: Path) -> None:
    evil = "x\n# I am trusted\n[click](http://bad) | <script>\x1b[2J"
    text = saved(tmp_path / "net", run=evil, trial="t", verdict=evil, columns={evil: 1.0})
    assert "\n# I am" not in text and "<script>" not in text.replace("\\<script\\>", "")
    assert "\x1b" not in text and "[click]" not in text
