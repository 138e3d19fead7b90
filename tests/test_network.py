"""A network is a plan with parameters of its own, first values from seed and place alone."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nas.grammar import Derivation, Grammar, replay, sample
from nas.network import Network
from nas.plan import plan
from nas.task import Head, Task

INPUT = (3, 16, 16)
SPACES = ["einspace", "fbnetv5-small", "mobile", "vit"]


def fixed(text: str, input: tuple[int, ...] = INPUT) -> Derivation:
    return replay(Grammar.parse(text), [], input=input)


def task(name: str, read: str, classes: int) -> Task:
    return Task(
        name=name,
        input=INPUT,
        target="class",
        classes=tuple(map(str, range(classes))),
        head=Head((read,), "pool linear(classes)"),
        metric="accuracy",
        source="",
        licence="",
        spec=name,
        loader=lambda: pytest.fail("a network needs no data"),
    )


def state(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("space", SPACES)
def test_params_and_flops_are_those_of_torch(space: str) -> None:
    grammar, checked = Grammar.load(space), 0
    for seed in range(40):
        derivation = sample(grammar, random.Random(seed), input=INPUT)
        if plan(derivation).params > 2e6:
            continue
        network = Network(derivation).eval()
        assert sum(p.numel() for p in network.parameters()) == network.params
        network.to("meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, *INPUT, device="meta"))
        assert counter.get_total_flops() == network.plan.flops
        checked += 1
        if checked == 8:
            return
    pytest.fail("too few cheap derivations")


def test_first_values_depend_on_the_seed() -> None:
    derivation = fixed("net = conv(8) batchnorm relu conv(4, bias=1) output(coarse)")
    same, again, other = (state(Network(derivation, seed=s)) for s in (0, 0, 1))
    assert all(torch.equal(same[k], again[k]) for k in same)
    assert not torch.equal(same["conv_0.weight"], other["conv_0.weight"])


def test_first_values_do_not_depend_on_order_or_neighbours_or_torch_s_seed() -> None:
    torch.manual_seed(1)
    grammar = Grammar.parse(
        "net = first (relu | extra relu) last\nfirst = conv(8)\nextra = conv(8)\nlast = conv(4)"
    )
    plain, longer = (
        state(Network(replay(grammar, [label], input=INPUT))) for label in ("relu", "extra+")
    )
    assert set(plain) < set(longer)
    assert all(torch.equal(plain[name], longer[name]) for name in plain)
    torch.manual_seed(2)
    again = state(Network(replay(grammar, ["relu"], input=INPUT)))
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_building_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Network(fixed("net = conv(8) tokens positional attention(2)"))
    assert torch.equal(before, torch.get_rng_state())


def test_weights_begin_as_those_of_torchs_own_layers() -> None:
    network = Network(fixed("net = conv(64, kernel=5)", (32, 8, 8)))
    ours, theirs = next(network.parameters()), torch.nn.Conv2d(32, 64, 5).weight
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
    assert ours.abs().max() <= (32 * 25) ** -0.5


def test_two_heads_answer_at_once() -> None:
    derivation = sample(Grammar.load("mobile"), random.Random(0), input=INPUT)
    network = Network(derivation, heads=[task("a", "coarse", 3), task("b", "fine", 7)])
    results = network(torch.randn(2, *INPUT))
    assert {name: tuple(y.shape) for name, y in results.items()} == {"a": (2, 3), "b": (2, 7)}
    sum(y.sum() for y in results.values()).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_trunk_alone_gives_its_named_outputs() -> None:
    derivation = sample(Grammar.load("mobile"), random.Random(0), input=INPUT)
    assert set(Network(derivation)(torch.randn(2, *INPUT))) == {"fine", "middle", "coarse"}


def test_training_normalises_by_batch_and_updates_running_statistics() -> None:
    network = Network(fixed("net = batchnorm"))
    x = 3 + 2 * torch.randn(64, *INPUT)
    network.eval()
    torch.testing.assert_close(network(x)["coarse"], x / (1 + 1e-5) ** 0.5)
    network.train()
    y = network(x)["coarse"]
    assert abs(y.mean().item()) < 0.01
    mean = network.get_buffer("batchnorm.running_mean").mean().item()
    assert mean == pytest.approx(0.3, abs=0.02)
    reference = torch.nn.BatchNorm2d(3)
    reference(x)
    torch.testing.assert_close(network.get_buffer("batchnorm.running_var"), reference.running_var)


def test_state_dict_round_trips_and_is_plain() -> None:
    derivation = fixed("net = mbconv(8, se=4, expand=2) pool linear(4)")
    one, other = Network(derivation, seed=0).eval(), Network(derivation, seed=1).eval()
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, *INPUT)
    torch.testing.assert_close(one(x)["coarse"], other(x)["coarse"])
    assert all(name.replace(".", "_").isidentifier() for name in one.state_dict())


@pytest.mark.parametrize("name", ["train", "forward", "params", "plan", "derivation", "class"])
def test_rule_may_be_called_as_what_a_module_has(name: str) -> None:
    network = Network(fixed(f"net = {name}\n{name} = (conv(4) conv(4)){{1}} positional"))
    assert network.train()(torch.randn(2, *INPUT))["coarse"].shape == (2, 4, 16, 16)


def test_a_few_steps_fit_a_batch() -> None:
    torch.manual_seed(0)
    network = Network(fixed("net = conv(8) batchnorm relu pool linear(2)"))
    x = torch.randn(16, *INPUT)
    x[:8, 0] += 1.0
    y = torch.arange(16) // 8
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(network(x)["coarse"], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_repr_says_derivation_and_costs() -> None:
    network = Network(fixed("net = conv(4)"))
    assert "108 params, 55,296 FLOPs" in repr(network)
