"""Graphs in integers: what the runtime computes, and which weights have four bits."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.grammar import Grammar, replay
from nas.measure.runtime import RUNTIMES, in_integers, onnx_bytes
from nas.network import Network
from nas.op import ShapeError
from nas.op.graph import Graph
from nas.plan import Plan, Precision
from nas.plan.onnx import onnx_graph
from nas.quantize import activation_ranges, fill, quantized
from nas.quantize.policy import sensitivities
from nas.quantize.qdq import quantized_values, rounded, weights_of
from nas.quantize.ranges import Runner

TEXT = "net = conv(6) batchnorm relu depthwise conv(8, stride=2) batchnorm relu pool linear(4)"
INPUT = (3, 8, 8)


def network(text: str = TEXT, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    made = Network(replay(Grammar.parse(f"{text} output(coarse)"), [], input=INPUT))
    made.train()(torch.randn(64, *INPUT))  # statistics of its own
    return made.eval()


def graph_of(made: Network) -> tuple[Graph, tuple[str, Any]]:
    return onnx_graph(made.plan, made.tensors()), ("x", made.plan.input)


def samples(n: int = 32, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *INPUT)).astype(np.float32)


@given(arrays(np.float32, (3, 4, 2), elements=st.floats(-8, 8, width=32)), st.sampled_from([4, 8]))
@settings(max_examples=40, deadline=None)
def test_a_weight_is_rounded_to_the_nearest_step_of_its_channel(weight: Any, bits: int) -> None:
    for axis in (0, 1):
        whole, scale = rounded(weight, bits, axis)
        shape = [-1 if i == axis else 1 for i in range(3)]
        steps = scale.reshape(shape)
        assert whole.dtype == np.int8 and np.abs(whole).max() < 2 ** (bits - 1)
        assert (np.abs(whole * steps - weight) <= steps * 0.5001 + 1e-7).all()


def by_hand(graph: Graph, x: np.ndarray) -> np.ndarray:
    """What a quantized graph's nodes say, in torch and numpy."""
    values: dict[str, Any] = {"x": x, **graph.constants}
    for node in graph.nodes:
        given_ = [values[name] for name in node.inputs]
        match node.op:
            case "QuantizeLinear":
                value, scale, zero = given_
                y: Any = np.clip(np.rint(value / scale) + float(zero), 0, 255)
            case "DequantizeLinear":
                value, scale, zero = given_
                shape = [1] * np.ndim(value)
                if np.size(scale) > 1:
                    shape[node.attributes.get("axis", 1)] = -1
                    scale, zero = scale.reshape(shape), zero.reshape(shape)
                y = (np.asarray(value, np.float64) - zero) * scale
            case "Conv":
                tensors = [torch.from_numpy(np.asarray(v, np.float64)) for v in given_]
                words = node.attributes
                y = F.conv2d(
                    *tensors,
                    stride=words["strides"],
                    padding=words["pads"][:2],
                    groups=words["group"],
                ).numpy()
            case "Gemm":
                tensors = [torch.from_numpy(np.asarray(v, np.float64)) for v in given_]
                y = F.linear(*tensors).numpy()
            case "Relu":
                y = np.maximum(given_[0], 0)
            case "GlobalAveragePool":
                y = given_[0].mean((2, 3), keepdims=True)
            case "Flatten":
                y = given_[0].reshape(len(x), -1)
            case "Identity":
                y = given_[0]
        values[node.outputs[0]] = y
    return np.asarray(values["coarse"])


@pytest.mark.parametrize("low", [0, 50, 100])
def test_the_runtime_computes_what_the_integers_say(low: int) -> None:
    made, x = network(), samples()
    graph, input = graph_of(made)
    bits = fill(graph, input, ["coarse"], x, low)
    whole = quantized(graph, activation_ranges(graph, input, x), bits)
    (ours,) = Runner(whole, input, ["coarse"])(x)
    wanted = by_hand(whole, x)
    # a value between two steps may be rounded either way by what came before
    assert np.abs(ours - wanted).mean() < 0.01 * np.abs(wanted).max()
    (floats,) = Runner(graph, input, ["coarse"])(x)
    gap = np.sqrt(np.square(ours - floats).mean() / np.square(floats).mean())
    assert gap < (0.05 if not low else 0.5)


