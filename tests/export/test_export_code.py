"""Claims about model.py: plain PyTorch that computes what the network computes."""

import copy
import io
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nas import grammar as grammars
from nas.export import ExportError, Recipe, model_source, plain, save
from nas.export.plain_model import difference, outputs, under
from nas.grammar import Grammar, GrammarError, Limits, sample
from nas.network import Network
from nas.plan import plan
from nas.task import Task

EINSPACE = Limits(256, params=2_000_000, flops=50_000_000)
OPS = '''\
"""Operators of a user."""

from __future__ import annotations

import json
import math as mathematics

import torch.nn as nn
from torch import Tensor
from torch.nn.functional import relu as rectify, silu

print(json.dumps("nothing of this file but what is used travels"))
GAIN = mathematics.sqrt(4)


def unused(x: Tensor) -> Tensor:
    return silu(x)


# Two of a kind.
def rectified(x: "Tensor") -> Tensor:
    return rectify(x) * GAIN


class Block(nn.Module):
    """A user's block."""

    def __init__(self, shape: tuple[int, ...], out: int = 8, kind: str = "plain"):
        super().__init__()
        self.mix = nn.Conv2d(shape[0], out, 1)
        self.kind = kind

    def forward(self, x):
        return rectified(self.mix(x))


class Pair(nn.Module):
    def forward(self, x, y):
        return x * y


def single(x: Tensor):
    return (x * 2,)


if __name__ == "__main__":
    print(Block((3,)))
'''
NET = """\
use ./ops.py:Block as block
use ./ops.py:Pair as pair
use ./ops.py:single as single
net = conv(8) block(out=6, kind=odd) clone(2) [single; relu] pair batchnorm block
"""


def shaken(network: Network) -> Network:
    """The network with statistics and biases that no two channels share."""
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.copy_(torch.randn(value.shape, generator=generator))
        elif name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return network.eval()


def made(space: str, input: tuple[int, ...], *tasks: str, seed: int = 0) -> Network:
    grammar = Grammar.load(space, trust_code=True)
    limits = EINSPACE if space == "einspace" else None
    derivation = sample(grammar, random.Random(seed), input=input, limits=limits)
    return shaken(Network(derivation, heads=[Task.load(t) for t in tasks] or None))


def gap(network: Network) -> float:
    x = torch.randn(3, *network.plan.input.dims, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = network(x)
    return difference(outputs(plain(network), x, list(wanted)), wanted)


def checked_by_ruff(text: str, folder: Path, *ignored: str) -> None:
    path = folder / "generated.py"
    path.write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", str(path)]
    command += [f"--ignore={rule}" for rule in ignored]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("space", "input", "tasks"),
    [
        ("mobile", (1, 8, 8), ["digits"]),
        ("mobile", (1, 32, 32), ["scenes-classify", "scenes-segment"]),
        ("fbnetv5-small", (1, 32, 32), []),
        ("vit", (1, 32, 32), ["scenes-classify", "scenes-segment"]),
        ("fbnetv5-small", (1, 32, 32), ["scenes-segment"]),
    ],
)
def test_plain_module_gives_the_same_outputs(space, input, tasks, tmp_path) -> None:
    for seed in range(2):
        network = made(space, input, *tasks, seed=seed)
        assert gap(network) <= 1e-6
    checked_by_ruff(model_source(network.plan, title="a network"), tmp_path)


def test_plain_module_of_random_open_derivations_gives_the_same_outputs(tmp_path) -> None:
    texts = []
    for seed in range(25):
        network = made("einspace", (3, 16, 16), seed=seed)
        assert gap(network) <= 1e-6, network.derivation
        texts.append(model_source(network.plan, title=f"network {seed}"))
    checked_by_ruff(max(texts, key=len), tmp_path)


def test_the_plain_module_trains_as_the_network_does() -> None:
    network = made("mobile", (1, 8, 8), "digits")
    model = plain(network).train()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    network.train()
    assert difference({"digits": model(x)}, network(x)) <= 1e-6
    kept = network.state_dict()
    trained = under(kept, model.state_dict())
    assert all(torch.allclose(trained[name], value) for name, value in kept.items())


BLOCKS = """\
net         = conv(8) stage(8, 1, 3) stage(16, 2, 3) stage(24, 2, 5) last
stage(c, s, k) = block(c, s, k) block(c, 1, k){2}
block(c, s, k) = clone(2) [conv(c, kernel=k, stride=s) batchnorm; conv(c, stride=s)] add relu
last        = conv(4, kernel=3) batchnorm
"""


