"""Data sets of Hugging Face's `datasets`: saved to a folder, or by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import SPLITS, Samples
from nas.task.source.items import KEYS, read_items

PREFIX = "hf:"


def is_saved(path: Path) -> bool:
    """Whether a folder holds what `save_to_disk` writes."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def read_saved(path: Path, options: Options) -> Samples:
    """A data set that was saved to a folder."""
    datasets = _library(str(path))
    return _read(str(path), datasets.load_from_disk(str(path)), options)


def read_hub(name: str, options: Options) -> Samples:
    """A data set by its name on the hub, as `hf:cifar100` or `hf:owner/name`; of one with several
    configurations that of `?config=`."""
    datasets, name = _library(name), name.removeprefix(PREFIX)
    try:
        found = datasets.load_dataset(name, options.config or None)
    except Exception as error:  # of the network, the hub or the set's own text
        raise TaskError(
            f"{PREFIX}{name}: cannot be had: {type(error).__name__}: {error}; look at its name and "
            "the connection, or save it to a folder with save_to_disk and give that"
        ) from None
    return _read(f"{PREFIX}{name}", found, replace(options, config=""))


def _library(where: str) -> Any:
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        raise TaskError(
            f"{where}: needs Hugging Face's datasets: pip install 'nas-engine[hf]'"
        ) from None
    return datasets


def _read(where: str, found: Any, options: Options) -> Samples:
    by_split = dict(found) if isinstance(found, Mapping) else {"train": found}
    parts = {s: by_split[n] for s, names in SPLITS.items() for n in names if n in by_split}
    if "train" not in parts:
        raise TaskError(f"{where}: has no train split, only {', '.join(by_split) or 'none'}")
    train = parts["train"]
    for name in (options.input, options.target):
        if name and name not in train.column_names:
            raise TaskError(
                f"{where}: has no column {name!r}; there are {', '.join(train.column_names)}"
            )
    label = options.target or next((y for _, y in KEYS if y in train.column_names), "")
    names = getattr(train.features.get(label), "names", None)
    facts = " ".join(str(getattr(part, "_fingerprint", "")) for part in parts.values())
    classes = tuple(names) if names else None
    return read_items(where, parts, options, facts, classes=classes)
