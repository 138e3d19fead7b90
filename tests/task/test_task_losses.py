"""Claims about losses and distillation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nas.task import Task, TaskError, loss, soft_loss

TASKS = [Task.load(name) for name in ("digits", "scenes-classify", "scenes-segment")]


def some_logits(task: Task, n: int = 5) -> Tensor:
    pixels = task.input[1:] if task.target == "pixels" else ()
    rng = torch.Generator().manual_seed(3)
    return torch.randn(n, len(task.classes), *pixels, generator=rng)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_logits_of_zero_cost_the_entropy_of_a_guess(task: Task) -> None:
    y = task.splits().valid.y[:5]
    guess = math.log(2) if task.target == "labels" else math.log(len(task.classes))
    assert float(loss(task, 0 * some_logits(task), y)) == pytest.approx(guess, abs=1e-5)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_smoothing_costs_a_certain_right_answer_something(task: Task) -> None:
    y = task.splits().valid.y[:5]
    if task.target == "labels":
        right = 40 * y - 20
    else:
        hot = torch.nn.functional.one_hot(y, len(task.classes)).float()
        right = 40 * hot.movedim(-1, 1)
    assert float(loss(task, right, y)) < 1e-6
    assert float(loss(task, right, y, label_smoothing=0.1)) > 0.5


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_no_answer_is_closer_to_a_teacher_than_its_own(task: Task) -> None:
    teacher = some_logits(task)
    student = teacher.clone().requires_grad_()
    same = soft_loss(task, student, teacher)
    (slope,) = torch.autograd.grad(same, student)
    assert slope.abs().max() < 1e-6
    assert soft_loss(task, teacher + 0.1 * teacher.flip(1), teacher) > same
    if task.target != "labels":
        assert float(same.detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_no_gradient_flows_into_a_teacher(task: Task) -> None:
    teacher = some_logits(task).requires_grad_()
    student = some_logits(task).mul(2).requires_grad_()
    soft_loss(task, student, teacher).backward()  # type: ignore[no-untyped-call]
    assert teacher.grad is None and student.grad is not None


def test_pixel_distillation_is_a_mean_over_pixels() -> None:
    task = TASKS[2]
    one, two = some_logits(task), some_logits(task).roll(1, 0)
    by_hand = (two.softmax(1) * (two.log_softmax(1) - one.log_softmax(1))).sum(1).mean()
    assert torch.allclose(soft_loss(task, one, two), by_hand)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_logits_of_another_shape_are_refused_by_shape(task: Task) -> None:
    wrong = replace(task, classes=task.classes[:-1])
    with pytest.raises(TaskError, match="logits of shape.*correct the head"):
        loss(wrong, some_logits(task), task.splits().valid.y[:5])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_smoothing_mixes_labels_with_a_half_by_its_share_and_no_more(smoothing: float) -> None:
    task = Task.load("scenes-classify")
    y = task.splits().valid.y[:7]
    logits = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, wanted = logits.sigmoid(), (1 - smoothing) * y.double() + smoothing / 2
    by_hand = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean()
    found = loss(task, logits, y.double(), label_smoothing=smoothing)
    assert float(found) == pytest.approx(float(by_hand), rel=1e-9)
