"""Claims about augmentation: what is changed, what moves with it, and what suits which data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.task import Split, Task, TaskError, load_tasks
from nas.task.augment import AUGMENTATIONS, Batch, augmented
from nas.task.preparation import Preparation
from nas.task.target.base import NO_CLASS

BYTES = Preparation(255.0, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def pictures(n: int = 16, side: int = 16, seed: int = 0) -> torch.Tensor:
    """Prepared, as from bytes."""
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (BYTES.mean, BYTES.deviation))
    return (torch.rand(n, 3, side, side, generator=generator) - mean) / deviation


@pytest.mark.parametrize("name", [n for n, a in AUGMENTATIONS.items() if "picture" in a.inputs])
def test_an_augmented_batch_has_its_shape_and_follows_from_chance(name: str) -> None:
    x, y = pictures(), torch.arange(16)
    results = []
    for seed in (1, 1, 2, 3, 4, 5):
        torch.manual_seed(seed)
        results.append(augmented(Batch(x, {"a": y}), [name], BYTES))
    assert all(batch.x.shape == x.shape and batch.x.isfinite().all() for batch in results)
    assert torch.equal(results[0].x, results[1].x)
    assert any(not torch.equal(results[0].x, other.x) for other in results[2:])
    assert all(torch.equal(batch.y["a"], y) for batch in results)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["flip", "shift", "trivial", "rand"]))
def test_masks_move_with_their_pictures(seed: int, name: str) -> None:
    """A bright rectangle and its mask are still the same place, where colours are left alone."""
    torch.manual_seed(seed)
    y = torch.zeros(8, 24, 24, dtype=torch.long)
    top, left = (int(v) for v in torch.randint(4, 12, (2,)))
    y[:, top : top + 8, left : left + 8] = 1
    shares = y.float()[:, None].expand(-1, 3, -1, -1) * 0.5 + 0.25
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (BYTES.mean, BYTES.deviation))
    batch = augmented(Batch((shares - mean) / deviation, {"m": y}), [name], BYTES, ["m"])
    moved = batch.y["m"]
    assert set(moved.unique().tolist()) <= {0, 1, NO_CLASS}
    if name in ("flip", "shift"):
        assert torch.equal(
            batch.x * deviation + mean > 0.5, (moved == 1)[:, None].expand_as(shares)
        )
        return
    value = (batch.x * deviation + mean).mean(1)
    for picture, mask in zip(value, moved, strict=True):
        inside, outside = picture[mask == 1], picture[mask == 0]
        if min(len(inside), len(outside)) <= 20:
            continue
        if abs(float(inside.median() - outside.median())) > 0.1:
            middle = (inside.median() + outside.median()) / 2
            agree = (picture > middle) == (mask == 1)
            agree = agree if inside.median() > outside.median() else ~agree
            assert float(agree[mask != NO_CLASS].float().mean()) > 0.8


def test_nothing_is_said_of_what_an_erased_rectangle_hides() -> None:
    torch.manual_seed(0)
    y = torch.ones(32, 16, 16, dtype=torch.long)
    batch = augmented(Batch(pictures(32), {"m": y}), ["erase"], BYTES, ["m"])
    hidden = batch.y["m"] == NO_CLASS
    assert 4 < int(hidden.flatten(1).any(1).sum()) < 28
    assert torch.equal(hidden[:, None].expand_as(batch.x), batch.x == 0)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_pair_is_mixed_by_the_share_that_its_losses_are(name: str) -> None:
    x, y, mixed = torch.zeros(8, 3, 16, 16), torch.arange(8), 0
    x += torch.arange(8).view(-1, 1, 1, 1)
    for seed in range(20):
        torch.manual_seed(seed)
        batch = augmented(Batch(x, {"a": y}), [name], BYTES)
        if batch.others is None:
            continue
        mixed += 1
        wanted = batch.share * y + (1 - batch.share) * batch.others["a"]
        torch.testing.assert_close(batch.x.mean((1, 2, 3)), wanted.float(), rtol=1e-4, atol=1e-4)
    assert mixed > 4


def test_a_shift_of_a_series_is_along_its_steps_alone() -> None:
    torch.manual_seed(0)
    x = torch.arange(64.0).expand(5, 2, 64)
    moved = augmented(Batch(x, {}), ["shift"], Preparation()).x
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert all(set(row.diff().tolist()) <= {0.0, 1.0} for row in moved[:, 0])


def arrays(folder: Path, mirrored: bool) -> Path:
    """Pictures of a bar on the left or right, or high or low: a mirror makes of the one another."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    x = rng.integers(0, 90, (400, 3, 16, 16)).astype(np.uint8)
    for i, label in enumerate(y):
        at = slice(1, 7) if label else slice(9, 15)
        x[i, :, at, :] += 120 if mirrored else 0
        x[i, :, :, at] += 0 if mirrored else 120
    np.savez(folder / "x.npz", x=x, y=y)
    return folder / "x.npz"


@pytest.mark.parametrize("mirrored", [False, True])
def test_pictures_are_mirrored_by_default_where_they_are_told_apart_in_a_mirror(
    mirrored: bool, tmp_path: Path
) -> None:
    task = Task.load(f"bars={arrays(tmp_path, mirrored)}")
    assert task.augmentation == (("flip", "shift") if mirrored else ("shift",))
    assert f"augmented  {', '.join(task.augmentation)}" in task.describe()