def test_what_repeats_is_a_class_and_repeats_of_it_a_loop() -> None:
    network = shaken(Network(sample(Grammar.parse(BLOCKS), random.Random(0), input=(3, 16, 16))))
    text = model_source(network.plan, title="blocks")
    defined = re.findall(r"^class (\w+)", text, re.MULTILINE)
    assert defined == ["Block", "Stage", "Model"]
    assert text.count("nn.Conv2d(") == 4  # the stem's, two of the block, the last
    assert "padding=kernel // 2" in text
    assert "range(2)" in text
    assert gap(network) <= 1e-6
    names = plain(network).state_dict()
    assert "stage.2.block_1.0.conv_0.weight" in names
    assert {name.replace(".", "_") for name in names if "tracked" not in name} == {
        name.replace(".", "_") for name in network.state_dict()
    }


def test_rules_that_differ_in_what_they_do_are_no_instances_of_one_class() -> None:
    text = "net = half(8) half(9) half(9)\nhalf(c) = conv(c) resize(50 * (c - 7)) conv(c)\n"
    network = shaken(Network(sample(Grammar.parse(text), random.Random(0), input=(3, 8, 8))))
    source = model_source(network.plan, title="halves")
    assert re.findall(r"self.half_(\d)(?:_conv_0)? = (\w+)", source) == [
        ("0", "nn"),
        ("1", "Half"),
        ("2", "Half"),
    ]
    assert gap(network) <= 1e-6


def test_model_py_imports_nothing_of_nas(tmp_path) -> None:
    tasks = [Task.load("scenes-classify"), Task.load("scenes-segment")]
    network = made("mobile", (1, 32, 32), *(task.spec for task in tasks))
    save(network, tmp_path / "net", tasks=tasks, recipe=Recipe(), source={})
    x = torch.randn(2, 1, 32, 32)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys, torch; sys.path.insert(0, 'net'); import model; "
        "y = model.load()(torch.load('x.pt')); "
        "assert not [name for name in sys.modules if name.split('.')[0] == 'nas']; "
        "torch.save(y, 'y.pt')"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
    with torch.no_grad():
        assert difference(torch.load(tmp_path / "y.pt"), network(x)) <= 1e-6


def test_an_operator_of_the_users_own_travels_with_what_it_reads(tmp_path) -> None:
    (tmp_path / "ops.py").write_text(OPS)
    (tmp_path / "own.grammar").write_text(NET)
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    derivation = sample(grammar, random.Random(0), input=(3, 8, 8))
    network = shaken(Network(derivation))
    assert gap(network) <= 1e-6
    text = model_source(network.plan, title="own")
    assert "json" not in text
    assert "unused" not in text
    assert text.count("class Block") == 1
    assert "# Two of a kind." in text
    checked_by_ruff(text, tmp_path, "UP037")
    save(network, tmp_path / "net", tasks=[], recipe=Recipe(), source={})
    (tmp_path / "ops.py").unlink()
    code = "import model; model.load()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "net", check=True)


@pytest.mark.parametrize("name", ["Model", "load", "F", "SqueezeExcite"])
def test_an_operator_whose_name_is_taken_is_refused(name, tmp_path) -> None:
    (tmp_path / "ops.py").write_text(f"def {name}(x):\n    return x * 2\n")
    text = f"use ./ops.py:{name} as mine\nnet = conv(8) squeeze_excite mine\n"
    (tmp_path / "own.grammar").write_text(text)
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    derivation = sample(grammar, random.Random(0), input=(3, 8, 8))
    with pytest.raises(ExportError, match=f"'{name}' would mean two things"):
        model_source(plan(derivation), title="own")


def test_an_operator_may_have_the_name_of_a_variable(tmp_path) -> None:
    (tmp_path / "ops.py").write_text("def x(y):\n    return y * 2\n")
    (tmp_path / "own.grammar").write_text("use ./ops.py:x as mine\nnet = conv(8) mine\n")
    grammar = Grammar.load(tmp_path / "own.grammar", trust_code=True)
    derivation = sample(grammar, random.Random(0), input=(3, 8, 8))
    assert gap(shaken(Network(derivation))) <= 1e-6


