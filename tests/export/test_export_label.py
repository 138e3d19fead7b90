"""Claims about labels that a teacher gives."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nas.cli import app
from nas.export import (
    ExportError,
    Teacher,
    label,
    load,
    module_teacher,
    network_teacher,
    predict,
    save,
)
from nas.grammar import Grammar, sample
from nas.network import Network
from nas.search import load as load_run
from nas.task import TARGETS, Task, TaskError, load_tasks
from nas.train import Recipe, groups

RNG = np.random.default_rng(11)
PYRAMID = Grammar.parse(
    "net = conv(4, stride=2) batchnorm relu output(fine) conv(4, stride=2) batchnorm relu\n"
    "      output(middle) conv({4, 8}, stride=2) batchnorm relu output(coarse)\n",
    name="pyramid",
)


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Pictures of two classes, as bytes, of which nothing is cut yet."""
    x = RNG.integers(0, 255, (80, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", x=x, y=np.arange(80) % 2)
    return f"{tmp_path / 'photos.npz'}"


def saved(folder: Path, task: Task, seed: int = 3) -> Network:
    derivation = sample(PYRAMID, random.Random(seed), input=task.input)
    network = Network(derivation, heads=[task], seed=seed).eval()
    save(network, folder, tasks=[task], recipe=Recipe(), source={})
    return network


def other(tmp_path: Path, target: str, size: int = 16) -> Task:
    """A task of other pictures, in which a teacher learned a target."""
    x = RNG.integers(0, 255, (40, size, size, 3), dtype=np.uint8)
    wide = np.arange(40)[:, None, None] % 3
    ys = {
        "class": np.arange(40) % 3,
        "labels": np.eye(3, dtype=int)[np.arange(40) % 3],
        "numbers": RNG.normal(7, 3, (40, 2)),
        "pixels": np.broadcast_to(wide, (40, size, size)) * (x[..., 0] > 100),
        "surface": RNG.normal(5, 2, (40, size, size)),
        "boxes": np.stack([np.stack([np.arange(40) % 2, *np.full((4, 40), 4)], 1)], 1)
        + np.array([0, 0, 0, 6, 6]),
    }
    np.savez(tmp_path / f"{target}.npz", x=x, y=ys[target])
    return load_tasks([f"old={tmp_path / f'{target}.npz'}?predict={target}"])[0]


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("boxes", "speaker")])
def test_a_task_of_a_networks_labels_asks_for_what_the_network_says(
    target: str, photos: str, tmp_path: Path
) -> None:
    network = saved(tmp_path / "net", other(tmp_path, target))
    kind = load_tasks([f"kind={photos}"])[0]
    teacher = network_teacher(tmp_path / "net")
    labels = label(kind, teacher, tmp_path / "said.npz")
    assert labels.target == target
    kind, said = load_tasks([f"kind={photos}", f"said={photos}?labels={tmp_path / 'said.npz'}"])
    assert said.target == target and len(groups([kind, said])) == 1
    np.save(tmp_path / "x.npy", np.load(photos)["x"][:5])
    raw = said.splits().train.inputs.raw
    assert (raw[:5] == np.load(photos)["x"][:5].transpose(0, 3, 1, 2)).all()
    with torch.no_grad():
        known = network_teacher(tmp_path / "net")
        logits = known.logits(torch.from_numpy(np.array(raw)))
    expected = TARGETS[target].answer(logits, (3, 16, 16), known.units)
    answers = np.load(tmp_path / "said.npz")["y_train"]
    if target == "class":  # of which it may see too few samples
        answers = np.array([known.classes.index(labels.classes[i]) for i in answers])
    np.testing.assert_array_equal(answers, expected)
    shown = [p.tasks["old"] for p in predict(tmp_path / "net", [tmp_path / "x.npy"])]
    for value, answer in zip(shown, expected[:5], strict=True):
        if target == "class":
            assert next(iter(value)) == known.classes[answer]
        elif target == "labels":
            assert {name for name, share in value.items() if share > 0.5} == {
                labels.classes[i] for i in np.flatnonzero(answer)
            }
        elif target == "numbers":
            assert list(value.values()) == pytest.approx(answer.tolist())
        else:
            np.testing.assert_allclose(value, answer, rtol=1e-5)
    assert network.plan.outputs


