"""Which weights take four bits: those whose rounding changes results least for what it saves.

Damage adds up over operators, so each is looked at alone (SimQ-NAS searches for what is filled in
here; Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
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
) -> dict[str, int]:
    """The bits of each map's weights by the name of its result: four for at least `percent` of all
    weights, of the maps that are damaged least by it, and eight for the others.

    results: the names of the graph's. x: (samples, *shape) on which damage is told.
    """
    maps = weights_of(graph)
    sizes = {name: graph.constants[weight].size for name, (weight, _) in maps.items()}
    bits, wanted, low = dict.fromkeys(maps, USUAL), percent / 100 * sum(sizes.values()), 0
    between = 0 < percent < 100
    damages = sensitivities(graph, input, results, x) if between else dict.fromkeys(maps, 0.0)
    for name in sorted(maps, key=lambda name: damages[name] / sizes[name]):
        if low >= wanted:
            break
        bits[name] = LOW
        low += sizes[name]
    return bits


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
