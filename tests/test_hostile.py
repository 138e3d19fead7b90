"""A run or a network from somebody else: every verb may be tried on it, and none runs its code,
follows its links or dials its addresses."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import nas
from nas.archive import Archive, ArchiveError
from nas.cli import app
from nas.files import FolderError
from nas.grammar import GrammarError
from nas.search import load, search
from nas.task import Task, TaskError

SPACE = "net = conv({4, 8}, stride=2) batchnorm relu output(coarse)\n"
QUICK: dict[str, Any] = {
    "trials": 2,
    "generation": 2,
    "objectives": ("accuracy", "flops"),
    "supernet": {"steps": 2, "samples": 8},
}
VERBS = [
    ["resume", "RUN"],
    ["resume", "RUN", "--trials", "5"],
    ["front", "RUN"],
    ["report", "RUN"],
    ["steer", "RUN"],
    ["trust", "RUN", "--standalone", "8", "--epochs", "0.05"],
    ["extract", "RUN", "--to", "OUT"],
    ["retrain", "RUN", "--id", "ID", "--epochs", "0.05"],
    ["retrain", "NET", "--epochs", "0.05"],
    ["export", "NET", "--onnx"],
    ["export", "NET", "--torch"],
    ["predict", "NET", "x.npy"],
]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("honest")
    (folder / "s.grammar").write_text(SPACE)
    run = search(folder / "s.grammar", ["digits"], out=folder / "run", **QUICK)
    run.save(run.pick(), folder / "net")
    return folder / "run", folder / "net"


@pytest.fixture
def folders(honest: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Copies to be made hostile, beside code that leaves a mark where it runs."""
    os.chdir(tmp_path)
    for folder, name in zip(honest, ("run", "net"), strict=True):
        shutil.copytree(folder, tmp_path / name)
    mark = f"open({str(tmp_path / 'RAN')!r}, 'a').write('x')\n"
    code = "def f(*a, **k):\n    return a[0] if a else None\n"
    (tmp_path / "bad.py").write_text(mark + code)
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8)))
    yield tmp_path / "run", tmp_path / "net"
    assert not (tmp_path / "RAN").exists(), "code of theirs was run"


def try_every_verb(run: Path, net: Path) -> dict[str, str]:
    """What each verb said. None may end in anything but an answer or an error of one line."""
    try:
        id = load(run).trials[0].id
    except ValueError:
        id = "0"
    said = {}
    for verb in VERBS:
        out = run.parent / f"out{len(said)}"
        words = [
            str({"RUN": run, "NET": net, "OUT": out}.get(w, id if w == "ID" else w)) for w in verb
        ]
        result = CliRunner().invoke(app, words)
        shown = result.exception is None or isinstance(result.exception, SystemExit)
        assert shown, (words, result.exception)
        said[" ".join(verb)] = result.output
    return said


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def test_a_heads_term_names_no_code_and_no_file(folders: tuple[Path, Path]) -> None:
    run, net = folders
    facts = json.loads((net / "architecture.json").read_text())
    for more in (f" g\nuse {run.parent}/bad.py:f as g", f"\nimport {run.parent}/bad.grammar"):
        facts["tasks"][0]["head"]["term"] = "pool linear(classes)" + more
        (net / "architecture.json").write_text(json.dumps(facts))
        (run.parent / "bad.grammar").write_text("secret = of mine\n")
        said = try_every_verb(run, net)
        assert all("error:" in text for verb, text in said.items() if "NET" in verb)
        assert not any("secret" in text for text in said.values())


def test_a_task_of_theirs_runs_no_code(folders: tuple[Path, Path]) -> None:
    run, net = folders
    (run.parent / "own.toml").write_text(
        'name = "digits"\n[data]\nkind = "code"\nfunction = "./bad.py:f"\n'
    )
    head = 'name = "digits"\n[data]\nkind = "digits"\n[head]\nreads = ["coarse"]\nterm = "g"\n'
    (run.parent / "head.toml").write_text(head.replace('"g"', '"g\\nuse ./bad.py:f as g"'))
    for spec in ("./own.toml", f"digits={run.parent}/bad.py:f", "./head.toml"):
        edit(run / "run.toml", lambda text, spec=spec: text.replace('"digits",', f'"{spec}",', 1))
        facts = json.loads((net / "architecture.json").read_text())
        facts["tasks"][0]["spec"] = spec
        (net / "architecture.json").write_text(json.dumps(facts))
        try_every_verb(run, net)


