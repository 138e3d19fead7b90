"""Claims about boxes: how they are asked for, found, judged and moved."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.task import TARGETS, Task, TaskError, loss, score, soft_loss
from nas.task.augment import Batch, augmented
from nas.task.preparation import Preparation
from nas.task.target.average_precision import AveragePrecision
from nas.task.target.boxes import found
from nas.task.target.geometry import generalised, kept, overlaps

BOXES = TARGETS["boxes"]


def drawn(rng: Any, n: int, most: int, classes: int) -> Any:
    """(n, most, 5) boxes in shares of a picture, some of them none."""
    low, side = rng.uniform(0, 0.7, (n, most, 2)), rng.uniform(0.05, 0.5, (n, most, 2))
    kinds = rng.integers(-1, classes, (n, most, 1))
    return np.concatenate([kinds, low, np.minimum(low + side, 1)], -1)


def near(y: Any, rng: Any, classes: int) -> tuple[Any, Any, Any]:
    """Detections: the boxes there are, shaken, some of another class, and some of nothing."""
    n, most = y.shape[:2]
    shaken = y[..., 1:] + rng.normal(0, 0.03, (n, most, 4))
    boxes = np.concatenate([shaken, drawn(rng, n, 4, 2)[..., 1:]], 1)
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 0.01)
    kinds = np.concatenate([y[..., 0], rng.integers(0, classes, (n, 4))], 1).astype(int)
    kinds = np.where(
        (rng.random(kinds.shape) < 0.2) | (kinds < 0), rng.integers(0, classes, kinds.shape), kinds
    )
    shares = np.round(rng.random(kinds.shape), 2)
    order = np.argsort(-shares, axis=1, kind="stable")
    return (
        np.take_along_axis(shares, order, 1),
        np.take_along_axis(kinds, order, 1),
        np.take_along_axis(boxes, order[..., None], 1),
    )


def by_pycocotools(
    y: Any, shares: Any, kinds: Any, boxes: Any, classes: int
) -> tuple[float, float]:
    coco_api = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    def flat(box: Any) -> list[float]:
        left, top, right, bottom = map(float, box)
        return [left * 100, top * 100, (right - left) * 100, (bottom - top) * 100]

    truth: list[dict[str, Any]] = []
    for i, row in enumerate(y):
        for kind, *box in row[row[:, 0] >= 0]:
            sides = flat(box)
            known = {"image_id": i, "category_id": int(kind), "bbox": sides, "iscrowd": 0}
            truth.append({**known, "area": sides[2] * sides[3]})
    for number, entry in enumerate(truth):
        entry["id"] = number + 1
    detections = [
        {"image_id": i, "category_id": int(k), "bbox": flat(b), "score": float(s)}
        for i in range(len(y))
        for s, k, b in zip(shares[i], kinds[i], boxes[i], strict=True)
        if s > 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_api.COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(len(y))],
            "categories": [{"id": k} for k in range(classes)],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 5))
    y = drawn(rng, 25, 6, classes)
    shares, kinds, boxes = near(y, rng, classes)
    meter = AveragePrecision(classes)
    for part in (slice(0, 9), slice(9, 25)):
        meter.add(shares[part], kinds[part], boxes[part], y[part])
    scores = meter.score()
    whole, half = by_pycocotools(y, shares, kinds, boxes, classes)
    assert scores["map"] == pytest.approx(whole, abs=1e-6)
    assert scores["map50"] == pytest.approx(half, abs=1e-6)


def learned(y: torch.Tensor, classes: int, steps: int = 250, grid: int = 16) -> torch.Tensor:
    """Logits that were moved down the loss."""
    logits = torch.zeros(len(y), classes + 4, grid, grid, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        BOXES.loss(logits, y, 0.0).backward()
        optimizer.step()
    return logits.detach()


def test_whoever_follows_the_loss_finds_the_boxes() -> None:
    rows = [
        [[0, 0.1, 0.1, 0.4, 0.5], [1, 0.5, 0.5, 0.9, 0.8]],
        [[1, 0.2, 0.3, 0.22, 0.33], [-1, 0, 0, 0, 0]],  # smaller than a cell
        [[0, 0.0, 0.0, 0.8, 0.8], [1, 0.4, 0.4, 0.8, 0.8]],  # one within the other
    ]
    y = torch.tensor(rows)
    logits = learned(y, 2)
    shares, kinds, boxes = found(logits)
    for i, row in enumerate(y):
        for kind, *box in row[row[:, 0] >= 0].tolist():
            seen = (shares[i] > 0.5) & (kinds[i] == kind)
            best = overlaps(boxes[i][seen], torch.tensor([box])).max()
            assert best > (0.8 if i != 1 else 0.5)
    assert BOXES.score(logits, y)["map50"] == pytest.approx(1)
    task = Task.load("scenes-detect")
    assert score(task, torch.zeros(2, 14, 4, 4), torch.full((2, 1, 5), -1.0))["detection_loss"] < 5


def test_a_picture_without_boxes_is_learned_from_too() -> None:
    y = torch.full((1, 2, 5), -1.0)
    before = BOXES.loss(torch.zeros(1, 6, 16, 16), y, 0.0)
    assert BOXES.loss(learned(y, 2, 20), y, 0.0) < before


def test_a_student_is_nearest_its_teacher_where_it_is_equal() -> None:
    task, teacher = Task.load("scenes-detect"), torch.randn(2, 14, 8, 8)
    equal = soft_loss(task, teacher.clone().requires_grad_(), teacher)
    for _ in range(5):
        assert soft_loss(task, teacher + 0.3 * torch.randn_like(teacher), teacher) > equal


def test_suppression_keeps_the_better_of_a_class_and_every_other_class() -> None:
    rows = [[0, 0, 1, 1], [0, 0, 0.9, 1], [0, 0, 0.9, 1], [0.5, 0.5, 0.6, 0.6]]
    boxes = torch.tensor([rows])
    kinds = torch.tensor([[0, 0, 1, 0]])
    assert kept(boxes, kinds, 0.6).tolist() == [[True, False, True, True]]


def test_what_was_dropped_drops_nothing_itself() -> None:
    row = torch.tensor([[[0.0, 0, 1.0, 1], [0.3, 0, 1.3, 1], [0.6, 0, 1.6, 1]]])
    assert kept(row, torch.zeros(1, 3), 0.5).tolist() == [[True, False, True]]


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_overlaps_are_what_counting_pixels_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 20, (2, 3, 2))
    whole = np.concatenate([low, low + rng.integers(1, 20, (2, 3, 2))], -1)

    def pixels(box: Any) -> Any:
        picture = np.zeros((40, 40), bool)
        picture[box[1] : box[3], box[0] : box[2]] = True
        return picture

    both = overlaps(*torch.from_numpy(whole).double())
    for i, a in enumerate(whole[0]):
        for j, b in enumerate(whole[1]):
            union = (pixels(a) | pixels(b)).sum()
            assert float(both[i, j]) == pytest.approx((pixels(a) & pixels(b)).sum() / union)
    pairs = generalised(*torch.from_numpy(whole).double())
    assert ((pairs <= both.diagonal() + 1e-9) & (pairs > -1)).all()


@pytest.mark.parametrize("name", ["flip", "shift"])
def test_boxes_go_where_their_things_go(name: str) -> None:
    task, masks = Task.load("scenes-detect"), Task.load("scenes-segment")
    at = torch.arange(40)
    split, shown = task.splits().train, masks.splits().train
    one = ((split.y_at(at)[..., 0] >= 0).sum(1) == 1).nonzero()[:, 0]  # a single thing: its mask
    assert len(one) > 5
    batch = Batch(split.x_at(one), {"boxes": split.y_at(one), "mask": shown.y_at(one)})
    torch.manual_seed(0)
    moved = augmented(batch, [name], Preparation(), ["mask"], ["boxes"])
    assert not torch.equal(moved.y["boxes"], batch.y["boxes"])
    for boxes, mask in zip(moved.y["boxes"], moved.y["mask"], strict=True):
        inside = mask > 0
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        (box,) = boxes[boxes[:, 0] >= 0].tolist()
        if min(seen[:2]) > 0 and max(seen[2:]) < 32:  # at an edge what comes in is the edge
            assert [round(32 * side) for side in box[1:]] == [int(side) for side in seen]


def written(tmp_path: Path, boxes: Any, **more: Any) -> str:
    rng = np.random.default_rng(0)
    x = rng.random((len(boxes), 16, 16))
    np.savez(tmp_path / "data.npz", x=x, y=np.asarray(boxes, float), **more)
    return f"mine={tmp_path / 'data.npz'}?predict=boxes"


GOOD = [[[0, 1, 1, 5, 5], [1, 2, 2, 9.5, 9.5]], [[1, 0, 0, 16, 16], [-1] * 5]] * 10


def test_boxes_of_arrays_are_a_task(tmp_path: Path) -> None:
    task = Task.load(written(tmp_path, GOOD))
    assert task.target == "boxes" and task.classes == ("0", "1")
    y = task.splits().train.y
    assert y.max() == 1 and float(y[..., 1:].min()) == 0
    assert float(loss(task, torch.zeros(len(y), 6, 4, 4), y)) > 0


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ([0, 5, 5, 5, 9], "has no area"),
        ([0, 5, 5, 4, 9], "has no area"),
        ([0, 5, 5, 18, 9], "is outside the picture"),
        ([0, -3, 5, 8, 9], "is outside the picture"),
        ([0.5, 5, 5, 8, 9], "is of class 0.5"),
    ],
)
def test_a_box_that_cannot_be_is_named(tmp_path: Path, box: Any, rule: str) -> None:
    with pytest.raises(TaskError, match=rule):
        Task.load(written(tmp_path, [*GOOD, [box, [-1] * 5]]))


def test_a_class_without_a_box_is_named(tmp_path: Path) -> None:
    boxes = [[[2 if i == 3 else 0, 1, 1, 5, 5]] for i in range(40)]
    boxes[3] = [[2, 1, 1, 5, 5]]
    with pytest.raises(TaskError, match="no box of train is of class '1'"):
        Task.load(written(tmp_path, boxes))
