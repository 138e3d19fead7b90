"""Claims about several tasks of the same samples, and about splits that do not fit each other."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.search import search
from nas.search.columns import column_clash
from nas.task import Task, TaskError, load_tasks
from nas.train import groups

RNG = np.random.default_rng(5)


@pytest.fixture
def specs(tmp_path: Path) -> list[str]:
    """Classes and masks of the same 120 pictures, and the same classes of others."""
    x = RNG.normal(size=(120, 1, 8, 8)).astype(np.float32)
    mask = (x[:, 0] > 0).astype(int)
    y = (mask.mean((1, 2)) > 0.5).astype(int)
    np.savez(tmp_path / "class.npz", x=x, y=y)
    np.savez(tmp_path / "mask.npz", x=x, y=mask)
    np.savez(tmp_path / "other.npz", x=x + 1, y=y)
    return [f"{name}={tmp_path / f'{name}.npz'}" for name in ("class", "mask", "other")]


def rows(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def test_tasks_of_the_same_pictures_are_cut_alike_and_a_batch_holds_them_once(
    specs: list[str],
) -> None:
    one, two, other = load_tasks(specs)
    for split in ("train", "valid", "test"):
        ours, theirs = (getattr(task.splits(), split) for task in (one, two))
        assert ours.x is theirs.x  # held once
        assert len(ours.y) == len(theirs.y)
    for task in (one, two):
        parts = [rows(getattr(task.splits(), split).x) for split in ("train", "valid", "test")]
        assert not parts[0] & (parts[1] | parts[2])
    assert not rows(one.splits().valid.x) & rows(two.splits().train.x)
    assert [[t.name for t in group] for group in groups([one, other, two])] == [
        ["class", "mask"],
        ["other"],
    ]


def test_each_sample_keeps_its_own_y(specs: list[str], tmp_path: Path) -> None:
    """The mask is where a picture is above 0: so it must be after cutting and normalising."""
    _, two, _ = load_tasks(specs)
    raw = np.load(tmp_path / "mask.npz")["x"]
    for split in (two.splits().train, two.splits().valid, two.splits().test):
        zero = _normalised_zero(two, raw)
        assert torch.equal((split.x[:, 0] > zero).long(), split.y)


def _normalised_zero(task: Task, raw: np.ndarray) -> float:
    """What 0 became, from one sample found again by its order of values."""
    order = {tuple(np.argsort(row.ravel())): row for row in raw}
    x = task.splits().train.x[0]
    source = order[tuple(torch.argsort(x.flatten()).tolist())].ravel()
    scale = (x.max() - x.min()) / (source.max() - source.min())
    return float(x.flatten()[0] - source[0] * scale)


def test_equal_samples_of_another_type_or_layout_are_cut_alike(tmp_path: Path) -> None:
    x = RNG.normal(size=(90, 8, 8, 3)).astype(np.float32)
    y = np.arange(90) % 3
    np.savez(tmp_path / "one.npz", x=x, y=y)
    np.savez(tmp_path / "two.npz", x=x.transpose(0, 3, 1, 2).astype(float), y=(y > 0).astype(int))
    one, two = load_tasks([f"{name}={tmp_path / name}.npz" for name in ("one", "two")])
    assert one.splits().valid.x is two.splits().valid.x


def test_a_cut_survives_another_process_and_hangs_on_the_order_alone(specs: list[str]) -> None:
    first = load_tasks(specs[:2])
    again = pickle.loads(pickle.dumps(first))
    for ours, theirs in zip(first, again, strict=True):
        assert torch.equal(ours.splits().train.y, theirs.splits().train.y)
    assert torch.equal(Task.load(specs[0]).splits().train.y, first[0].splits().train.y)


def test_own_data_goes_through_extract_load_and_retrain(specs: list[str], tmp_path: Path) -> None:
    """With one task and with several, from the same splits object at every call."""
    from nas.export import load
    from nas.retrain import Retraining, retrain

    (tmp_path / "s.grammar").write_text(
        "net = conv({4, 8}) batchnorm relu output(fine) output(middle) output(coarse)\n"
    )
    quick = {"trials": 2, "generation": 2, "supernet": {"steps": 4, "samples": 32}}
    for number, chosen in enumerate((specs[:1], specs[:2], [specs[0], specs[2]])):
        folder = tmp_path / f"run{number}"
        run = search(tmp_path / "s.grammar", chosen, out=folder, objectives=["flops"], **quick)
        run.save(run.trials[0].id, tmp_path / f"net{number}")
        _, tasks, _, _ = load(tmp_path / f"net{number}")
        for ours, theirs in zip(run.tasks, tasks, strict=True):
            assert theirs.splits() is theirs.splits()
            assert torch.equal(ours.splits().train.x, theirs.splits().train.x)
            assert torch.equal(ours.splits().test.y, theirs.splits().test.y)
        assert [len(group) for group in groups(tasks)] == [len(g) for g in groups(run.tasks)]
        figures = [
            {
                (m.task, m.name): m.value
                for m in retrain(tmp_path / f"net{number}", Retraining(epochs=1))[1]
            }
            for _ in range(2)
        ]
        assert figures[0] == figures[1]


@pytest.mark.parametrize("swapped", [False, True])
def test_splits_of_two_scales_are_refused(tmp_path: Path, swapped: bool) -> None:
    x, y = RNG.integers(0, 256, (40, 8, 8)), np.arange(40) % 4
    one, two = x.astype(np.uint8), x.astype(float)
    if swapped:
        one, two = two, one
    np.savez(tmp_path / "d.npz", x_train=one, y_train=y, x_test=two, y_test=y)
    with pytest.raises(TaskError, match="two scales: convert all splits to one type"):
        Task.load(f"mine={tmp_path / 'd.npz'}")
    two = two.astype(one.dtype)
    np.savez(tmp_path / "d.npz", x_train=one, y_train=y, x_test=two, y_test=y)
    splits = Task.load(f"mine={tmp_path / 'd.npz'}").splits()
    assert abs(float(splits.test.x.mean()) - float(splits.train.x.mean())) < 0.2


def test_names_whose_columns_cannot_be_told_apart_are_refused(specs: list[str]) -> None:
    from dataclasses import replace

    task = Task.load("digits")

    def clash(*names: str) -> str:
        return column_clash([replace(task, name=name) for name in names])

    assert not clash("digits", "mine", "m-n")
    assert "test_accuracy" in clash("test")
    assert "retrained_accuracy" in clash("retrained")
    assert "a_b_accuracy, which is that of 'a-b'" in clash("a-b", "a_b")
    assert "x_test_accuracy" in clash("x", "x_test")
    with pytest.raises(TaskError, match="give it another name"):
        search("mobile", ["test" + specs[0].removeprefix("class")], out=Path(specs[0]) / "no")
