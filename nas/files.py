"""Files of runs and networks: written whole or not at all, swept after a crash, and never links.

A folder may come from somebody else. Through a link in it a file elsewhere would be read,
overwritten or deleted, so a folder that holds one is refused before anything is done with it.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

HOST = f"{crc32(platform.node().encode()):08x}"
PART = re.compile(rf"\..+\.{HOST}-(\d+)-[0-9a-f]{{16}}\.part")  # being written, by which process


class FolderError(ValueError):
    """A folder that cannot be trusted or written to; the message names the path and the fix."""


def write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash.

    Raises OSError with the file's path.
    """
    with replacing(path) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path`, which takes its place at the end; until then that stays as it is.

    The new file's name cannot be known beforehand, and a link at `path` is replaced, not followed.
    """
    part = _part(path)
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        sync(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which takes its name at the end; on an error nothing is left.

    Raises FolderError where `path` is a file or holds something.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise FolderError(f"{path} is a file or a link: give a folder that does not exist yet")
    if path.exists() and any(path.iterdir()):
        raise FolderError(f"{path} already holds files: give another folder, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    part = _part(path)
    part.mkdir()
    try:
        yield part
        os.replace(part, path)
        sync(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{secrets.token_hex(8)}.part")


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that are no more left half written in a folder."""
    for entry in os.scandir(folder):
        match = PART.fullmatch(entry.name)
        if not match or alive(int(match[1])):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                os.unlink(entry.path)


def alive(pid: int) -> bool:
    """Whether a process of this machine runs; one of somebody else's does too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def refuse_links(folder: Path) -> None:
    """Raise FolderError where a folder holds, at any depth, a link or what is no file or folder."""
    waiting = [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except FileNotFoundError:  # a file that was being written has its name by now
                continue
            if stat.S_ISDIR(mode):
                waiting.append(Path(entry.path))
            elif not stat.S_ISREG(mode):
                what = "a link" if stat.S_ISLNK(mode) else "neither file nor folder"
                raise FolderError(
                    f"{entry.path} is {what}, and a run or a network holds files alone: what it "
                    "leads to could be read or overwritten. Remove it, or copy there what it names"
                )


def metadata(path: Path) -> dict[str, str]:
    """What a file of safetensors says of itself; raises ValueError where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def sync(folder: Path) -> None:
    """Make the names of new files in a folder durable too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
