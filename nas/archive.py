"""What a run found, on disk: an append-only journal of trials, measurements and notes.

Lines are written and fsynced before a call returns, so a crash can only tear the last; it is cut.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fcntl
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nas.journal import JSON, ArchiveError, holds_event, read_line, write_line

FORMAT = 1
RESERVED = ("journal", "trial", "measure")  # kinds of event that a note cannot have


@dataclass(frozen=True)
class Measurement:
    """One number that was measured, with everything needed to say what it means."""

    name: str  # accuracy, nll, flops, params, latency_ms, size_mb …
    value: float
    unit: str = ""  # fraction, FLOPs, ms …
    task: str | None = None
    split: str | None = None  # valid, test
    evaluator: str = ""  # shared, standalone, retrained, arithmetic, torch-eager …
    bank_version: int | None = None
    fidelity: str = ""  # "supernet 600 steps", "20 epochs"
    seed: int | None = None
    device: str = ""  # of a latency: runtime, device, threads, batch and dtype in one text
    spread: float | None = None  # half the interquartile range, in the unit of the value


@dataclass(frozen=True)
class Trial:
    """One proposed derivation (or one a task) and all that was measured of it."""

    number: int  # order of proposal, from 0
    id: str  # short, unique in the run: "3f9ac21b"
    derivations: Mapping[str, str] = field(hash=False)  # {"": text}, or one text a task
    state: Literal["finished", "failed"]
    reason: str = ""  # why it failed
    measurements: tuple[Measurement, ...] = ()  # oldest first
    seconds: float = 0.0
    cpu_s: float = 0.0

    def value(self, column: str) -> float | None:
        """The newest measurement of a column (see `columns`), or None where there is none."""
        return self.columns().get(column)

    def columns(self) -> dict[str, float]:
        """The newest value of every column: `digits_accuracy` and, short, `accuracy`; `newest` has
        the rule."""
        return {column: one.value for column, one in self.newest().items()}

    def newest(self) -> dict[str, Measurement]:
        """The newest measurement of every column.

        A task's "-" becomes "_". The short form is there when exactly one task measured the name,
        and belongs to the measurement without a task if there is one. What was measured on the
        test split is `digits_test_accuracy`, `test_accuracy`; what a retrained network reached
        elsewhere is `digits_retrained_accuracy`: neither ever answers for the plain column.
        """
        long: dict[str, Measurement] = {}
        short: dict[str, dict[str, Measurement]] = {}
        for one in self.measurements:
            column = _plain_or_apart(one)
            if one.task is None:
                long[column] = one
            else:
                task = one.task.replace("-", "_")
                long[f"{task}_{column}"] = one
                short.setdefault(column, {})[one.task] = one
        alone = {name: one for name, by in short.items() if len(by) == 1 for one in by.values()}
        return alone | long


def _plain_or_apart(measurement: Measurement) -> str:
    if measurement.split == "test":
        return f"test_{measurement.name}"
    if measurement.evaluator == "retrained":
        return f"retrained_{measurement.name}"
    return measurement.name


class Archive:
    """The append-only journal of one run: `journal.jsonl`, one checksummed line an event.

    One process writes, from one thread; any number may read, each what was there when it opened.
    """

    def __init__(self, path: Path, fd: int | None) -> None:
        """For `create` and `open`; `fd` is the locked journal, None for a reader."""
        self._path = path
        self._fd = fd
        self._size = 0  # bytes of whole events
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
                _sync(path.parent)
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
                    archive._fd = os.open(path, os.O_RDWR | os.O_APPEND)
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

    def measure(self, found: Mapping[str, Iterable[Measurement]]) -> None:
        """Append measurements to finished trials, by id; all on disk when this returns."""
        events: list[dict[str, JSON]] = []
        for id, some in found.items():
            said: list[JSON] = [plain(one) for one in some]
            events.append({"kind": "measure", "id": self.trial(id).id, "measurements": said})
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
        lines = [write_line(event) for event in events]
        # memory holds what a reader sees
        changes = [self._understood(read_line(line[:-1]) or {}) for line in lines]
        self._append(b"".join(lines))
        for change in changes:
            self._fold(change)

    def _understood(self, event: dict[str, Any]) -> Trial | dict[str, JSON]:
        """The trial as it is after this event, or the note that the event is."""
        if event["kind"] == "trial":
            trial = _trial_of(event)
            if trial.id in self._trials:
                raise ArchiveError(f"trial {trial.id!r} is already in {self._path}")
            if trial.number in self._numbers:
                raise ArchiveError(f"trial number {trial.number} is already in {self._path}")
            return trial
        if event["kind"] != "measure":
            return event
        trial = self._trials[event["id"]]
        if trial.state != "finished":
            raise ArchiveError(f"trial {trial.id!r} has failed: it takes no measurements")
        more = tuple(Measurement(**one) for one in event["measurements"])
        return replace(trial, measurements=trial.measurements + more)

    def _fold(self, change: Trial | dict[str, JSON]) -> None:
        if isinstance(change, Trial):
            self._trials[change.id] = change
            self._numbers.add(change.number)
        else:
            self._notes.append(change)

    def _lock(self) -> None:
        assert self._fd is not None
        with _explained(self._path, "cannot be locked"):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = f"{self._path} is being written by another process. Stop that one first."
                raise ArchiveError(text) from None

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
            return
        for number, line in enumerate(io.BytesIO(data), start=1):
            event = read_line(line[:-1]) if line.endswith(b"\n") else None
            if number == 1:
                _check_header(self._path, event)
            elif event is not None:
                self._replay(event, number)
            elif self._size + len(line) == len(data) and not holds_event(line):
                return  # torn: it was never reported as written
            else:
                raise ArchiveError(f"{self._path}:{number}: {_DAMAGED}")
            self._size += len(line)

    def _replay(self, event: dict[str, Any], number: int) -> None:
        try:
            self._fold(self._understood(event))
        except (ArchiveError, KeyError, TypeError) as error:
            raise ArchiveError(f"{self._path}:{number}: not a valid event: {error}") from error


_DAMAGED = (
    "the line does not match its checksum: it was changed or damaged after it was written. "
    "Restore the journal from a copy, or delete this line to go on without its event."
)


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{path} {what}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    """Make the name of a new file durable too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


