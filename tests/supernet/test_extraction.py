"""A subnet is what its bank and its derivation say, and nothing else: extracted it is the same."""

from __future__ import annotations

import random

import pytest
import torch

from nas.grammar import Derivation, Grammar, sample
from nas.grammar.count import cover, follow_table
from nas.grammar.derive import derive
from nas.op import BATCH
from nas.plan import plan, run
from nas.supernet import Bank, Subnet
from nas.task import TARGETS, Task

SMALL = Grammar.load("fbnetv5-small")


def tasks(input: tuple[int, ...], *targets: str) -> list[Task]:
    return [
        Task(
            target,
            input,
            target,
            ("a", "b", "c"),
            TARGETS[target].head,
            "accuracy",
            "",
            "",
            target,
            lambda: pytest.fail("a subnet needs no data"),
        )
        for target in targets
    ]


SUBNETS, LARGE = 60, 20  # subnets that are tried, and of the large space


@pytest.mark.parametrize(
    ("name", "input"),
    [
        ("mobile", (1, 24, 24)),
        ("fbnetv5-small", (1, 8, 8)),
        ("vit", (1, 8, 8)),
        ("fbnetv5", (1, 32, 32)),
    ],
)
def test_an_extracted_network_equals_the_banks_subnet(name: str, input: tuple[int, ...]) -> None:
    grammar, heads = Grammar.load(name), tasks(input, "class", "pixels")
    bank = Bank.of([plan(d, heads=heads) for d in cover(grammar, input=input)])
    x = torch.randn(4, *input, generator=torch.Generator().manual_seed(0))
    met, count = set(), LARGE if name == "fbnetv5" else SUBNETS
    for seed in range(count):
        derivation = sample(grammar, random.Random(seed), input=input)
        subnet = Subnet.of(bank, derivation, heads, x)
        network = subnet.extract(heads)
        with torch.no_grad():
            pairs = [(network(x), subnet(x))]
            trained = run(subnet.plan, bank.views(subnet.plan), x, BATCH)
            pairs.append((network.train()(x), trained))
        for found, wanted in pairs:
            for task in heads:
                assert torch.isfinite(found[task.name]).all()
                torch.testing.assert_close(
                    found[task.name], wanted[task.name], rtol=1e-6, atol=1e-6
                )
        met.add(derivation)
    assert len(met) > 0.95 * count


INPUT = (1, 16, 16)
CLASS, DENSE = tasks(INPUT, "class"), tasks(INPUT, "pixels")
AFTER = ("trunk/p4.5/", "trunk/p8.4/", "trunk/wide16.2/")  # the last fusion, beside the coarsest
BESIDE = tuple(f"trunk/{stream}." for stream in ("p4", "p8", "wide16"))  # what leads to it


def kept(derivation: Derivation) -> dict[str, bool]:
    """Every block's bit by its path, whether it is kept."""
    return {
        chosen.site.name.removesuffix(":keep"): chosen.label != "identity"
        for chosen in derivation.choices
        if chosen.site.name.endswith(":keep")
    }


@pytest.mark.parametrize("seed", range(10))
def test_a_bypassed_block_leaves_no_parameter_and_no_statistics(seed: int) -> None:
    derivation = sample(SMALL, random.Random(seed), input=INPUT)
    bits = kept(derivation)
    assert len(bits) == 30
    assert set(bits.values()) == {True, False}
    made = plan(derivation)
    bank = Bank.of([made])
    subnet = Subnet.of(bank, derivation, None, torch.randn(4, *INPUT))
    for path, keeps in bits.items():
        own = [i for i, step in enumerate(made.steps) if step.slot.startswith(f"{path}/")]
        assert len(own) == (9 if keeps else 0)
        assert sum(bool(subnet.statistics[i]) for i in own) == 3 * keeps
        assert any(key.startswith(f"{path}/") for key in bank.tensors) == keeps


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_streams_that_no_head_reads_cost_nothing(seed: int, fused: bool) -> None:
    """A classification reads the coarsest stream, so its network is the same whatever the others
    keep after the last fusion; where nothing is ever fused, whatever keeps beside the trunk."""
    table = sample(SMALL, random.Random(seed), input=INPUT).by_site
    table |= {site: f"x{int(fused)}" for site in table if "fuse" in site}
    blocks = [site for site in table if site.endswith(":keep")]
    if fused:
        dead = [site for site in blocks if site.startswith(AFTER)]
    else:
        dead = [site for site in blocks if site.startswith(BESIDE) and ".0/" not in site]
    assert len(dead) == (3 if fused else 19)
    plans = {}
    for label in ("block(c,k,e,q)", "identity"):
        derivation = derive(SMALL, follow_table(table | dict.fromkeys(dead, label)), input=INPUT)
        plans[label] = [plan(derivation, heads=heads) for heads in (CLASS, CLASS + DENSE)]
    (alone, both), (bare, fewer) = plans.values()
    assert (alone.fingerprint, alone.flops, alone.params) == (
        bare.fingerprint,
        bare.flops,
        bare.params,
    )
    assert both.flops > fewer.flops
    assert both.params > fewer.params
