"""Claims about samples and training on a GPU; passed over where there is none."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.evaluate import EVALUATORS, Conditions, network_scores
from nas.evaluate.base import Fidelity
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.plan import plan
from nas.supernet import Bank
from nas.task import Task, preparation
from nas.task.preparation import Inputs, Preparation, moments
from nas.train import Recipe, Trainer, Turn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
RNG = np.random.default_rng(0)


def task(folder: Path) -> Task:
    x = RNG.integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", (x[:, 4:12, 4:12, 0].mean((1, 2)) > 127).astype(np.int64))
    return Task.load(f"mine={folder}?layout=nhwc")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
@pytest.mark.parametrize(("kept", "on_device"), [(2**28, 2**32), (0, 2**32), (0, 0)])
def test_batches_are_those_of_the_cpu_wherever_samples_are_kept(
    dtype: str, kept: int, on_device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, at = (RNG.random((50, 3, 5, 4)) * 200).astype(dtype), RNG.permutation(50)[:40]
    prepared = Preparation(255.0, *map(tuple, moments(raw, at, 255.0)))
    asked = torch.tensor([3, 39, 0, 3])
    expected = Inputs(raw, prepared, at).batch(asked)
    monkeypatch.setattr(preparation, "KEPT", kept)
    monkeypatch.setattr(preparation, "ON_DEVICE", on_device)
    batch = Inputs(raw, prepared, at).batch(asked, "cuda")
    assert batch.device.type == "cuda"
    torch.testing.assert_close(batch.cpu(), expected, rtol=1e-5, atol=1e-5)


def test_a_network_scores_on_a_gpu_as_on_the_cpu(tmp_path: Path) -> None:
    mine = task(tmp_path)
    derivation = sample(Grammar.load("mobile"), random.Random(0), input=mine.input)
    network = Network(derivation, heads=[mine], seed=1).eval()
    words = {"evaluator": "standalone", "fidelity": Fidelity()}
    cpu = network_scores(network, Conditions([mine]), **words)  # type: ignore[arg-type]
    gpu = network_scores(network.cuda(), Conditions([mine], device="cuda"), **words)  # type: ignore[arg-type]
    for ours, theirs in zip(gpu, cpu, strict=True):
        assert ours.name == theirs.name
        assert ours.value == pytest.approx(theirs.value, rel=1e-3, abs=1e-2)


def test_a_supernet_learns_on_a_gpu_and_its_subnets_are_scored_there(tmp_path: Path) -> None:
    mine = task(tmp_path)
    derivation = sample(Grammar.load("mobile"), random.Random(3), input=mine.input)
    bank = Bank.of([plan(derivation, heads=[mine])], device="cuda")
    trainer = Trainer(bank, [mine], Recipe(lr=0.05), 60, "cuda")
    losses = [trainer.step(step, Turn((derivation,))).first for step in range(60)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    conditions = Conditions([mine], bank=bank, device="cuda", samples=128)
    measured = EVALUATORS["shared"].measure(derivation, conditions).measurements
    assert {m.name for m in measured if m.task} >= {"accuracy", "nll"}
    assert all(np.isfinite(m.value) for m in measured)


@pytest.mark.parametrize("augment", ["flip,trivial,mixup", "shift,erase,cutmix", "rand"])
def test_a_recipe_with_everything_learns_on_a_gpu(augment: str, tmp_path: Path) -> None:
    mine = Task.load(f"{task(tmp_path).spec}&augment={augment}&balance=weights")
    derivation = sample(Grammar.load("mobile"), random.Random(3), input=mine.input)
    bank = Bank.of([plan(derivation, heads=[mine])], device="cuda", average=True)
    recipe = Recipe(lr=0.05, augment=True, average=0.9, parts=2)
    trainer, turn = Trainer(bank, [mine], recipe, 80, "cuda"), Turn((derivation,))
    losses = [trainer.train_turns(step, (turn, turn))[0].first for step in range(80)]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert all(bool(value.isfinite().all()) for value in bank.averaged.tensors.values())
