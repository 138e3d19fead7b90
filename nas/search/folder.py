"""A run's folder: run.toml, which says what the run is, and the space's text."""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from nas.files import write
from nas.grammar import Grammar
from nas.search.columns import PRIMARY, TaskName
from nas.search.error import RunError
from nas.search.settings import Settings
from nas.task import Task, trivial_score

FORMAT = 1
BANK = "bank.safetensors"
CHECKPOINT, CLOCK = "training.safetensors", "training.clock"
DATA = "data"  # arrays that were given as tasks, there before anything else
EARLIER = "earlier.json"  # what is learned from earlier runs, there as early
PROFILES = "profiles"  # of devices, as they were when the run began, there as early
PACKAGES = ("nas-engine", "torch", "optuna", "ray", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Facts:
    """What run.toml holds."""

    format: int = 0
    grammar: str = ""  # the space's hash
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str | int] = field(default_factory=dict)
    tasks: tuple[TaskName, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def create(folder: Path, settings: Settings, grammar: Grammar, tasks: Sequence[Task] = ()) -> None:
    """Make a run folder: run.toml and space.grammar; the journal comes with the search.

    Raises RunError where the folder holds anything already.
    """
    vacant(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "space.grammar", grammar.text.encode())
    facts = Facts(
        FORMAT,
        grammar.hash,
        versions(),
        machine(),
        tuple(
            TaskName(t.name, t.metric, t.title, trivial_score(t, "valid")[t.metric], t.own_metric)
            for t in tasks
        ),
    )
    save_settings(folder, facts, settings)


def vacant(folder: Path) -> None:
    """Raise RunError where a run cannot be written to a folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RunError(f"{folder} is a file or a link: name a folder that does not exist yet")
    if folder.exists() and any(
        path.name not in (DATA, EARLIER, PROFILES) for path in folder.iterdir()
    ):
        known = (folder / "run.toml").exists()
        fix = f"nas resume {folder}" if known else "name another with --out"
        raise RunError(f"{folder} exists and is not empty: {fix}, or remove it first")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise RunError(f"{folder} cannot be written: {there} is read-only; name another with --out")


def keep_profiles(folder: Path, paths: Sequence[str]) -> None:
    """Copy profiles of devices into a run's folder, so that it may move and they may change."""
    for path in map(Path, paths):
        (folder / PROFILES).mkdir(parents=True, exist_ok=True)
        write(folder / PROFILES / path.name, path.read_bytes())


def kept_profiles(folder: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """The same as files of the folder, where they are there."""
    kept = [folder / PROFILES / Path(path).name for path in paths]
    return tuple(str(k) if k.is_file() else path for k, path in zip(kept, paths, strict=True))


def save_settings(folder: Path, facts: Facts, settings: Settings) -> None:
    """Write run.toml."""
    import tomli_w

    table = {**asdict(facts), "settings": settings.written()}
    table["tasks"] = [
        {k: v for k, v in task._asdict().items() if v not in (None, "")} for task in facts.tasks
    ]
    write(folder / "run.toml", tomli_w.dumps(table).encode())


def read_facts(folder: Path) -> Facts:
    """What a folder's run.toml says; raises RunError where it is no run, or of a newer version."""
    from pydantic import TypeAdapter, ValidationError

    path = folder / "run.toml"
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} is no run: it has no run.toml; nas search makes one") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    try:
        known = TypeAdapter(Facts).validate_python(facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"{path}: {place} is {first['input']!r:.60}: {first['msg']}") from None
    unknown = [task.metric for task in known.tasks if task.metric not in PRIMARY]
    if unknown and known.format <= FORMAT:
        raise RunError(
            f"{path}: {unknown[0]!r:.60} is no task's own metric: they are {', '.join(PRIMARY)}"
        )
    if known.format > FORMAT:
        raise RunError(
            f"{folder} was written by a newer nas (run format {known.format}, this one reads "
            f"{FORMAT}): pip install -U nas-engine"
        )
    return known


def versions() -> dict[str, str]:
    known = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            known[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return known


def machine() -> dict[str, Any]:
    """What the run was made on, without names of hosts or users."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 1,
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
