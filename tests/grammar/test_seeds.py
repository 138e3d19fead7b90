"""Seeds: known networks in a grammar's text, read as derivations of it, trained and varied."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from math import prod
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nas.cli import app
from nas.grammar import (
    Derivation,
    Follow,
    Grammar,
    GrammarError,
    Limits,
    Option,
    Site,
    derive,
    mutate,
    read_network,
    replay,
    sample,
    seed,
)
from nas.network import Network
from nas.plan import plan
from nas.survey import operators

IMAGE = (3, 32, 32)
PUBLISHED = {"resnet18": 11_210_560, "wrn16_4": 2_748_576, "vit": 4_269_568, "mlp_mixer": 2_434_048}
each = pytest.mark.parametrize("name", PUBLISHED)


@cache
def known(name: str) -> Derivation:
    return seed(Grammar.load("einspace"), name, input=IMAGE)


def conv(inner: int, out: int, kernel: int = 3) -> int:
    return inner * out * kernel**2 + out


def linear(inner: int, out: int) -> int:
    return inner * out + out


def norm(channels: int) -> int:
    return 2 * channels


def test_resnet18_has_the_parameters_of_the_published_body() -> None:
    """The 11,176,512 of the ImageNet body, with a stem of 3x3 for one of 7x7 (-7,680), a strided
    convolution for the max-pool (+36,864), and a bias for each of 4,864 channels made, since
    linear maps have one."""
    two = [conv(c, c) + norm(c) for c in (64, 128, 256, 512)]
    down = [
        conv(c, 2 * c) + conv(2 * c, 2 * c) + conv(c, 2 * c, 1) + 3 * norm(2 * c)
        for c in (64, 128, 256)
    ]
    blocks = 4 * two[0] + sum(down) + 2 * sum(two[1:])
    stem = conv(3, 64) + norm(64) + conv(64, 64)
    assert stem + blocks == 11_176_512 - 7_680 + 36_864 + 4_864 == PUBLISHED["resnet18"]
    assert plan(known("resnet18")).params == stem + blocks


def test_wrn16_4_has_the_parameters_of_the_published_body() -> None:
    """2,742,704 in kernels, 2,256 biases (as many as channels made) and 2 · 1,808 of the norms,
    which stand after the stem, within each block and after its sum."""
    wide = [
        conv(a, b) + conv(b, b) + conv(a, b, 1) + 2 * norm(b)
        for a, b in ((16, 64), (64, 128), (128, 256))
    ]
    kept = [2 * conv(c, c) + 2 * norm(c) for c in (64, 128, 256)]
    total = conv(3, 16) + norm(16) + sum(wide) + sum(kept)
    assert total == 2_742_704 + 2_256 + 2 * 1_808 == PUBLISHED["wrn16_4"]
    assert plan(known("wrn16_4")).params == total


def test_vit_has_the_parameters_of_the_published_body() -> None:
    """Patches of 4x4 embedded in 512, and an encoding for each of 64 positions. A layer: 4 heads
    of width 64 (not 512 / 4), a hidden layer of 512 (not 4 · 512), two norms; no class token and
    no norm at the end. Attention's own scale and softmax have no parameters."""
    embedded = linear(48, 512) + 64 * 512
    heads = 4 * 3 * linear(512, 64) + linear(4 * 64, 512)
    layer = heads + 2 * linear(512, 512) + 2 * norm(512)
    assert embedded + 4 * layer == PUBLISHED["vit"]
    assert plan(known("vit")).params == embedded + 4 * layer


def test_mlp_mixer_has_the_parameters_of_the_published_body() -> None:
    """A layer is one residual around both mixings, so it has one norm where the paper of the mixer
    has two; and the embedding has an encoding of positions, which that paper's has not."""
    embedded = linear(48, 512) + 64 * 512
    positions = linear(64, 4 * 64) + linear(4 * 64, 64)
    features = linear(512, 256) + linear(256, 512)
    layer = norm(512) + positions + features
    assert embedded + 8 * layer == PUBLISHED["mlp_mixer"]
    assert plan(known("mlp_mixer")).params == embedded + 8 * layer


def test_einspace_names_its_seeds() -> None:
    assert Grammar.load("einspace").seeds == (*PUBLISHED, "small_resnet", "small_vit")


@each
def test_seed_is_replayed_from_its_labels_within_500_operators(name: str) -> None:
    one = known(name)
    assert replay(one.grammar, one.labels, input=IMAGE) == one
    assert Derivation.read(str(one)) == one
    assert 80 < operators(one.tokens, copies=True) <= 500
    again = read_network(one.grammar, one.network_text, input=IMAGE)
    assert again == one
    assert max(len(choice.site.name) for choice in one.choices) <= 512


@each
def test_seed_is_derived_within_limits_by_its_labels_at_their_sites(name: str) -> None:
    one = known(name)

    def never(site: Site, options: Sequence[Option]) -> int:
        raise AssertionError(f"{one.by_site[site.name]} is not offered at {site.name}")

    assert derive(one.grammar, Follow(one, never), input=IMAGE, limits=Limits(500)) == one


@each
def test_mutated_seed_is_another_valid_network_of_the_space(name: str) -> None:
    parent = known(name)
    for number in range(8):
        child = mutate(parent, random.Random(number), limits=Limits(500)).derivation
        assert child != parent
        assert replay(child.grammar, child.labels, input=IMAGE) == child
        assert plan(child).fingerprint


