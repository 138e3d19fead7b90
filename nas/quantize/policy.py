"""Which weights take four bits: those whose rounding changes results least for what it saves.

Damage adds up over operators, so each is looked at alone (SimQ-NAS searches for what is filled in
here; Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from nas.lazy import np
from nas.op import Shape
from nas.op.graph import Graph
from nas.quantize.qdq import rounded, weights_of
from nas.quantize.ranges import Runner

if TYPE_CHECKING:
    from nas.op.graph import Array

USUAL, LOW = 8, 4  # bits of a weight


def fill(
    graph: Graph, input: tuple[str, Shape], results: Sequence[str], x: Array, percent: int
) -> dict[str, Array]:
    """The bits of each map's channels by the name of its result: four for `percent` of all weights
    (a channel's more at most), of the maps that are damaged least by it, and eight for the others.
    Of the last such map only so many channels have four, those whose weights move least.

    results: the names of the graph's. x: (samples, *shape) on which damage is told.
    """
    maps = weights_of(graph)
    weights = {name: graph.constants[weight] for name, (weight, _) in maps.items()}
    bits = {
        name: np.full(weights[name].shape[axis], USUAL, np.int64)
        for name, (_, axis) in maps.items()
    }
    left = percent / 100 * sum(weight.size for weight in weights.values())
    between = 0 < percent < 100
    damages = sensitivities(graph, input, results, x) if between else dict.fromkeys(maps, 0.0)
    for name in sorted(maps, key=lambda name: damages[name] / weights[name].size):
        if left <= 0:
            break
        each = weights[name].size // len(bits[name])
        few = min(len(bits[name]), ceil(left / each))
        bits[name][_steadiest(weights[name], maps[name][1])[:few]] = LOW
        left -= few * each
    return bits


def _steadiest(weight: Array, axis: int) -> Array:
    """A weight's channels, first those that rounding to four bits moves least for their size."""
    integers, scale = rounded(weight, LOW, axis)
    apart = np.moveaxis(weight, axis, 0).reshape(len(scale), -1)
    near = np.moveaxis(integers, axis, 0).reshape(len(scale), -1) * scale[:, None]
    return np.argsort(np.square(near - apart).sum(1), kind="stable")


def sensitivities(
    graph: Graph, input: tuple[str, Shape], results: Sequence[str], x: Array
) -> dict[str, float]:
    """By map how far results come from what they are, as a mean of squares, where its weights alone
    are rounded to four bits."""
    maps = weights_of(graph)
    run = Runner(graph, input, results, [weight for weight, _ in maps.values()])
    whole, damages = run(x), dict[str, float]()
    for name, (weight, axis) in maps.items():
        integers, scale = rounded(graph.constants[weight], LOW, axis)
        shape = [-1 if i == axis else 1 for i in range(integers.ndim)]
        rough = run(x, {weight: integers * scale.reshape(shape)})
        gaps = (np.mean(np.square(a - b)) for a, b in zip(rough, whole, strict=True))
        damages[name] = float(sum(gaps))
    return damages
