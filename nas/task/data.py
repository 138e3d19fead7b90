"""Readers: from a file, a folder, a function or scikit-learn to three splits in memory."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.task.prepare import SPLITS, Array, Found, Pairs, Raw, cut, prepare
from nas.task.task import REBUILT, Loader, TaskError
from nas.user_code import user_attribute

WORDS = (("x", "y"), ("images", "labels"))
IDX = {"train": "train", "test": "t10k"}
KEYS = (("x", "y"), ("image", "label"), ("img", "label"), ("input", "target"), ("data", "target"))


def read(loader: Loader) -> Found:
    """The data of a reader; raises TaskError where it is not what was declared."""
    kind, source, classes = loader.kind, loader.source, loader.classes
    if kind == "scenes":
        from nas.task.scenes import read_scenes

        found = read_scenes(loader.target)
    elif kind == "digits":
        found = read_digits()
    elif kind in REBUILT:
        from nas.task.unseen import build

        found = prepare(build(loader).raw)
    else:
        raw = run_code(source) if kind == "code" else read_path(Path(source))
        found = prepare(
            replace(raw, layout=loader.layout or raw.layout, classes=classes or raw.classes),
            loader.like.found if loader.like else None,
        )
    declared = (("target", loader.target, found.target), ("classes", classes, found.classes))
    for key, said, is_so in declared:
        if said not in (None, is_so):
            raise TaskError(
                f"{source or kind}: {key} = {said!r}, but the data has {is_so!r}; "
                f"the two must agree: correct {key} or the data"
            )
    return found


@cache
def raw_digits() -> tuple[Array, Array]:
    """scikit-learn's digits: pictures (1797, 8, 8) in 0 to 1, values (1797,) int64."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

    bunch = load_digits()
    return bunch.images / 16, bunch.target.astype(np.int64)


@cache
def digit_parts() -> dict[str, Array]:
    """Which digits are in train (64 %), valid (16 %) and test (20 %)."""
    return cut(raw_digits()[1], 0.2, 0.2, "digits")


@cache
def read_digits() -> Found:
    """The digits task, ready to train on."""
    pictures, values = raw_digits()
    pairs = {split: (pictures[i], values[i]) for split, i in digit_parts().items()}
    found = prepare(Raw("digits", pairs))
    note = "stratified 64 % train, 16 % valid, 20 % test; pixels over 16"
    return replace(found, splits=replace(found.splits, notes=(note, *found.splits.notes)))


def read_path(path: Path) -> Raw:
    """An .npz file, or a folder of idx files, of .npy files or of pictures by class."""
    if path.is_dir():
        return read_folder(path)
    if path.suffix != ".npz":
        raise TaskError(
            f"{path}: data comes from an .npz file, a folder, or a function "
            "(package.module:function); convert it, e.g. np.savez('data.npz', x=x, y=y)"
        )
    if not zipfile.is_zipfile(path):
        raise TaskError(f"{path}: is no whole .npz file; save it anew with np.savez")
    with np.load(path, allow_pickle=False) as file:
        return named_arrays({name: _plain(file.__getitem__, name, path) for name in file}, path)


def _plain(load: Callable[[Any], Array], key: Any, where: Path) -> Array:
    try:
        return load(key)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TaskError(
            f"{where}: {key} is no plain array ({error}); samples must be of one size and of "
            "numbers, or strings for classes: make them one array, not a list of arrays"
        ) from None


def named_arrays(arrays: Mapping[str, Array], where: Path) -> Raw:
    """Pairs by name: x and y, x_train and y_train, train_x, train_images and so on."""
    known = {name.lower(): array for name, array in arrays.items()}
    pairs: Pairs = {}
    for split, spellings in SPLITS.items():
        names = [(f"{x}_{s}", f"{y}_{s}") for x, y in WORDS for s in spellings]
        names += [(f"{s}_{x}", f"{s}_{y}") for x, y in WORDS for s in spellings]
        names += list(WORDS) if split == "train" else []
        for x, y in names:
            if (x in known) != (y in known) and split not in pairs:
                raise _unpaired(where, arrays, f"{x if x in known else y} stands alone")
            if x in known:
                pairs.setdefault(split, (known[x], known[y]))
    if "train" not in pairs:
        raise _unpaired(where, arrays, "there is no training data")
    layout = str(known["layout"]) if "layout" in known else None
    classes = tuple(map(str, known["classes"])) if "classes" in known else None
    return Raw(str(where), pairs, layout, classes)


