"""Claims about spaces with a decoder for each task."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.grammar import Derivation, Grammar, GrammarError, choose_at_random, derive
from nas.grammar.count import cover
from nas.op import BATCH
from nas.plan import FEATURES_RESULT, plan, run
from nas.search import RunError, search
from nas.supernet import Bank, Space, strategy_of
from nas.supernet.decoders import decoder_levels, decoders_of, joined, parts, with_decoders
from nas.task import load_tasks
from nas.task.target import Head
from nas.train import Recipe, Trainer, Turn

TASKS = load_tasks(["scenes-classify", "scenes-segment"])
TEXT = """
net      = encoder decoder
encoder  = layer({4, 8}, 2) layer({4, 8}){0..1}
decoder  = layer({2, 4, 6}) (layer(4) | identity)
layer(c, s=1) = conv(c, kernel=3, stride=s) batchnorm relu
"""
SPACE = with_decoders(Grammar.parse(TEXT), [task.name for task in TASKS])
INPUT = TASKS[0].input


def drawn(seed: int, grammar: Grammar = SPACE) -> Derivation:
    return derive(grammar, choose_at_random(random.Random(seed)), input=INPUT)


def test_a_space_that_says_encoder_decoder_gets_one_for_each_task() -> None:
    start, *_ = SPACE.text.splitlines()
    branches = "[for_scenes_classify; for_scenes_segment]"
    assert start == f"net = encoder output(features) clone(2) {branches}"
    assert decoders_of(SPACE) == ("for_scenes_classify", "for_scenes_segment")
    assert with_decoders(SPACE, ["a", "b"]) is SPACE
    alone = with_decoders(Grammar.parse(TEXT), ["digits"])
    assert alone.text.splitlines()[0] == "net = encoder output(features) for_digits"
    mobile = Grammar.load("mobile")
    assert with_decoders(mobile, ["a"]) is mobile
    assert not decoders_of(mobile)


@given(seed=st.integers(0, 10_000))
def test_a_derivation_is_its_encoder_and_decoders(seed: int) -> None:
    derivation = drawn(seed)
    encoder, decoders = parts(derivation)
    assert joined(SPACE, encoder, decoders, derivation.input) == derivation
    other = parts(drawn(seed + 1)).decoders["for_scenes_segment"]
    crossed = joined(SPACE, encoder, {**decoders, "for_scenes_segment": other}, derivation.input)
    assert parts(crossed).encoder == encoder
    assert parts(crossed).decoders == {**decoders, "for_scenes_segment": other}


def test_decoders_of_every_size_are_tried_on_one_encoder() -> None:
    derivation = drawn(3)
    levels = list(decoder_levels(derivation))
    assert len(set(levels)) == len(levels) == 6
    for level in levels:
        encoder, decoders = parts(level)
        assert encoder == parts(derivation).encoder
        labels = [[label for _, label in own] for own in decoders.values()]
        assert labels[0] == labels[1]


def test_of_many_sizes_some_are_tried_the_largest_and_the_smallest_among_them() -> None:
    text = TEXT.replace("{2, 4, 6}", "{1, 2, 3, 4, 5, 6, 7, 8}")
    grammar = with_decoders(Grammar.parse(text), [task.name for task in TASKS])
    levels = list(decoder_levels(drawn(1, grammar)))
    own = [[label for _, label in parts(level).decoders["for_scenes_segment"]] for level in levels]
    sizes = {(labels[0], labels[1] == "identity") for labels in own}
    assert len(sizes) == len(levels) == 8
    assert {("c=1", True), ("c=8", False)} < sizes


def test_a_task_reads_its_own_decoder_alone() -> None:
    bank = Bank.of([plan(drawn(seed), heads=TASKS) for seed in range(60)])
    one = drawn(0)
    encoder, decoders = parts(one)
    others = [parts(drawn(seed)).decoders["for_scenes_segment"] for seed in range(1, 9)]
    x = torch.randn(4, *INPUT)

    def logits(derivation: Derivation) -> Any:
        planned = plan(derivation, heads=TASKS)
        return run(planned, bank.views(planned), x, BATCH)["scenes-classify"]

    with torch.no_grad():
        for other in others:
            changed = {**decoders, "for_scenes_segment": other}
            assert torch.equal(logits(one), logits(joined(SPACE, encoder, changed, one.input)))


def test_a_head_of_the_users_own_says_what_follows_a_decoder() -> None:
    head = Head(("fine", "coarse"), "[identity; pool] add linear(classes)")
    task = replace(TASKS[0], head=head)
    with pytest.raises(ValueError, match="give the head a term for that, as own"):
        plan(drawn(0), heads=[task])
    given = replace(TASKS[0], head=replace(head, own="pool linear(classes)"))
    assert plan(drawn(0), heads=[given]).output_shapes()["scenes-classify"].dims == (10,)


def test_only_what_is_written_so_has_decoders() -> None:
    named = Grammar.parse("net = encoder for_x\nencoder = conv(4)\nfor_x = conv(4) output(coarse)")
    assert not decoders_of(named)
    endless = Grammar.parse(
        "net = encoder decoder\nencoder = conv(4)\ndecoder = relu | relu decoder"
    )
    assert with_decoders(endless, ["a"]) is endless
    seeded = Grammar.parse(
        f"{TEXT}\nseed first = conv(4, kernel=3, stride=2) batchnorm relu conv(2) batchnorm relu"
    )
    assert "first" not in with_decoders(seeded, ["a", "b"]).seeds
    several = Grammar.parse("net = encoder decoder\nencoder = conv(4) clone(2)\ndecoder = add")
    with pytest.raises(GrammarError, match="says encoder decoder, so each task gets a decoder"):
        with_decoders(several, ["a"])


def test_encoders_whose_features_differ_in_size_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.grammar").write_text(TEXT.replace("stride=s", "stride={1, 2}"))
    with pytest.raises(RunError, match="end in features of"):
        search(str(tmp_path / "own.grammar"), ["digits"], out=tmp_path / "run")
    (tmp_path / "bits.grammar").write_text(TEXT.replace("decoder  =", "decoder  = precision(8)"))
    with pytest.raises(RunError, match="whose bits would hang on each other"):
        search(str(tmp_path / "bits.grammar"), ["digits"], out=tmp_path / "run")


@pytest.mark.parametrize("name", ["features", "experts"])
def test_tasks_may_be_called_as_results_of_training_are(name: str, tmp_path: Path) -> None:
    (tmp_path / "own.grammar").write_text(f"share tasks\n{TEXT}")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(60, 8, 8)).astype("f4"), y=np.arange(60) % 2)
    run = search(
        str(tmp_path / "own.grammar"),
        [f"{name}={tmp_path / 'd.npz'}"],
        out=tmp_path / "run",
        trials=2,
        generation=2,
        supernet={"steps": 2, "batch": 8, "samples": 8},
    )
    assert all(trial.state == "finished" for trial in run.trials)


def test_features_are_a_result_where_they_are_asked_for() -> None:
    derivation = drawn(0)
    whole = plan(derivation, heads=TASKS, features=0)
    assert set(whole.outputs) == {"scenes-classify", "scenes-segment", FEATURES_RESULT}
    mapped = plan(derivation, heads=TASKS, features=8)
    assert mapped.output_shapes()[FEATURES_RESULT].channels == 8
    assert mapped.params == whole.params + 8 * whole.output_shapes()[FEATURES_RESULT].channels
    mobile = derive(Grammar.load("mobile"), lambda site, options: 0, input=INPUT)
    with pytest.raises(ValueError, match=r"names no output\(features\)"):
        plan(mobile, heads=TASKS, features=0)


def test_features_are_held_to_the_firsts_by_the_gradient_of_their_distance() -> None:
    """Beside the labels': the map of features moves by that alone, and the first is not moved."""
    space = Space(SPACE, INPUT)
    large, small = space.largest, space.smallest
    channels = plan(large, heads=(), features=0).output_shapes()[FEATURES_RESULT].channels
    plans = [plan(d, heads=TASKS, features=channels) for d in (large, small)]
    recipe = Recipe(lr=0.1, momentum=0, weight_decay=0, clip=1e9, batch=16, warmup=0)
    place = [i for i, step in enumerate(plans[1].steps) if step.slot.startswith("features/")]
    (at,) = place

    def trained(weight: float) -> tuple[Any, Any, Any]:
        bank = Bank.of(plans)
        before = bank.views(plans[1])[at]["weight"].detach().clone()
        trainer = Trainer(bank, TASKS, recipe, 100)
        batches = trainer.feed.batch(0, 0)
        trainer.step(0, Turn((large, small), align=weight))
        return before, bank, batches

    before, bank, batches = trained(2.0)
    rate = recipe.rate(0, 100)
    moved = bank.views(plans[1])[at]["weight"].detach()
    fresh = Bank.of(plans)
    views = [
        {name: t.detach().clone().requires_grad_() for name, t in step.items()}
        for step in fresh.views(plans[1])
    ]
    raw = plan(large, heads=TASKS, features=0)
    x = batches[0].x
    with torch.no_grad():
        wanted = run(raw, fresh.views(raw), x, BATCH)[FEATURES_RESULT]
    apart = (run(plans[1], views, x, BATCH)[FEATURES_RESULT] - wanted).square().mean()
    (slope,) = torch.autograd.grad(2.0 * apart, [views[at]["weight"]])
    assert torch.allclose(moved, before - rate * slope, atol=1e-6)
    assert float(slope.abs().max()) > 1e-3

    first_alone, first_held = (Bank.of(plans) for _ in range(2))
    Trainer(first_alone, TASKS, recipe, 100).step(0, Turn((large,)))
    Trainer(first_held, TASKS, recipe, 100).step(0, Turn((large,), align=2.0))
    assert all(
        torch.equal(a, b)
        for one, two in zip(first_alone.views(raw), first_held.views(raw), strict=True)
        for a, b in zip(one.values(), two.values(), strict=True)
    )


