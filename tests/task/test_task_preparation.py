"""Claims about samples that are prepared when they are asked for, and scores told in batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.task import Head, Scorer, Task, preparation, score
from nas.task.preparation import Inputs, Preparation, digest, moments

RNG = np.random.default_rng(3)
TYPES = ("uint8", "int16", "uint16", "int64", "float16", "float32", "float64", "bool")


def array(dtype: str, n: int = 40) -> np.ndarray:
    return (RNG.random((n, 3, 5, 4)) * (2 if dtype == "bool" else 200)).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_batch_is_the_same_whether_samples_are_kept_or_read_each_time(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, at = array(dtype), RNG.permutation(40)[:30]
    scale = 255.0 if dtype == "uint8" else 1.0
    prepared = Preparation(scale, *map(tuple, moments(raw, at, scale)))
    asked = torch.tensor([4, 0, 29, 4])
    kept = Inputs(raw, prepared, at).batch(asked)
    monkeypatch.setattr(preparation, "KEPT", 0)
    assert torch.equal(Inputs(raw, prepared, at).batch(asked), kept)
    expected = raw[at[asked.numpy()]].astype(np.float32) / (255 if dtype == "uint8" else 1)
    mean, deviation = (np.array(v).reshape(1, 3, 1, 1) for v in (prepared.mean, prepared.deviation))
    np.testing.assert_allclose(kept.numpy(), (expected - mean) / deviation, atol=2e-5)


@pytest.mark.parametrize("chunk", [1, 70, 10**6])
def test_mean_and_deviation_are_those_of_the_whole_wherever_chunks_end(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = array("float32")
    monkeypatch.setattr(preparation, "CHUNK", chunk)
    mean, deviation = moments(raw, None, 1.0)
    as_bytes = array("uint8")
    real = as_bytes.astype(np.float32)
    for ours, theirs in zip(moments(as_bytes, None, 255), moments(real, None, 255), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    constant = moments(np.full((4, 2, 3, 3), 9, np.uint8), None, 255)
    assert constant == [[pytest.approx(9 / 255)] * 2, [1.0, 1.0]]
    np.testing.assert_allclose(mean, raw.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(deviation, raw.std((0, 2, 3)), rtol=1e-5)


def test_arrays_on_disk_are_used_where_they_lie(tmp_path: Path) -> None:
    x = array("uint8", 60)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(60) % 3)
    splits = Task.load(f"mine={tmp_path}?layout=nchw").splits()
    for split in (splits.train, splits.valid, splits.test):
        assert isinstance(split.inputs.raw.base, np.memmap | type(None)) and split.inputs.raw.nbytes
        assert Path(str(split.inputs.raw.base.filename)) == tmp_path / "x.npy"  # type: ignore[union-attr]


def test_equal_samples_in_another_order_or_prepared_otherwise_are_others() -> None:
    raw = array("float32")
    one = Inputs(raw, Preparation(), np.arange(10))
    assert one.content == Inputs(raw.copy(), Preparation(), np.arange(10)).content
    for other in (
        Inputs(raw, Preparation(), np.arange(10)[::-1]),
        Inputs(raw, Preparation(2.0), np.arange(10)),
        Inputs(raw + 1, Preparation(), np.arange(10)),
    ):
        assert other.content != one.content
    assert digest(raw) != digest(raw.reshape(40, 3, 4, 5))


DIGITS = Task.load("digits")
SMALL = replace(DIGITS, classes=("a", "b", "c"), head=Head(("coarse",), ""))


@given(
    st.sampled_from(["class", "labels", "pixels"]),
    st.integers(2, 30),
    st.integers(1, 31),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_scores_batch_by_batch_are_those_of_the_whole(
    target: str, n: int, batch: int, seed: int
) -> None:
    task = replace(SMALL, target=target, input=(1, 4, 5))
    rng = np.random.default_rng(seed)
    shape = (n, 3, 4, 5) if target == "pixels" else (n, 3)
    logits = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    if target == "labels":
        y = torch.from_numpy(rng.integers(0, 2, (n, 3)).astype(np.float32))
    else:
        y = torch.from_numpy(rng.integers(0, 3, (n, *shape[2:])))
    if target == "pixels":
        y[0, 0] = -100  # of no class
    scorer = Scorer(task)
    for at in torch.arange(n).split(batch):
        scorer.add(logits[at], y[at])
    whole = score(task, logits, y)
    assert scorer.score() == pytest.approx(whole, rel=1e-6, nan_ok=True)


def test_a_split_with_one_answer_that_is_no_number_scores_nothing() -> None:
    scorer = Scorer(replace(SMALL, target="class"))
    scorer.add(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
    scorer.add(torch.tensor([[0.0, float("nan"), 0.0]]), torch.zeros(1, dtype=torch.long))
    assert all(np.isnan(value) for value in scorer.score().values())
