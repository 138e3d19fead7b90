"""What shares weights: policies of a space, a bank that grows, kernels made of larger ones."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from nas.grammar import Derivation, Grammar, GrammarError, sample
from nas.grammar.count import cover, extreme
from nas.op import BATCH
from nas.plan import Plan, nontrivial, plan, run
from nas.supernet import Bank, BankError, Space, Subnet, strategy_of
from nas.supernet.bank_file import load_bank, save_bank
from nas.supernet.slots import named
from nas.task import Task, loss
from nas.train import Recipe, Trainer, Turn

DIGITS = Task.load("digits")
OPEN = Grammar.parse("""
net = conv(8) m output(coarse)
m = part | part m
part = conv({4, 8, 16}, kernel={1, 3}) | mbconv({8, 16}, 2) | relu | clone(2) [m * 2] concat(1)
""")
KERNELS = Grammar.parse(
    "net = conv({4, 8}, kernel={3, 5, 7}) batchnorm relu depthwise({1, 3}) output(coarse)"
)


def drawn(seed: int, grammar: Grammar = OPEN) -> Derivation:
    return sample(
        grammar,
        random.Random(seed),
        input=DIGITS.input,
        size=None if grammar.finite else (6, 40),
        where=nontrivial,
    )


def planned(seed: int) -> Plan:
    return plan(drawn(seed), heads=[DIGITS])


def growing(share: str = "stage", seed: int = 0, memory_mb: float | None = None) -> Bank:
    return Bank({}, share=share, seed=seed, grows=True, memory_mb=memory_mb)


def keys_of(one: Plan, share: str) -> list[str]:
    return [key for step in named(one, share) for _, key in step]


def test_a_space_says_by_what_its_weights_are_shared() -> None:
    text = "net = conv(4) output(coarse)\n"
    assert Grammar.parse(text).share == "path"
    assert OPEN.share == "stage"
    for share in ("path", "index", "stage", "operator"):
        said = Grammar.parse(f"share {share}  # as it is\n{text}")
        assert said.share == share
        assert said.hash == Grammar.parse(text).hash
        assert Grammar.parse(said.text).share == share
    assert Grammar.parse("share operator\nimport einspace\n").share == "operator"
    assert Grammar.parse("net = share path\nshare = relu\npath = relu\n").share == "path"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "share place\nnet = relu",
            "test:1:1: weights are shared by path, tasks, index, stage, operator, "
            "and 'place' is none",
        ),
        ("share path\nnet = relu\nshare stage", "test:3:1: weights are shared by path already"),
    ],
)
def test_a_faulty_policy_is_refused_where_it_stands(text: str, reason: str) -> None:
    with pytest.raises(GrammarError, match=reason):
        Grammar.parse(text, name="test")


def test_a_policy_ties_what_has_in_common_what_it_names() -> None:
    text = "net = conv(4) (conv(4) relu){2} mbconv(8, 2) conv(8, kernel=1){2} output(coarse)"
    one = plan(sample(Grammar.parse(text), random.Random(0), input=(4, 8, 8)), heads=[DIGITS])
    convs = {
        share: [key for key in keys_of(one, share) if ":conv(" in key]
        for share in ("path", "index", "stage", "operator")
    }
    assert [len(set(found)) for found in convs.values()] == [5, 5, 2, 1]
    assert {key.split("/")[0] for key in convs["stage"]} == {"image 8x8", "image 4x4"}
    assert [key.split("#")[1][0] for key in convs["index"]] == list("01201")
    parts = [key for key in keys_of(one, "operator") if "mbconv" in key]
    assert len(parts) == len(set(parts)) == 9
    heads = [key for key in keys_of(one, "operator") if key.startswith("head/digits")]
    assert heads == [key for key in keys_of(one, "path") if key.startswith("head/")]


@pytest.mark.parametrize("share", ["index", "stage", "operator"])
def test_gradients_of_all_uses_of_a_slot_add_up(share: str) -> None:
    several = (one for one in map(planned, range(100)) if len(keys_of(one, "path")) > 8)
    one, split = next(several), DIGITS.splits().train
    bank = growing(share)
    lease = bank.lease([one])
    loss(DIGITS, run(one, lease.params[0], split.x[:32], BATCH)["digits"], split.y[:32]).backward()
    apart = [
        {name: t.detach().clone().requires_grad_() for name, t in step.items()}
        for step in bank.views(one)
    ]
    loss(DIGITS, run(one, apart, split.x[:32], BATCH)["digits"], split.y[:32]).backward()
    sums = {key: torch.zeros_like(t) for key, t in bank.tensors.items()}
    for step, tensors in zip(named(one, share), apart, strict=True):
        for param, key in step:
            grad = tensors[param.name].grad
            assert grad is not None
            sums[key][bank.boxes(key, param)[0][0]] += grad
    for key, leaf in zip(sums, lease.leaves, strict=True):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, sums[key], rtol=1e-4, atol=1e-6)
    uses = Counter(keys_of(one, share))
    assert (max(uses.values()) > 1) == (share != "index")


def trained(bank: Bank, steps: int = 8) -> Bank:
    turn = strategy_of("single-path", Space(OPEN, DIGITS.input, size=(6, 40)), steps)
    trainer = Trainer(bank, [DIGITS], Recipe(batch=16), steps)
    for step in range(bank.version, steps):
        trainer.step(step, turn(step, random.Random(step)))
        bank.version = step + 1
    return bank


@pytest.mark.parametrize("share", ["path", "stage"])
def test_a_subnet_of_a_bank_that_grew_is_extracted_equal_trained_or_not(share: str) -> None:
    bank, x = trained(growing(share), 2), DIGITS.splits().train.x[:32]
    before = set(bank.tensors)
    lacked = 0
    for seed in range(10):
        subnet = Subnet.of(bank, drawn(seed), [DIGITS], x)
        lacked += not before.issuperset(keys_of(subnet.plan, share))
        network = subnet.extract([DIGITS])
        with torch.no_grad():
            torch.testing.assert_close(
                network(x)["digits"], subnet(x)["digits"], rtol=1e-5, atol=1e-5
            )
    assert set(bank.tensors) == before
    assert lacked > 0


def test_growing_keeps_what_was_trained_in_its_place() -> None:
    small = plan(sample(KERNELS, random.Random(0), input=DIGITS.input))
    ends = [plan(extreme(KERNELS, input=DIGITS.input, largest=most)) for most in (False, True)]
    bank = growing("path")
    lease = bank.lease(ends[:1])
    for value, state in zip(lease.values, lease.states, strict=True):
        value.normal_()
        state["momentum"].normal_()
    before = [{n: t.clone() for n, t in step.items()} for step in bank.views(ends[0])]
    kept = {key: t.clone() for key, t in bank.state["momentum"].items()}
    bank.lease(ends)
    for step, old in zip(bank.views(ends[0]), before, strict=True):
        assert all(torch.equal(step[name], old[name]) for name in old)
    for key, momentum in kept.items():
        whole = bank.state["momentum"][key]
        assert torch.equal(whole.sum(), momentum.sum()) or whole.shape != momentum.shape
        assert int((whole != 0).sum()) == momentum.numel()
    assert bank.tensors[keys_of(small, "path")[0]].shape == (8, 1, 7, 7)


def test_a_bank_that_grew_is_read_back_and_goes_on_the_same(tmp_path: Path) -> None:
    whole, cut = trained(growing()), growing()
    turn = strategy_of("single-path", Space(OPEN, DIGITS.input, size=(6, 40)), 8)
    trainer = Trainer(cut, [DIGITS], Recipe(batch=16), 8)
    for step in range(5):
        trainer.step(step, turn(step, random.Random(step)))
    cut.version = 5
    save_bank(cut, tmp_path / "t.safetensors", state=True)
    again = growing()
    load_bank(again, tmp_path / "t.safetensors")
    trained(again)
    assert list(again.tensors) == list(whole.tensors)
    for key, tensor in whole.tensors.items():
        assert torch.equal(again.tensors[key], tensor)
        assert torch.equal(again.state["momentum"][key], whole.state["momentum"][key])


def test_a_bank_of_another_policy_is_refused(tmp_path: Path) -> None:
    save_bank(trained(growing("stage"), 1), tmp_path / "bank.safetensors")
    with pytest.raises(BankError, match="shares weights by stage, and this space by operator"):
        load_bank(growing("operator"), tmp_path / "bank.safetensors")


def test_a_bank_does_not_grow_beyond_its_memory() -> None:
    one = planned(1)
    needed = Bank.of([one], share="stage").size_mb
    growing(memory_mb=needed * 1.01).lease([one])
    bank = growing(memory_mb=needed * 0.99)
    with pytest.raises(BankError, match=r"needs \d+ MB .* \d+ MB are free"):
        bank.lease([one])
    assert not bank.tensors


def of_kernels() -> Bank:
    plans = [plan(d, heads=[DIGITS]) for d in cover(KERNELS, input=DIGITS.input)]
    return Bank.of(plans, kernel_transform=True)


def kernel(bank: Bank, one: Plan) -> torch.Tensor:
    return bank.views(one)[0]["weight"]


def test_an_untrained_kernel_transform_is_the_plain_middle() -> None:
    bank = of_kernels()
    shapes = {key: tuple(t.shape) for key, t in bank.tensors.items() if "to" in key.split(".")[-1]}
    assert sorted(shapes.values()) == [(1, 1), (9, 9), (25, 25)]
    plain = Bank.of([plan(d, heads=[DIGITS]) for d in cover(KERNELS, input=DIGITS.input)])
    for seed in range(6):
        one = plan(drawn(seed, KERNELS), heads=[DIGITS])
        for ours, theirs in zip(bank.views(one), plain.views(one), strict=True):
            assert all(torch.allclose(ours[name], theirs[name], atol=1e-7) for name in theirs)


def smallest() -> tuple[Derivation, Plan]:
    derivation = extreme(KERNELS, input=DIGITS.input, largest=False)
    return derivation, plan(derivation, heads=[DIGITS])


def test_gradients_through_a_kernel_transform_are_finite_differences() -> None:
    bank, (_, one) = of_kernels(), smallest()
    bank.tensors = {key: t.double() for key, t in bank.tensors.items()}
    for tensor in bank.tensors.values():
        tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    split = DIGITS.splits().train
    x, y = split.x[:16].double(), split.y[:16]

    def value() -> torch.Tensor:
        return loss(DIGITS, run(one, bank.views(one), x, BATCH)["digits"], y)

    lease = bank.lease([one])
    loss(DIGITS, run(one, lease.params[0], x, BATCH)["digits"], y).backward()
    for leaf, part in zip(lease.leaves, lease.values, strict=True):
        assert leaf.grad is not None
        at = int(leaf.grad.abs().argmax())
        place = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), part.shape))
        sides = []
        for change in (1e-5, -2e-5, 1e-5):
            part[place] += change
            sides.append(float(value()))
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(
            float(leaf.grad[place]), rel=1e-3, abs=1e-7
        )


def test_a_trained_kernel_transform_is_extracted_and_leaves_the_rest_alone() -> None:
    bank, (derivation, one) = of_kernels(), smallest()
    before = {key: t.clone() for key, t in bank.tensors.items()}
    trainer = Trainer(bank, [DIGITS], Recipe(warmup=0), 10)
    for step in range(3):
        trainer.step(step, Turn((derivation,)))
    key = keys_of(one, "path")[0]
    ring = torch.ones(8, 1, 7, 7, dtype=torch.bool)
    ring[:4, :, 1:-1, 1:-1] = False
    assert torch.equal(bank.tensors[key][ring], before[key][ring])
    for name in ("7to5", "5to3"):
        assert not torch.equal(bank.tensors[f"{key}.{name}"], before[f"{key}.{name}"])
    x = DIGITS.splits().train.x[:32]
    subnet = Subnet.of(bank, derivation, [DIGITS], x)
    with torch.no_grad():
        torch.testing.assert_close(subnet.extract([DIGITS])(x)["digits"], subnet(x)["digits"])
    middle = bank.tensors[key][:4, :, 2:-2, 2:-2]
    assert not torch.allclose(kernel(bank, one), middle, atol=1e-4)
