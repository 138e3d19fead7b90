"""Samples that are decoded once: arrays in a folder of the user's cache, mapped when they are read.

A store is there whole or not at all, and is made by one process at a time. One that is not as it
was written is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nas.files import new_folder, write
from nas.journal import JSON
from nas.lazy import np
from nas.task.error import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

T = TypeVar("T")
FORMAT = 1
MANIFEST, MEMORY = "store.json", "memory.json"
PAGES, PAGE = 64, 4096  # of each file, spread over it, by which damage is noticed
SPARE = 1.05  # of what a store takes, that must be free


@dataclass(frozen=True)
class Kept:
    """A file as it was written."""

    size: int  # bytes
    digest: str  # of pages all over it


@dataclass(frozen=True)
class Manifest:
    """What a store says of itself."""

    format: int
    source: str  # where the samples come from, for a person
    files: dict[str, Kept]
    facts: dict[str, Any]


def cache_folder() -> Path:
    """Where stores are: NAS_CACHE, by default the platform's folder for caches."""
    from platformdirs import user_cache_dir

    named = os.environ.get("NAS_CACHE")
    return Path(named).expanduser().absolute() if named else Path(user_cache_dir("nas"))


class Store:
    """A store that is whole."""

    def __init__(self, folder: Path, manifest: Manifest):
        self.folder, self.source, self.facts = folder, manifest.source, manifest.facts

    def array(self, name: str) -> Array:
        """One of its arrays, mapped from its file and not to be written to."""
        array: Array = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array

    def remembered(self, key: str, work_out: Callable[[], JSON]) -> Any:
        """What was once worked out of its arrays, and is kept beside them."""
        path = self.folder / MEMORY
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        if not isinstance(known, dict) or key not in known:
            known = {**known, key: work_out()} if isinstance(known, dict) else {key: work_out()}
            with suppress(OSError):  # of a cache that is shared and not to be written to
                write(path, json.dumps(known).encode())
        return known[key]


def stored(
    key: str, source: str, make: Callable[[Path], Mapping[str, JSON]], *, folder: Path | None = None
) -> Store:
    """The store of a key; where there is none, or it is damaged, `make` writes its arrays into a
    folder and says facts of them. Another process that makes it is waited for.

    Raises TaskError where it cannot be written, for want of room for one.
    """
    from filelock import FileLock

    cached = folder or cache_folder()
    if store := opened(cached / key):
        return store
    try:
        cached.mkdir(parents=True, exist_ok=True)
        with FileLock(cached / f".{key}.lock"):
            if store := opened(cached / key):  # another process was faster
                return store
            shutil.rmtree(cached / key, ignore_errors=True)
            with new_folder(cached / key) as part:
                facts = make(part)
                files = {path.name: _kept(path) for path in sorted(part.iterdir())}
                manifest = Manifest(FORMAT, source, files, dict(facts))
                write(part / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
    except OSError as error:
        raise TaskError(
            f"{source}: its samples cannot be kept in {cached}: {error.strerror or error}; make "
            "room there, or name another folder as NAS_CACHE"
        ) from None
    store = opened(cached / key)
    if store is None:
        raise TaskError(f"{cached / key}: is damaged as soon as it is written: is the disk whole?")
    return store


def opened(folder: Path) -> Store | None:
    """The store in a folder; None where there is none that is whole and of this format."""
    manifest = manifest_of(folder)
    if manifest is None or manifest.format != FORMAT:
        return None
    for name, kept in manifest.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or _kept(path) != kept:
            return None
    with suppress(OSError):
        os.utime(folder / MANIFEST)  # when it was used last
    return Store(folder, manifest)


def manifest_of(folder: Path) -> Manifest | None:
    """What the store in a folder says of itself; None where it says nothing."""
    try:
        manifest: Manifest = _schema().validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return manifest


@cache
def _schema() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def _kept(path: Path) -> Kept:
    """Size and digest of a file; of a large one some pages, since all of it takes seconds."""
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for number in range(PAGES):
            file.seek(number * max(0, size - PAGE) // (PAGES - 1))
            digest.update(file.read(PAGE))
    return Kept(size, digest.hexdigest())


def new_array(folder: Path, name: str, dtype: str, shape: tuple[int, ...]) -> Array:
    """An array to be filled, mapped to a file of a store. Raises OSError where there is no room."""
    path = folder / f"{name}.npy"
    size = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(folder).free
    if size * SPARE > free:
        raise OSError(28, f"{size / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free")
    array: Array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # a page without room on the disk would kill the process
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


@dataclass(frozen=True)
class Listed:
    """A store of the cache as it is listed."""

    key: str
    source: str
    size_mb: float
    used: float  # seconds since the epoch, when it was opened last


def stores(folder: Path | None = None) -> list[Listed]:
    """The stores of the cache, the one used last first; those of other versions of nas too."""
    cached, listed = folder or cache_folder(), list[Listed]()
    for path in cached.iterdir() if cached.is_dir() else ():
        manifest = manifest_of(path)
        if manifest is not None:
            size = sum(f.stat().st_size for f in path.iterdir() if f.is_file())
            used = (path / MANIFEST).stat().st_mtime
            listed.append(Listed(path.name, manifest.source, size / 1e6, used))
    return sorted(listed, key=lambda store: -store.used)


def clear(key: str = "", folder: Path | None = None) -> list[Listed]:
    """Remove a store by its key or the key's beginning, or all of them; raises TaskError for a key
    that none has. Whoever has one mapped still reads it."""
    cached = folder or cache_folder()
    gone = [store for store in stores(cached) if store.key.startswith(key)]
    if key and not gone:
        raise TaskError(f"there is no store {key!r} in {cached}: nas data lists them")
    for store in gone:
        shutil.rmtree(cached / store.key)
    return gone
