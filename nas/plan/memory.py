"""How many numbers of a plan's values are alive at a time, by the order of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.plan.plan import Plan, Step


def peak(plan: Plan) -> int:
    """The most numbers alive while one sample goes through, the input among them."""
    return max([plan.input.elements, *(numbers for _, numbers in alive(plan))])


def alive(plan: Plan) -> Iterator[tuple[Step, int]]:
    """How many numbers are alive at each step that writes something: what it reads and writes, what
    it needs between, and what later steps read. The input is alive until it was read, results to
    the end. An operator that can write in the place of what it reads does so where nothing later
    reads that; convolutions written as windows write no windows. Weights are not counted."""
    steps = list(_run_as(plan))
    last = {value: i for i, (_, reads) in enumerate(steps) for value in reads}
    last |= dict.fromkeys(plan.outputs.values(), len(steps))
    sizes = [shape.elements for shape in plan.shapes]
    living = {0: sizes[0]}
    for i, (step, reads) in enumerate(steps):
        ending = [value for value in set(reads) if last[value] == i]
        written = sum(sizes[value] for value in step.outputs)
        if step.operator.in_place and any(sizes[value] == written for value in ending):
            written = 0
        scratch = step.operator.scratch(step.shapes, step.args)
        yield step, sum(living.values()) + written + scratch
        living |= {value: sizes[value] for value in step.outputs if value in last}
        for value in ending:
            del living[value]


def _run_as(plan: Plan) -> Iterator[tuple[Step, tuple[int, ...]]]:
    """The steps that write something, and the values that they read."""
    within = {i for pair in plan.convolutions.values() for i in pair}
    for number, step in enumerate(plan.steps):
        if number in plan.convolutions:
            windows, _ = plan.convolutions[number]
            yield step, plan.steps[windows].inputs
        elif number not in within:
            yield step, step.inputs
