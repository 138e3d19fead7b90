"""Claims about stores: samples are decoded once, whole or not at all, by one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.task import Task, TaskError, store
from nas.task.source import pictures
from nas.task.store import clear, new_array, opened, stored, stores

RNG = np.random.default_rng(5)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures of two classes and of unequal sizes."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = RNG.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.jpg")
    return tmp_path / "photos"


def count_decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    decoded: list[Path] = []
    usual = pictures.decode

    def counted(file: Path, picture: object) -> object:
        decoded.append(file)
        return usual(file, picture)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "decode", counted)
    return decoded


def test_pictures_are_decoded_once_and_again_when_they_have_changed(
    cached: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodings(monkeypatch)
    first = Task.load(f"mine={photos}").splits()
    assert len(decoded) == 12
    again = Task.load(f"mine={photos}").splits()
    assert len(decoded) == 12 and first.content == again.content
    assert Task.load(f"mine={photos}?size=10").input == (3, 10, 10)
    assert len(decoded) == 24 and len(stores()) == 2
    Image.new("RGB", (30, 20)).save(photos / "cat" / "0.jpg")
    os.utime(photos / "cat" / "0.jpg", (1, 1))
    assert Task.load(f"mine={photos}").splits().content != first.content
    assert len(decoded) == 36


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "manifest"])
def test_a_damaged_store_is_made_again(
    cached: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    first = Task.load(f"mine={photos}").splits().content
    (folder,) = (path for path in cached.iterdir() if path.is_dir())
    file = folder / "x.npy"
    if damage == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "changed":
        with file.open("r+b") as data:
            data.seek(file.stat().st_size - 5)
            data.write(b"\xff\x00\xff")
    elif damage == "gone":
        file.unlink()
    else:
        (folder / "store.json").write_text("{")
    decoded = count_decodings(monkeypatch)
    assert Task.load(f"mine={photos}").splits().content == first
    assert len(decoded) == 12


def test_an_error_while_a_store_is_written_leaves_none(cached: Path) -> None:
    def fails(folder: Path) -> dict[str, object]:
        new_array(folder, "x", "uint8", (4, 4))
        raise OSError(28, "No space left on device")

    with pytest.raises(TaskError, match="here: its samples cannot be kept in .*No space left"):
        stored("aa", "here", fails)  # type: ignore[arg-type]
    assert stores() == [] and opened(cached / "aa") is None
    assert not [path for path in cached.iterdir() if path.is_dir()]


def test_a_store_for_which_there_is_no_room_is_refused_before_it_is_begun(
    cached: Path, tmp_path: Path
) -> None:
    def large(folder: Path) -> dict[str, object]:
        new_array(folder, "x", "uint8", (10**6, 10**6, 10**3))
        return {}

    with pytest.raises(TaskError, match="1000000.0 GB are needed, and .* GB are free.*NAS_CACHE"):
        stored("aa", "here", large)  # type: ignore[arg-type]


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from nas.task.store import new_array, stored

def make(folder):
    with open(sys.argv[1], "a") as file:
        file.write("made\\n")
    x = new_array(folder, "x", "uint8", (100,))
    time.sleep(float(sys.argv[2]))
    x[:] = 7
    return {"n": 100}

print(stored("aa", "here", make).array("x").sum(), flush=True)
"""


def begun(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW.replace("\\\\", "\\"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_a_store_once(cached: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pair = [begun(str(log), "1.5") for _ in range(2)]
    sums = [process.communicate(timeout=60)[0].strip() for process in pair]
    assert sums == ["700", "700"]
    assert log.read_text().count("made") == 1


def test_a_process_that_is_killed_leaves_no_store_and_no_lock(cached: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = begun(str(log), "60")
    deadline = time.monotonic() + 30
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert opened(cached / "aa") is None and stores() == []
    assert begun(str(log), "0").communicate(timeout=60)[0].strip() == "700"
    parts = [path.name for path in cached.iterdir() if path.name.endswith(".part")]
    assert parts == []  # what the other left is swept


def test_stores_are_listed_and_cleared_by_their_beginning(cached: Path) -> None:
    for key in ("aa", "ab", "b"):
        stored(key, f"source {key}", lambda folder: {"n": 0})
    assert {(listed.key, listed.source) for listed in stores()} == {
        (key, f"source {key}") for key in ("aa", "ab", "b")
    }
    assert [listed.key for listed in clear("b")] == ["b"]
    with pytest.raises(TaskError, match="there is no store 'c' in"):
        clear("c")
    assert len(clear()) == 2 and stores() == []


def test_what_was_worked_out_is_remembered_with_the_store(cached: Path) -> None:
    kept = stored("aa", "here", lambda folder: {})
    assert kept.remembered("sum", lambda: 3) == 3
    again = opened(cached / "aa")
    assert again is not None and again.remembered("sum", lambda: 4) == 3
    (cached / "aa" / "memory.json").write_text("no json")
    assert again.remembered("sum", lambda: 4) == 4


def test_a_store_of_a_newer_format_is_listed_and_not_opened(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FORMAT", 99)
    stored("aa", "here", lambda folder: {})
    monkeypatch.undo()
    assert opened(cached / "aa") is None
    assert [listed.key for listed in stores(cached)] == ["aa"]
