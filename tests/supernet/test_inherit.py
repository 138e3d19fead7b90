"""What a child begins with: its parents' weights where it continues them, else the identity."""

from __future__ import annotations

import random

import pytest
import torch

from nas.evaluate import Conditions
from nas.evaluate.alone import trained_network
from nas.grammar import Derivation, Grammar, Variation, cross, mutate, replay, sample
from nas.op import BATCH
from nas.plan import plan, run
from nas.supernet import Bank, Parent, inherit, trained
from nas.task import Task
from nas.train import Recipe

DIGITS = Task.load("digits")
SPACE = Grammar.parse("""
net = body output(coarse)
body = m m
m = part | part m
part = linear({4, 8, 16}) | relu | clone(2) [m * 2] add | positional
""")


def drawn(seed: int) -> Derivation:
    found = sample(SPACE, random.Random(seed), input=DIGITS.input, size=(8, 30))
    return found if bank_of(found).tensors else drawn(seed + 1000)


def bank_of(derivation: Derivation, seed: int = 0) -> Bank:
    return Bank.of([plan(derivation, heads=[DIGITS])], seed=seed)


def parent_of(derivation: Derivation, seed: int = 1) -> Parent:
    return Parent.of(derivation, trained(bank_of(derivation, seed)))


def begun(child: Variation, *parents: Parent) -> tuple[Bank, float]:
    derivation = child.derivation
    bank = bank_of(derivation)
    planned = plan(derivation, heads=[DIGITS])
    return bank, inherit(bank, derivation, planned, parents, child.origin)


def same(derivation: Derivation) -> Variation:
    return Variation(derivation, "same", (("", 0, ""),))


@pytest.mark.parametrize("seed", range(10))
def test_a_child_that_is_its_parent_begins_with_all_its_weights(seed: int) -> None:
    derivation = drawn(seed)
    parent = parent_of(derivation)
    bank, share = begun(same(derivation), parent)
    assert share == 1.0
    for key, tensor in bank.tensors.items():
        assert torch.equal(tensor, parent.tensors[key])


PLAIN = Grammar.parse("""
net = body output(coarse)
body = m m
m = part | part m
part = linear({4, 8, 16}) | relu | clone(2) [m; relu] add | positional
""")


@pytest.mark.parametrize("seed", range(30))
def test_every_weight_of_a_child_is_that_of_its_origin_or_new(seed: int) -> None:
    derivation, other = (
        sample(PLAIN, random.Random(n), input=DIGITS.input, size=(8, 30)) for n in (seed, -seed - 1)
    )
    rng = random.Random(seed)
    child = mutate(derivation, rng) if seed % 2 else cross(derivation, other, rng)
    parents = (parent_of(derivation), parent_of(other, 2))
    bank, _ = begun(child, *parents)
    for key, tensor in bank.tensors.items():
        path, _, rest = key.partition(":")
        found = (0, path) if path.startswith("head/") else child.origin(path)
        theirs = parents[found[0]].tensors.get(f"{found[1].lstrip('/')}:{rest}") if found else None
        if theirs is not None and theirs.shape == tensor.shape:
            assert torch.equal(tensor, theirs)
        elif key.endswith("weight"):
            for parent in parents:
                assert not any(
                    t.shape == tensor.shape and torch.equal(t, tensor)
                    for t in parent.tensors.values()
                )


def test_what_lies_outside_a_regrown_part_keeps_its_weights() -> None:
    kept = 0
    for seed in range(40):
        derivation = drawn(seed)
        child = mutate(derivation, random.Random(seed))
        if child.kind == "regrow":
            kept += begun(child, parent_of(derivation))[1] > 0.3
    assert kept >= 3


NEAR = Grammar.parse(
    "net = stem m output(coarse)\nstem = conv(8)\nm = identity | wide | flat\n"
    "wide = m conv(8, kernel=3)\nflat = m linear(8)"
)


@pytest.mark.parametrize("label", ["wide", "flat"])
def test_what_is_inserted_begins_near_the_identity(label: str) -> None:
    parent = replay(NEAR, ["identity"], input=DIGITS.input)
    child = replay(NEAR, [label, "identity"], input=DIGITS.input)
    bank, _ = begun(same(child), parent_of(parent))
    planned, before, held = plan(child), plan(parent), bank_of(parent, 1)
    x, _ = _first(16)
    with torch.no_grad():
        ours = run(planned, bank.views(planned), x)["coarse"]
        theirs = run(before, held.views(before), x)["coarse"]
    assert torch.nn.functional.mse_loss(ours, theirs) < 0.1 * theirs.pow(2).mean()


def test_a_child_starts_out_better_than_a_network_from_scratch() -> None:
    grammar = Grammar.parse(
        "net = m output(coarse)\nm = part | deeper\ndeeper = m part\npart = conv(16) batchnorm relu"
    )
    small = replay(grammar, ["deeper", "deeper", "part"], input=DIGITS.input)
    large = replay(grammar, ["deeper", "deeper", "deeper", "part"], input=DIGITS.input)
    weights = bank_of(small)
    trained_network(weights, small, Conditions([DIGITS], Recipe(epochs=8)))
    child = Variation(large, "insert", (("m/deeper/m", 0, "m"), ("", 0, "")), fresh="m")
    planned, (x, y) = plan(large, heads=[DIGITS]), _first(256)
    losses = []
    for parents in ((), (Parent.of(small, trained(weights)),)):
        bank = bank_of(large)
        share = inherit(bank, large, planned, parents, child.origin) if parents else 0.0
        with torch.no_grad():
            logits = run(planned, bank.views(planned), x, BATCH)["digits"]
        losses.append((share, float(torch.nn.functional.cross_entropy(logits, y))))
    assert losses[1][0] > 0.6
    assert losses[1][1] < 0.7 * losses[0][1]


def _first(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    split = DIGITS.splits().train
    return split.x[:n], split.y[:n]
