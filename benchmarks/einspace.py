"""Derivations of einspace are networks that run, in images of one to three axes.

10,000 random derivations an input, with seeds 0, 1, … and the default limit of 256 operators.
Each is typed again from its labels, and its operators run on torch's meta device (an operator on
the same shapes once for all), every shape between them as predicted. The first 500 of at most 100
MFLOPs and of no tensor with more than 4 million elements run forward on a batch of two standard
normal inputs, with new weights, in training and then with the statistics of that batch,
convolutions fused and not: every shape as predicted, outputs finite. Less: --drawn 200 --run 20.
"""

from __future__ import annotations

import argparse
import random
import time
from functools import cache
from typing import Any

import torch
from measure import report
from torch import Tensor

from nas.grammar import Derivation, Grammar, GrammarError, replay, sample
from nas.network import Network
from nas.op import BATCH, Operator, Phase, Shape, Shapes, Value
from nas.plan import Plan, Step, plan, run

INPUTS = ("3x32x32", "1x28x28", "12x8x8", "4x64", "2x8x8x8")
MOST_FLOPS, MOST_ELEMENTS = 100e6, 4_000_000


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--drawn", type=int, default=10_000)
    options.add_argument("--run", type=int, default=500)
    asked = options.parse_args()
    torch.set_num_threads(1)
    rows = [row(text, asked.drawn, asked.run) for text in INPUTS]
    wrong = sum(one[key] for one in rows for key in ("invalid", "meta wrong", "run wrong"))
    report(
        "einspace",
        __doc__,
        seeds=[0],
        rows=rows,
        aim="0 invalid, 0 shapes other than predicted, 0 outputs not finite",
        figure=f"{wrong} of {sum(one['drawn'] for one in rows):,} derivations invalid or of other "
        f"shapes than predicted; {sum(one['not finite'] for one in rows)} of "
        f"{sum(one['ran'] for one in rows):,} outputs not finite",
    )


def row(text: str, drawn: int, wanted: int) -> dict[str, Any]:
    grammar, shape = Grammar.load("einspace"), Shape.read(text)
    found = dict.fromkeys(("invalid", "meta wrong", "ran", "run wrong", "not finite"), 0)
    convolutions, begun = 0, time.process_time()
    for number in range(drawn):
        one = sample(grammar, random.Random(number), input=shape)
        typed = plan(one)
        found["invalid"] += not retyped(one)
        found["meta wrong"] += not all(map(as_predicted, typed.steps, made_of(typed)))
        convolutions += bool(typed.convolutions)
        small = max(s.elements for s in typed.shapes) <= MOST_ELEMENTS
        if found["ran"] < wanted and typed.flops <= MOST_FLOPS and small:
            found["ran"] += 1
            right, finite = ran(one, shape)
            found["run wrong"] += not right
            found["not finite"] += not finite
    seconds = time.process_time() - begun
    return {
        "input": text,
        "drawn": drawn,
        **found,
        "with convolutions": convolutions,
        "ms each": 1e3 * seconds / drawn,
    }


def retyped(one: Derivation) -> bool:
    try:
        return replay(one.grammar, one.labels, input=one.input) == one
    except GrammarError:
        return False


def made_of(typed: Plan) -> list[Shapes]:
    """The shapes predicted of each step."""
    return [tuple(typed.shapes[i] for i in step.outputs) for step in typed.steps]


def as_predicted(step: Step, predicted: Shapes) -> bool:
    """Whether a step on the meta device makes the shapes predicted."""
    return predicted == on_meta(step.operator, tuple(step.args.items()), step.shapes, predicted)


@cache
def on_meta(
    operator: Operator, items: tuple[tuple[str, Value], ...], shapes: Shapes, predicted: Shapes
) -> Shapes:
    """The shapes that an operator makes on the meta device; their kinds are those predicted."""
    args = dict(items)
    inputs = tuple(torch.empty(2, *shape.dims, device="meta") for shape in shapes)
    given = {
        param.name: torch.empty(param.shape, device="meta")
        for param in operator.params(shapes, args)
    }
    results = operator.forward(inputs, given, args, BATCH)
    return tuple(
        Shape(shape.kind, tuple(result.shape[1:]))
        for shape, result in zip(predicted, results, strict=True)
    )


def walked(typed: Plan, x: Tensor, params: list[dict[str, Tensor]]) -> bool:
    """Whether every operator of a plan makes the shapes predicted, one at a time."""
    values = {0: x}
    for given, step in zip(params, typed.steps, strict=True):
        inputs = tuple(values[i] for i in step.inputs)
        results = step.operator.forward(inputs, given, step.args, BATCH)
        for i, result in zip(step.outputs, results, strict=True):
            if tuple(result.shape) != (len(x), *typed.shapes[i].dims):
                return False
            values[i] = result
    return True


def ran(one: Derivation, shape: Shape) -> tuple[bool, bool]:
    """Whether a network's shapes are those predicted, fused or not, and its outputs finite."""
    network = Network(one)
    x = torch.randn(2, *shape.dims, generator=torch.Generator().manual_seed(0))
    params = [dict(given) for given in network.tensors()]
    with torch.no_grad():
        right = walked(network.plan, x, params)
        finite = True
        for phase in (Phase(training=True, momentum=None), Phase()):
            (fused,), (parts,) = (
                run(network.plan, params, x, phase, fused=way).values() for way in (True, False)
            )
            right &= fused.shape == parts.shape
            finite &= bool(torch.isfinite(fused).all() and torch.isfinite(parts).all())
    return right, finite


if __name__ == "__main__":
    main()
