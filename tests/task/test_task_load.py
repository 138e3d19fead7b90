"""Claims about loading and describing tasks."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import nas.task
from nas.task import Task, TaskError, shipped, shipped_tasks

TOML = """
name = "mine"
title = "Mine"
source = "a test"
licence = "none"
[data]
kind = "file"
path = "data.npz"
"""


def write_npz(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    path = folder / "data.npz"
    np.savez(path, x=rng.normal(size=(20, 6, 6)), y=np.arange(20) % 2)
    return path


def test_importing_tasks_and_loading_a_shipped_one_needs_no_heavy_library() -> None:
    code = (
        "import sys, nas.task as t; heavy = {'torch', 'numpy', 'sklearn', 'pydantic'};"
        "assert not heavy & set(sys.modules); heavy.remove('pydantic');"
        "t.Task.load('digits'); assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_shipped_definition_loads_under_its_own_name() -> None:
    assert set(shipped_tasks()) >= {"digits", "scenes-classify", "scenes-segment"}
    for name in shipped_tasks().keys() - {"language"}:  # its classes are of what is installed
        task = Task.load(name)
        assert (task.name, task.spec) == (name, name)
        assert task.source and task.licence and task.title


def test_shipped_definitions_are_found_beside_the_package() -> None:
    assert (shipped("tasks") / "digits.toml").is_file()


def test_shipped_definitions_are_found_inside_an_installed_package(tmp_path: Path) -> None:
    package = Path(nas.task.__file__).parent
    shutil.copytree(package, tmp_path / "nas" / "task")
    shutil.copytree(shipped("tasks"), tmp_path / "nas" / "_data" / "tasks")
    code = "import nas.task; print(nas.task.shipped('tasks'), nas.task.Task.load('digits').name)"
    here = {**os.environ, "PYTHONPATH": ""}
    said = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True, env=here)
    assert said.split() == [str(tmp_path / "nas" / "_data" / "tasks"), "digits"]


@pytest.mark.parametrize("name", ["digits", "scenes-classify", "scenes-segment"])
def test_a_task_loaded_twice_gives_the_same_splits(name: str) -> None:
    one, two = Task.load(name), Task.load(name)
    assert one == two
    assert one.splits() is one.splits()
    for split in ("train", "valid", "test"):
        a, b = getattr(one.splits(), split), getattr(two.splits(), split)
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)


def test_digits_are_cut_64_16_20_and_stratified() -> None:
    found = Task.load("digits").splits()
    sizes = torch.tensor([len(found.train), len(found.valid), len(found.test)])
    assert sizes.sum() == 1797
    assert torch.allclose(sizes / 1797, torch.tensor([0.64, 0.16, 0.20]), atol=0.005)
    for split in (found.valid, found.test):
        share = torch.bincount(split.y) / len(split)
        assert torch.allclose(share, torch.bincount(found.train.y) / len(found.train), atol=0.01)


def test_training_data_has_mean_zero_and_deviation_one() -> None:
    x = Task.load("digits").splits().train.x
    assert x.dtype == torch.float32
    assert abs(x.mean()) < 1e-4 and abs(x.std() - 1) < 1e-3


def test_a_task_is_pickled_without_its_data_and_reads_it_anew() -> None:
    task = Task.load("scenes-segment")
    task.splits()
    pickled = pickle.dumps(task)
    assert len(pickled) < 5_000
    again = pickle.loads(pickled)
    assert again == task and torch.equal(again.splits().test.y, task.splits().test.y)


def test_describe_says_what_a_person_asks_first() -> None:
    said = Task.load("digits").describe()
    for part in ("1 x 8 x 8", "10 classes", "1150 train", "mean", "scikit-learn", "CC BY 4.0"):
        assert part in said


def test_an_unknown_word_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(TaskError, match="Did you mean 'digits'.*scenes-classify"):
        Task.load("digts")


def test_data_without_a_name_is_answered_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path)
    monkeypatch.chdir(tmp_path)
    for spec in ("data.npz", str(path), f"{tmp_path}/"):
        with pytest.raises(TaskError, match="needs a name: .*mine="):
            Task.load(spec)


@pytest.mark.parametrize("name", ["1st", "a b", "-x", "", "é"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(TaskError, match="no task name"):
        Task.load(f"{name}=data.npz")


def test_a_spec_of_a_file_is_absolute_and_loads_again_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path)
    monkeypatch.chdir(tmp_path)
    task = Task.load("mine=data.npz")
    assert task.spec == f"mine={path}"
    monkeypatch.chdir("/")
    assert Task.load(task.spec) == task


def test_a_missing_file_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    for spec in (f"mine={tmp_path}/no.npz", f"{tmp_path}/no.toml", f"mine={tmp_path}/no.py:make"):
        with pytest.raises(TaskError, match="there is no .*relative to"):
            Task.load(spec)


def test_a_definition_finds_its_data_relative_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(tmp_path)
    (tmp_path / "own.toml").write_text(TOML)
    monkeypatch.chdir("/")
    task = Task.load(str(tmp_path / "own.toml"))
    assert (task.name, task.input, task.target) == ("mine", (1, 6, 6), "class")
    assert task.classes == ("0", "1") and task.metric == "accuracy"
    assert Task.load(task.spec) == task


def test_a_definition_may_read_three_axes_as_channels_and_length(tmp_path: Path) -> None:
    write_npz(tmp_path)
    (tmp_path / "own.toml").write_text(TOML + 'layout = "ncl"\n')
    assert Task.load(f"{tmp_path}/own.toml").input == (6, 6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('title = "Mine"', 'titel = "Mine"'), "titel is no key .*did you mean 'title'"),
        (('path = "data.npz"', 'path = "data.npz"\npaht = 1'), "data.paht is no key"),
        (('"file"', '"fil"'), "data.kind = 'fil'"),
        (("[data]", 'target = "pixels"\n[data]'), "target = 'pixels', but y is int64.*must be"),
        (("[data]", "input = [1, 8, 8]\n[data]"), r"input = \[1, 8, 8\].*has \[1, 6, 6\]"),
        (("[data]", 'metric = "mean_iou"\n[data]'), "does not measure.*'accuracy'"),
        (("[data]", 'classes = ["a", "a"]\n[data]'), "repeat"),
        (("[data]", "[data"), "cannot be read as TOML"),
        (('path = "data.npz"', ""), "needs a path"),
        (('"file"', '"code"'), "needs a function"),
        (('"mine"', '"not mine"'), "no task name"),
    ],
)
def test_a_wrong_definition_is_named_by_file_and_key(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    write_npz(tmp_path)
    (tmp_path / "own.toml").write_text(TOML.replace(*change))
    with pytest.raises(TaskError, match=says) as caught:
        Task.load(f"{tmp_path}/own.toml").splits()
    assert "own.toml" in str(caught.value) or "data.npz" in str(caught.value)


def test_declared_classes_name_whole_numbers(tmp_path: Path) -> None:
    write_npz(tmp_path)
    (tmp_path / "own.toml").write_text(TOML.replace("[data]", 'classes = ["no", "yes"]\n[data]'))
    task = Task.load(f"{tmp_path}/own.toml")
    assert task.classes == ("no", "yes") and set(task.splits().train.y.tolist()) == {0, 1}