@each
def test_seed_runs_forward_and_takes_a_step_of_training(name: str) -> None:
    network = Network(known(name))
    with torch.no_grad():
        before = network.eval()(torch.randn(2, *IMAGE))["coarse"]
    assert torch.isfinite(before).all()
    step = torch.optim.SGD(network.train().parameters(), lr=0.01)
    x, losses = torch.randn(2, *IMAGE), []
    for _ in range(2):
        result = network(x)["coarse"]
        losses.append((result - 1).pow(2).mean())
        step.zero_grad()
        losses[-1].backward()
        assert all(
            p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters()
        )
        step.step()
    assert losses[1] < losses[0]


@each
@pytest.mark.parametrize("input", [(1, 28, 28), (12, 8, 8), (3, 64, 64)], ids=str)
def test_seed_fits_another_image_or_says_which_operator_does_not(
    name: str, input: tuple[int, ...]
) -> None:
    if name != "mlp_mixer":
        assert prod(plan(seed(known(name).grammar, name, input=input)).shapes[-1].dims)
        return
    with pytest.raises(GrammarError, match=r"mlp_mixer does not fit .*: operator 16, add cannot"):
        seed(known(name).grammar, name, input=input)


def test_seed_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(GrammarError, match="einspace has no seed 'resnet'; there are resnet18, wr"):
        seed(Grammar.load("einspace"), "resnet", input=IMAGE)


SPACE = "net = (norm | block){1..4}\nblock = linear(16) relu | gelu"
SEEDS = "\nseed small = helped{2}\nseed none = norm\nhelped = block2 norm\nblock2 = linear(16) relu"


def test_seeds_and_their_rules_are_no_part_of_what_is_drawn() -> None:
    plain, seeded = Grammar.parse(SPACE), Grammar.parse(SPACE + SEEDS)
    assert seeded.hash == plain.hash
    assert list(seeded.rules) == ["net", "block"]
    for number in range(20):
        drawn = [sample(g, random.Random(number), input=IMAGE) for g in (plain, seeded)]
        assert drawn[0].network_text == drawn[1].network_text
    found = seed(seeded, "small", input=IMAGE)
    assert found.network_text == "linear(out=16) relu norm linear(out=16) relu norm"
    assert found.labels == ("x4", "block", "linear(16)+", "norm", "block", "linear(16)+", "norm")


def test_seeds_are_kept_where_a_grammar_is_written_and_read_again() -> None:
    grammar = Grammar.parse(SPACE + SEEDS)
    again = Grammar.parse(grammar.text)
    assert again.text == grammar.text
    assert again.seeds == grammar.seeds == ("small", "none")
    assert seed(again, "small", input=IMAGE) == seed(grammar, "small", input=IMAGE)


def test_seeds_are_imported_with_their_space(tmp_path: Path) -> None:
    (tmp_path / "base.grammar").write_text(SPACE + SEEDS)
    (tmp_path / "mine.grammar").write_text(
        "import ./base.grammar\nseed own = helped\nblock = linear(16) relu | silu"
    )
    grammar = Grammar.load(tmp_path / "mine.grammar")
    assert grammar.start == "net"
    assert grammar.seeds == ("small", "none", "own")
    assert seed(grammar, "own", input=IMAGE).network_text == "linear(out=16) relu norm"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed a = norm | relu", ":3:6: 'a' leaves a choice, norm | relu, and the seed 'a' is one"),
        ("seed a = linear({16, 32})", ":3:6: 'a' leaves a choice, {16, 32}"),
        ("seed a = block", ":2:1: 'block' leaves a choice, linear(16) relu | gelu, and the seed"),
        ("seed a = norm{1..2}", ":3:6: 'a' leaves a choice, norm{1..2}"),
        ("seed a = b\nb = b norm", ":4:1: 'b' cannot end"),
        ("seed a = conf(3)", ":3:10: 'conf' has no rule and is no operator. Did you mean 'conv'?"),
        ("seed norm = relu", ":3:6: 'norm' is an operator; give the rule another name"),
        ("seed block = relu", ":3:6: 'block' has two rules; the first is at line 2"),
        ("seed a = norm\nunused = relu", ":4:1: no derivation from 'net' reaches 'unused'"),
        ("seed a(c) = linear(c)", ":3:6: 'a(' does not fit here"),
    ],
)
def test_faulty_seed_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar.parse(f"{SPACE}\n{text}", name="my.grammar")
    assert f"my.grammar{reason}" in str(caught.value)


def test_check_lists_seeds_and_reads_a_network_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.grammar").write_text(SPACE + SEEDS)
    (tmp_path / "net.txt").write_text("norm linear(16) relu")
    space = str(tmp_path / "own.grammar")
    found = json.loads(CliRunner().invoke(app, ["check", space, "--json"]).stdout)
    assert found["seeds"][0] == {
        "seed": "small",
        "params": 32 * 16 + 16 * 16 + 32 + 2 * 6,
        "flops": 2 * 3 * 32 * (32 * 16 + 16 * 16),
        "depth": 4,
    }
    words = ["check", space, "--network", str(tmp_path / "net.txt")]
    said = CliRunner().invoke(app, words).stdout
    assert "3x32x32: x2 norm block linear(16)+" in said
    assert "534 params, 98,304 FLOPs" in said
    (tmp_path / "net.txt").write_text("norm linear(24) relu")
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    assert "net.txt at operator 2, linear(out=24)" in refused.output.replace("\n", " ")


def test_rule_may_be_named_seed() -> None:
    grammar = Grammar.parse("net = seed norm\nseed = relu")
    assert grammar.seeds == ()
    assert sample(grammar, random.Random(0), input=IMAGE).network_text == "relu norm"
