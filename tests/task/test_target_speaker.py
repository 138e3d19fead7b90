"""Verification of speakers: rates of error, losses with a margin, who is held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from nas.task import TARGETS, TaskError
from nas.task.prepare import prepare
from nas.task.samples import Samples
from nas.task.target.speaker import EMBEDDING, MARGIN, SCALE, cosines, pairs
from nas.task.target.verification import PRIOR, equal_error_rate, error_rates, least_cost

SPEAKER = TARGETS["speaker"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: 0 < sum(same for _, same in rows) < len(rows)
    )
)
def test_rates_are_those_of_a_receiver_operating_curve(rows: list[tuple[int, bool]]) -> None:
    scores, same = (np.array(column) for column in zip(*rows, strict=True))
    accepted, refused = error_rates(scores, same)
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    assert accepted == pytest.approx(false)
    assert refused == pytest.approx(1 - true)
    fine = np.linspace(0, 1, 100_001)
    apart = np.abs(fine - (1 - np.interp(fine, false, true)))
    if len(set(false)) == len(false):  # where it is not upright, interpolation by hand tells
        assert equal_error_rate(accepted, refused) == pytest.approx(fine[apart.argmin()], abs=1e-4)
    costs = PRIOR * (1 - true) + (1 - PRIOR) * false
    assert least_cost(accepted, refused) == pytest.approx(costs.min() / PRIOR)


def test_one_who_hears_nothing_errs_in_half_of_all_pairs_and_one_who_hears_all_in_none() -> None:
    same = np.array([True, False, False, True])
    assert equal_error_rate(*error_rates(np.zeros(4), same)) == 0.5
    assert least_cost(*error_rates(np.zeros(4), same)) == 1
    assert equal_error_rate(*error_rates(same.astype(float), same)) == 0
    assert equal_error_rate(*error_rates(-same.astype(float), same)) == 1


def test_the_right_speaker_must_lead_by_the_margin() -> None:
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(40, 5, generator=generator) * 1.9 - 0.95
    y = torch.randint(5, (40,), generator=generator)
    logits = torch.cat([torch.randn(40, EMBEDDING, generator=generator), SCALE * cosines], 1)
    angle = cosines.gather(1, y[:, None]).acos()
    led = cosines.scatter(1, y[:, None], (angle + MARGIN).cos())
    steep = angle + MARGIN > torch.pi
    assert not steep.any()
    wanted = torch.nn.functional.cross_entropy(SCALE * led, y)
    assert SPEAKER.loss(logits, y[:, None], 0.0) == pytest.approx(float(wanted), rel=1e-5)


def test_the_loss_falls_with_the_cosine_all_the_way() -> None:
    cosine = torch.linspace(-1, 1, 201, dtype=torch.float64)
    logits = torch.zeros(201, EMBEDDING + 2, dtype=torch.float64)
    logits[:, EMBEDDING] = SCALE * cosine
    y = torch.zeros(201, 1, dtype=torch.int64)
    losses = torch.stack([SPEAKER.loss(logits[i : i + 1], y[:1], 0.0) for i in range(201)])
    assert (losses.diff() <= 0).all()


def samples(speakers: int, each: int) -> Samples:
    y = np.repeat([f"s{i:02}" for i in range(speakers)], each)
    x = np.random.default_rng(0).normal(size=(len(y), 2, 8)).astype(np.float32)
    return Samples("here", {"train": (x, y)}, "ncl", target="speaker")


@pytest.mark.parametrize(("speakers", "each"), [(6, 4), (11, 7), (40, 3)])
def test_speakers_of_validation_and_test_are_not_learned(speakers: int, each: int) -> None:
    prepared = prepare(samples(speakers, each))
    learned = len(prepared.classes)
    apart = {}
    for name in ("train", "valid", "test"):
        y = getattr(prepared.splits, name).y[:, 0]
        apart[name] = set(y[y >= learned].tolist())
        counts = torch.bincount(y[y < learned], minlength=learned)
        assert counts.sum() > 0  # some of the learned are in each: their accuracy is measured
    assert not apart["train"]
    assert len(apart["valid"]) >= 2 and len(apart["test"]) >= 2
    assert not apart["valid"] & apart["test"]
    assert learned + len(apart["valid"] | apart["test"]) == speakers
    sizes = [len(split) for split in prepared.splits.every]
    assert sum(sizes) == speakers * each
    again = prepare(samples(speakers, each))
    assert all(
        torch.equal(a.y, b.y)
        for a, b in zip(prepared.splits.every, again.splits.every, strict=True)
    )


def test_of_each_two_recordings_that_are_held_out_is_asked() -> None:
    y = np.array([[0], [5], [6], [5], [1]])
    first, second = pairs(y, 2)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(1, 2), (1, 3), (2, 3)]
    first, second = pairs(np.array([[0, 2, -1], [5, -1, -1], [6, 0, 1]]), 2)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 2), (2, 0), (2, 1)]


def test_scores_are_of_embeddings_and_accuracy_of_those_who_were_learned() -> None:
    ways = torch.eye(EMBEDDING)
    embedded = torch.stack([ways[0], ways[1], ways[1] * 3, ways[2]])
    said = torch.tensor([[5.0, 0], [0, 5], [0, 5], [5, 0]])
    scores = SPEAKER.score(torch.cat([embedded, said], 1), torch.tensor([[0], [4], [4], [7]]))
    assert scores["eer"] == 0 and scores["min_dcf"] == 0
    assert scores["accuracy"] == 1  # of the first alone, which is a speaker of train


@pytest.mark.parametrize(
    ("speakers", "each", "words"),
    [
        (5, 4, "5 speakers; 2 at least are learned and 2 held out for valid and test"),
        (6, 1, "has 1 recordings in train; each needs 2 or more|no pair|too few"),
    ],
)
def test_too_few_speakers_or_recordings_are_refused(speakers: int, each: int, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        prepare(samples(speakers, each))


def test_a_given_test_without_a_pair_of_one_speaker_is_refused() -> None:
    given_samples = samples(6, 4)
    x = given_samples.pairs["train"][0]
    given_samples.pairs["test"] = (x[:3], np.array(["a", "b", "c"]))
    with pytest.raises(TaskError, match="test: there is no pair of recordings of one speaker"):
        prepare(given_samples)


def test_held_out_speakers_of_one_recording_each_cannot_be_measured() -> None:
    given_samples = samples(10, 4)
    learned = set(prepare(given_samples).classes)
    x, y = given_samples.pairs["train"]
    first = {name: int(np.flatnonzero(y == name)[0]) for name in np.unique(y)}
    kept = [i for i, name in enumerate(y) if name in learned or i == first[name]]
    given_samples.pairs["train"] = (x[kept], y[kept])
    with pytest.raises(TaskError, match="there is no pair of recordings of one speaker"):
        prepare(given_samples)


def test_what_is_compared_by_number_is_not_cut() -> None:
    given_samples = samples(8, 4)
    x, y = given_samples.pairs["train"]
    given_samples.pairs["train"] = (x, np.stack([y, np.roll(np.arange(32), 1).astype(str)], 1))
    with pytest.raises(TaskError, match="is numbered within a split, and train is to be cut"):
        prepare(given_samples)
    for wrong in ("32", "-7", "x", str(10**30)):
        test = np.stack([y, np.full(32, wrong)], 1)
        given_samples.pairs["test"] = (x, test)
        with pytest.raises(TaskError, match="compare"):
            prepare(given_samples)


def test_thousands_of_recordings_are_compared_in_little_memory() -> None:
    import tracemalloc

    y = np.repeat(np.arange(2, 402), 10)[:, None]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(y), EMBEDDING + 2, generator=generator)
    tracemalloc.start()
    scores = SPEAKER.score(logits, torch.from_numpy(y))
    grown = tracemalloc.get_traced_memory()[1] / 1e9
    tracemalloc.stop()
    assert scores["eer"] == pytest.approx(0.5, abs=0.02)
    assert grown < 2.5  # GB, of 8 million pairs
    assert "accuracy" not in scores  # none of them was learned


def test_cosines_of_listed_pairs_are_those_of_all() -> None:
    rng = np.random.default_rng(0)
    embedded = rng.normal(size=(50, 8))
    first, second = rng.integers(50, size=(2, 9000))
    wanted = (embedded @ embedded.T)[first, second]
    assert cosines(embedded, first, second) == pytest.approx(wanted)
    assert cosines(embedded, first[:10], second[:10]) == pytest.approx(wanted[:10])
