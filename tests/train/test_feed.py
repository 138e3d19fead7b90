"""Claims about what a training step sees."""

from __future__ import annotations

from dataclasses import replace

import torch

from nas.task import Task
from nas.train import Batches, Feed, Recipe, chance

DIGITS = Task.load("digits")
CPU = torch.device("cpu")


def test_what_is_read_ahead_is_what_is_read_when_asked() -> None:
    recipe = Recipe(batch=32, seed=3)
    now, ahead = (Feed([DIGITS], recipe, CPU, ahead=a) for a in (False, True))
    for number, after in ((0, 1), (1, 2), (2, 7), (7, 8), (3, 4), (40, 41)):
        (a,), (b,) = now.batch(number, after), ahead.batch(number, after)
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y["digits"], b.y["digits"])
    assert ahead.next is not None and ahead.next[0] == 41


def test_samples_are_augmented_by_chance_alone_and_only_if_the_recipe_says_so() -> None:
    moved = replace(DIGITS, augment=("shift",))
    plain, changed = (Feed([moved], Recipe(augment=a), CPU) for a in (False, True))
    with chance(0, 1):
        (first,) = changed.batch(0, 1)
    with chance(0, 1):
        (again,) = changed.batch(0, 1)
    with chance(0, 2):
        (other,) = changed.batch(0, 1)
    assert torch.equal(first.x, again.x) and not torch.equal(first.x, other.x)
    assert torch.equal(plain.batch(0, 1)[0].x, DIGITS.splits().train.x_at(plain.batches[0].at(0)))


def test_a_sampler_shows_rare_classes_as_often_as_others() -> None:
    y = torch.tensor([0] * 900 + [1] * 100)
    weights = 1 / torch.bincount(y)[y].float()
    order = Batches(1000, 50, 0, weights)
    drawn = torch.cat([y[order.at(step)] for step in range(20)])
    assert abs(float(drawn.float().mean()) - 0.5) < 0.05
    assert torch.equal(order.at(0), Batches(1000, 50, 0, weights).at(0))
    balanced = replace(DIGITS, balance="sampler")
    assert Feed([balanced], Recipe(), CPU).batches[0].weights is not None
