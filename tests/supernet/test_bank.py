"""The bank: slices, leases, and what a step leaves alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.grammar import Derivation, Grammar, sample
from nas.grammar.count import cover, enumerate_all, extreme
from nas.network import Network
from nas.op import BATCH
from nas.plan import plan, run
from nas.supernet import STRATEGIES, Bank, BankError, Space, Subnet, strategy_of
from nas.supernet.bank_file import load_bank, save_bank
from nas.supernet.slots import slices
from nas.supernet.strategies import ALIGNED
from nas.task import Task, loss
from nas.train import OPTIMIZERS, Recipe, Trainer, TrainingError, Turn, train, update

DIGITS = Task.load("digits")
MOBILE = Grammar.load("mobile")


def bank_of(grammar: Grammar, **options: Any) -> Bank:
    return Bank.of([plan(d, heads=[DIGITS]) for d in cover(grammar, input=DIGITS.input)], **options)


def drawn(seed: int, grammar: Grammar = MOBILE) -> Derivation:
    return sample(grammar, random.Random(seed), input=DIGITS.input)


def loss_of(bank: Bank, derivations: list[Derivation]) -> tuple[object, list[list[dict]]]:
    """A lease with gradients of the summed loss of some derivations on one batch."""
    plans = [plan(d, heads=[DIGITS]) for d in derivations]
    lease = bank.lease(plans)
    split = DIGITS.splits().train
    for one, params in zip(plans, lease.params, strict=True):
        loss(DIGITS, run(one, params, split.x[:32], BATCH)["digits"], split.y[:32]).backward()
    return lease, [bank.views(p) for p in plans]


@pytest.mark.parametrize("name", ["mobile", "fbnetv5-small"])
def test_an_extracted_subnet_equals_the_banks(name: str) -> None:
    grammar = Grammar.load(name)
    bank = bank_of(grammar)
    x = DIGITS.splits().train.x[:64]
    for seed in range(20):
        subnet = Subnet.of(bank, drawn(seed, grammar), [DIGITS], x)
        network = subnet.extract([DIGITS])
        with torch.no_grad():
            torch.testing.assert_close(
                network(x)["digits"], subnet(x)["digits"], rtol=1e-6, atol=1e-6
            )
            trained = run(subnet.plan, bank.views(subnet.plan), x, BATCH)["digits"]
            torch.testing.assert_close(network.train()(x)["digits"], trained, rtol=1e-6, atol=1e-6)


def touched(bank: Bank, derivations: Sequence[Derivation]) -> dict[str, torch.Tensor]:
    masks = {key: torch.zeros_like(t, dtype=torch.bool) for key, t in bank.tensors.items()}
    for derivation in derivations:
        for step in plan(derivation, heads=[DIGITS]).steps:
            for param in step.params:
                key = f"{step.slot}.{param.name}"
                masks[key][slices(param.shape, bank.params[key].shape, param.centred)] = True
    return masks


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {ALIGNED}))  # mobile has no features
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_leaves_everything_outside_its_slices_bit_identical(
    optimizer: str, name: str
) -> None:
    bank = bank_of(MOBILE, optimizer=optimizer)
    for kept in bank.state.values():
        for value in kept.values():
            value.uniform_(1, 2)
    before = [{k: t.clone() for k, t in kept.items()} for kept in all_of(bank)]
    space = Space(MOBILE, DIGITS.input, tasks=(DIGITS,), budgets=(1e6,))
    turn = strategy_of(name, space, 10)(9, random.Random(5))
    recipe = Recipe(lr=0.1, weight_decay=0.1, optimizer=optimizer)  # type: ignore[arg-type]
    Trainer(bank, [DIGITS], recipe, 20).step(9, turn)
    outside, moved = 0, 0
    for key, mask in touched(bank, turn.trained).items():
        for kept, old in zip(all_of(bank), before, strict=True):
            assert torch.equal(kept[key][~mask], old[key][~mask])
            moved += int((kept[key][mask] != old[key][mask]).sum())
        outside += int((~mask).sum())
    assert moved > 1000
    assert (outside > 0) == (name != "sandwich")


def all_of(bank: Bank) -> list[dict[str, torch.Tensor]]:
    return [bank.tensors, *bank.state.values()]


def test_a_masked_step_moves_the_touched_as_a_full_sized_gradient_would() -> None:
    a, b = drawn(1), drawn(2)
    bank, recipe = bank_of(MOBILE), Recipe(weight_decay=0.01, clip=0)
    lease, _ = loss_of(bank, [a, b])
    assert any(mask is not None for mask in lease.masks)
    twin = bank_of(MOBILE)
    leaves = {key: t.detach().clone().requires_grad_() for key, t in twin.tensors.items()}
    split = DIGITS.splits().train
    for derivation in (a, b):
        one = plan(derivation, heads=[DIGITS])
        params = [
            {
                p.name: leaves[f"{s.slot}.{p.name}"][twin.boxes(f"{s.slot}.{p.name}", p)[0][0]]
                for p in s.params
            }
            for s in one.steps
        ]
        logits = run(one, params, split.x[:32], BATCH)["digits"]
        loss(DIGITS, logits, split.y[:32]).backward()
    update(lease, recipe, 0.1)
    for key, mask in touched(bank, [a, b]).items():
        leaf = leaves[key]
        grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        decay = 0.01 if bank.params[key].decay else 0.0
        expected = leaf - 0.1 * (grad + decay * leaf)
        torch.testing.assert_close(bank.tensors[key][mask], expected[mask])


def test_training_a_subnet_is_training_the_plain_network() -> None:
    derivation, recipe = drawn(7), Recipe(lr=0.1, clip=0, warmup=0, label_smoothing=0)
    bank = Bank.of([plan(derivation, heads=[DIGITS])])
    network = Network(derivation, heads=[DIGITS]).train()
    trainer = Trainer(bank, [DIGITS], recipe, 5)
    norms = {id(p) for n, p in network.named_parameters() if p.ndim == 1}
    optimiser = torch.optim.SGD(
        [
            {"params": [p for p in network.parameters() if id(p) not in norms]},
            {"params": [p for p in network.parameters() if id(p) in norms], "weight_decay": 0.0},
        ],
        lr=0.1,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    split = DIGITS.splits().train
    for step in range(5):
        at = trainer.feed.batches[0].at(step)
        trainer.step(step, Turn((derivation,)))
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step, 5)
        optimiser.zero_grad()
        loss(DIGITS, network(split.x[at])["digits"], split.y[at]).backward()
        optimiser.step()
    for views, tensors in zip(bank.views(network.plan), network.tensors(), strict=True):
        for name, view in views.items():
            torch.testing.assert_close(view, tensors[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_gradients_through_slices_are_a_plain_modules(seed: int) -> None:
    bank, derivation = bank_of(MOBILE), drawn(seed)
    lease, _ = loss_of(bank, [derivation])
    x, y = (part[:32] for part in (DIGITS.splits().train.x, DIGITS.splits().train.y))
    network = Subnet.of(bank, derivation, [DIGITS], x).extract([DIGITS]).train()
    loss(DIGITS, network(x)["digits"], y).backward()
    for ours, theirs in zip(lease.params[0], network.tensors(), strict=True):
        for name, leaf in ours.items():
            assert leaf.grad is not None
            assert theirs[name].grad is not None
            torch.testing.assert_close(leaf.grad, theirs[name].grad, rtol=1e-5, atol=1e-6)


def test_training_by_adam_is_torchs_adamw() -> None:
    plain = Grammar.parse("net = conv(8) relu conv(16, stride=2, bias=1) relu output(coarse)")
    derivation = drawn(7, plain)
    recipe = Recipe(
        lr=0.01, clip=0, warmup=0, label_smoothing=0, weight_decay=0.1, optimizer="adam"
    )
    bank = Bank.of([plan(derivation, heads=[DIGITS])], optimizer="adam")
    network, split = Network(derivation, heads=[DIGITS]).train(), DIGITS.splits().train
    trainer, x = Trainer(bank, [DIGITS], recipe, 6), split.x
    flat = [p for p in network.parameters() if p.ndim == 1]
    rest = [p for p in network.parameters() if p.ndim > 1]
    adamw = torch.optim.AdamW(
        [{"params": rest, "weight_decay": 0.1}, {"params": flat, "weight_decay": 0.0}]
    )
    for step in range(6):
        at = trainer.feed.batches[0].at(step)
        trainer.step(step, Turn((derivation,)))
        for group in adamw.param_groups:
            group["lr"] = recipe.rate(step, 6)
        adamw.zero_grad()
        loss(DIGITS, network(x[at])["digits"], split.y[at]).backward()
        adamw.step()
    for views, tensors in zip(bank.views(network.plan), network.tensors(), strict=True):
        for name, view in views.items():
            torch.testing.assert_close(view, tensors[name], rtol=1e-4, atol=1e-5)


def test_of_an_element_that_few_steps_touch_adam_counts_those_steps() -> None:
    bank = bank_of(MOBILE, optimizer="adam")
    trainer = Trainer(bank, [DIGITS], Recipe(lr=0.001, optimizer="adam"), 10)
    small, large = (extreme(MOBILE, input=DIGITS.input, largest=most) for most in (False, True))
    for step, derivation in enumerate([large, small, small]):
        trainer.step(step, Turn((derivation,)))
    masks = touched(bank, [small])
    for key, count in bank.state["count"].items():
        assert set(count[masks[key]].tolist()) <= {3.0}
        assert set(count[~masks[key]].tolist()) <= {1.0}


def test_the_memory_of_a_bank_counts_weights_and_all_state() -> None:
    numbers = sum(t.numel() for t in bank_of(MOBILE).tensors.values())
    assert bank_of(MOBILE).size_mb == pytest.approx(numbers * 8 / 1e6)
    assert bank_of(MOBILE, optimizer="adam").size_mb == pytest.approx(numbers * 16 / 1e6)


def test_a_bank_reads_back_equal_with_its_version_and_momenta(tmp_path: Path) -> None:
    bank = bank_of(MOBILE)
    bank.version = 17
    for momentum in bank.state["momentum"].values():
        momentum.normal_()
    save_bank(bank, tmp_path / "bank.safetensors", state=True)
    other = bank_of(MOBILE, seed=1)
    load_bank(other, tmp_path / "bank.safetensors")
    assert other.version == 17
    assert all(torch.equal(other.tensors[k], bank.tensors[k]) for k in bank.tensors)
    theirs, ours = other.state["momentum"], bank.state["momentum"]
    assert all(torch.equal(theirs[k], ours[k]) for k in bank.tensors)


def test_another_spaces_or_a_damaged_bank_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    save_bank(bank_of(Grammar.load("fbnetv5-small")), path)
    with pytest.raises(BankError, match=r"another bank's: .* \(10, 80\) there and \(10, 64\) in"):
        load_bank(bank_of(MOBILE), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BankError, match="damaged"):
        load_bank(bank_of(MOBILE), path)


@pytest.mark.parametrize(
    ("theirs", "ours", "transformed"),
    [
        ("conv(1)", "conv({1, 8})", False),
        ("conv({1, 8})", "conv(1)", False),
        ("conv(8, {3, 5})", "conv(8, {3, 5})", True),
    ],
)
def test_a_bank_takes_no_tensors_of_another_size_and_leaves_none_out(
    tmp_path: Path, theirs: str, ours: str, transformed: bool
) -> None:
    """A convolution from 1 feature to 8 would be read as one from 8 to 8, each the same."""
    path = tmp_path / "bank.safetensors"
    there, here = (
        Grammar.parse(f"net = {text} relu conv(8) output(coarse)") for text in (theirs, ours)
    )
    plans = [plan(one, heads=[DIGITS]) for one in enumerate_all(there, input=DIGITS.input)]
    other = Bank.of(plans, seed=1, kernel_transform=transformed)
    save_bank(other, path)
    bank = bank_of(here)
    before = {key: value.clone() for key, value in bank.tensors.items()}
    with pytest.raises(BankError, match="another bank's"):
        load_bank(bank, path)
    assert all(torch.equal(value, before[key]) for key, value in bank.tensors.items())


def test_a_bank_larger_than_memory_is_refused_with_the_figure() -> None:
    plans = [plan(extreme(MOBILE, input=DIGITS.input), heads=[DIGITS])]
    with pytest.raises(BankError, match=r"needs 2 MB .* 1 MB are free"):
        Bank.of(plans, memory_mb=1)


def test_a_lost_loss_leaves_the_weights_as_they_were() -> None:
    bank = bank_of(MOBILE)
    next(t for k, t in bank.tensors.items() if k.startswith("stem/conv")).fill_(float("nan"))
    before = {key: t.clone() for key, t in bank.tensors.items()}
    trainer = Trainer(bank, [DIGITS], Recipe(), 10)
    with pytest.raises(TrainingError, match="step 0 failed: the loss is nan"):
        trainer.step(0, Turn((drawn(0),)))
    for key, tensor in bank.tensors.items():
        assert torch.equal(tensor.nan_to_num(7), before[key].nan_to_num(7))


def test_training_interrupted_and_resumed_ends_in_the_same_weights(tmp_path: Path) -> None:
    def subnets(step: int) -> Turn:
        return Turn((sample(MOBILE, random.Random(f"x/{step}"), input=DIGITS.input),))

    whole, parts = bank_of(MOBILE), bank_of(MOBILE)
    train(Trainer(whole, [DIGITS], Recipe(), 12), subnets)
    trainer = Trainer(parts, [DIGITS], Recipe(), 12)
    for step in range(7):
        trainer.step(step, subnets(step))
    parts.version = 7
    save_bank(parts, tmp_path / "t.safetensors", state=True)
    again = bank_of(MOBILE, seed=5)
    load_bank(again, tmp_path / "t.safetensors")
    train(Trainer(again, [DIGITS], Recipe(), 12), subnets, start=again.version)
    assert all(torch.equal(again.tensors[k], whole.tensors[k]) for k in whole.tensors)
