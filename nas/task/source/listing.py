"""The files of a folder by split and class, what of them cannot be read, and how far reading is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from nas.events import Progress
from nas.progress import live
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import SPLITS
from nas.task.store import FORMAT

T = TypeVar("T")
HIDDEN = (".", "__MACOSX")
SHOWN = 5  # files that an error names
MANY = 1000  # files whose reading is shown


@dataclass(frozen=True)
class Listing:
    """The files of a folder: of each its split, and its class or its mask."""

    path: Path
    files: tuple[Path, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...] = ()
    masks: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def without(self, left_out: set[int]) -> Listing:
        """The same but for some files."""

        def rest(values: Sequence[T]) -> tuple[T, ...]:
            return tuple(value for i, value in enumerate(values) if i not in left_out)

        files, splits = rest(self.files), rest(self.splits)
        classes, masks = rest(self.classes), rest(self.masks)
        return Listing(self.path, files, splits, classes, masks, self.notes)


def split_folders(path: Path) -> dict[str, Path]:
    """The folders of train, valid and test in one; where there is none for train, it is that."""
    within = {s: path / n for s, names in SPLITS.items() for n in names if (path / n).is_dir()}
    return within if "train" in within else {"train": path}


def key_of(path: Path, files: Sequence[Path], *facts: Any) -> str:
    """A digest of what is read and how: folder, names, sizes and times of files."""
    start = len(str(path)) + 1
    names = [str(file)[start:] for file in files]
    stats = [(s.st_size, s.st_mtime_ns) for file in files if (s := os.stat(file))]
    text = json.dumps([FORMAT, f"{path.resolve()}", names, stats, [asdict(f) for f in facts]])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def shown_while(phase: str, results: Iterator[T], n: int) -> Iterator[T]:
    """Results, with progress where there are many to come."""
    if n < MANY:
        yield from results
        return
    with live() as show:
        for done, result in enumerate(results, start=1):
            show(Progress(phase, done, n))
            yield result


def left_out(
    listing: Listing, broken: Mapping[int, str], options: Options, what: str = "pictures"
) -> list[str]:
    """A note on files that cannot be read; raises TaskError unless they are to be left out."""
    if not broken:
        return []
    if not options.skip_corrupt:
        raise TaskError(
            f"{named(listing.files, broken, what)}: remove or replace them, or leave them out: "
            "?skip_corrupt=true, or skip_corrupt = true under [data]"
        )
    names = ", ".join(listing.files[i].name for i in list(broken)[:SHOWN])
    return [f"{len(broken)} of {len(listing.files)} files are no {what} and left out: {names}"]


def named(files: Sequence[Path], broken: Mapping[int, str], what: str) -> str:
    """Some files and why they cannot be read, in words."""
    reasons = "; ".join(f"{files[i]} ({reason})" for i, reason in list(broken.items())[:SHOWN])
    more = "; …" if len(broken) > SHOWN else ""
    return f"{len(broken)} of {len(files)} are no readable {what}: {reasons}{more}"


def by_class(
    path: Path, within: Mapping[str, Path], suffixes: Collection[str], what: str = "picture"
) -> Listing:
    """Every file of some suffixes below a sub-folder, of the class of the sub-folder's name."""
    files, splits, classes, notes = list[Path](), list[str](), list[str](), list[str]()
    for split, folder in within.items():
        for of in sorted(
            f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(HIDDEN)
        ):
            own = files_below(of, suffixes)
            if not own:
                notes.append(f"{of.name} holds no {what} and is no class")
            if deeper := sum(os.path.dirname(file) != str(of) for file in own):
                notes.append(f"{deeper} {what}s in folders below {of.name} are of that class")
            files += own
            splits += [split] * len(own)
            classes += [of.name] * len(own)
    if "train" not in splits:
        raise TaskError(
            f"{path}: holds no idx files, no .npy files and no sub-folder of {what}s; "
            f"put each class's {what}s into a sub-folder of the class's name"
        )
    return Listing(path, tuple(files), tuple(splits), tuple(classes), notes=tuple(notes))


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files of some suffixes in a folder and below it, but for hidden ones."""
    files = list[Path]()
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(HIDDEN)]
    for entry in sorted(shown, key=lambda entry: entry.name):
        if entry.is_dir():
            files += files_below(Path(entry.path), suffixes)
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            files.append(Path(entry.path))
    return files
