"""A function that brings data: one of the user's own, or one that ships with the tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.task.error import TaskError
from nas.task.samples import SPLITS, Samples
from nas.user_code import user_attribute

if TYPE_CHECKING:
    from nas.task.samples import Array

KEYS = (("x", "y"), ("image", "label"), ("img", "label"), ("input", "target"), ("data", "target"))


def read_function(target: str, arguments: Mapping[str, Any]) -> Samples:
    """What module:function returns: Samples; a Dataset, 2 or 3 of them or a dict, by split."""
    try:
        given = user_attribute(target)(**arguments)
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(
            f"{target}: raised {type(error).__name__}: {error}; the function must exist, take the "
            "arguments that [data.arguments] gives and return a Dataset, (train, test), (train, "
            "valid, test), a dict of them or nas.task.Samples; a module must be importable from "
            "here, else write ./file.py:function"
        ) from error
    if isinstance(given, Samples):
        return given
    if isinstance(given, Mapping):
        parts = {s: given[n] for s, names in SPLITS.items() for n in names if n in given}
    else:
        some = given if isinstance(given, tuple) else (given,)
        names = ("train", "test") if len(some) == 2 else ("train", "valid", "test")
        parts = dict(zip(names, some, strict=False))
    if "train" not in parts:
        raise TaskError(f"{target}: returned no train split; return one, or a dict with 'train'")
    return Samples(target, {s: _stacked(part, f"{target}, {s}") for s, part in parts.items()})


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
