"""Claims about the scenes."""

import numpy as np
import pytest
import torch

from nas.task import Task, load_tasks, shipped
from nas.user_code import user_attribute

FILE = shipped("tasks") / "digits.py"
COUNTS, compose, digit_parts = (
    user_attribute(f"{FILE}:{name}") for name in ("COUNTS", "compose", "digit_parts")
)
SPLITS = tuple(COUNTS)


def sources(split: str) -> set[int]:
    return set(compose(split).source.ravel().tolist()) - {-1}


def test_sources_of_train_and_test_scenes_are_disjoint() -> None:
    train, valid, test = map(sources, SPLITS)
    assert not train & valid and not train & test and not valid & test


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_are_made_of_the_digits_tasks_own_split(split: str) -> None:
    assert sources(split) <= set(digit_parts()[split].tolist())


def test_both_tasks_share_the_very_same_inputs() -> None:
    tasks = load_tasks(("scenes-classify", "scenes-segment"))
    one, two = (task.splits() for task in tasks)
    for split in SPLITS:
        assert getattr(one, split).x is getattr(two, split).x


def test_each_split_has_its_size_and_shape() -> None:
    one, two = Task.load("scenes-classify").splits(), Task.load("scenes-segment").splits()
    for split, n in COUNTS.items():
        assert getattr(one, split).x.shape == (n, 1, 32, 32)
        assert getattr(one, split).y.shape == (n, 10)
        assert getattr(two, split).y.shape == (n, 32, 32)
        assert getattr(two, split).y.dtype == torch.int64


@pytest.mark.parametrize("split", SPLITS)
def test_a_label_is_set_exactly_where_the_mask_shows_its_digit(split: str) -> None:
    scenes = compose(split)
    for digit in range(10):
        seen = (scenes.owner == digit + 1).any((1, 2))
        assert (seen == scenes.occurs[:, digit].astype(bool)).all()


def test_a_scene_holds_one_to_three_digits_about_equally_often() -> None:
    held = (compose("train").source >= 0).sum(1)
    share = np.bincount(held, minlength=4) / len(held)
    assert share[0] == 0 and (abs(share[1:] - 1 / 3) < 0.04).all()


def test_pixels_of_digits_are_brighter_than_the_ground() -> None:
    scenes = compose("test")
    ink = scenes.owner > 0
    assert 0.1 < ink.mean() < 0.3
    assert scenes.image[ink].mean() > 0.5 > 0.1 > scenes.image[~ink].mean()


def test_scenes_are_the_same_when_composed_anew() -> None:
    again = compose.__wrapped__("valid")
    assert (again.image == compose("valid").image).all()
    assert (again.owner == compose("valid").owner).all()