def _unpaired(where: Path, arrays: Iterable[str], fault: str) -> TaskError:
    return TaskError(
        f"{where}: holds {', '.join(arrays) or 'nothing'}, and {fault}; name the arrays x and y, "
        "or x_train and y_train (also _valid and _test)"
    )


def read_folder(path: Path) -> Raw:
    """Whichever of the three kinds of folder it is; raises TaskError when it is none."""
    if any(path.glob("*-images*idx3-ubyte*")):
        return read_idx_folder(path)
    files = sorted(path.glob("*.npy"))
    if files and (path / "metadata").is_file():
        from nas.task.unseen import read_published

        return read_published(path)
    if files:
        return named_arrays({file.stem: load_npy(file) for file in files}, path)
    from nas.task.pictures import read_pictures

    return read_pictures(path)


def load_npy(path: Path) -> Array:
    """An array mapped from its file, so that only what is made of it takes memory."""
    return np.asarray(_plain(partial(np.load, mmap_mode="r"), path, path.parent))


def read_idx_folder(path: Path) -> Raw:
    """MNIST's files (LeCun et al. 1998), plain or gzipped."""
    pairs: Pairs = {}
    for split, stem in IDX.items():
        files = [
            next(iter(sorted(path.glob(f"{stem}-{kind}*ubyte*"))), None)
            for kind in ("images", "labels")
        ]
        if files[0] and files[1]:
            pairs[split] = (read_idx(files[0]), read_idx(files[1]))
    if "train" not in pairs:
        raise TaskError(
            f"{path}: training needs train-images-idx3-ubyte and train-labels-idx1-ubyte "
            "(or both with .gz); add the missing one"
        )
    return Raw(str(path), pairs)


def read_idx(path: Path) -> Array:
    """One idx file of bytes: two zeros, 8, the number of axes, their sizes, the values."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        axes = data[3]
        shape = np.frombuffer(data, ">i4", axes, 4).astype(int)
        values = np.frombuffer(data, np.uint8, -1, 4 + 4 * axes)
        if data[:3] != b"\0\0\x08" or values.size != shape.prod():
            raise ValueError(f"{values.size} values where the header says {list(shape)}")
    except (ValueError, IndexError, OSError, EOFError) as error:
        raise TaskError(f"{path}: is no whole idx file of bytes ({error}); fetch it anew") from None
    return values.reshape(shape)


def run_code(source: str) -> Raw:
    """What module:function returns, called without arguments: a Dataset, 2 or 3, or a dict."""
    try:
        given = user_attribute(source)()
    except Exception as error:
        raise TaskError(
            f"{source}: raised {type(error).__name__}: {error}; the function must exist, take no "
            "arguments and return a Dataset, (train, test), (train, valid, test) or a dict of "
            "them; a module must be importable from here, else write ./file.py:function"
        ) from error
    if isinstance(given, Mapping):
        parts = {s: given[n] for s, names in SPLITS.items() for n in names if n in given}
    else:
        some = given if isinstance(given, tuple) else (given,)
        names = ("train", "test") if len(some) == 2 else ("train", "valid", "test")
        parts = dict(zip(names, some, strict=False))
    if "train" not in parts:
        raise TaskError(f"{source}: returned no train split; return one, or a dict with 'train'")
    return Raw(source, {s: _stacked(part, f"{source}, {s}") for s, part in parts.items()})


def _stacked(dataset: Any, where: str) -> tuple[Array, Array]:
    sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    try:
        items = [dataset[i] for i in range(len(dataset))] if sized else list(dataset)
        pairs = [_pair(item, where) for item in items]
        columns = [[np.asarray(part) for part in column] for column in zip(*pairs, strict=True)]
        x, y = (np.stack(column) for column in columns)
    except TaskError:
        raise
    except (ValueError, TypeError) as error:
        raise TaskError(
            f"{where}: items cannot be stacked ({error}); each must be (x, y), every x of one "
            "size: resize or pad them, and give each an (x, y)"
        ) from error
    return x, y


def _pair(item: Any, where: str) -> Any:
    """An item's x and y; of a dict by the names that they most often have."""
    if not isinstance(item, Mapping):
        return item
    for x, y in KEYS:
        if x in item and y in item:
            return item[x], item[y]
    known = ", ".join(f"{x} and {y}" for x, y in KEYS)
    raise TaskError(
        f"{where}: an item has {', '.join(map(str, item))}, of which none are known as x and y "
        f"({known}): give (x, y), or rename two of them"
    )
