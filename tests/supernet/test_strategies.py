"""Who is trained, and the statistics of who is evaluated."""

from __future__ import annotations

import random

import torch
from torch import nn

from nas.grammar import Grammar, sample
from nas.grammar.count import enumerate_all
from nas.plan import plan
from nas.supernet import Bank, calibrate, sandwich, single_path
from nas.task import Task
from nas.train import Batches, Recipe, Trainer

TINY = Grammar.parse(
    "net = conv({4, 8}) batchnorm relu (block | identity){2} output(coarse)\n"
    "block = conv({4, 8}, kernel={1, 3}) batchnorm relu\n"
)
DIGITS = Task.load("digits")


def test_the_sandwich_is_made_of_the_spaces_true_extremes() -> None:
    sizes = [plan(d).params for d in enumerate_all(TINY, input=DIGITS.input)]
    largest, smallest, *others = sandwich(TINY, input=DIGITS.input)(random.Random(0))
    assert plan(largest).params == max(sizes)
    assert plan(smallest).params == min(sizes)
    assert len(others) == 2


def test_single_path_draws_what_the_grammar_draws() -> None:
    assert single_path(TINY, input=DIGITS.input)(random.Random(3)) == [
        sample(TINY, random.Random(3), input=DIGITS.input)
    ]


def test_a_sandwich_step_teaches_all_its_subnets() -> None:
    strategy = sandwich(TINY, input=DIGITS.input)
    plans = [plan(d, heads=[DIGITS]) for d in enumerate_all(TINY, input=DIGITS.input)]
    bank = Bank.of(plans)
    trainer = Trainer(bank, [DIGITS], Recipe(lr=0.3, label_smoothing=0), 60)
    losses = [trainer.step(i, strategy(random.Random(i))) for i in range(60)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_calibration_is_the_average_over_batches() -> None:
    grammar = Grammar.parse("net = conv(4) batchnorm output(coarse)")
    derivation = sample(grammar, random.Random(0), input=(1, 8, 8))
    planned = plan(derivation)
    bank = Bank.of([planned])
    x = DIGITS.splits().train.x[:256]
    (found,) = [s for s in calibrate(planned, bank.views(planned), x, batch=64) if s]
    conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    norm = nn.BatchNorm2d(4, momentum=None)
    with torch.no_grad():
        conv.weight.copy_(next(t for k, t in bank.tensors.items() if "conv" in k))
        for part in x.split(64):
            norm(conv(part))
    torch.testing.assert_close(found["running_mean"], norm.running_mean)
    torch.testing.assert_close(found["running_var"], norm.running_var)


def test_every_epoch_sees_every_item_once_in_another_order() -> None:
    batches = Batches(100, 25, seed=3)
    first = torch.cat([batches.at(i) for i in range(4)])
    second = torch.cat([batches.at(i) for i in range(4, 8)])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()
    assert torch.equal(Batches(100, 25, seed=3).at(5), batches.at(5))