def test_every_tensor_is_rounded_once_and_a_relu_is_part_of_what_is_before_it() -> None:
    made, x = network(), samples()
    graph, input = graph_of(made)
    whole = quantized(
        graph, activation_ranges(graph, input, x), dict.fromkeys(weights_of(graph), 8)
    )
    rounds = [node.inputs[0] for node in whole.nodes if node.op == "QuantizeLinear"]
    assert sorted(rounds) == sorted(quantized_values(graph)) and len(rounds) == len(set(rounds))
    relus = {node.inputs[0]: node.outputs[0] for node in graph.nodes if node.op == "Relu"}
    assert relus and not set(relus) & set(rounds) and set(relus.values()) <= set(rounds)
    assert "coarse" not in rounds
    read = {value for node in whole.nodes for value in node.inputs}
    assert set(whole.constants) <= read


@pytest.mark.parametrize("space", ["mobile", "fbnetv5-small", "vit", "experts"])
def test_shipped_spaces_are_written_in_integers(space: str) -> None:
    from nas.grammar import sample

    grammar = Grammar.load(space)
    made = Network(sample(grammar, random.Random(0), input=(3, 32, 32)))
    made.train()(torch.randn(8, 3, 32, 32))
    plan = replace(made.eval().plan, precision=Precision(8, 50))
    x = torch.randn(16, 3, 32, 32)
    model = onnx.load_from_string(onnx_bytes(plan, made.tensors(), x))
    onnx.checker.check_model(model, full_check=True)
    name = next(iter(plan.outputs))
    (ours,) = Runner(
        in_integers(onnx_graph(plan, made.tensors()), plan, x), ("x", plan.input), [name]
    )(x.numpy())
    with torch.no_grad():
        wanted = made(x)[name].numpy()
    assert np.sqrt(np.square(ours - wanted).mean() / np.square(wanted).mean()) < 0.6


def test_weights_that_nothing_reads_are_the_first_to_have_four_bits() -> None:
    branches = "clone(2) [conv(8) relu; conv(8) relu] concat"
    made, x = network(f"net = {branches} conv(8, kernel=1) relu pool linear(4)"), samples()
    (after,) = (i for i, step in enumerate(made.plan.steps) if step.shapes[0].channels == 16)
    with torch.no_grad():  # of the second branch
        made.tensors()[after]["weight"][:, 8:] = 0
    graph, input = graph_of(made)
    first, second, *others = weights_of(graph)
    damages = sensitivities(graph, input, ["coarse"], x)
    assert damages[second] == 0 and min(damages[name] for name in (first, *others)) > 0
    bits = fill(graph, input, ["coarse"], x, 30)
    low = {name: int((each == 4).sum()) for name, each in bits.items()}
    assert low[second] >= 7 and low[first] == 0
    share = sum(graph.constants[w].size for w, _ in weights_of(graph).values())
    assert _low_weights(graph, bits) >= 0.3 * share


