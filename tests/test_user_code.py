"""Claims about a user's own Python files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from nas.grammar import Grammar, sample
from nas.network import Network
from nas.task import Task
from nas.user_code import user_attribute


def test_a_file_is_a_module_with_dataclasses_and_siblings_and_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "sibling_of_mine.py").write_text("number = 7\n")
    (tmp_path / "data.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from sibling_of_mine import number\n"
        "with Path(__file__).with_name('runs').open('a') as file:\n    file.write('x')\n"
        "@dataclass\nclass Sample:\n    image: np.ndarray\n    label: int\n"
        "def dicts():\n"
        "    rng = np.random.default_rng(number)\n"
        "    return [{'image': rng.normal(size=(1, 8, 8)), 'label': i % 2} for i in range(60)]\n"
        "def unknown():\n    return [{'left': 1, 'right': 2}] * 9\n"
    )
    target = str(tmp_path / "data.py")
    task = Task.load(f"mine={target}:dicts", trust_code=True)
    assert task.input == (1, 8, 8)
    assert task.classes == ("0", "1")
    assert user_attribute(f"{target}:Sample")(1, 2).label == 2
    assert (tmp_path / "runs").read_text() == "x"
    with pytest.raises(ValueError, match="an item has left, right, of which none are known"):
        Task.load(f"mine={target}:unknown", trust_code=True)


def test_an_operator_that_was_edited_is_another(tmp_path: Path) -> None:
    space = tmp_path / "s.grammar"
    space.write_text("use ./ops.py:mine as mine\nnet = mine\n")

    def run() -> float:
        grammar = Grammar.load(space, trust_code=True)
        network = Network(sample(grammar, random.Random(0), input=(1, 2, 2))).eval()
        return float(network(torch.ones(1, 1, 2, 2))["coarse"].sum())

    for factor in (2, 3):
        (tmp_path / "ops.py").write_text(f"def mine(x):\n    return x * {factor}\n")
        assert run() == 4 * factor


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("x.mul_(2)", "writes into its input"),
        ("x if x.is_meta else x[..., :1]", "said .* on the meta device"),
        ("x / 0 if x.is_meta else int('a')", "raises ValueError"),
        ("x if x.is_meta else exit(3)", "raises SystemExit"),
    ],
)
def test_an_operator_that_misbehaves_is_named_with_what_it_did(
    tmp_path: Path, body: str, reason: str
) -> None:
    (tmp_path / "ops.py").write_text(f"def mine(x):\n    return {body}\n")
    (tmp_path / "s.grammar").write_text("use ./ops.py:mine as mine\nnet = conv(2) mine\n")
    grammar = Grammar.load(tmp_path / "s.grammar", trust_code=True)
    network = Network(sample(grammar, random.Random(0), input=(1, 4, 4))).eval()
    with pytest.raises(RuntimeError, match=f"operator 'mine' .*{reason}"):
        network(torch.ones(1, 1, 4, 4))
