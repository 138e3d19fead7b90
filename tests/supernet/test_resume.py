"""Training of shared weights that is killed ends in the same weights as training that is not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nas.archive import Archive
from nas.measure.latency import threads
from nas.search import RunError, load, resume, search
from nas.search.folder import create
from nas.supernet import BankError
from nas.supernet.bank_file import facts_of, save_bank

FINITE = """
net = conv({4, 8}, stride=2) batchnorm relu (block | identity){2} output(coarse)
block = conv(8, kernel={1, 3}) batchnorm relu
"""
OPEN = """
share operator
net = conv(4) m output(coarse)
m = part | part m
part = conv({4, 8}, kernel={1, 3}) | relu | batchnorm | clone(2) [m * 2] concat(1)
"""
LEARNS = """
from nas.supernet import Strategy
from nas.train import Turn

class Learns(Strategy):
    '''The smallest where the last loss was above the mean of all, else one at random.'''

    def __init__(self, space, steps):
        self.space, self.total, self.turns, self.last = space, 0.0, 0, 0.0

    def __call__(self, step, rng):
        above = self.turns and self.last > self.total / self.turns
        return Turn((self.space.smallest if above else self.space.draw(rng),))

    def hear(self, step, turn, losses):
        self.last = losses.by_derivation[0]["digits"]
        self.total, self.turns = self.total + self.last, self.turns + 1

    def state(self):
        return {"total": self.total, "turns": self.turns, "last": self.last}

    def restore(self, state):
        vars(self).update(state)
"""
STEPS = 120


def settings(**supernet: Any) -> dict[str, Any]:
    return {
        "trials": 4,
        "generation": 4,
        "objectives": ("accuracy", "flops"),
        "evaluator": "shared",
        "supernet": {"steps": STEPS, "samples": 64, "batch": 16, "checkpoint_s": 0, **supernet},
    }


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (FINITE, settings(strategy="sandwich", optimizer="adam")),
        (FINITE, settings(strategy="sorted", kernel_transform=True)),
        (OPEN, {**settings(strategy="single-path"), "size": (4, 20)}),
        (FINITE, settings(strategy="LEARNS")),
    ],
    ids=["sandwich", "sorted", "recursive", "learning"],
)
def test_training_killed_at_any_moment_ends_in_the_same_bank(
    tmp_path: Path, text: str, given: dict[str, Any]
) -> None:
    space, folder = tmp_path / "s.grammar", tmp_path / "killed"
    space.write_text(text)
    (tmp_path / "mine.py").write_text(LEARNS)
    trust = given["supernet"]["strategy"] == "LEARNS"
    if trust:
        given = settings(strategy=f"{tmp_path / 'mine.py'}:Learns")
    given = {**given, "trust_code": trust}
    words = f"{str(space)!r}, ['digits'], out={str(folder)!r}, **{given!r}"
    process = subprocess.Popen(
        [sys.executable, "-c", f"from nas.search import search\nsearch({words})"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    at = random.randrange(2, STEPS // 2)
    while steps_done(folder) < at and process.poll() is None:
        time.sleep(0.002)
    time.sleep(random.random() * 0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "bank.safetensors").exists()
    killed_at = steps_done(folder)
    assert at <= killed_at < STEPS
    with threads(1):
        resume(folder, trust_code=trust)
        whole = search(str(space), ["digits"], out=tmp_path / "whole", **given)
    ours, theirs = (load_file(f / "bank.safetensors") for f in (folder, whole.folder))
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(ours[key], tensor), (key, killed_at)
    assert [t.columns() for t in load(folder).trials] == [t.columns() for t in whole.trials]


def test_the_seconds_of_a_training_that_was_killed_count_in_the_budget(tmp_path: Path) -> None:
    """Also where it was killed between writing the bank and noting what it took."""
    (tmp_path / "s.grammar").write_text(FINITE)
    given = settings(strategy="single-path", steps=6)
    whole = search(str(tmp_path / "s.grammar"), ["digits"], out=tmp_path / "whole", **given)
    folder = tmp_path / "killed"
    create(folder, whole.settings, whole.grammar, whole.tasks)
    Archive.create(folder).close()
    bank = whole.problem.bank()
    save_bank(bank, folder / "training.safetensors", state=True, facts={"seconds": "1000"})
    shutil.copy(whole.folder / "bank.safetensors", folder)
    resume(folder)
    with Archive.open(folder) as archive:
        (note,) = archive.notes("bank")
    assert 1000 < float(str(note["seconds"])) < 1100
    ours, theirs = (load_file(f / "bank.safetensors") for f in (folder, whole.folder))
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def test_a_strategy_of_the_users_is_run_again_only_where_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "s.grammar").write_text(FINITE)
    (tmp_path / "mine.py").write_text(
        "def both(space, step, rng):\n    yield space.largest\n    yield space.draw(rng)\n"
    )
    given = settings(strategy=f"{tmp_path / 'mine.py'}:both", steps=4)
    space = str(tmp_path / "s.grammar")
    run = search(space, ["digits"], out=tmp_path / "run", trust_code=True, **given)
    before = load_file(run.folder / "bank.safetensors")
    (run.folder / "bank.safetensors").unlink()
    with pytest.raises(RunError, match="trains by code of its own .* --trust-code"):
        resume(run.folder)
    resume(run.folder, trust_code=True)
    after = load_file(run.folder / "bank.safetensors")
    assert all(torch.equal(after[key], before[key]) for key in before)


def steps_done(folder: Path) -> int:
    """The version of the last checkpoint; 0 where there is none."""
    try:
        return int(facts_of(folder / "training.safetensors")["version"])
    except BankError:
        return 0
