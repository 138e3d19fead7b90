"""Python of the user's own, by the name it is given: `package.module:name` or `./file.py:name`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any


def user_attribute(target: str) -> Any:
    """What `target` names, with the working directory importable.

    Raises ImportError or AttributeError where there is no such thing, and what running it raises.
    """
    source, _, attribute = target.rpartition(":")
    if source.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(source).stem, source)
        if spec is None or spec.loader is None or not Path(source).exists():
            raise ImportError(f"there is no file {source}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        module = importlib.import_module(source)
    return getattr(module, attribute)
