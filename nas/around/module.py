"""A module of the user's own, by the name of what gives it, with its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nas.around.error import UnreadError
from nas.user_code import user_network

INSIDE = ("state_dict", "model", "model_state_dict")  # where checkpoints keep a state dict


def module_of(function: str, weights: Path | None = None, *, trust_code: bool = False) -> nn.Module:
    """The module that a function gives, or that a name is, with the weights of a file. The code is
    run with `trust_code` alone; a file of weights runs nothing. Raises UnreadError."""
    if ":" not in function:
        raise UnreadError(f"{function!r} names no function: write ./file.py:name")
    if not trust_code:
        raise UnreadError(
            f"{function!r} would be run: read it, then allow it with --trust-code (from Python "
            "give the module itself)"
        )
    try:
        module = user_network(function)
    except ValueError as error:
        raise UnreadError(str(error)) from None
    if weights:
        _load(module, weights)
    return module


def shares_of(words: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Shares of widths by module path, as .25,.5,1 (of all) and layer3=.5,1 say them."""
    shares = dict[str, tuple[float, ...]]()
    for word in words:
        path, _, numbers = word.rpartition("=")
        try:
            shares[path] = tuple(map(float, numbers.split(",")))
        except ValueError:
            raise UnreadError(
                f"--widths {word}: shares are numbers with commas between, as layer3=.5,1"
            ) from None
    return shares


def _load(module: nn.Module, path: Path) -> None:
    try:
        state: Any
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        kind = type(error).__name__
        raise UnreadError(
            f"{path} holds no weights ({kind}: {error}): give a .safetensors file, or what "
            "torch.save wrote of a state dict"
        ) from None
    except Exception as error:  # what is no plain pickle of tensors
        first = str(error).splitlines()[0]
        raise UnreadError(f"{path} holds more than weights, and is not read: {first}") from None
    for name in INSIDE:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping):
        raise UnreadError(f"{path} holds a {type(state).__name__}: save module.state_dict()")
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise UnreadError(f"{path} holds more than tensors by name: save module.state_dict()")
    if odd := [k for k, v in state.items() if v.is_complex() or v.layout is not torch.strided]:
        raise UnreadError(f"{path}: {odd[0]} is no plain tensor of real numbers")
    own = module.state_dict()
    lacking, beyond = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    other = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if lacking or beyond or other:
        parts = (("lacks", lacking), ("has beside them", beyond), ("has in other sizes", other))
        said = "; ".join(f"{word} {', '.join(keys[:4])}" for word, keys in parts if keys)
        raise UnreadError(f"{path} are not the weights of {type(module).__name__}: it {said}")
    try:
        module.load_state_dict(dict(state))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise UnreadError(f"{path} cannot be taken: {str(error).splitlines()[0]}") from None