def test_boxes_are_those_it_is_sure_of_and_classes_those_that_there_are(
    photos: str, tmp_path: Path
) -> None:
    task = other(tmp_path, "boxes")
    network = saved(tmp_path / "net", task)
    kind = load_tasks([f"kind={photos}"])[0]
    with pytest.raises(ExportError, match="is sure of nothing"):
        label(kind, network_teacher(tmp_path / "net"), tmp_path / "none.npz")
    logits = torch.full((80, 2 + 4, 2, 2), -20.0)  # of four cells of 8 pixels
    logits[:, 1, 0, 1], logits[:, 2:] = 20.0, -np.log(2)  # one is sure of the second class
    teacher = Teacher("t", "boxes", ("cat", "dog"), lambda x: logits[: len(x)])
    labels = label(kind, teacher, tmp_path / "said.npz")
    assert labels.classes == ("dog",) and network.plan.outputs
    rows = labels.ys["train"]
    assert (rows[:, 0] == rows[0, 0]).all() and (rows[:, 1:, 0] == -1).all()
    number, left, top, right, bottom = rows[0, 0]
    assert number == 0 and 8 <= left < right <= 16 and 0 <= top < bottom <= 8
    assert load_tasks([f"said={photos}?labels={tmp_path / 'said.npz'}"])[0].classes == ("dog",)


def test_a_teacher_chooses_among_the_classes_that_it_sees_often_enough(
    photos: str, tmp_path: Path
) -> None:
    kind = load_tasks([f"kind={photos}"])[0]
    logits = torch.zeros(80, 4)
    logits[:40, 1], logits[40:, 3] = 1.0, 1.0
    logits[7, 0], logits[7, 3] = 5.0, 2.0  # the one that is of the first class, and then the last
    parts = iter([*logits.split(64), *logits.split(64)])
    teacher = Teacher("t", "class", ("a", "b", "c", "d"), lambda x: next(parts))
    labels = label(kind, teacher, tmp_path / "said.npz")
    assert labels.classes == ("b", "d")
    assert labels.ys["train"].tolist() == [0] * 7 + [1] + [0] * 32 + [1] * 40


def test_a_teacher_of_another_size_sees_pictures_at_its_own(photos: str, tmp_path: Path) -> None:
    saved(tmp_path / "net", other(tmp_path, "pixels", 8))
    kind = load_tasks([f"kind={photos}"])[0]
    label(kind, network_teacher(tmp_path / "net"), tmp_path / "said.npz")
    said = load_tasks([f"said={photos}?labels={tmp_path / 'said.npz'}"])[0]
    assert said.splits().train.y.shape[1:] == (16, 16)
    np.savez(tmp_path / "rows.npz", x=RNG.normal(size=(40, 5)), y=np.arange(40) % 2)
    rows = load_tasks([f"rows={tmp_path / 'rows.npz'}"])[0]
    with pytest.raises(ExportError, match=r"takes samples of \[3, 8, 8\], and these are"):
        label(rows, network_teacher(tmp_path / "net"), tmp_path / "no.npz")
    assert not (tmp_path / "no.npz").exists()


def test_labels_are_not_given_to_other_samples(photos: str, tmp_path: Path) -> None:
    saved(tmp_path / "net", other(tmp_path, "class"))
    kind = load_tasks([f"kind={photos}"])[0]
    file = tmp_path / "said.npz"
    label(kind, network_teacher(tmp_path / "net"), file)
    with pytest.raises(ExportError, match="is there already"):
        label(kind, network_teacher(tmp_path / "net"), file)
    x = np.load(photos)["x"]
    np.savez(tmp_path / "moved.npz", x=x[::-1].copy(), y=np.arange(80) % 2)
    with pytest.raises(TaskError, match="of other samples, or in another order"):
        load_tasks([f"said={tmp_path / 'moved.npz'}?labels={file}"])
    np.savez(tmp_path / "fewer.npz", x=x[:60], y=np.arange(60) % 2)
    with pytest.raises(TaskError, match="80 labels in y_train for 60 samples"):
        load_tasks([f"said={tmp_path / 'fewer.npz'}?labels={file}"])


