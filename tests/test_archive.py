"""Claims about the archive: what was reported as recorded is never lost, damage is never hidden."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.archive import RESERVED, Archive, ArchiveError, Measurement, Trial
from nas.trial import NOTES

ROOT = Path(__file__).resolve().parents[1]

texts = st.text(max_size=6) | st.sampled_from(
    ["nan", "inf", "-inf", "=nan", "==inf", "\ud800", "\n"]
)
floats = st.floats()
measurements = st.builds(
    Measurement,
    name=texts,
    value=floats,
    unit=texts,
    task=st.none() | texts,
    split=st.sampled_from([None, "valid", "test"]),
    evaluator=texts,
    bank_version=st.none() | st.integers(0, 9),
    seed=st.none() | st.integers(),
    device=texts,
    spread=st.none() | floats,
)
facts = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
events = st.lists(
    st.one_of(
        st.tuples(
            st.just("record"),
            st.dictionaries(texts, texts, min_size=1, max_size=2),
            st.sampled_from(["finished", "failed"]),
            st.lists(measurements, max_size=2),
            st.floats(0, 1e6),
        ),
        st.tuples(st.just("measure"), st.lists(measurements, max_size=2)),
        st.tuples(st.just("note"), texts.filter(lambda kind: kind not in RESERVED), facts),
    ),
    max_size=8,
)


def plain(value: Any) -> str:
    """A text that is equal for equal records, NaN included."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(plain, value))}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    return json.dumps(value, sort_keys=True)


def trial(number: int, *measured: Measurement, state: Any = "finished") -> Trial:
    return Trial(number, f"{number:08x}", {"": f"conv({number})"}, state, measurements=measured)


def filled(folder: Path) -> bytes:
    """The bytes of a journal with every kind of event."""
    with Archive.create(folder) as archive:
        archive.note("phase", name="warmup")
        archive.record(trial(0, Measurement("accuracy", 0.5, task="digits", split="valid")))
        archive.record(dataclasses.replace(trial(1, state="failed"), reason="out of memory"))
        archive.measure({"00000000": [Measurement("latency_ms", math.nan)]})
        archive.note("bank", version=2, seconds=1.5)
    return (folder / "journal.jsonl").read_bytes()


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, **options)


def test_importing_is_light() -> None:
    code = """
        import sys, nas.archive, nas.front
        print([name for name in ("torch", "numpy", "pandas") if name in sys.modules])
    """
    assert python(code).communicate()[0].strip() == "[]"


@given(events)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_of_events_reads_back_equal(sequence: list[Any]) -> None:
    expected: list[Trial] = []
    notes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, Archive.create(Path(name)) as archive:
        for kind, *said in sequence:
            if kind == "record":
                texts, state, measured, seconds = said
                one = Trial(len(expected), f"{len(expected):x}", texts, state, "", tuple(measured))
                expected.append(dataclasses.replace(one, seconds=seconds))
                archive.record(expected[-1])
            elif kind == "measure" and expected and expected[-1].state == "finished":
                more = expected[-1].measurements + tuple(said[0])
                expected[-1] = dataclasses.replace(expected[-1], measurements=more)
                archive.measure({expected[-1].id: said[0]})
            elif kind == "note":
                notes.append({"kind": said[0], "fact": said[1]})
                archive.note(said[0], fact=said[1])
        for one_archive in (archive, Archive.open(Path(name))):
            assert plain(one_archive.trials) == plain(expected)
            assert plain(one_archive.notes()) == plain(notes)


def test_a_journal_cut_at_any_byte_keeps_its_whole_events(tmp_path: Path) -> None:
    data = filled(tmp_path)
    path = tmp_path / "journal.jsonl"
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = data[: data.rfind(b"\n", 0, cut) + 1]
        reader = Archive.open(tmp_path)
        assert path.read_bytes() == data[:cut], "a reader never changes the file"
        assert len(reader.trials) == whole.count(b'"kind":"trial"')
        assert len(reader.notes("bank")) == whole.count(b'"kind":"bank"')
        with Archive.open(tmp_path, write=True) as writer:
            assert path.read_bytes() == (whole or data[: data.index(b"\n") + 1])
            writer.note("resumed")
        assert Archive.open(tmp_path).trials == reader.trials
        assert len(Archive.open(tmp_path).notes("resumed")) == 1


