"""Operators of the user's own: found on the meta device, planned, run and trained."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from nas.grammar import Grammar, GrammarError, replay, sample
from nas.network import Network
from nas.op import Shape, ShapeError, infer
from nas.op.user import UserOperator

SOURCE = '''
import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """Mixes channels; asks for the shape that arrives."""

    def __init__(self, shape, width: int = 4):
        super().__init__()
        self.mix = nn.Conv2d(shape[0], width, 1)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.mix(x) * self.scale[:, None, None]


def double(x, by=2):
    return x * by


def join(x: Tensor, y: Tensor):
    return torch.cat([x, y], dim=1)


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        return x


def broken(x):
    raise RuntimeError("out of luck")


number = 3
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def grammar(folder: Path, attribute: str, body: str) -> Grammar:
    path = folder / "space.grammar"
    path.write_text(f"use ./mine.py:{attribute} as own\nnet = {body}\n")
    return Grammar.load(path, trust_code=True)


def trained_a_step(network: Network, x: torch.Tensor) -> list[bool]:
    """Whether each parameter moved in one step of SGD."""
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()(x)["coarse"].square().mean().backward()
    optimizer.step()
    return [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]


def test_module_with_a_shape_is_typed_on_meta_runs_and_trains(folder: Path) -> None:
    space = grammar(folder, "Gate", "conv(3) own(width=6) relu | conv(5) own relu")
    wide, narrow = (replay(space, [label], input=(1, 4, 4)) for label in ("conv(3)+", "conv(5)+"))
    assert Network(wide).plan.output_shapes() == {"coarse": Shape.of((6, 4, 4))}
    assert Network(wide).plan.params == 1 * 3 * 9 + (3 * 6 + 6) + 6
    assert Network(narrow).plan.params == 1 * 5 * 9 + (5 * 4 + 4) + 4
    assert Network(wide).plan.flops == 2 * 16 * (27 + 18)
    network = Network(wide)
    assert sum(p.numel() for p in network.parameters()) == network.plan.params
    assert all(trained_a_step(network, torch.randn(4, 1, 4, 4)))


def test_function_takes_tensors_first_and_arguments_by_name(folder: Path) -> None:
    network = Network(replay(grammar(folder, "double", "own(by=3)"), [], input=(2, 5)))
    x = torch.randn(3, 2, 5)
    torch.testing.assert_close(network(x)["coarse"], x * 3)
    assert network.plan.params == network.plan.flops == 0
    assert [a.name for a in UserOperator("own", f"{folder}/mine.py:double").args] == ["by"]


def test_function_of_two_tensors_joins_streams(folder: Path) -> None:
    space = grammar(folder, "join", "clone(2) [conv(3); conv(4)] own")
    network = Network(replay(space, [], input=(1, 4, 4)))
    assert network(torch.randn(2, 1, 4, 4))["coarse"].shape == (2, 7, 4, 4)


def test_sampled_derivation_reads_back_with_an_operator_of_its_own(folder: Path) -> None:
    space = grammar(folder, "Gate", "(own(width=2) | own(width=8)){1..2}")
    derivation = sample(space, random.Random(3), input=(1, 4, 4))
    assert type(derivation).read(str(derivation), space) == derivation
    assert Network(derivation)(torch.randn(1, 1, 4, 4))["coarse"].shape[0] == 1


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module_of_mine:f", "cannot be loaded"),
        ("./missing.py:f", "there is no file"),
        ("./mine.py:absent", "absent"),
    ],
)
def test_bad_target_is_a_clear_error(folder: Path, target: str, reason: str) -> None:
    path = folder / "space.grammar"
    path.write_text(f"use {target} as own\nnet = conv(3) own\n")
    with pytest.raises(GrammarError, match=reason):
        sample(Grammar.load(path, trust_code=True), random.Random(0), input=(1, 4, 4))


def test_what_is_no_function_is_a_clear_error(folder: Path) -> None:
    with pytest.raises(GrammarError, match="is no function or module"):
        grammar(folder, "number", "conv(3) own")


def test_buffers_are_refused(folder: Path) -> None:
    operator = UserOperator("own", f"{folder}/mine.py:Counted")
    with pytest.raises(ShapeError, match="buffers; norms belong in the grammar"):
        infer(operator, (Shape.of((3, 4, 4)),), {})


def test_errors_of_user_code_are_shape_errors_that_name_it(folder: Path) -> None:
    operator = UserOperator("own", f"{folder}/mine.py:broken")
    with pytest.raises(ShapeError, match=r"mine.py:broken raises RuntimeError: out of luck"):
        infer(operator, (Shape.of((3, 4, 4)),), {})
    with pytest.raises(GrammarError, match="out of luck"):
        sample(grammar(folder, "broken", "own"), random.Random(0), input=(3, 4, 4))


def test_moving_a_project_keeps_its_grammars_identity_and_changing_its_code_does_not(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = grammar(folder, "double", "own(by=3)")
    moved = tmp_path_factory.mktemp("moved")
    (moved / "mine.py").write_text(SOURCE)
    assert grammar(moved, "double", "own(by=3)").hash == here.hash
    (moved / "mine.py").write_text(SOURCE + "\nmore = 1\n")
    assert grammar(moved, "double", "own(by=3)").hash != here.hash


def test_code_of_ones_own_needs_trust(folder: Path) -> None:
    grammar(folder, "double", "own")
    with pytest.raises(GrammarError, match="--trust-code"):
        Grammar.load(folder / "space.grammar")


def test_operator_of_the_library_is_not_replaced(folder: Path) -> None:
    path = folder / "space.grammar"
    path.write_text("use ./mine.py:double as relu\nnet = relu\n")
    with pytest.raises(GrammarError, match=r"space.grammar:1:1: 'relu' is an operator"):
        Grammar.load(path, trust_code=True)
