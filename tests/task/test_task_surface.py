"""Claims about a number for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.task import Task, TaskError, loss, score, trivial_score
from nas.task.augment import Batch, augmented
from nas.task.preparation import Preparation
from nas.task.target import TARGETS


def written(tmp_path: Path, y: Any) -> Task:
    x = np.random.default_rng(0).random((len(y), 8, 8))
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return Task.load(f"mine={tmp_path / 'data.npz'}?predict=surface")


def heights(n: int = 40, nothing: float = 0.2) -> Any:
    rng = np.random.default_rng(1)
    y = 100 + 7 * rng.standard_normal((n, 8, 8))
    y[rng.random(y.shape) < nothing] = np.nan
    return y


def test_it_is_scaled_by_what_is_known_in_train_and_judged_in_its_own_units(tmp_path: Path) -> None:
    task = written(tmp_path, heights())
    train, valid = task.splits().train, task.splits().valid
    known = train.y[train.y != -100]
    assert float(known.mean()) == pytest.approx(0, abs=1e-5)
    assert float(known.std()) == pytest.approx(1, abs=1e-3)
    ((mean, deviation),) = task.units
    assert (mean, deviation) == (pytest.approx(100, abs=1), pytest.approx(7, abs=0.3))
    logits = torch.randn(len(valid), 1, 8, 8)
    there = valid.y != -100
    error = ((logits[:, 0] - valid.y) * deviation)[there].double()
    values = (valid.y * deviation + mean)[there].double()
    scores = score(task, logits, valid.y)
    assert scores["rmse"] == pytest.approx(float((error**2).mean().sqrt()), rel=1e-6)
    assert scores["mae"] == pytest.approx(float(error.abs().mean()), rel=1e-6)
    spread = ((values - values.mean()) ** 2).mean()
    assert scores["r2"] == pytest.approx(float(1 - (error**2).mean() / spread), rel=1e-4)
    assert trivial_score(task, "valid")["r2"] == pytest.approx(0, abs=0.05)


def test_where_nothing_is_known_nothing_is_asked(tmp_path: Path) -> None:
    task = written(tmp_path, heights())
    y = task.splits().train.y
    logits = torch.zeros(len(y), 1, 8, 8, requires_grad=True)
    loss(task, logits, y).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0][y == -100] == 0).all()
    nothing = torch.full((2, 8, 8), -100.0)
    assert float(loss(task, logits[:2], nothing)) == 0


@pytest.mark.parametrize("name", ["flip", "shift", "erase"])
def test_it_moves_with_its_picture(tmp_path: Path, name: str) -> None:
    """The surface is the picture itself, so that it must be what the picture is after it too."""
    x = torch.rand(64, 1, 16, 16)
    torch.manual_seed(0)
    moved = augmented(Batch(x, {"y": x[:, 0]}), [name], Preparation(), ["y"])
    assert not torch.equal(moved.x, x)
    there = moved.y["y"] != -100
    assert torch.equal(moved.x[:, 0][there], moved.y["y"][there])
    assert there.float().mean() > 0.8


def test_what_is_shown_is_in_its_units(tmp_path: Path) -> None:
    task = written(tmp_path, heights(nothing=0))
    shown = TARGETS["surface"].shown(torch.zeros(1, 8, 8), task.classes, task.units)
    assert shown.shape == (8, 8)
    assert float(shown.mean()) == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("y", "rule"),
    [
        (np.full((20, 8, 8), 1.5), "every y of train is the same"),
        (np.full((20, 8, 8), np.nan), "every y of train is the same"),
        (heights()[:, :4], "each pixel needs a number"),
        (np.where(heights() > 100, np.inf, 0.5), "infinite"),
    ],
)
def test_a_surface_that_cannot_be_is_named(tmp_path: Path, y: Any, rule: str) -> None:
    with pytest.raises(TaskError, match=rule):
        written(tmp_path, y)
