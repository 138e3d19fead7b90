"""Arrays in an .npz file, in .npy files, or in a folder of the Unseen NAS layout."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import SPLITS, Samples

if TYPE_CHECKING:
    from nas.task.samples import Array, Pairs

WORDS = (("x", "y"), ("images", "labels"))
PUBLISHED = ("train", "valid", "test")
FILES = tuple(f"{split}_{part}" for split in PUBLISHED for part in "xy")


def read_npz(path: Path, options: Options) -> Samples:
    """Arrays by their names in a file."""
    options.refuse(str(path), "target")
    if not zipfile.is_zipfile(path):
        raise TaskError(f"{path}: is no whole .npz file; save it anew with np.savez")
    with np.load(path, allow_pickle=False) as file:
        return named_arrays(
            {name: _plain(file.__getitem__, name, path) for name in file}, path, options.target
        )


def _plain(load: Callable[[Any], Array], key: Any, where: Path) -> Array:
    try:
        return load(key)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TaskError(
            f"{where}: {key} is no plain array ({error}); samples must be of one size and of "
            "numbers, or strings for classes: make them one array, not a list of arrays"
        ) from None


def named_arrays(arrays: Mapping[str, Array], where: Path, target: str = "") -> Samples:
    """Pairs by name: x and y, x_train and y_train, train_x, train_images and so on; y may have
    another name, the `target`."""
    words = tuple((x, target.lower()) for x, _ in WORDS) if target else WORDS
    known = {name.lower(): array for name, array in arrays.items()}
    pairs: Pairs = {}
    for split, spellings in SPLITS.items():
        names = [(f"{x}_{s}", f"{y}_{s}") for x, y in words for s in spellings]
        names += [(f"{s}_{x}", f"{s}_{y}") for x, y in words for s in spellings]
        names += list(words) if split == "train" else []
        for x, y in names:
            if not target and (x in known) != (y in known) and split not in pairs:
                raise _unpaired(where, arrays, f"{x if x in known else y} stands alone")
            if x in known and y in known:
                pairs.setdefault(split, (known[x], known[y]))
    if "train" not in pairs:
        lacking = f"there is no y {target!r}" if target else "there is no training data"
        raise _unpaired(where, arrays, lacking)
    layout = str(known["layout"]) if "layout" in known else None
    named = "classes" in known and not target
    classes = tuple(map(str, known["classes"])) if named else None
    return Samples(str(where), pairs, layout, classes)


def _unpaired(where: Path, arrays: Iterable[str], fault: str) -> TaskError:
    return TaskError(
        f"{where}: holds {', '.join(arrays) or 'nothing'}, and {fault}; name the arrays x and y, "
        "or x_train and y_train (also _valid and _test)"
    )


def holds_npy(folder: Path) -> bool:
    return any(folder.glob("*.npy"))


def read_npy_folder(folder: Path, options: Options) -> Samples:
    """Arrays by their files' names, or where there is a `metadata` file as published."""
    options.refuse(str(folder), "target")
    if (folder / "metadata").is_file():
        return read_published(folder)
    arrays = {f.stem: load_npy(f) for f in sorted(folder.glob("*.npy"))}
    return named_arrays(arrays, folder, options.target)


def load_npy(path: Path) -> Array:
    """An array mapped from its file, so that only what is made of it takes memory."""
    return np.asarray(_plain(partial(np.load, mmap_mode="r"), path, path.parent))


def read_published(path: Path) -> Samples:
    """A published folder: six .npy files, mapped and not copied, and a JSON `metadata`."""
    lacking = [f"{name}.npy" for name in FILES if not (path / f"{name}.npy").is_file()]
    if lacking:
        raise TaskError(
            f"{path}: holds a metadata file but no {', '.join(lacking)}; published splits are "
            "used as they are: add what is missing, or remove metadata to have it cut from train"
        )
    says = _metadata(path / "metadata")
    arrays = {name: load_npy(path / f"{name}.npy") for name in FILES}
    pairs = {split: (arrays[f"{split}_x"], arrays[f"{split}_y"]) for split in PUBLISHED}
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
    return Samples(str(path), pairs, "nchw", classes, notes)


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