def test_a_file_that_holds_no_labels_is_refused_and_nothing_in_it_is_run(
    photos: str, tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "evil.npz", y=np.array([Evil()] * 80, dtype=object))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "else.npz", z=np.ones(3))
    np.savez(tmp_path / "none.npz", y=np.array(3))
    np.savez(tmp_path / "wide.npz", y=np.zeros((80, 70_000), np.uint8))
    np.savez(tmp_path / "odd.npz", y=np.arange(80) % 2, target="segmentation")
    np.savez(tmp_path / "word.npz", y=np.arange(80) % 2, classes="cat,dog")
    np.savez(tmp_path / "full.npz", y=np.arange(80) % 2)
    whole = (tmp_path / "full.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(whole.replace(b"descr", b"dascr"))
    (tmp_path / "huge.npz").write_bytes(whole.replace(b"(80,)", b"(8e9)"))
    for name, words in (
        ("evil", "these are no labels"),
        ("text", "plain"),
        ("else", "labels are named y"),
        ("none", "no row of labels"),
        ("wide", "these are no labels"),
        ("odd", "target 'segmentation' is none of class"),
        ("word", "words are wanted"),
        ("damaged", "plain"),
        ("huge", "plain"),
    ):
        with pytest.raises(TaskError, match=words):
            load_tasks([f"said={photos}?labels={tmp_path / name}.npz"])
    assert not (tmp_path / "ran").exists()


def test_plain_labels_in_a_file_take_the_place_of_the_sources(photos: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", y=np.arange(80) % 4)
    tasks = load_tasks([f"a={photos}", f"b={photos}?labels={tmp_path / 'own.npz'}"])
    assert [len(task.classes) for task in tasks] == [2, 4] and len(groups(tasks)) == 1


def test_a_network_is_no_teacher_of_samples_of_another_kind(photos: str, tmp_path: Path) -> None:
    saved(tmp_path / "net", other(tmp_path, "class"))
    x = np.load(photos)["x"]
    np.savez(tmp_path / "real.npz", x=x / 255, y=np.arange(80) % 2)
    real = load_tasks([f"real={tmp_path / 'real.npz'}"])[0]
    with pytest.raises(ExportError, match="divided by 255, and these are float64"):
        label(real, network_teacher(tmp_path / "net"), tmp_path / "no.npz")
    rows = "\n".join(f"{i % 7},{i % 5},{i % 2}" for i in range(60))
    for name, header in (("one", "a,b,kind"), ("two", "b,a,kind")):
        (tmp_path / f"{name}.csv").write_text(f"{header}\n{rows}\n")
    one, two = (
        load_tasks([f"t={tmp_path / name}.csv?target=kind&predict=numbers"])[0]
        for name in ("one", "two")
    )
    table = Grammar.parse("net = linear(4) relu output(coarse)", name="rows")
    derivation = sample(table, random.Random(0), input=one.input)
    network = Network(derivation, heads=[one]).eval()
    save(network, tmp_path / "rows", tasks=[one], recipe=Recipe(), source={})
    label(one, network_teacher(tmp_path / "rows"), tmp_path / "fine.npz")
    with pytest.raises(ExportError, match="learned from another table"):
        label(two, network_teacher(tmp_path / "rows"), tmp_path / "no.npz")


def test_names_of_classes_are_said_once(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "lab.npz", y=np.arange(80) % 2, classes=np.array(["cat", "dog"]))
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nclasses = ["dog", "cat"]\n[data]\nkind = "file"\npath = "photos.npz"\n'
        'labels = "lab.npz"\n'
    )
    with pytest.raises(TaskError, match="its classes are cat, dog, and the definition says"):
        load_tasks([f"{tmp_path / 'mine.toml'}"])[0].splits()
    folder = tmp_path / "R&D"
    folder.mkdir()
    (tmp_path / "lab.npz").rename(folder / "lab.npz")
    monkeypatch.chdir(folder)
    with pytest.raises(TaskError, match="holds no &"):
        load_tasks([f"a={photos}?labels=lab.npz"])


def test_a_network_for_one_of_two_tasks_is_retrained_on_what_it_was_to_learn_from(
    photos: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "lab.npz", y=np.arange(80) % 3)
    tasks = load_tasks([f"a={photos}", f"b={photos}?labels={tmp_path / 'lab.npz'}"])
    alone = load_tasks([tasks[1].spec])[0]
    assert alone.splits().content != tasks[1].splits().content
    saved(tmp_path / "net", tasks[1])
    _, (read,), _, _ = load(tmp_path / "net")
    assert read.splits().content == tasks[1].splits().content


MODULE = """
import torch
from torch import nn


class Bright(nn.Module):
    def forward(self, x):
        assert x.dtype == torch.float32 and x.max() <= 1
        bright = x.mean(1, keepdim=True) - 0.5
        return {"out": torch.cat([-bright, bright], 1)}


def build():
    return Bright()


def number():
    return 3
"""


def test_any_module_is_a_teacher(photos: str, tmp_path: Path) -> None:
    (tmp_path / "seg.py").write_text(MODULE)
    kind, function = load_tasks([f"kind={photos}"])[0], f"{tmp_path / 'seg.py'}"
    label(
        kind, module_teacher(f"{function}:build", "pixels", ["dark", "bright"]), tmp_path / "m.npz"
    )
    mask = load_tasks([f"mask={photos}?labels={tmp_path / 'm.npz'}"])[0]
    assert mask.classes == ("dark", "bright")
    x = np.load(photos)["x"].astype(float).mean(3)
    at = mask.splits().train.inputs.at
    assert (mask.splits().train.y.numpy() == (x[at] > 127.5)).mean() > 0.999
    with pytest.raises(ExportError, match="gives a int, not a torch.nn.Module"):
        module_teacher(f"{function}:number", "pixels")
    with pytest.raises(ExportError, match=r"as class it must be \(64, 2\)"):
        label(kind, module_teacher(f"{function}:build", "class"), tmp_path / "n.npz")


def test_a_search_for_two_tasks_where_one_had_no_labels(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "net", other(tmp_path, "pixels"))
    (tmp_path / "seg.py").write_text(MODULE)
    words = ["label", f"kind={photos}", "--teacher", "net", "--out", "mask.npz"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "pixels of 80 samples" in result.output
    refused = CliRunner().invoke(app, [*words[:3], "./seg.py:build", "--out", "n.npz"])
    assert refused.exit_code and "--trust-code" in refused.output
    (tmp_path / "s.grammar").write_text(str(PYRAMID))
    (tmp_path / "few.toml").write_text("trials = 3\n[supernet]\nsteps = 4\nsamples = 32\n")
    tasks = ["--task", f"kind={photos}", "--task", f"mask={photos}?labels=mask.npz"]
    words = ["search", "./s.grammar", *tasks, "--config", "few.toml", "--out", "run"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    monkeypatch.chdir("/")
    run = load_run(tmp_path / "run")
    assert [task.name for task in run.tasks] == ["kind", "mask"]
    assert len(groups(run.tasks)) == 1


def test_a_teacher_of_speakers_labels_nothing(photos: str, tmp_path: Path) -> None:
    kind = load_tasks([f"kind={photos}"])[0]
    teacher = Teacher("t", "speaker", ("a", "b"), lambda x: torch.zeros(len(x), 194))
    with pytest.raises(ExportError, match="tells apart speakers that it did not learn"):
        label(kind, teacher, tmp_path / "said.npz")
