"""Claims about a network by its blocks."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.grammar import Grammar, Limits, sample
from nas.plan import Plan, plan
from nas.report.blocks import HEIGHT, MOST, WIDTH, blocks_of, drawing, table

SPACES = {
    "mobile": (1, 32, 32),
    "fbnetv5-small": (3, 32, 32),
    "vit": (1, 32, 32),
    "tdnn-small": (80, 99),
    "einspace": (3, 16, 16),
}


def drawn(space: str, seed: int) -> Plan:
    limits = Limits(terminals=60, params=200_000) if space == "einspace" else None
    grammar = Grammar.load(space)
    return plan(sample(grammar, random.Random(seed), input=SPACES[space], limits=limits))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 10_000))
def test_blocks_hold_the_whole_network_and_boxes_do_not_overlap(space: str, seed: int) -> None:
    planned = drawn(space, seed)
    blocks = blocks_of(planned)
    assert sum(block.params for block in blocks) == planned.params
    assert sum(block.flops for block in blocks) == planned.flops
    peak = max(block.memory for block in blocks)
    assert peak <= planned.memory_kb * 1e3 * 8 / planned.precision.bits + 1e-6
    assert max(peak, planned.input.elements) * 4 / 1e3 == pytest.approx(planned.memory_kb)
    assert all(max(block.reads) < i for i, block in enumerate(blocks))
    picture = drawing(planned, blocks)
    corners = [(x, y) for x, y, *_ in picture["boxes"]]
    assert len(set(corners)) == len(blocks) + 1
    for (x, y), (other_x, other_y) in pairwise(sorted(corners)):
        assert abs(x - other_x) >= WIDTH or abs(y - other_y) >= HEIGHT
    assert all(x + WIDTH <= picture["width"] for x, _ in corners)
    assert len(table(planned, blocks)) == len(blocks)


def test_repeats_are_one_block_and_a_person_sees_the_whole() -> None:
    text = "net = conv(8) block{4} output(coarse)\nblock = conv(8) batchnorm relu\n"
    grammar = Grammar.parse(text)
    blocks = blocks_of(plan(sample(grammar, random.Random(0), input=(3, 8, 8))))
    assert [(block.name, block.times) for block in blocks] == [("conv", 1), ("block.0", 4)]
    assert table(plan(sample(grammar, random.Random(0), input=(3, 8, 8))), blocks)[1][0] == (
        "block.0 × 4"
    )
    assert all(len(blocks_of(drawn("fbnetv5-small", seed))) <= MOST for seed in range(5))


def test_streams_stand_beside_each_other() -> None:
    text = "net = stem clone(2) [left; right] add output(coarse)\n"
    text += "stem = conv(8) relu\nleft = conv(8) relu\nright = conv(8) tanh\n"
    planned = plan(sample(Grammar.parse(text), random.Random(0), input=(3, 8, 8)))
    blocks = blocks_of(planned)
    place = {name: (x, y) for x, y, name, _ in drawing(planned, blocks)["boxes"]}
    assert place["left"][1] == place["right"][1]
    assert place["left"][0] != place["right"][0]
    assert place["stem"][1] < place["left"][1] < place["add"][1]
