"""A network by its blocks: what a table of it says, and how it is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import prod
from types import MappingProxyType
from typing import Any

import networkx as nx

from nas.export.lines import place_of
from nas.op import Shape
from nas.plan import Plan, Step
from nas.plan.memory import alive

MOST = 24  # blocks, so that a person sees the whole
WIDTH, HEIGHT, ACROSS, DOWN = 150, 40, 26, 30  # of a box and between boxes


@dataclass(frozen=True)
class Block:
    """Steps of one rule that follow each other, and `times` such blocks, one after the other.

    `reads` are the numbers of the blocks whose values it takes, -1 for the input; `memory` is what
    is alive at most while it runs, in numbers, for a batch of one.
    """

    name: str
    operators: tuple[str, ...]
    shape: Shape
    params: int
    flops: int
    memory: int
    reads: frozenset[int]
    times: int = 1
    values: frozenset[int] = field(default_factory=frozenset)  # of the plan, that it makes
    steps: tuple[str, ...] = ()  # their names, those of all repeats

    def repeats(self, before: Block) -> bool:
        """Whether it is what was before, once more."""
        kinds = [re.sub(r"(\.\d+)+$", "", block.name) for block in (self, before)]
        return kinds[0] == kinds[1] and (self.operators, self.shape, self.params, self.flops) == (
            before.operators,
            before.shape,
            before.params // before.times,
            before.flops // before.times,
        )


def blocks_of(plan: Plan) -> list[Block]:
    """The blocks of a plan: by the innermost rules by which there are at most two dozen, and at
    least by the outermost."""
    places = [place_of(step) or (step.name,) for step in plan.steps]
    deepest = max(map(len, places), default=0)
    blocks = _at(plan, places, 1)
    for depth in range(2, deepest + 1):
        finer = _at(plan, places, depth)
        if len(finer) > MOST:
            break
        blocks = finer
    return blocks


def _at(plan: Plan, places: Sequence[tuple[str, ...]], depth: int) -> list[Block]:
    """The blocks by rules at a depth, repeats as one."""
    memory = {step.name: numbers for step, numbers in alive(plan)}
    blocks, maker = list[Block](), {0: -1}
    pairs = zip(plan.steps, places, strict=True)
    for place, group in groupby(pairs, lambda pair: pair[1][:depth]):
        steps = [step for step, _ in group]
        values = frozenset(value for step in steps for value in step.outputs)
        block = Block(
            "/".join(place),
            tuple(name for name, _ in groupby(_operator(step) for step in steps)),
            plan.shapes[steps[-1].outputs[0]],
            sum(prod(p.shape) for step in steps for p in step.params),
            sum(step.flops for step in steps),
            max(memory.get(step.name, 0) for step in steps),
            frozenset(maker[v] for step in steps for v in step.inputs if v not in values),
            values=values,
            steps=tuple(step.name for step in steps),
        )
        number = len(blocks)
        last = blocks[-1] if blocks else None
        if last and block.reads == {number - 1} and block.repeats(last) and _alone(plan, last):
            number -= 1
            blocks[-1] = replace(
                last,
                params=last.params + block.params,
                flops=last.flops + block.flops,
                memory=max(last.memory, block.memory),
                times=last.times + 1,
                values=values,
                steps=last.steps + block.steps,
            )
        else:
            blocks.append(block)
        maker |= dict.fromkeys(values, number)
    return blocks


def _alone(plan: Plan, block: Block) -> bool:
    """Whether what a block makes is no result of its own."""
    return not block.values.intersection(plan.outputs.values())


def _operator(step: Step) -> str:
    """The operator of a space that a step is of."""
    return step.part.partition(".")[0] or step.operator.name


HEADS = ("block", "operators", "gives", "params", "FLOPs", "share", "memory kB", "time")


def table(
    plan: Plan, blocks: Sequence[Block], times: Mapping[str, float] = MappingProxyType({})
) -> list[list[str]]:
    """A row for each block, by `HEADS`: name, operators, what comes out, params, FLOPs and their
    share, memory in kB; and the share of the latency, where `times` has that of each step."""
    from nas.report.text import digits, scaled

    whole = max(1, plan.flops)
    kb = plan.precision.bits / 8 / 1e3
    return [
        [
            _name(block),
            " ".join(block.operators),
            str(block.shape),
            scaled(block.params),
            scaled(block.flops),
            f"{100 * block.flops / whole:.0f} %",
            digits(block.memory * kb),
            *([f"{100 * sum(times.get(s, 0.0) for s in block.steps):.0f} %"] if times else []),
        ]
        for block in blocks
    ]


def _name(block: Block) -> str:
    return block.name + (f" × {block.times}" if block.times > 1 else "")


def drawing(plan: Plan, blocks: Sequence[Block]) -> dict[str, Any]:
    """The blocks as boxes in layers, streams beside each other, and the lines between them."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(-1, len(blocks)))
    graph.add_edges_from((read, i) for i, block in enumerate(blocks) for read in block.reads)
    lanes, layers = dict[int, int](), dict[int, int]()
    for layer, nodes in enumerate(nx.topological_generations(graph)):
        taken = set[int]()
        for node in sorted(nodes, key=lambda n: (min([lanes[r] for r in graph.pred[n]] or [0]), n)):
            lane = min([lanes[r] for r in graph.pred[node]] or [0])
            while lane in taken:
                lane += 1
            taken.add(lane)
            lanes[node], layers[node] = lane, layer
    across, down = WIDTH + ACROSS, HEIGHT + DOWN
    corner = {n: (lanes[n] * across, layers[n] * down) for n in graph}
    words = {-1: ("input", str(plan.input))}
    words |= {i: (_name(block), str(block.shape)) for i, block in enumerate(blocks)}
    return {
        "width": (max(lanes.values()) + 1) * across - ACROSS,
        "height": (max(layers.values()) + 1) * down - DOWN,
        "box": [WIDTH, HEIGHT],
        "boxes": [[*corner[n], *words[n]] for n in graph],
        "lines": [_line(corner[a], corner[b], layers[b] - layers[a]) for a, b in graph.edges],
    }


def _line(start: tuple[int, int], end: tuple[int, int], layers: int) -> str:
    """The path of a line from the foot of a box to the head of another; past boxes of its own lane
    it swings out."""
    x, y = start[0] + WIDTH // 2, start[1] + HEIGHT
    to_x, to_y = end[0] + WIDTH // 2, end[1]
    if layers > 1 and x == to_x:
        out = x + WIDTH // 2 + ACROSS // 2
        return f"M{x} {y} C{out + ACROSS} {y + DOWN} {out + ACROSS} {to_y - DOWN} {to_x} {to_y}"
    middle = (y + to_y) // 2
    return f"M{x} {y} C{x} {middle} {to_x} {middle} {to_x} {to_y}"