@pytest.mark.parametrize("damage", [lambda byte: byte ^ 1, lambda byte: byte ^ 255, lambda _: 10])
def test_a_changed_byte_in_the_middle_is_refused_with_its_line(tmp_path: Path, damage: Any) -> None:
    data = filled(tmp_path)
    for at in range(data.rindex(b"\n", 0, -1) + 1):
        changed = bytes([*data[:at], damage(data[at]), *data[at + 1 :]])
        if changed == data:
            continue
        (tmp_path / "journal.jsonl").write_bytes(changed)
        for write in (False, True):
            with pytest.raises(ArchiveError, match=f"jsonl:{data[:at].count(10) + 1}: "):
                Archive.open(tmp_path, write=write)
        assert (tmp_path / "journal.jsonl").read_bytes() == changed


@pytest.mark.parametrize("lines", [5, 40])
def test_kill_9_loses_nothing_that_was_reported(tmp_path: Path, lines: int) -> None:
    code = """
        import sys
        from pathlib import Path
        from nas.archive import Archive, Trial
        archive = Archive.create(Path(sys.argv[1]))
        for number in range(10**9):
            archive.record(Trial(number, f"{number:x}", {"": "x" * 20_000}, "finished"))
            print(number, flush=True)
    """
    child = python(code, tmp_path)
    assert child.stdout
    reported = [int(child.stdout.readline()) for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    reported += [int(line) for line in child.communicate()[0].split("\n")[:-1] if line]
    with Archive.open(tmp_path, write=True) as archive:  # the dead writer's lock is gone
        assert [one.number for one in archive.trials][: len(reported)] == reported
        archive.record(trial(10**9))


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from nas.archive import Archive, ArchiveError
        try:
            Archive.open(Path(sys.argv[1]), write=True)
        except ArchiveError as error:
            print(error)
    """
    with Archive.create(tmp_path) as archive:
        archive.record(trial(0))
        assert "another process" in python(code, tmp_path).communicate()[0]
        with pytest.raises(ArchiveError, match="another process"):
            Archive.open(tmp_path, write=True)
        assert Archive.open(tmp_path).trials == archive.trials
        archive.record(trial(1))
    Archive.open(tmp_path, write=True).close()


def test_a_full_disk_is_an_error_and_the_journal_stays_readable(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from nas.archive import Archive, ArchiveError, Trial
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        with Archive.create(Path(sys.argv[1])) as archive:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
            for number in range(100):
                try:
                    archive.record(Trial(number, f"{number:x}", {"": "x" * 300}, "finished"))
                except ArchiveError as error:
                    print(error, len(archive.trials) == number, sep="|")
                    break
            size = (Path(sys.argv[1]) / "journal.jsonl").read_bytes()
            print(size.endswith(b"\\n"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            archive.record(Trial(number, f"{number:x}", {"": "again"}, "finished"))
            print(number)
    """
    message, whole, number = python(code, tmp_path).communicate()[0].splitlines()
    assert "journal.jsonl cannot be written" in message
    assert "File too large|True" in message
    assert whole == "True"
    trials = Archive.open(tmp_path).trials
    assert [one.number for one in trials] == list(range(int(number) + 1))
    assert trials[-1].derivations == {"": "again"}


def test_what_failed_to_sync_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    archive = Archive.create(tmp_path)
    archive.record(trial(0))
    with monkeypatch.context() as patch, pytest.raises(ArchiveError, match="Input/output error"):
        patch.setattr(os, "fsync", fail)
        archive.record(trial(1))
    assert [one.number for one in Archive.open(tmp_path).trials] == [0]


def test_an_interrupt_leaves_no_part_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([KeyboardInterrupt()])

    def interrupt(fd: int) -> None:
        for error in calls:
            raise error

    archive = Archive.create(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", interrupt)
        archive.record(trial(0))
    archive.record(trial(0))
    archive.close()
    assert Archive.open(tmp_path).trials == (trial(0),)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    body = b'{"format":3,"kind":"journal"}'
    (tmp_path / "journal.jsonl").write_bytes(b"%08x %s\n" % (zlib.crc32(body), body))
    with pytest.raises(ArchiveError, match="format 3, this version reads up to 2"):
        Archive.open(tmp_path)


@pytest.mark.parametrize("data", [b"hello", b"hello\n", b"\0" * 40, b"a,b\n1,2\n"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(data)
    with pytest.raises(ArchiveError, match="jsonl:1: not the journal of a run"):
        Archive.open(tmp_path, write=True)
    assert (tmp_path / "journal.jsonl").read_bytes() == data


def test_a_valid_line_that_makes_no_sense_is_refused_with_its_number(tmp_path: Path) -> None:
    filled(tmp_path)
    for body in (b'{"kind":"trial","number":7}', b'{"id":"0","kind":"measure"}'):
        with (tmp_path / "journal.jsonl").open("r+b") as file:
            kept = b"".join(file.readlines()[:6])
            file.seek(0)
            file.truncate()
            before = int(kept.splitlines()[-1][:8], 16)
            file.write(kept + b"%08x %s\n" % (zlib.crc32(body, before), body))
        with pytest.raises(ArchiveError, match="jsonl:7: not a valid event"):
            Archive.open(tmp_path)


def test_a_flipped_bit_anywhere_is_refused_or_in_a_line_that_was_torn(tmp_path: Path) -> None:
    """Also in the last record: what is whole is never taken for a torn write."""
    data = filled(tmp_path)
    whole = Archive.open(tmp_path)
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        (tmp_path / "journal.jsonl").write_bytes(bytes(flipped))
        with pytest.raises(ArchiveError):
            Archive.open(tmp_path)
    (tmp_path / "journal.jsonl").write_bytes(data)
    assert plain(Archive.open(tmp_path).trials) == plain(whole.trials)


def test_a_line_that_was_removed_or_moved_is_noticed(tmp_path: Path) -> None:
    lines = filled(tmp_path).splitlines(keepends=True)
    for i in range(1, len(lines) - 1):
        without = lines[:i] + lines[i + 1 :]
        swapped = [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]
        for changed in (without, swapped):
            (tmp_path / "journal.jsonl").write_bytes(b"".join(changed))
            with pytest.raises(ArchiveError, match=rf"jsonl:{i + 1}: the line does not match"):
                Archive.open(tmp_path)


def test_a_journal_of_the_first_format_is_read_and_carried_on(tmp_path: Path) -> None:
    bodies = [b'{"format":1,"kind":"journal"}', b'{"kind":"phase","name":"warmup"}']
    lines = b"".join(b"%08x %s\n" % (zlib.crc32(body), body) for body in bodies)
    (tmp_path / "journal.jsonl").write_bytes(lines)
    with Archive.open(tmp_path, write=True) as archive:
        archive.record(trial(0))
        archive.record(trial(1))
    assert [one.number for one in Archive.open(tmp_path).trials] == [0, 1]
    assert (tmp_path / "journal.jsonl").read_bytes().startswith(lines)


def test_a_forked_child_neither_writes_nor_holds_the_lock(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path)
    held, told = os.pipe()
    child = os.fork()
    if not child:
        try:
            archive.record(trial(0))
            os._exit(1)
        except ArchiveError:
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(2)
    assert os.read(held, 1) == b"x"
    archive.close()
    try:
        Archive.open(tmp_path, write=True).close()  # the child lives, and has no lock
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_an_id_is_hex_alone_since_folders_are_named_by_it(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path)
    for id in ("../../x", "/abs", "", "a b", "[/x]", "=1+1", "A", "0" * 65):
        with pytest.raises(ArchiveError, match="trial: id is"):
            archive.record(dataclasses.replace(trial(0), id=id))


wrong: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_record_of_any_types_is_read_or_refused(data: st.DataObject) -> None:
    """Valid checksums over wrong content: what somebody who writes a journal by hand may send."""
    kind = data.draw(st.sampled_from([*NOTES, "trial", "journal", "any"]))
    whole: dict[str, Any] = {
        "number": 0,
        "id": "0",
        "derivations": {"": "x"},
        "state": "finished",
        "measurements": [{"name": "nll", "value": 1.0}],
        "seconds": 1.0,
        "version": 1,
        "steps": 1,
        "reason": "",
        "evaluator": "shared",
        "warning": "",
        "derivation": "x",
        "seed": 0,
        "made": "",
        "cpu_s": 0.0,
    }
    schema = {"trial": Trial, **NOTES}.get(kind)
    known = {f.name for f in dataclasses.fields(schema)} if schema else set(whole)
    record = {"kind": kind, **{k: v for k, v in whole.items() if k in known}}
    for name in data.draw(st.lists(st.sampled_from(list(record)), max_size=3)):
        if data.draw(st.booleans()):
            record[name] = data.draw(wrong)
        else:
            record.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        Archive.create(Path(folder)).close()
        path = Path(folder) / "journal.jsonl"
        header = path.read_bytes()
        body = json.dumps(record).encode()
        line = b"%08x %s\n" % (zlib.crc32(body, int(header[:8], 16)), body)
        path.write_bytes(header + line)
        try:
            archive = Archive.open(Path(folder))
        except ArchiveError:
            return
        for one in archive.trials:
            one.columns()


def test_a_journal_is_created_once_and_in_a_folder_that_exists(tmp_path: Path) -> None:
    Archive.create(tmp_path).close()
    with pytest.raises(ArchiveError, match="already exists. Resume"):
        Archive.create(tmp_path)
    with pytest.raises(ArchiveError, match="No such file"):
        Archive.create(tmp_path / "none")
    with pytest.raises(ArchiveError, match="does not exist"):
        Archive.open(tmp_path / "none")


def test_what_cannot_be_recorded_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    archive = Archive.create(tmp_path)
    archive.record(trial(0))
    archive.record(trial(1, state="failed"))
    before = (tmp_path / "journal.jsonl").read_bytes()
    refused: dict[str, Callable[[], None]] = {
        "'0{8}' is already": lambda: archive.record(dataclasses.replace(trial(2), id="0" * 8)),
        "number 0 is already": lambda: archive.record(dataclasses.replace(trial(0), id="c")),
        "state is 'running'": lambda: archive.record(trial(2, state="running")),
        "has failed": lambda: archive.measure({"00000001": [Measurement("nll", 1.0)]}),
        "no trial 'x'": lambda: archive.measure({"x": [Measurement("nll", 1.0)]}),
        "is no JSON": lambda: archive.note("bank", version=object()),  # type: ignore[arg-type]
        "not all text": lambda: archive.note("bank", by={1: 2}),  # type: ignore[dict-item]
        "of kind 'trial'": lambda: archive.note("trial"),
    }
    for text, act in refused.items():
        with pytest.raises(ArchiveError, match=text):
            act()
    archive.close()
    with pytest.raises(ArchiveError, match="not open for writing"):
        archive.record(trial(2))
    with pytest.raises(ArchiveError, match="not open for writing"):
        Archive.open(tmp_path).record(trial(2))
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    assert len(archive.trials) == 2


def test_trials_are_ordered_by_number_and_found_by_a_unique_prefix(tmp_path: Path) -> None:
    with Archive.create(tmp_path) as archive:
        with pytest.raises(ArchiveError, match="no trials yet"):
            archive.trial("a")
        for number, id in ((2, "3f9ac21b"), (0, "3f00aa11"), (1, "77aa77aa")):
            archive.record(dataclasses.replace(trial(number), id=id))
    assert [one.number for one in archive.trials] == [0, 1, 2]
    assert archive.trial("3f9").number == 2
    with pytest.raises(ArchiveError, match="2 trials begin with '3f': 3f00aa11, 3f9ac21b"):
        archive.trial("3f")
    with pytest.raises(ArchiveError, match="Nearest: 77aa77aa"):
        archive.trial("77aa77ab")
    with pytest.raises(ArchiveError, match="no trial ''"):
        archive.trial("")


def test_a_column_is_the_newest_measurement_of_a_name() -> None:
    one = trial(
        0,
        Measurement("accuracy", 0.5, task="my-digits", split="valid", evaluator="shared"),
        Measurement("accuracy", 0.6, task="my-digits", split="valid", evaluator="standalone"),
        Measurement("flops", 2e6),
    )
    assert one.columns() == {"accuracy": 0.6, "my_digits_accuracy": 0.6, "flops": 2e6}
    assert one.value("accuracy") == 0.6
    assert one.value("nll") is None


def test_the_short_column_is_there_for_one_task_only() -> None:
    both = [Measurement("nll", value, task=task) for task, value in (("a", 1.0), ("b", 2.0))]
    assert trial(0, *both).columns() == {"a_nll": 1.0, "b_nll": 2.0}
    assert trial(0, *both, Measurement("nll", 3.0)).value("nll") == 3.0


def test_test_and_retrained_never_answer_for_the_plain_column() -> None:
    one = trial(
        0,
        Measurement("accuracy", 0.5, task="digits", split="valid", evaluator="shared"),
        Measurement("accuracy", 0.7, task="digits", split="test", evaluator="shared"),
        Measurement("accuracy", 0.9, task="digits", split="test", evaluator="retrained"),
        Measurement("accuracy", 0.8, task="digits", split="valid", evaluator="retrained"),
    )
    assert one.columns() == {
        "accuracy": 0.5,
        "digits_accuracy": 0.5,
        "test_accuracy": 0.9,
        "digits_test_accuracy": 0.9,
        "retrained_accuracy": 0.8,
        "digits_retrained_accuracy": 0.8,
    }


def test_records_hash_and_integers_become_floats(tmp_path: Path) -> None:
    with Archive.create(tmp_path) as archive:
        archive.record(trial(0, Measurement("params", 12)))
    assert archive.trials == Archive.open(tmp_path).trials == (trial(0, Measurement("params", 12)),)
    assert len({*archive.trials, *Archive.open(tmp_path).trials}) == 1
