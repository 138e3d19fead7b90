"""Claims about regression, and about one source with several targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from nas.task import Scorer, Task, TaskError, load_tasks, loss, store, trivial_score
from nas.task.target import METRICS

RNG = np.random.default_rng(8)


def table(folder: Path, y: np.ndarray) -> str:
    np.savez(folder / "d.npz", x=RNG.normal(size=(len(y), 5)), y=y)
    return f"mine={folder / 'd.npz'}"


@pytest.mark.parametrize("numbers", [1, 3])
def test_errors_are_in_the_units_of_y(tmp_path: Path, numbers: int) -> None:
    y = RNG.normal(50, 7, (200, numbers)) * (1 + np.arange(numbers))
    task = Task.load(table(tmp_path, y[:, 0] if numbers == 1 else y))
    assert (task.target, len(task.classes), task.metric) == ("numbers", numbers, "rmse")
    split = task.splits().test
    logits = split.y + 0.3 * torch.randn(split.y.shape)
    mean, deviation = (torch.tensor(v) for v in zip(*task.units, strict=True))
    truth, predicted = ((v.double() * deviation + mean).numpy() for v in (split.y, logits))
    assert any(np.allclose(truth[0], row) for row in y)
    scorer = Scorer(task)
    for at in split.numbers(13):
        scorer.add(logits[at], split.y_at(at))
    assert scorer.score() == pytest.approx(
        {
            "rmse": root_mean_squared_error(truth, predicted),
            "mae": mean_absolute_error(truth, predicted),
            "r2": r2_score(truth, predicted),
        },
        rel=1e-5,
    )


def test_less_error_is_better_and_the_trivial_predictor_says_the_mean(tmp_path: Path) -> None:
    assert not METRICS["rmse"].larger_is_better and not METRICS["mae"].larger_is_better
    task = Task.load(table(tmp_path, RNG.normal(3, 2, 400)))
    scores = trivial_score(task)
    assert scores["rmse"] == pytest.approx(2, rel=0.2) and scores["r2"] == pytest.approx(0, abs=0.1)


def test_a_far_sample_pulls_a_batch_by_no_more_than_its_distance(tmp_path: Path) -> None:
    task = Task.load(table(tmp_path, RNG.normal(3, 2, 40)))
    logits = torch.tensor([[0.0], [0.0]], requires_grad=True)
    loss(task, logits, torch.tensor([[0.5], [1000.0]])).backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-0.25, -0.5])


def test_whole_numbers_are_classes_unless_numbers_are_asked_for(tmp_path: Path) -> None:
    spec = table(tmp_path, np.arange(60) % 4)
    assert Task.load(spec).target == "class"
    assert Task.load(f"{spec}?predict=numbers").target == "numbers"
    (tmp_path / "own.toml").write_text(
        'name = "mine"\ntarget = "numbers"\nclasses = ["age"]\n'
        '[data]\nkind = "file"\npath = "d.npz"\n'
    )
    task = Task.load(f"{tmp_path}/own.toml")
    assert (task.target, task.classes) == ("numbers", ("age",))


def test_several_targets_of_one_file_share_its_samples_and_its_cut(tmp_path: Path) -> None:
    x = RNG.integers(0, 255, (90, 8, 8, 3), dtype=np.uint8)
    masks = (x[..., 0] > 99).astype(np.uint8)
    breed = np.array(["tabby", "siamese", "persian"])[np.arange(90) % 3]
    np.savez(tmp_path / "pets.npz", x=x, breed=breed, mask=masks, weight=RNG.normal(4, 1, 90))
    file = tmp_path / "pets.npz"
    tasks = load_tasks([f"{name}={file}?target={name}" for name in ("breed", "mask", "weight")])
    assert [task.target for task in tasks] == ["class", "pixels", "numbers"]
    first, *others = (task.splits() for task in tasks)
    assert all(other.train.inputs is first.train.inputs for other in others)
    assert len({task.splits().content for task in tasks}) == 1
    with pytest.raises(TaskError, match="there is no y 'age'"):
        Task.load(f"age={file}?target=age")


def test_classes_and_masks_of_one_folder_share_pictures_that_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    photos = tmp_path / "photos"
    for part in ("images", "masks"):
        for breed in ("tabby", "siamese"):
            (photos / part / breed).mkdir(parents=True)
    for i in range(20):
        breed, name = ("tabby", "siamese")[i % 2], f"{i}.png"
        pixels = RNG.integers(0, 256, (14 + i, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / "images" / breed / name)
        Image.fromarray((pixels[..., 0] > 99).astype(np.uint8)).save(
            photos / "masks" / breed / name
        )
    specs = [f"breed={photos}?target=class", f"mask={photos}?target=masks"]
    breed_task, mask_task = load_tasks(specs)
    assert (breed_task.target, mask_task.target) == ("class", "pixels")
    assert breed_task.classes == ("siamese", "tabby")
    assert mask_task.splits().train.inputs is breed_task.splits().train.inputs
    assert sorted(kept.source for kept in store.stores()) == [str(photos), f"masks of {photos}"]


def test_units_are_those_of_train_alone(tmp_path: Path) -> None:
    y = np.concatenate([RNG.normal(5, 2, 80), [1e4] * 20])
    np.savez(
        tmp_path / "d.npz",
        x_train=RNG.normal(size=(80, 3)),
        y_train=y[:80],
        x_test=RNG.normal(size=(20, 3)),
        y_test=y[80:],
    )
    task = Task.load(f"mine={tmp_path / 'd.npz'}")
    ((mean, deviation),) = task.units
    train = task.splits().train.y
    assert float(train.mean()) == pytest.approx(0, abs=1e-5)
    assert float(train.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert 4 < mean < 6 and 1.5 < deviation < 2.5
    assert float(task.splits().test.y[0, 0]) * deviation + mean == pytest.approx(1e4, rel=1e-4)


def test_another_array_may_be_y_whatever_x_is_called(tmp_path: Path) -> None:
    x, labels = RNG.integers(0, 9, (60, 8, 8)), np.arange(60) % 3
    np.savez(tmp_path / "d.npz", images=x, labels=labels, masks=(x > 4).astype(np.uint8))
    assert Task.load(f"mine={tmp_path / 'd.npz'}").target == "class"
    assert Task.load(f"mine={tmp_path / 'd.npz'}?target=masks").target == "pixels"