def test_held_alike_the_smallest_has_features_nearer_to_the_largests() -> None:
    space, distances = Space(SPACE, INPUT), list[float]()
    channels = plan(space.largest, heads=(), features=0).output_shapes()[FEATURES_RESULT].channels
    for name in ("aligned", "free"):
        every = [plan(d, heads=TASKS, features=channels) for d in cover(SPACE, input=INPUT)]
        bank, strategy = Bank.of(every), strategy_of("aligned", space, 30)
        trainer = Trainer(bank, TASKS, Recipe(batch=16, lr=0.05), 30)
        for step in range(30):
            turn = strategy(step, random.Random(step))
            weight = 1.0 if name == "aligned" else 1e-9  # that the map is learned in both
            trainer.step(step, Turn(turn.derivations, align=weight))
        raw = plan(space.largest, heads=TASKS, features=0)
        small = plan(space.smallest, heads=TASKS, features=channels)
        x = trainer.feed.batch(99, 0)[0].x
        with torch.no_grad():
            wanted = run(raw, bank.views(raw), x, BATCH)[FEATURES_RESULT]
            found = run(small, bank.views(small), x, BATCH)[FEATURES_RESULT]
        distances.append(float((found - wanted).square().mean() / wanted.square().mean()))
    assert distances[0] < 0.7 * distances[1]
