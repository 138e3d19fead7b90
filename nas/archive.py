"""What a run found, on disk: an append-only journal of trials, measurements and notes.

Lines are written and fsynced before a call returns, so a crash can only tear the last; it is cut.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

from nas.files import sync
from nas.journal import JSON, ArchiveError, checksum, holds_event, read_line, write_line
from nas.trial import NOTES, Measurement, Trial, checked_event, plain

__all__ = ["Archive", "ArchiveError", "Measurement", "Trial", "being_written", "plain"]

FORMAT = 2  # 1 had checksums of each line alone
TRIES, LOOK_S = 3, 0.02  # times that a lock is asked for again, and seconds between
RESERVED = ("journal", "trial", "measure")  # kinds of event that a note cannot have


def being_written(folder: Path) -> bool:
    """Whether a process writes the journal of a run now."""
    descriptor = os.open(folder / "journal.jsonl", os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Archive:
    """The append-only journal of one run: `journal.jsonl`, one checksummed line an event.

    One process writes, from one thread; any number may read, each what was there when it opened.
    A process that is forked from the one that writes does not.
    """

    def __init__(self, path: Path, fd: int | None) -> None:
        """For `create` and `open`; `fd` is the locked journal, None for a reader."""
        self._path = path
        self._fd = fd
        self._size = 0  # bytes of whole events
        self._format, self._last = FORMAT, 0  # the checksum of the last line
        _open_archives().add(self)
        self._trials: dict[str, Trial] = {}
        self._numbers: set[int] = set()
        self._notes: list[dict[str, JSON]] = []

    @classmethod
    def create(cls, folder: Path) -> Archive:
        """A new journal in an existing folder, open for writing."""
        path = Path(folder) / "journal.jsonl"
        with _explained(path, "cannot be created"):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
            except FileExistsError:
                text = f"{path} already exists. Resume that run, or choose another folder."
                raise ArchiveError(text) from None
        archive = cls(path, fd)
        archive._lock()
        try:
            archive._append(_HEADER)
            with _explained(path.parent, "cannot be synced"):
                sync(path.parent)
        except BaseException:
            archive.close()
            path.unlink(missing_ok=True)
            raise
        return archive

    @classmethod
    def open(cls, folder: Path, *, write: bool = False) -> Archive:
        """The journal of a run; `write` takes its lock and cuts a torn last line.

        Raises ArchiveError if another process writes, the format is newer or a line is damaged.
        """
        path = Path(folder) / "journal.jsonl"
        if not path.is_file():
            raise ArchiveError(f"{path} does not exist. Is {folder} the folder of a run?")
        archive = cls(path, None)
        try:
            if write:
                with _explained(path, "cannot be opened for writing"):
                    archive._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
                archive._lock()
            archive._read()
            if write:
                archive._cut()
                if archive._size == 0:
                    archive._append(_HEADER)
        except BaseException:
            archive.close()
            raise
        return archive

    def record(self, trial: Trial) -> None:
        """Add a trial; on disk when this returns. Its number and id must be new."""
        self._add({"kind": "trial", **plain(trial)})

    def measure(self, measured: Mapping[str, Iterable[Measurement]]) -> None:
        """Append measurements to finished trials, by id; all on disk when this returns."""
        events: list[dict[str, JSON]] = []
        for id, some in measured.items():
            facts: list[JSON] = [plain(measurement) for measurement in some]
            events.append({"kind": "measure", "id": self.trial(id).id, "measurements": facts})
        self._add(*events)

    def note(self, kind: str, **facts: JSON) -> None:
        """Write down any other event, such as a bank's new version; on disk when this returns."""
        if kind in RESERVED:
            raise ArchiveError(f"a note cannot be of kind {kind!r}: the journal uses it itself")
        self._add({"kind": kind, **facts})

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials by number, with the measurements that were appended later."""
        return tuple(sorted(self._trials.values(), key=lambda trial: trial.number))

    def trial(self, id: str) -> Trial:
        """The trial of this id, or of the only id that begins so."""
        if id in self._trials:
            return self._trials[id]
        begun = [known for known in self._trials if id and known.startswith(id)]
        if len(begun) == 1:
            return self._trials[begun[0]]
        if begun:
            few = ", ".join(sorted(begun)[:5])
            raise ArchiveError(f"{len(begun)} trials begin with {id!r}: {few}. Give more of the id")
        near = ", ".join(difflib.get_close_matches(id, self._trials, n=3, cutoff=0.0))
        hint = f"Nearest: {near}" if near else "The archive holds no trials yet"
        raise ArchiveError(f"no trial {id!r} in {self._path}. {hint}")

    def notes(self, kind: str | None = None) -> tuple[dict[str, JSON], ...]:
        """Events that are not about one trial, oldest first; each a copy with its `kind`."""
        return tuple(dict(note) for note in self._notes if kind is None or note["kind"] == kind)

    def close(self) -> None:
        """Give the lock back. What was read stays readable."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, *events: dict[str, JSON]) -> None:
        lines, before, changes = list[bytes](), self._before(), list[Trial | dict[str, JSON]]()
        for event in events:
            lines.append(write_line(event, before))
            # memory holds what a reader sees
            changes.append(self._understood(read_line(lines[-1][:-1], before) or {}))
            before = checksum(lines[-1]) if self._format > 1 else 0
        self._append(b"".join(lines))
        for change in changes:
            self._fold(change)

    def _before(self) -> int:
        """The checksum that the next line goes on from; in the first format there was none."""
        return self._last if self._format > 1 else 0

    def _understood(self, event: dict[str, Any]) -> Trial | dict[str, JSON]:
        """The trial as it is after this event, or the note that the event is."""
        kind = event["kind"]
        if kind == "trial":
            trial: Trial = checked_event(event)
            if trial.id in self._trials:
                raise ArchiveError(f"trial {trial.id!r} is already in {self._path}")
            if trial.number in self._numbers:
                raise ArchiveError(f"trial number {trial.number} is already in {self._path}")
            return trial
        if kind in NOTES:
            checked = checked_event(event)
        if kind != "measure":
            return event
        if checked.id not in self._trials:
            raise ArchiveError(f"there is no trial {checked.id!r} to measure")
        trial = self._trials[checked.id]
        if trial.state == "failed":
            raise ArchiveError(f"trial {trial.id!r} has failed: it takes no measurements")
        return replace(trial, measurements=trial.measurements + tuple(checked.measurements))

    def _fold(self, change: Trial | dict[str, JSON]) -> None:
        if isinstance(change, Trial):
            self._trials[change.id] = change
            self._numbers.add(change.number)
        else:
            self._notes.append(change)

    def _lock(self) -> None:
        assert self._fd is not None
        with _explained(self._path, "cannot be locked"):
            for left in range(TRIES, -1, -1):  # whoever only looks holds it for a moment
                try:
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if left:
                        time.sleep(LOOK_S)
        text = f"{self._path} is being written by another process. Stop that one first."
        raise ArchiveError(text)

    def _append(self, line: bytes) -> None:
        if self._fd is None:
            raise ArchiveError(f"{self._path} is not open for writing")
        try:
            with _explained(self._path, "cannot be written; what was recorded before is safe"):
                written = os.write(self._fd, line)
                while written < len(line):  # a full disk takes a part, then says so
                    written += os.write(self._fd, line[written:])
                os.fsync(self._fd)
        except BaseException:  # an interrupt too must not leave a part
            self._cut()
            raise
        self._size += len(line)
        self._last = checksum(line[:-1].rpartition(b"\n")[2])

    def _cut(self) -> None:
        """Truncate to whole events; if even that fails, write no more: reopening cuts."""
        assert self._fd is not None
        try:
            if os.fstat(self._fd).st_size != self._size:
                os.ftruncate(self._fd, self._size)
                os.fsync(self._fd)
        except OSError:
            self.close()

    def _read(self) -> None:
        with _explained(self._path, "cannot be read"):
            data = self._path.read_bytes()
        if _HEADER.startswith(data):
            self._size = len(data) if data == _HEADER else 0  # killed while it was created
            self._last = checksum(_HEADER)
            return
        for number, line in enumerate(io.BytesIO(data), start=1):
            whole = line.endswith(b"\n")
            if not whole and number > 1 and not holds_event(line, self._before()):
                return  # torn: it was never reported as written
            event = read_line(line[:-1], self._before()) if whole else None
            if number == 1:
                self._format = _format(self._path, event)
            elif event is None:
                raise ArchiveError(f"{self._path}:{number}: {_DAMAGED}")
            else:
                self._replay(event, number)
            self._size += len(line)
            self._last = checksum(line)

    def _replay(self, event: dict[str, Any], number: int) -> None:
        try:
            self._fold(self._understood(event))
        except ArchiveError as error:
            raise ArchiveError(f"{self._path}:{number}: not a valid event: {error}") from None


@cache
def _open_archives() -> WeakSet[Archive]:
    """Those that are open. A forked child closes them: it holds no lock and writes nothing."""
    archives: WeakSet[Archive] = WeakSet()

    def forget() -> None:
        for archive in list(archives):
            archive.close()

    os.register_at_fork(after_in_child=forget)
    return archives


_DAMAGED = (
    "the line does not match its checksum: it, or one before it, was changed, damaged or removed "
    "after it was written. Restore the journal from a copy, or cut it before this line to go on "
    "without what follows."
)


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{path} {what}: {error.strerror}") from error


def _format(path: Path, event: dict[str, Any] | None) -> int:
    """The format that a journal's first line says; raises ArchiveError where it says none."""
    number = event.get("format") if event and event["kind"] == "journal" else None
    if type(number) is not int or number < 1:
        first = _HEADER.decode().rstrip()
        raise ArchiveError(f"{path}:1: not the journal of a run. One of today begins: {first}")
    if number > FORMAT:
        text = f"{path} is of format {number}, this version reads up to {FORMAT}"
        raise ArchiveError(f"{text}. Install a newer version of nas.")
    return number


_HEADER = write_line({"kind": "journal", "format": FORMAT})
