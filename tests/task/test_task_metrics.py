"""Claims about metrics and the trivial predictor."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.task import METRICS, Task, prior, score, trivial_score
from nas.task.target.labels import average_precision
from nas.task.target.pixels import mean_iou

NAMES = ("digits", "scenes-classify", "scenes-segment")
TASKS = [Task.load(name) for name in NAMES]


def perfect(task: Task) -> torch.Tensor:
    y = task.splits().test.y
    if task.target == "labels":
        return 40 * y - 20
    return 40 * torch.nn.functional.one_hot(y, len(task.classes)).movedim(-1, 1).float()


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_a_perfect_answer_scores_one_and_costs_nothing(task: Task) -> None:
    found = score(task, perfect(task), task.splits().test.y)
    assert found.pop("nll") == pytest.approx(0, abs=1e-6)
    assert found[task.metric] == 1 and set(found.values()) == {1.0}


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_the_trivial_predictor_lies_between_zero_and_a_perfect_one(task: Task) -> None:
    found = trivial_score(task)
    assert set(found) <= set(METRICS)
    assert 0 < found[task.metric] < 0.3 and 0 < found["nll"] < math.log(11)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_an_answer_with_nan_scores_nan_and_not_chance(task: Task) -> None:
    logits = perfect(task)
    logits[3] = math.nan
    assert all(map(math.isnan, score(task, logits, task.splits().test.y).values()))


def test_the_trivial_pixel_predictor_says_background_everywhere() -> None:
    task = TASKS[2]
    ground = float((task.splits().test.y == 0).double().mean())
    found = trivial_score(task)
    assert found["pixel_accuracy"] == pytest.approx(ground)
    assert found["mean_iou"] == pytest.approx(ground / 11)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_a_prior_is_the_training_share_of_each_class(task: Task) -> None:
    share = prior(task)
    assert share.shape == (len(task.classes),) and (share > 0).all()
    if task.target != "labels":
        assert float(share.sum()) == pytest.approx(1)


def test_a_label_without_a_positive_is_left_out() -> None:
    y = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    logits = torch.tensor([[2.0, 9.0], [1.0, 9.0], [3.0, 9.0]])
    assert average_precision(logits, y) == 1
    assert average_precision(logits[:, :1], y[:, :1]) == 1
    assert math.isnan(average_precision(logits, 0 * y))


def test_a_class_that_nobody_mentions_is_left_out_of_mean_iou() -> None:
    y = torch.tensor([[[0, 0], [1, 1]]])
    said = torch.tensor([[[0, 0], [1, 2]]])
    assert mean_iou(said, y, 4) == pytest.approx((1 + 0.5 + 0) / 3)


@given(st.data(), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_mean_iou_is_sets_of_pixels_intersected_over_united(
    data: st.DataObject, classes: int
) -> None:
    numbers = st.lists(st.integers(0, classes - 1), min_size=12, max_size=12)
    said, y = (torch.tensor(data.draw(numbers)).reshape(1, 3, 4) for _ in range(2))
    each = []
    for c in range(classes):
        a, b = said == c, y == c
        if (a | b).any():
            each.append(float((a & b).sum() / (a | b).sum()))
    assert mean_iou(said, y, classes) == pytest.approx(sum(each) / len(each))
    assert mean_iou(said, y, classes) == pytest.approx(mean_iou(y, said, classes))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 6))
def test_metrics_that_see_unequal_classes_are_those_of_scikit_learn(seed: int, k: int) -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

    from nas.task.target.single import auroc, by_class

    generator = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.arange(k), torch.randint(0, k, (60,), generator=generator) ** 2 % k])
    logits = torch.randn(len(y), k, generator=generator).round(decimals=1)  # with ties
    predicted, shares = logits.argmax(1), logits.softmax(1).double().numpy()
    wanted = roc_auc_score(y, shares if k > 2 else shares[:, 1], multi_class="ovr")
    assert auroc(logits, y) == pytest.approx(wanted)
    found = by_class(predicted, y, k)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
