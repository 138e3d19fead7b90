"""recipe.toml: how an extracted network is retrained, for a person to change."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.export.error import ExportError
from nas.train import OPTIMIZERS, Recipe
from nas.train.balance import METHODS

_RULES: dict[str, tuple[float, float, bool, str]] = {  # least, most, whole, what it says
    "epochs": (0, math.inf, False, "passes over the training data"),
    "lr": (0, math.inf, False, "the highest learning rate, reached after the warm-up"),
    "momentum": (0, 1, False, "share of the last update that is kept"),
    "weight_decay": (0, math.inf, False, "pull of the weights to zero; norms, biases have none"),
    "batch": (1, math.inf, True, "samples in a step"),
    "warmup": (0, 1, False, "share of the steps in which the learning rate rises"),
    "label_smoothing": (0, 1, False, "share of each target that is spread over all classes"),
    "clip": (0, math.inf, False, "the largest norm of a gradient; a longer one is shortened"),
    "seed": (0, math.inf, True, "decides the order of the samples"),
    "parts": (1, math.inf, True, "batches in a step, whose gradients are averaged"),
    "average": (0, 1, False, "decay of the average of weights that is used in the end, 0 for none"),
    "patience": (0, math.inf, True, "epochs without a better validation to stop after, 0: never"),
    "augment": (0, 0, False, "whether training samples are augmented as their task says"),
    "optimizer": (0, 0, False, f"how weights move: {' or '.join(OPTIMIZERS)}"),
    "losses": (0, 0, False, f"how those of several tasks are weighed: {' or '.join(METHODS)}"),
}

NAMES: dict[str, Collection[str]] = {"optimizer": OPTIMIZERS, "losses": METHODS}


def recipe_text(recipe: Recipe) -> str:
    lines = ["# How `nas retrain` trains this network. Change a value and retrain."]
    for name, value in asdict(recipe).items():
        _allow(name, value)
        lines += ["", f"# {_RULES[name][3]}", f"{name} = {json.dumps(value)}"]
    return "\n".join(lines) + "\n"


def read_recipe(path: Path) -> Recipe:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        for name, value in table.items():
            _allow(name, value)
        return Recipe(**table)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}; put a recipe there") from None
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: {error}; correct the file") from None


def _allow(name: str, value: Any) -> None:
    """Raise ExportError where a recipe cannot hold this value."""
    if name not in _RULES:
        raise ExportError(f"{name} is no value of a recipe; there are {', '.join(_RULES)}")
    least, most, whole, meaning = _RULES[name]
    if name == "augment":
        if not isinstance(value, bool):
            raise ExportError(f"augment = {value!r} must be true or false")
        return
    if name in NAMES:
        if not isinstance(value, str) or value not in NAMES[name]:
            raise ExportError(f"{name} = {value!r} must say {meaning}")
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ExportError(f"{name} = {value!r} must be a {'whole ' if whole else ''}number")
    if not least <= value <= most or math.isinf(value):
        bounds = f"from {least} to {most}" if most < math.inf else f"at least {least}"
        raise ExportError(f"{name} = {value} must be {bounds}")