@pytest.mark.parametrize(
    ("text", "input"),
    [
        ("net = identity", (4,)),
        ("net = batchnorm linear(3)", (4,)),
        ("net = conv(4) batchnorm pool", (2, 9)),
        ("net = conv(4) batchnorm max_pool avg_pool(2, 1, 0) upsample", (2, 6, 7, 8)),
        ("net = tokens positional attention(2) layernorm gelu pool", (4, 5, 5)),
        ("net = group(1, 1) conv(4)", (4, 5, 5)),
        ("net = group(4, 1) [relu; identity; identity; tanh] concat(1)", (4, 5, 5)),
        ("net = clone(3) [conv(4); identity; identity] add", (4, 5, 5)),
        ("net = clone(2) [conv(4, stride=2); conv(4)] upsample_add", (4, 6, 6)),
        ("net = clone(2) [relu; tanh] scaled_matmul", (4, 6, 6)),
        ("net = clone(14) [(relu conv(4)) * 14] add", (4, 6, 6)),
        ("net = clone(2) [output(a); conv(4) output(b, c)]", (4, 6, 6)),
        ("net = mbconv(8, se=4, act=silu) mbconv(8, act=leaky_relu)", (8, 6, 6)),
        ("net = im2col(3, 2, 1) linear(5) col2im(3, 4)", (4, 6, 7)),
        ("net = im2col(3, 1, 1, 1) linear(5, bias=0) col2im(9, 1, 1) relu", (4, 9)),
        ("net = im2col(2, 2, 0, 3) linear(5) col2im(2, 3, 3)", (2, 4, 6, 6)),
        ("net = im2col(3, 1, 1) linear(5) relu col2im(6, 7)", (4, 6, 7)),
        ("net = im2col(3, 1, 1) linear(5) col2im(7, 6)", (4, 6, 7)),
    ],
)
def test_every_kind_of_step_is_written_as_it_runs(text, input, tmp_path) -> None:
    derivation = sample(Grammar.parse(text), random.Random(0), input=input)
    network = shaken(Network(derivation))
    assert gap(network) <= 1e-6
    checked_by_ruff(model_source(network.plan, title='a "quoted" \\ title """'), tmp_path)


def test_convolutions_written_in_three_steps_leave_as_one_with_the_same_weights() -> None:
    space = Grammar.load("einspace")
    network = shaken(Network(grammars.seed(space, "small_resnet", input=(3, 28, 28))))
    text = model_source(network.plan, title="small_resnet")
    assert text.count("= WindowLinear(") == len(network.plan.convolutions) == 9
    assert "unfold" not in text
    assert gap(network) <= 1e-5


def test_a_space_with_code_is_refused_where_code_is_not_trusted(tmp_path) -> None:
    (tmp_path / "ops.py").write_text(OPS)
    (tmp_path / "own.grammar").write_text(NET)
    with pytest.raises(GrammarError, match="trust"):
        Grammar.load(tmp_path / "own.grammar", trust_code=False)


def test_a_plain_model_with_classes_is_pickled_and_copied() -> None:
    network = shaken(Network(sample(Grammar.parse(BLOCKS), random.Random(0), input=(3, 16, 16))))
    model, x = plain(network), torch.randn(2, 3, 16, 16)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    back = torch.load(buffer, weights_only=False)
    with torch.no_grad():
        assert torch.equal(back(x), model(x))
        assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize(
    "text",
    [
        "net = a_b a\na_b = c c\na = b_c b_c\nc = conv(8) batchnorm\nb_c = conv(8) batchnorm\n",
        "net = a_b a__b\na_b = c c\na__b = c c\nc = conv(8) batchnorm relu\n",
        "net = valueError{2} super{2} forward{2}\nvalueError = conv(8) batchnorm\n"
        "super = conv(4) batchnorm\nforward = conv(6) relu\n",
    ],
)
def test_names_of_rules_may_be_odd_and_alike(text: str) -> None:
    network = shaken(Network(sample(Grammar.parse(text), random.Random(0), input=(3, 8, 8))))
    assert gap(network) <= 1e-6
    assert "class ValueError(" not in model_source(network.plan, title="odd")


CLASHING = """
import torch
from torch import nn


class Attn(nn.Module):
    def __init__(self, shape, nn: int = 3, super: int = 1):
        from torch.nn import Conv2d

        torch.nn.Module.__init__(self)
        self.proj = Conv2d(shape[0], shape[0], nn, padding=nn // 2)

    def forward(self, x):
        return self.proj(x)


class Proj(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape[0], 1, 1))

    def forward(self, x):
        return x * self.weight
"""


def test_names_of_a_users_operators_may_clash_with_those_of_parts(tmp_path: Path) -> None:
    (tmp_path / "clash.py").write_text(CLASHING)
    uses = f"use {tmp_path}/clash.py:Attn as attn\nuse {tmp_path}/clash.py:Proj as attn_proj\n"
    for rule in ("blk(n) = attn(nn=n) attn_proj relu", "blk(n) = attn(nn=n) batchnorm relu"):
        text = f"{uses}net = conv(8) blk(3) blk(5)\n{rule}\n"
        grammar = Grammar.parse(text, trust_code=True)
        network = shaken(Network(sample(grammar, random.Random(0), input=(3, 8, 8))))
        assert gap(network) <= 1e-6
