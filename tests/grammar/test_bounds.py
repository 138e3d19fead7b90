"""Any text is read, checked and drawn from, or refused with its place, in a few seconds."""

from __future__ import annotations

import random
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nas.grammar import Grammar, GrammarError, sample
from nas.grammar.bounds import TOKEN, TOKENS, WORK
from nas.grammar.error import TooLarge
from nas.grammar.walk import memory_of

HERE = Path(__file__).parent
FINE = {
    "repeat 256",
    "eleven doublings",
    "chain of 150",
    "rules in use",
    "elastic 6000",
    "sites",
    "nested brackets",
    "distinct shapes",
    "channels squared",
    "to itself",
    "to each other",
    "recursive chain",
}


def a_gigabyte() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (1_100_000_000, 1_100_000_000))
    resource.setrlimit(resource.RLIMIT_CPU, (200, 200))


def test_texts_that_explode_end_in_seconds_with_an_answer_or_a_place(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, str(HERE / "explosions.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=a_gigabyte,
        timeout=400,
        check=True,
    ).stdout
    rows = [line.split("\t") for line in said.splitlines()]
    assert len(rows) > 40
    for name, seconds, answer in rows:
        assert float(seconds) < 20, (name, seconds)  # 9 where nothing else runs
        if name in FINE:
            assert re.match(r"\d|about|endlessly", answer), (name, answer)
        else:
            assert answer.startswith("refused: "), (name, answer)
            assert len(answer) < 200


def test_what_ships_is_far_below_the_bounds() -> None:
    from nas.grammar import shipped_spaces

    for name, path in shipped_spaces().items():
        assert len(TOKEN.findall(path.read_text())) < TOKENS / 10
        grammar = Grammar.load(name)
        for seed in range(20):
            sample(grammar, random.Random(seed), input=(3, 32, 32))
            assert memory_of(grammar).machine.spent < WORK / 10


def test_a_grammar_that_was_too_large_for_a_draw_draws_the_same_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was half worked out is forgotten."""
    grammar = Grammar.load("einspace")
    wanted = [sample(grammar, random.Random(seed), input=(3, 8, 8)).labels for seed in range(9)]
    grammar.memory.clear()
    for most in (40, 90, 200, 500):
        with monkeypatch.context() as patch, pytest.raises(TooLarge, match="took more than"):
            patch.setattr("nas.grammar.machine.WORK", most)
            for seed in range(100):
                sample(grammar, random.Random(seed), input=(3, 8, 8))
    found = [sample(grammar, random.Random(seed), input=(3, 8, 8)).labels for seed in range(9)]
    assert found == wanted


def test_imports_are_files_read_once_and_not_without_end(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "fifo.grammar")
    (tmp_path / "a.grammar").write_text("import ./fifo.grammar\nnet = relu\n")
    with pytest.raises(GrammarError, match="is no file"):
        Grammar.load(tmp_path / "a.grammar")
    for i in range(30):
        both = f"import ./d{i + 1}.grammar\n" * 2
        (tmp_path / f"d{i}.grammar").write_text(f"{both if i < 12 else ''}r{i} = relu\n")
    (tmp_path / "b.grammar").write_text("import ./d0.grammar\n" * 500 + "net = r3\n")
    assert Grammar.load(tmp_path / "b.grammar").finite
    for i in range(30):
        (tmp_path / f"e{i}.grammar").write_text(f"import ./e{i + 1}.grammar\nr = relu\n")
    with pytest.raises(GrammarError, match="files deep"):
        Grammar.load(tmp_path / "e0.grammar")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    text = "net = conv(8) relu output(coarse)\n"
    (tmp_path / "bom.grammar").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert Grammar.load(tmp_path / "bom.grammar").hash == Grammar.parse(text).hash
    assert Grammar.parse("\ufeff" + text).hash == Grammar.parse(text).hash
