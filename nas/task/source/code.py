"""A function that brings data: one of the user's own, or one that ships with the tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import SPLITS, Samples
from nas.task.source.items import read_items
from nas.user_code import content_digest, user_attribute


def read_function(target: str, arguments: Mapping[str, Any], options: Options) -> Samples:
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
        options.refuse(target)
        return given
    if isinstance(given, Mapping):
        parts = {s: given[n] for s, names in SPLITS.items() for n in names if n in given}
    else:
        some = given if isinstance(given, tuple) else (given,)
        names = ("train", "test") if len(some) == 2 else ("train", "valid", "test")
        parts = dict(zip(names, some, strict=False))
    if "train" not in parts:
        raise TaskError(f"{target}: returned no train split; return one, or a dict with 'train'")
    facts = f"{content_digest(target)} {json.dumps(dict(arguments), sort_keys=True)}"
    return _read(target, parts, options, facts)


def _read(target: str, parts: Mapping[str, Any], options: Options, facts: str) -> Samples:
    try:
        return read_items(target, parts, options, facts)
    except TaskError:
        raise
    except (ValueError, TypeError) as error:
        raise TaskError(
            f"{target}: items cannot be stacked ({error}); each must be (x, y), every x of one "
            "size: resize or pad them, and give each an (x, y)"
        ) from error
