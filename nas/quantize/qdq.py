"""A graph in eight bits: weights symmetric for each channel, activations asymmetric for a tensor.

Every tensor that is quantized has one QuantizeLinear and one DequantizeLinear, from which a runtime
makes integer kernels (Jacob et al. 2018; ONNX Runtime's "QDQ"). Weights of fewer bits are held in
bytes. Rounding is to the nearest, half to even.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.lazy import np
from nas.op.graph import Graph, Node

if TYPE_CHECKING:
    from nas.op.graph import Array

Ranges = Mapping[str, tuple[float, float]]  # of values, by name: the least and the largest
LEVELS = 255  # between the least and the largest of an activation
LEAST = 1e-8  # that a scale is
CHANNELS = {"Conv": 0, "Gemm": 0, "MatMul": 1}  # the axis of a weight that is what comes out
ABSORBED = ("Relu", "Clip")  # what a quantized result's own range does


def weights_of(graph: Graph) -> dict[str, tuple[str, int]]:
    """The weight of each map of a graph, and its axis that is what comes out; by the name of the
    map's result, in order."""
    maps = (node for node in graph.nodes if _is_map(graph, node))
    return {node.outputs[0]: (node.inputs[1], CHANNELS[node.op]) for node in maps}


def _is_map(graph: Graph, node: Node) -> bool:
    """Whether a node is a map with learned weights."""
    named = node.op in CHANNELS and node.inputs[1] in graph.constants
    return named and node.inputs[1] not in graph.fixed


def quantized_values(graph: Graph) -> list[str]:
    """The activations that are quantized: what maps read, and what convolutions give, past an
    activation that alone reads it and whose bounds are a range's."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    values = dict[str, None]()
    for node in graph.nodes:
        if not _is_map(graph, node):
            continue
        values[node.inputs[0]] = None
        result, after = node.outputs[0], readers.get(node.outputs[0], [])
        if len(after) == 1 and after[0].op in ABSORBED:
            result = after[0].outputs[0]
        ends = all(reader.op == "Identity" for reader in readers.get(result, []))
        if node.op == "Conv" and not ends:
            values[result] = None
    return list(values)


def quantized(graph: Graph, ranges: Ranges, bits: Mapping[str, int | Array]) -> Graph:
    """The same graph with maps in integers.

    ranges: of every value of `quantized_values`. bits: of each map's weights, of all or of each
    channel, by the name of its result.
    """
    return _Quantizer(graph, ranges, bits).graph


class _Quantizer:
    def __init__(self, graph: Graph, ranges: Ranges, bits: Mapping[str, int | Array]):
        self.ranges, self.values = ranges, set(quantized_values(graph))
        self.graph = Graph()
        self.graph.constants = dict(graph.constants)
        self.read: dict[str, str] = {}  # by value what is read in its place
        self.scales: dict[str, float] = {}
        self.graph.step = "input"
        made = {value for node in graph.nodes for value in node.outputs}
        for value in sorted(self.values - made):
            self._quantize(value)
        for node in graph.nodes:
            self.graph.step = node.outputs[0].partition("/")[0]
            inputs = [self.read.get(value, value) for value in node.inputs]
            if _is_map(graph, node):
                weight = graph.constants[node.inputs[1]]
                inputs[1:] = self._mapped(node, weight, bits[node.outputs[0]])
            self.graph.nodes.append(node._replace(inputs=tuple(inputs)))
            for value in node.outputs:
                if value in self.values:
                    self._quantize(value)
        read = {value for node in self.graph.nodes for value in node.inputs}
        self.graph.constants = {k: v for k, v in self.graph.constants.items() if k in read}

    def _quantize(self, value: str) -> None:
        """Round a value to its range's steps."""
        low, high = self.ranges[value]
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / LEVELS, LEAST)
        zero = int(np.clip(np.rint(-low / scale), 0, LEVELS))
        given = self.graph.number(scale), self.graph.constant(np.array(zero, np.uint8))
        self.scales[value] = float(np.float32(scale))
        whole = self.graph("QuantizeLinear", value, *given)
        self.read[value] = self.graph("DequantizeLinear", whole, *given)

    def _mapped(self, node: Node, weight: Array, bits: int | Array) -> list[str]:
        """A map's weight and bias in integers: the names of what they come to."""
        axis = CHANNELS[node.op]
        whole, scale = rounded(weight, bits, axis)
        zeros = np.zeros(len(scale), np.int8)
        names = [self._from_integers(whole, scale, zeros, axis)]
        for bias in node.inputs[2:]:
            steps = scale * np.float32(self.scales[node.inputs[0]])
            limit = 2.0**31 - 129  # that a float holds
            near = np.clip(np.rint(self.graph.constants[bias] / steps), -limit, limit)
            integers = near.astype(np.int32)
            names.append(self._from_integers(integers, steps, np.zeros(len(steps), np.int32), 0))
        return names

    def _from_integers(self, whole: Array, scale: Array, zeros: Array, axis: int) -> str:
        given = (self.graph.constant(array) for array in (whole, scale, zeros))
        return self.graph("DequantizeLinear", *given, axis=axis)


def rounded(weight: Array, bits: int | Array, axis: int) -> tuple[Array, Array]:
    """A weight as integers of so many bits (of all, or of each channel along an axis), held in
    bytes, and the scale of each channel: symmetric, without the least integer."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    limit = np.broadcast_to(2 ** (np.asarray(bits) - 1) - 1, weight.shape[axis])
    scale = np.maximum(np.abs(weight).max(axis=others), LEAST) / limit
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    bound = limit.reshape(shape)
    whole = np.clip(np.rint(weight / scale.reshape(shape)), -bound, bound)
    return whole.astype(np.int8), scale.astype(np.float32)