def test_pictures_whose_place_says_what_they_are_are_not_moved(tmp_path: Path) -> None:
    """Two bars, in the middle or beside it: moved, the ones are like the others."""
    rng, y = np.random.default_rng(0), np.arange(600) % 2
    x = rng.integers(0, 40, (600, 3, 16, 16)).astype(np.uint8)
    for i, label in enumerate(y):
        x[i, :, :, 7 - 2 * label] += 180
        x[i, :, :, 8 + 2 * label] += 180
    np.savez(tmp_path / "x.npz", x=x, y=y)
    assert Task.load(f"bars={tmp_path / 'x.npz'}").augmentation == ("flip",)


def test_where_nothing_can_be_told_pictures_in_colours_are_mirrored_and_moved(
    tmp_path: Path,
) -> None:
    rng, y = np.random.default_rng(0), np.arange(200) % 2
    for channels, expected in ((3, ("flip", "shift")), (1, ())):
        x = rng.integers(0, 255, (200, channels, 16, 16)).astype(np.uint8)
        np.savez(tmp_path / f"{channels}.npz", x=x, y=y)
        assert Task.load(f"noise={tmp_path / f'{channels}.npz'}").augmentation == expected


def test_series_get_louder_and_noisy_by_default_and_few_are_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch by batch, so that large samples are never held as a whole."""
    rng, y, most = np.random.default_rng(0), np.arange(300) % 2, list[int]()
    x = rng.normal(size=(300, 2, 64)) + y[:, None, None] * np.sin(np.arange(64))
    np.savez(tmp_path / "s.npz", x=x.astype(np.float32), y=y)
    task = Task.load(f"s={tmp_path / 's.npz'}?layout=ncl")
    usual = Split.x_at

    def counted(self: Split, at: torch.Tensor, device: str = "cpu") -> torch.Tensor:
        most.append(len(at))
        return usual(self, at, device)

    monkeypatch.setattr(Split, "x_at", counted)
    monkeypatch.setattr("nas.task.suited.AT_ONCE", 2 * 64 * 10)
    assert task.augmentation == ("scale", "noise")
    assert max(most) == 10


def test_digits_are_neither_mirrored_nor_moved() -> None:
    assert Task.load("digits").augmentation == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("blur", "'blur' is no augmentation; there are none, auto, flip, shift"),
        ("scale", "scale is for series and features, and samples of"),
        ("trivial,rand", "trivial and rand are two policies: say one"),
    ],
)
def test_an_augmentation_that_does_not_suit_is_said(asked: str, said: str, tmp_path: Path) -> None:
    path = arrays(tmp_path, True)
    with pytest.raises(TaskError, match=f"bars: augment: {said}"):
        _ = Task.load(f"bars={path}?augment={asked}").augmentation
    assert Task.load(f"bars={path}?augment=none").augmentation == ()
    assert Task.load(f"bars={path}?augment=flip,trivial").augmentation == ("flip", "trivial")


def test_mixing_does_not_suit_masks_nor_policies_what_was_not_bytes(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "m.npz", x=x, y=(x[:, 0] > 0).astype(int))
    with pytest.raises(TaskError, match="mixup mixes pairs of samples, which a target of 'pixels'"):
        _ = Task.load(f"m={tmp_path / 'm.npz'}?augment=mixup").augmentation
    with pytest.raises(TaskError, match="trivial is for pictures of bytes"):
        _ = Task.load(f"m={tmp_path / 'm.npz'}?augment=trivial").augmentation


def test_tasks_of_the_same_samples_are_augmented_alike_or_refused(tmp_path: Path) -> None:
    from nas.train import Feed, Recipe

    path = arrays(tmp_path, True)
    tasks = load_tasks([f"a={path}?augment=flip", f"b={path}?augment=none"])
    with pytest.raises(TaskError, match="are augmented alike, and these say a: flip, b: none"):
        Feed(tasks, Recipe(augment=True), torch.device("cpu"))


def test_tasks_that_ask_for_nothing_are_augmented_by_what_suits_all_of_them(tmp_path: Path) -> None:
    from nas.train import Feed, Recipe

    path = arrays(tmp_path, True)
    data = dict(np.load(path))
    both = [f"a={path}", f"b={path}?augment=flip"]
    assert [task.augmentation for task in load_tasks(both)] == [("flip",), ("flip",)]
    x = np.moveaxis(data["x"], 1, -1)
    mask = (x[..., 0] > 100).astype(int)
    np.savez(tmp_path / "two.npz", x=x, kind=data["y"], mask=mask)
    tasks = load_tasks([f"{n}={tmp_path / 'two.npz'}?target={n}" for n in ("kind", "mask")])
    assert [task.augmentation for task in tasks] == [("shift",), ("shift",)]
    (batch,) = Feed(tasks, Recipe(augment=True), torch.device("cpu")).batch(0, 1)
    assert set(batch.y) == {"kind", "mask"}


@pytest.mark.parametrize("name", ["trivial", "rand"])
def test_policies_take_grey_pictures_and_refuse_what_is_too_small(
    name: str, tmp_path: Path
) -> None:
    grey = Preparation(255.0, (0.5,), (0.2,))
    for seed in range(30):
        torch.manual_seed(seed)
        batch = augmented(Batch(torch.randn(16, 1, 12, 12), {}), [name], grey)
        assert batch.x.shape == (16, 1, 12, 12) and batch.x.isfinite().all()
    x = np.random.default_rng(0).integers(0, 255, (40, 1, 30, 3)).astype(np.uint8)
    np.savez(tmp_path / "thin.npz", x=x, y=np.arange(40) % 2)
    with pytest.raises(TaskError, match=f"{name} is for pictures of 4 pixels a side and more"):
        _ = Task.load(f"thin={tmp_path / 'thin.npz'}?augment={name}&layout=nchw").augmentation