def test_a_space_of_theirs_runs_no_code(folders: tuple[Path, Path]) -> None:
    run, net = folders
    use = f"use {run.parent}/bad.py:f as g\n"
    edit(run / "space.grammar", lambda text: use + text.replace("relu", "g"))
    facts = json.loads((net / "architecture.json").read_text())
    facts["grammar"]["text"] = use + facts["grammar"]["text"].replace("relu", "g")
    (net / "architecture.json").write_text(json.dumps(facts))
    said = try_every_verb(run, net)
    assert "--trust-code" in said["extract RUN --to OUT"]
    assert "--trust-code" in said["export NET --onnx"]


def test_a_strategy_and_a_model_py_of_theirs_are_not_run(folders: tuple[Path, Path]) -> None:
    run, net = folders
    (run / "bank.safetensors").unlink()
    edit(run / "run.toml", lambda text: text.replace('"spread"', f'"{run.parent}/bad.py:f"'))
    edit(net / "model.py", lambda text: text + (run.parent / "bad.py").read_text())
    said = try_every_verb(run, net)
    assert "--trust-code" in said["resume RUN"]
    assert "outputs equal" in said["export NET --onnx"]


def test_code_is_not_run_unasked_from_python_either(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    (tmp_path / "bad.py").write_text("open('RAN', 'w')\ndef f(x=0):\n    return x\n")
    (tmp_path / "bad.grammar").write_text("use ./bad.py:f as g\nnet = conv(4) g output(coarse)\n")
    for refused in (
        lambda: nas.Grammar.load("./bad.grammar"),
        lambda: nas.Grammar.parse((tmp_path / "bad.grammar").read_text()),
        lambda: Task.load("mine=./bad.py:f"),
        lambda: search("./bad.grammar", "digits", out="run"),
        lambda: search("mobile", "mine=./bad.py:f", out="run"),
        lambda: search("mobile", "digits", out="run", supernet={"strategy": "./bad.py:f"}),
    ):
        with pytest.raises((GrammarError, TaskError, ValueError), match="--trust-code"):
            refused()
    assert CliRunner().invoke(app, ["check", "./bad.grammar"]).exit_code == 1
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize(
    "name", ["report.html", "trust.json", "bank.safetensors", "nets", "weights", "x/y", ".part"]
)
def test_a_link_in_a_run_or_network_is_refused_and_what_it_names_stays(
    folders: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    run, net = folders
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine.safetensors").write_text("mine")
    for folder in (run, net):
        link = folder / name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(victim if "." not in name else victim / "mine.safetensors")
    said = try_every_verb(run, net)
    assert all("a link" in text for text in said.values())
    assert [p.name for p in victim.iterdir()] == ["mine.safetensors"]
    assert (victim / "mine.safetensors").read_text() == "mine"
    with pytest.raises(FolderError, match=r"is a link.*Remove it"):
        load(run)


def test_a_file_that_is_no_file_is_refused_and_does_not_hang(folders: tuple[Path, Path]) -> None:
    run, _ = folders
    os.mkfifo(run / "trust.json.part")
    with pytest.raises(FolderError, match="neither file nor folder"):
        load(run)


def test_an_id_that_is_a_path_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from dataclasses import replace

    run, _ = folders
    with Archive.open(run, write=True) as archive:
        for id in ("../../x", str(tmp_path / "abs"), "[/x]"):
            with pytest.raises(ArchiveError, match="id is"):
                archive.record(replace(archive.trials[0], id=id, number=7))
            assert "error:" in CliRunner().invoke(app, ["retrain", str(run), "--id", id]).output
    assert not (tmp_path / "abs").exists()


def test_an_address_in_run_toml_is_never_dialled(folders: tuple[Path, Path]) -> None:
    run, net = folders
    server = socket.create_server(("127.0.0.1", 0))
    dialled = []

    def listen() -> None:
        while True:
            try:
                dialled.append(server.accept()[1])
            except OSError:
                return

    threading.Thread(target=listen, daemon=True).start()
    port = server.getsockname()[1]
    edit(
        run / "run.toml",
        lambda text: text.replace(
            "[settings]",
            f'[settings]\non = "ray://127.0.0.1:{port}"\nworkers = 2\ndevice = "cuda:7"',
        ),
    )
    assert load(run).settings.on == "local"
    try_every_verb(run, net)
    server.close()
    assert not dialled


def test_a_csv_holds_no_formula(folders: tuple[Path, Path]) -> None:
    from nas.front import cell

    assert [cell(text) for text in ("=1+1", "+1", "-x", "@x", "\tx", "a", -1.5, None)] == [
        "'=1+1",
        "'+1",
        "'-x",
        "'@x",
        "'\tx",
        "a",
        -1.5,
        None,
    ]
    run, _ = folders
    assert all(line[0] not in "=+-@" for line in load(run).front().to_csv().splitlines())


def test_nothing_of_theirs_steers_a_terminal(folders: tuple[Path, Path]) -> None:
    from nas.archive import Measurement

    run, net = folders
    evil = "x\x1b]0;pwned\x07\x1b[2J\r\x9b"
    with Archive.open(run, write=True) as archive:
        id = archive.trials[0].id
        archive.measure({id: [Measurement(evil, 1.0), Measurement("accuracy", 1.0, task=evil)]})
    said = try_every_verb(run, net)
    for words in (["--csv"], ["--sort", "nope"], ["--objectives", f"{evil},flops"]):
        result = CliRunner().invoke(app, ["front", str(run), *words])
        said[" ".join(words)] = result.output
    assert not any(sign in text for text in said.values() for sign in "\x1b\x07\x9b\r")


def test_notes_and_trials_without_what_is_read_of_them_are_refused_in_words(
    folders: tuple[Path, Path],
) -> None:
    run, net = folders
    with Archive.open(run, write=True) as archive:
        for kind in ("begun", "passed", "ended", "bank", "training", "verdict", "scored"):
            with pytest.raises(ArchiveError, match=kind):
                archive.note(kind)
        from dataclasses import replace

        first = archive.trials[0]
        archive.record(replace(first, number=9, id="9", derivations={"x": first.text}))
    (run / "trust.json").write_text("{}")
    try_every_verb(run, net)
    result = CliRunner().invoke(app, ["extract", str(run), "--id", "9", "--to", str(run / "o")])
    assert "no derivation that serves all tasks" in " ".join(result.output.split())


def test_an_imported_file_is_a_grammar_or_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2:x:0:0\n")
    for name in ("secret", "../" + tmp_path.name + "/secret"):
        (tmp_path / "a.grammar").write_text(f"import ./{name}\nnet = conv(4)\n")
        with pytest.raises(GrammarError, match=r"ends \.grammar") as caught:
            nas.Grammar.load(tmp_path / "a.grammar")
        assert "hunter2" not in str(caught.value)


def test_an_extracted_module_can_be_pickled_and_copied(honest: tuple[Path, Path]) -> None:
    """In this process and in another."""
    import copy
    import io

    import torch

    run = load(honest[0])
    model = run.extract(run.pick())
    x = torch.randn(2, 1, 8, 8)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    code = (
        "import sys, io, torch; model = torch.load(io.BytesIO(sys.stdin.buffer.read()),"
        " weights_only=False); print(model(torch.ones(2, 1, 8, 8)).sum().item())"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], input=buffer.getvalue(), capture_output=True, check=True
    ).stdout
    assert float(said) == pytest.approx(model(torch.ones(2, 1, 8, 8)).sum().item(), rel=1e-5)
