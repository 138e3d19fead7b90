"""Claims about pictures of several sizes in one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.task import TaskError, load_tasks
from nas.task.enlarge import Enlarged, shape_for_all

RNG = np.random.default_rng(3)
SIDES = st.integers(4, 12)


@pytest.fixture
def specs(tmp_path: Path) -> list[str]:
    """Grey pictures with masks, and larger ones in colours with classes."""
    grey = RNG.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    colour = RNG.integers(0, 255, (60, 16, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "mask.npz", x=grey, y=(grey > 127).astype(int))
    np.savez(tmp_path / "kind.npz", x=colour, y=np.arange(60) % 2)
    return [f"{name}={tmp_path / f'{name}.npz'}" for name in ("mask", "kind")]


@given(st.tuples(SIDES, SIDES), st.integers(1, 3), st.sampled_from([(1, 1), (1, 3), (3, 3)]))
def test_a_map_is_enlarged_as_the_picture_it_lies_on(
    sides: tuple[int, int], times: int, channels: tuple[int, int]
) -> None:
    larger = tuple(times * side for side in sides)
    enlarged = Enlarged((channels[0], *sides), (channels[1], *larger))
    assert not enlarged.fault
    y = np.random.default_rng(0).integers(0, 9, (2, *sides))
    assert (enlarged.map(y) == y.repeat(times, 1).repeat(times, 2)).all()
    x = torch.from_numpy(y)[:, None].float().expand(-1, channels[0], -1, -1)
    bright = enlarged.after(enlarged.before(x))
    assert bright.shape == (2, channels[1], *larger)
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    for i, j in corners:
        assert (bright[:, :, i, j] == x[:, :1, i, j]).all()


@given(st.lists(st.tuples(st.sampled_from([1, 3]), SIDES, SIDES), min_size=1, max_size=4))
def test_the_shape_for_all_is_the_least_that_holds_each(inputs: list[tuple[int, ...]]) -> None:
    shape = shape_for_all(inputs)
    assert shape == tuple(np.max(inputs, axis=0))


def test_tasks_of_several_sizes_have_the_largest_and_their_own_numbers(specs: list[str]) -> None:
    mask, kind = load_tasks(specs)
    assert mask.input == kind.input == (3, 16, 24)
    assert kind.preparation.enlarged is None and kind.spec == specs[1]
    split, alone = mask.splits().train, load_tasks(specs[:1])[0].splits().train
    assert split.x.shape[1:] == mask.input and split.y.shape[1:] == mask.input[1:]
    assert (split.y[:, ::2, ::3] == alone.y).all()
    expected = torch.nn.functional.interpolate(alone.x, (16, 24), mode="bilinear")
    torch.testing.assert_close(split.x, expected.expand(-1, 3, -1, -1))
    again = load_tasks([mask.spec])[0]
    assert again.input == mask.input and (again.splits().train.x == split.x).all()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("to=3x16", "pictures alone are enlarged"),
        ("to=3x4x16", "a side would become smaller"),
        ("to=3by4", "'3by4' is no shape"),
        ("to=2x9999x9", "pictures alone"),
    ],
)
def test_what_cannot_be_enlarged_is_refused(specs: list[str], query: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        load_tasks([f"{specs[0]}?{query}"])


def test_the_same_pictures_at_two_sizes_are_cut_alike(specs: list[str], tmp_path: Path) -> None:
    from PIL import Image

    for number, picture in enumerate(np.load(tmp_path / "kind.npz")["x"]):
        folder = tmp_path / "photos" / f"kind{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    np.savez(tmp_path / "lab.npz", y=np.arange(60) % 3)
    photos = f"{tmp_path / 'photos'}"
    small, large = load_tasks(
        [f"a={photos}?size=16", f"b={photos}?size=20&labels={tmp_path / 'lab.npz'}"]
    )
    assert small.input == large.input == (3, 20, 20)
    for split in ("train", "valid", "test"):
        mine, theirs = (getattr(task.splits(), split).inputs.at for task in (small, large))
        assert (mine == theirs).all()
    assert large.splits().train.inputs.raw.shape[2:] == (20, 20)


def test_grey_pictures_that_were_enlarged_are_augmented_as_grey(specs: list[str]) -> None:
    alone = load_tasks(["scenes-classify"])[0]
    beside = load_tasks(["scenes-classify", specs[1]])[0]
    assert beside.input[0] == 3 and beside.augmentation == alone.augmentation == ()


def test_colours_are_not_made_of_two_channels(tmp_path: Path) -> None:
    assert shape_for_all([(2, 8, 8), (3, 8, 8)]) is None
    assert shape_for_all([(1, 8, 8), (4, 8, 8)]) is None  # there is no alpha in it
    assert shape_for_all([(1, 30), (1, 40)]) is None
    np.savez(tmp_path / "two.npz", x=RNG.normal(size=(40, 2, 8, 8)), y=np.arange(40) % 2)
    with pytest.raises(TaskError, match="2 channels become no 3"):
        load_tasks([f"two={tmp_path / 'two.npz'}?layout=nchw&to=3x8x8"])
