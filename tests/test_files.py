"""Claims about writing: whole or not at all, beside and then in place, and swept after a crash."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas.files import FolderError, new_folder, refuse_links, replacing, sweep, write


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space left.*/a'"):
        patch.setattr(os, "fsync", full)
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_is_replaced_and_what_it_names_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "a").symlink_to(tmp_path / "mine")
    write(tmp_path / "a", b"new")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (tmp_path / "a").is_symlink()


def test_a_folder_is_there_whole_or_not(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "net") as part:
        (part / "a").write_text("half")
        raise ZeroDivisionError
    assert not os.listdir(tmp_path)
    with new_folder(tmp_path / "net") as part:
        (part / "a").write_text("whole")
    assert os.listdir(tmp_path / "net") == ["a"]
    with pytest.raises(FolderError, match="already holds files"), new_folder(tmp_path / "net"):
        pass


def test_what_a_killed_process_left_half_written_is_swept_and_a_living_ones_is_not(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from nas.files import new_folder, replacing\n"
        "with new_folder(Path(sys.argv[1], 'net')) as a, replacing(Path(sys.argv[1], 'f')) as b:\n"
        "    (a / 'x').write_text('half'); print('in', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    sweep(tmp_path)
    assert not os.listdir(tmp_path)


def test_a_link_at_any_depth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("")
    refuse_links(tmp_path)
    (tmp_path / "a" / "b" / "link").symlink_to("file")
    with pytest.raises(FolderError, match=r"a/b/link is a link"):
        refuse_links(tmp_path)