def _low_weights(graph: Graph, bits: Any) -> int:
    """How many weights have four bits."""
    sizes = {name: graph.constants[w].size for name, (w, _) in weights_of(graph).items()}
    return sum(sizes[name] * int((each == 4).sum()) // len(each) for name, each in bits.items())


@pytest.mark.parametrize("low", [0, 25, 50, 75, 100])
def test_as_many_weights_have_four_bits_as_is_said(low: int) -> None:
    made, x = network("net = conv(8) relu conv(32) relu conv(32) relu pool linear(10)"), samples()
    graph, input = graph_of(made)
    bits = fill(graph, input, ["coarse"], x, low)
    maps = weights_of(graph)
    whole = sum(graph.constants[weight].size for weight, _ in maps.values())
    channel = max(graph.constants[w].size // len(bits[name]) for name, (w, _) in maps.items())
    assert low / 100 * whole <= _low_weights(graph, bits) < low / 100 * whole + channel


POOLS = ["avg_pool", "avg_pool(2, stride=2, padding=0)", "avg_pool(3, stride=2, counted=0)"]


@pytest.mark.parametrize("pool", [*POOLS, "max_pool", "max_pool(2, stride=2, ceil=1)", "upsample"])
def test_what_lies_between_maps_runs(pool: str) -> None:
    made, x = network(f"net = conv(8) relu {pool} conv(4)"), samples(8)
    plan = replace(made.plan, precision=Precision(8))
    forward = RUNTIMES["onnxruntime"].load(plan, made.tensors(), x=torch.from_numpy(x))
    with torch.no_grad():
        wanted = made(torch.from_numpy(x))["coarse"]
    ours = forward(torch.from_numpy(x))["coarse"]
    assert float((ours - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()) < 0.06


@pytest.mark.parametrize("text", ["conv(4)", "linear(4) relu", "pool linear(3)", "conv(4) relu"])
def test_networks_of_one_map_run(text: str) -> None:
    made, x = network(f"net = {text}"), samples(8)
    graph, input = graph_of(made)
    ranges = activation_ranges(graph, input, x)
    whole = quantized(graph, ranges, dict.fromkeys(weights_of(graph), 8))
    (ours,) = Runner(whole, input, ["coarse"])(x)
    (floats,) = Runner(graph, input, ["coarse"])(x)
    assert np.abs(ours - floats).max() < 0.1 * np.abs(floats).max()


def test_what_nobody_learned_is_no_weight() -> None:
    made = network("net = conv(8) relu im2col(3, stride=2, padding=1) relu linear(16) relu pool")
    graph, _ = graph_of(made)
    sizes = [graph.constants[weight].size for weight, _ in weights_of(graph).values()]
    assert sizes == [8 * 3 * 9, 16 * 72]


def test_a_network_runs_in_one_precision() -> None:
    text = "net = clone(2) [precision(8) conv(4); precision(32) conv(4)] add"
    with pytest.raises(
        ShapeError, match="one network runs in 8 bits, 0 % of its weights 4, and in"
    ):
        network(text)
    assert network("net = precision(8) conv(4) precision(8)").plan.precision == Precision(8)


def test_what_is_filled_in_damages_less_than_what_is_drawn() -> None:
    text = "net = conv(8) relu " + "conv(12) batchnorm relu " * 5 + "pool linear(6)"
    rng, better = random.Random(0), 0
    for seed in range(6):
        made, x = network(text, seed), samples(seed=seed)
        graph, input = graph_of(made)
        ranges = activation_ranges(graph, input, x)
        (floats,) = Runner(graph, input, ["coarse"])(x)

        damages = []
        filled = fill(graph, input, ["coarse"], x, 50)
        sizes = {name: graph.constants[w].size for name, (w, _) in weights_of(graph).items()}
        low = _low_weights(graph, filled)
        assert low >= 0.5 * sum(sizes.values())
        drawn = dict.fromkeys(sizes, 8)
        for name in rng.sample(list(sizes), len(sizes)):
            if sum(size for n, size in sizes.items() if drawn[n] == 4) < low:
                drawn[name] = 4
        for bits in (filled, drawn):
            (ours,) = Runner(quantized(graph, ranges, bits), input, ["coarse"])(x)
            damages.append(np.square(ours - floats).mean())
        better += damages[0] <= damages[1]
    assert better >= 5


def test_a_range_that_is_not_finite_is_named() -> None:
    made, x = network(), samples()
    x[3, 0, 0, 0] = np.inf
    graph, input = graph_of(made)
    with pytest.raises(ValueError, match="is not finite on the samples"):
        activation_ranges(graph, input, x)


def test_an_expert_that_nothing_takes_has_a_range() -> None:
    made = network("net = conv(4) experts(4, 1, 4) pool linear(4)")
    with torch.no_grad():
        for step, tensors in zip(made.plan.steps, made.tensors(), strict=True):
            if step.operator.gated:  # one expert is taken, or another
                tensors["gate.weight"].zero_()[1:3] = torch.tensor([[1.0], [-1.0]])
    (graph, input), x = graph_of(made), samples()
    ranges = activation_ranges(graph, input, x)
    assert (0.0, 0.0) in ranges.values()
    whole = quantized(graph, ranges, fill(graph, input, ["coarse"], x, 0))
    (integers,), (floats,) = (Runner(each, input, ["coarse"])(x) for each in (whole, graph))
    assert np.square(integers - floats).mean() < 0.01 * np.square(floats).mean()


def test_one_sample_and_constant_ones_have_ranges() -> None:
    made = network()
    graph, input = graph_of(made)
    for x in (samples(1), np.zeros((4, *INPUT), np.float32)):
        whole = quantized(
            graph, activation_ranges(graph, input, x), dict.fromkeys(weights_of(graph), 8)
        )
        (ours,) = Runner(whole, input, ["coarse"])(x)
        assert np.isfinite(ours).all()


@pytest.mark.parametrize("more", ["", " positional", " layer_scale"])
def test_a_size_counts_bits_of_maps_alone(more: str) -> None:
    plan = network(f"net = conv(4, kernel=1){more} linear(2)").plan
    weights, channels = 4 * 3 + 2 * 8, 4 + 2
    biases = plan.params - weights
    assert plan.size_mb == pytest.approx(4 * (weights + biases) / 1e6)
    for low, share in ((0, 1.0), (50, 0.75), (100, 0.5)):
        packed: Plan = replace(plan, precision=Precision(8, low))
        assert packed.size_mb == pytest.approx((share * weights + 4 * (biases + channels)) / 1e6)
        assert packed.fingerprint != plan.fingerprint
        assert packed.memory_kb == plan.memory_kb / 4
