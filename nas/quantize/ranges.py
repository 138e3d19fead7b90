"""What the values of a graph come to on samples: their ranges, and its results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nas.lazy import np
from nas.op import Shape
from nas.op.graph import Graph
from nas.plan.onnx import onnx_model, session
from nas.quantize.qdq import quantized_values

if TYPE_CHECKING:
    from nas.op.graph import Array, Arrays

AT_ONCE = 64  # samples that go through a graph together


class Runner:
    """A graph in ONNX Runtime that gives some of its values.

    input: the name and shape of what enters it. weights: constants, by name, that may be others in
    each run.
    """

    def __init__(
        self,
        graph: Graph,
        input: tuple[str, Shape],
        names: Sequence[str],
        weights: Sequence[str] = (),
    ):
        from onnx import TensorProto, helper

        def value(name: str, shape: Sequence[int] | None) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        self.input, self.names = input[0], list(names)
        model = onnx_model(graph, dict([input]), {})
        model.graph.input.extend(value(name, graph.constants[name].shape) for name in weights)
        model.graph.output.extend(value(name, None) for name in names)
        self.loaded = session(model.SerializeToString())

    def parts(self, x: Array, weights: Arrays = MappingProxyType({})) -> Iterator[list[Array]]:
        """The values for some samples of x (samples, *shape), and for the next."""
        for start in range(0, len(x), AT_ONCE):
            yield self.loaded.run(self.names, {self.input: x[start : start + AT_ONCE], **weights})

    def __call__(self, x: Array, weights: Arrays = MappingProxyType({})) -> list[Array]:
        """The values for all samples."""
        parts = zip(*self.parts(x, weights), strict=True)
        return [np.concatenate(values) for values in parts]


def activation_ranges(
    graph: Graph, input: tuple[str, Shape], x: Array
) -> dict[str, tuple[float, float]]:
    """The least and the largest of every value that is to be quantized, on x (samples, *shape).
    Raises ValueError where one is not finite."""
    names = quantized_values(graph)
    ranges: dict[str, tuple[float, float]] = {}
    if input[0] in names:
        ranges[input[0]] = float(x.min()), float(x.max())
    made = [name for name in names if name != input[0]]
    for results in Runner(graph, input, made).parts(x) if made else ():
        for name, value in zip(made, results, strict=True):
            if not value.size:  # of an expert that no place takes: 0 is in every range
                ranges.setdefault(name, (0.0, 0.0))
                continue
            low, high = float(value.min()), float(value.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError(f"{name} is not finite on the samples that ranges are taken from")
            before = ranges.get(name, (low, high))
            ranges[name] = min(low, before[0]), max(high, before[1])
    return ranges