FRACTIONS = ("value", "spread", "seconds", "cpu_s")


def plain(record: Measurement | Trial) -> dict[str, JSON]:
    """The fields of a record that are not at their default."""
    said: dict[str, Any] = {}
    for one in dataclasses.fields(record):
        value = getattr(record, one.name)
        if value == one.default:
            continue
        if one.name == "measurements":
            value = [plain(measurement) for measurement in value]
        said[one.name] = float(value) if one.name in FRACTIONS else value
    return said


def _trial_of(event: Mapping[str, Any]) -> Trial:
    said = {name: value for name, value in event.items() if name != "kind"}
    said["measurements"] = tuple(Measurement(**one) for one in said.get("measurements", ()))
    if said.get("state") not in ("finished", "failed"):
        raise ArchiveError(f"a trial is finished or failed, not {said.get('state')!r}")
    return Trial(**said)


def _check_header(path: Path, event: dict[str, Any] | None) -> None:
    if event is None or event["kind"] != "journal" or not isinstance(event.get("format"), int):
        first = _HEADER.decode().rstrip()
        raise ArchiveError(f"{path}:1: not the journal of a run. One of today begins: {first}")
    if event["format"] > FORMAT:
        found = f"{path} is of format {event['format']}, this version reads up to {FORMAT}"
        raise ArchiveError(f"{found}. Install a newer version of nas.")


_HEADER = write_line({"kind": "journal", "format": FORMAT})
