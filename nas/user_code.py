"""Python of the user's own, by the name it is given: `package.module:name` or `./file.py:name`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_LOADED: dict[tuple[Path, str], ModuleType] = {}  # by file and content


def user_attribute(target: str) -> Any:
    """What `target` names, with the working directory importable.

    A file is run once as long as its content stays, as a module that Python knows and whose
    folder can be imported from. Raises ImportError or AttributeError where there is no such thing,
    and what running it raises.
    """
    source, _, attribute = target.rpartition(":")
    if source.endswith(".py"):
        return getattr(_module(Path(source)), attribute)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(source), attribute)


def user_network(target: str) -> nn.Module:
    """The torch module that `target` names, or that its function gives without arguments, which is
    run. Raises ValueError where that is none."""
    from torch import nn

    try:
        given = user_attribute(target)
        network = given if isinstance(given, nn.Module) else given()
    except Exception as error:  # of the user's own code, whatever it raises
        raise ValueError(
            f"{target} gives no module: {type(error).__name__}: {error}; name a function without "
            "arguments, a module's class or a module, as ./file.py:name"
        ) from None
    if not isinstance(network, nn.Module):
        raise ValueError(f"{target} gives a {type(network).__name__}, not a torch.nn.Module")
    return network


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise ImportError(f"there is no file {path}")
    path, text = path.resolve(), path.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    if (path, digest) in _LOADED:
        return _LOADED[path, digest]
    module = ModuleType(f"{path.stem}_{digest[:12]}")
    module.__file__ = str(path)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[module.__name__] = module  # dataclasses and pickle look it up there
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    _LOADED[path, digest] = module
    return module


def file_digest(target: str) -> str:
    """The sha256 of the file that a target names, "" where it names none. Nothing is run."""
    source = Path(target.rpartition(":")[0])
    known = source.suffix == ".py" and source.is_file()
    return hashlib.sha256(source.read_bytes()).hexdigest() if known else ""


def content_digest(target: str) -> str:
    """What tells a target from the same target edited: the digest of its file, or of the text of
    what it names, which is loaded for that; "" where neither can be had."""
    if digest := file_digest(target):
        return digest
    try:
        return hashlib.sha256(inspect.getsource(user_attribute(target)).encode()).hexdigest()
    except Exception:  # the user's code, when it is loaded, may raise anything; its use says what
        return ""
