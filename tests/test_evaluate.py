"""Claims about what an evaluation reads and says, each held against another way to compute it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.evaluate import EVALUATORS, Conditions, network_of, statistics_inputs
from nas.export import load, plain
from nas.grammar import Grammar
from nas.grammar.count import extreme
from nas.plan import plan
from nas.search import search
from nas.supernet import Bank
from nas.task import Split, Task

SPACE = Grammar.parse("net = conv({4, 8}, stride=2) batchnorm relu output(coarse)", name="small")
DIGITS = Task.load("digits")


def test_validation_and_test_data_reach_no_statistic() -> None:
    derivation = extreme(SPACE, input=DIGITS.input)
    held = Bank.of([plan(derivation, heads=[DIGITS])])
    splits = DIGITS.splits()
    far = [Split(split.x + 1e6, split.y) for split in (splits.valid, splits.test)]
    other = replace(DIGITS, loader=lambda: replace(splits, valid=far[0], test=far[1]))
    ours, theirs = (
        network_of(held, derivation, Conditions([task]), 200).state_dict()
        for task in (DIGITS, other)
    )
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    rows = {row.numpy().tobytes() for row in splits.train.x}
    assert all(row.numpy().tobytes() in rows for row in statistics_inputs([DIGITS], 64, 0))


def test_a_trials_accuracy_is_that_of_the_module_one_takes_home(tmp_path: Path) -> None:
    (tmp_path / "s.grammar").write_text(SPACE.text)
    run = search(
        tmp_path / "s.grammar",
        "digits",
        out=tmp_path / "run",
        trials=2,
        generation=2,
        supernet={"steps": 30, "samples": 64},
    )
    x, y = DIGITS.splits().valid.x, DIGITS.splits().valid.y.numpy()
    for trial in run.trials:
        run.save(trial.id, tmp_path / trial.id)
        for model in (run.extract(trial.id), plain(load(tmp_path / trial.id)[0])):
            with torch.no_grad():
                logits = np.concatenate([model(row[None]).numpy() for row in x])
            assert float((logits.argmax(1) == y).mean()) == pytest.approx(trial.value("accuracy"))
            exp = np.exp(logits - logits.max(1, keepdims=True))
            nll = -np.log((exp / exp.sum(1, keepdims=True))[np.arange(len(y)), y]).mean()
            assert float(nll) == pytest.approx(trial.value("nll"), rel=1e-4)


def test_an_evaluation_leaves_torchs_chance_as_it_was_and_hangs_on_none(tmp_path: Path) -> None:
    derivation = extreme(SPACE, input=DIGITS.input)
    held = Bank.of([plan(derivation, heads=[DIGITS])])
    conditions = Conditions([DIGITS], bank=held, samples=64)
    torch.manual_seed(1)
    first = EVALUATORS["shared"].measure(derivation, conditions).measurements
    torch.manual_seed(2)
    again = EVALUATORS["shared"].measure(derivation, conditions).measurements
    assert [m.value for m in again] == [m.value for m in first]
