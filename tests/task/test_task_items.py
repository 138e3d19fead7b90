"""Claims about data sets that are read by their items: torch's, lists, and Hugging Face's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.task import Task, TaskError, store
from nas.task.options import Options
from nas.task.samples import Samples
from nas.task.source import items
from nas.task.source.items import read_items

RNG = np.random.default_rng(6)


def photo(width: int = 20, height: int = 14, mode: str = "RGB") -> Image.Image:
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def read(dataset: Any, **options: Any) -> Samples:
    return read_items("here", {"train": dataset}, Options(**options), "facts")


class Counted:
    """A data set that counts how often an item is asked for."""

    def __init__(self, made: list[Any]):
        self.made, self.asked = made, 0

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, number: int) -> Any:
        if not 0 <= number < len(self.made):
            raise IndexError(number)
        self.asked += 1
        return self.made[number]


def test_pictures_of_unequal_sizes_come_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [(photo(20 + i % 7, 30), i % 2) for i in range(40)]
    samples = read(Counted(made))
    x, y = samples.pairs["train"]
    assert x.shape == (40, 16, 16, 3) and x.dtype == np.uint8 and y.tolist() == [0, 1] * 20
    assert samples.picture is not None and samples.picture.width == 16
    assert read(Counted(made), size=(8, 8)).pairs["train"][0].shape == (40, 8, 8, 3)


def test_a_picture_in_colours_among_grey_ones_makes_all_of_them_coloured() -> None:
    made: list[Any] = [(photo(mode="L"), i % 2) for i in range(300)]
    made[1] = (photo(), 1)  # between those that are looked at first
    assert read(Counted(made)).pairs["train"][0].shape == (300, 14, 20, 3)
    del made[1]
    assert read(Counted(made)).pairs["train"][0].shape == (299, 14, 20)


def test_masks_of_a_picture_are_cut_as_it_is() -> None:
    made = []
    for i in range(10):
        image = photo(20 + i, 20)
        mask = Image.fromarray((np.asarray(image)[..., 0] > 99).astype(np.uint8))
        made.append((image, mask))
    x, y = read(made).pairs["train"]
    assert y.shape == x.shape[:3] and set(np.unique(y).tolist()) == {0, 1}


@pytest.mark.parametrize("made", [torch.Tensor, np.asarray, list])
def test_series_of_unequal_lengths_are_padded_and_it_is_said(made: Any) -> None:
    values = [np.full((2, 10 + i % 4), i + 1.0, np.float32) for i in range(12)]
    samples = read([(made(value), i % 2) for i, value in enumerate(values)])
    x, _ = samples.pairs["train"]
    assert x.shape == (12, 2, 13)
    for value, row in zip(values, x, strict=True):
        assert (row[:, : value.shape[1]] == value).all() and not row[:, value.shape[1] :].any()
    assert samples.notes == ("9 series are shorter than 13 steps, and end in zeros",)


def test_pictures_as_arrays_of_unequal_sizes_are_refused() -> None:
    with pytest.raises(TaskError, match=r"cannot be stacked \(\[3, 9, 8\] and \[3, 8, 8\]\)"):
        read([(np.zeros((3, 8 + (i == 5), 8)), 0) for i in range(9)])


def test_many_pictures_are_read_once_into_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(items, "LARGE", 1000)
    made = Counted([(photo(), i % 2) for i in range(200)])
    first = read(made)
    asked = made.asked
    again = read(made)
    assert made.asked - asked < 80  # those that it is known by
    assert isinstance(again.pairs["train"][0].base, np.memmap)
    assert (first.pairs["train"][0] == again.pairs["train"][0]).all()
    assert again.pairs["train"][1].tolist() == [0, 1] * 100
    assert [kept.source for kept in store.stores()] == ["here"]


def test_the_names_of_what_is_read_may_be_said() -> None:
    made = [{"picture": np.full((4, 4), i), "kind": i % 2, "age": i / 3} for i in range(20)]
    with pytest.raises(TaskError, match=r"\?image=NAME&label=NAME"):
        read(made)
    assert read(made, input="picture", target="kind").pairs["train"][1].tolist() == [0, 1] * 10
    assert read(made, input="picture", target="age").pairs["train"][1][3] == 1.0


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(TaskError, match="here, train: holds no item"):
        read([])


def test_a_saved_set_of_hugging_face_is_read_with_its_names_of_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "fine_label": datasets.ClassLabel(names=["cat", "dog", "owl"]),
            "weight": datasets.Value("float32"),
        }
    )
    rows = {
        "img": [photo(20 + i % 3, 18) for i in range(60)],
        "fine_label": [i % 3 for i in range(60)],
        "weight": [i / 7 for i in range(60)],
    }
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.train_test_split(0.25, seed=0).save_to_disk(str(tmp_path / "pets"))
    spec = f"pets={tmp_path / 'pets'}?image=img&label=fine_label"
    task = Task.load(spec)
    assert (task.target, task.classes, task.input) == ("class", ("cat", "dog", "owl"), (3, 16, 16))
    assert len(task.splits().test) == 15
    weights = Task.load(f"pets={tmp_path / 'pets'}?image=img&label=weight&size=12")
    assert (weights.target, weights.input) == ("numbers", (3, 12, 12))
    with pytest.raises(TaskError, match="has no column 'coarse'; there are img, fine_label"):
        Task.load(f"pets={tmp_path / 'pets'}?image=img&label=coarse")


def test_a_hub_that_cannot_be_reached_is_said() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(TaskError, match="hf:nobody/nothing: cannot be had: .*save_to_disk"):
        Task.load("mine=hf:nobody/nothing")


def test_other_labels_of_the_same_pictures_are_no_stale_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(items, "LARGE", 0)
    made = [{"image": photo(), "fine": i % 5, "coarse": i % 2} for i in range(100)]
    assert set(read(made, target="fine").pairs["train"][1].tolist()) == set(range(5))
    assert set(read(made, target="coarse").pairs["train"][1].tolist()) == {0, 1}
    listed = Counted([(row["image"], row["fine"]) for row in made])
    listed.targets = [row["fine"] for row in made]  # type: ignore[attr-defined]
    read(listed)
    listed.made[1] = (made[1]["image"], 4)  # of those that are not looked at
    listed.targets[1] = 4  # type: ignore[attr-defined]
    assert read(listed).pairs["train"][1][1] == 4


def test_an_item_of_another_type_is_not_cut_to_the_others() -> None:
    made: list[Any] = [(np.array([i, i + 1]), i % 2) for i in range(300)]
    made[1] = (np.array([1.5, 2.0]), 1)
    with pytest.raises(TaskError, match="item 1 is of float64, and others of int64"):
        read(made)


def test_an_item_that_cannot_be_had_is_named() -> None:
    class Lost(Counted):
        def __getitem__(self, number: int) -> Any:
            if number == 3:
                raise OSError("the disk is gone")
            return super().__getitem__(number)

    with pytest.raises(TaskError, match="item 3 cannot be had: OSError: the disk is gone"):
        read(Lost([(np.zeros(4), i % 2) for i in range(20)]))
