"""A plan is what a network costs: dead code is free, sums are those of its graph."""

from __future__ import annotations

import random
from typing import Any

import networkx as nx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.grammar import Apply, Derivation, Grammar, derive, replay, sample
from nas.network import Network
from nas.op import OPERATORS, Phase, Shape, ShapeError
from nas.plan import Plan, plan, run
from nas.plan.writer import RESERVED
from nas.task import Head, Task

INPUT = (3, 32, 32)
SPACES = ["einspace", "fbnetv5-small", "mobile"]


def task(name: str, *reads: str, term: str = "pool linear(classes)", classes: int = 5) -> Task:
    return Task(
        name=name,
        input=INPUT,
        target="class",
        classes=tuple(map(str, range(classes))),
        head=Head(reads, term),
        metric="accuracy",
        source="",
        licence="",
        spec=name,
        loader=lambda: pytest.fail("a plan needs no data"),
    )


def fbnet(seed: int = 0) -> Derivation:
    return sample(Grammar.load("fbnetv5-small"), random.Random(seed), input=INPUT)


def fixed(text: str, input: tuple[int, ...] = INPUT) -> Plan:
    return plan(replay(Grammar.parse(text), [], input=input))


def feeds(graph: nx.DiGraph, results: list[str]) -> set[str]:
    return set(results).union(*(nx.ancestors(graph, result) for result in results))


def test_what_no_head_reads_is_left_out_and_free() -> None:
    whole, coarse = plan(fbnet()), plan(fbnet(), heads=[task("t", "coarse")])
    dropped = {step.name for step in whole.steps} - {step.name for step in coarse.steps}
    assert dropped
    graph = coarse.graph()
    last = next(
        name
        for name, step in ((s.name, s) for s in coarse.steps)
        if coarse.outputs["t"] in step.outputs
    )
    assert feeds(graph, [last]) >= {step.name for step in coarse.steps}
    kept = [step for step in whole.steps if step.name not in dropped]
    head = 80 * 5 + 5
    full = whole.graph()
    assert coarse.params == sum(full.nodes[s.name]["params"] for s in kept) + head
    assert coarse.flops == sum(full.nodes[s.name]["flops"] for s in kept) + 2 * 80 * 5


def test_head_that_reads_a_fine_output_drops_what_only_coarse_ones_need() -> None:
    fine, coarse = (plan(fbnet(), heads=[task("t", name)]) for name in ("p4", "coarse"))
    assert fine.params != coarse.params
    assert fine.params < plan(fbnet()).params + 16 * 5 + 5


def test_trunk_is_shared_by_two_heads() -> None:
    one, other = task("one", "coarse"), task("other", "fine", classes=7)
    both = plan(fbnet(), heads=[one, other])
    alone = [plan(fbnet(), heads=[t]) for t in (one, other)]
    assert both.output_shapes() == {"one": Shape.of((5,)), "other": Shape.of((7,))}
    names = [{step.name for step in p.steps} for p in (both, *alone)]
    assert names[0] == names[1] | names[2]
    assert both.params < alone[0].params + alone[1].params


def test_head_of_two_streams_reads_them_in_order() -> None:
    term = "[pointwise(8); pointwise(8)] upsample_add pointwise(classes) upsample_to(height, width)"
    made = plan(fbnet(), heads=[task("dense", "fine", "coarse", term=term)])
    assert made.output_shapes() == {"dense": Shape.of((5, 32, 32))}
    slots = [step.slot for step in made.steps if "head/dense/" in step.slot]
    assert len(set(slots)) == len(slots)


def test_head_that_reads_what_the_trunk_does_not_name_is_a_clear_error() -> None:
    said = (
        r"the head of task 'seg' reads 'finest', and fbnetv5-small names p4, .*: "
        r"put output\(finest\) into the grammar"
    )
    with pytest.raises(ValueError, match=said):
        plan(fbnet(), heads=[task("seg", "finest")])


@pytest.mark.parametrize("space", SPACES)
def test_graph_is_acyclic_and_sums_to_the_plan(space: str) -> None:
    grammar, rng = Grammar.load(space), random.Random(4)
    for _ in range(10):
        made = plan(sample(grammar, rng, input=INPUT))
        graph = made.graph()
        assert nx.is_directed_acyclic_graph(graph)
        assert graph.number_of_nodes() == len(made.steps) + 1
        assert sum(node["params"] for _, node in graph.nodes(data=True)) == made.params
        assert sum(node["flops"] for _, node in graph.nodes(data=True)) == made.flops
        assert {node["operator"] for _, node in graph.nodes(data=True)} <= {"input", *OPERATORS}
        assert graph.nodes["input"]["shape"] == "3x32x32"
        if made.steps:
            assert nx.descendants(graph, "input") == {step.name for step in made.steps}


def test_unnamed_results_are_named() -> None:
    assert fixed("net = conv(4)").outputs.keys() == {"coarse"}
    streams = fixed("net = clone(2) [conv(4); conv(8, stride=2)]")
    assert {k: str(v) for k, v in streams.output_shapes().items()} == {
        "stream0": "4x32x32",
        "stream1": "8x16x16",
        "fine": "4x32x32",
        "coarse": "8x16x16",
    }


def test_output_under_two_names_is_one_value() -> None:
    made = fixed("net = conv(4) output(a, b) relu output(c)")
    assert made.outputs["a"] == made.outputs["b"] != made.outputs["c"]


def test_network_of_nothing_is_its_input() -> None:
    made = fixed("net = identity")
    assert (made.steps, made.params, made.flops, made.depth) == ((), 0, 0, 0)
    assert made.output_shapes() == {"coarse": Shape.of(INPUT)}


def test_depth_counts_operators_with_parameters_on_the_longest_path() -> None:
    assert fixed("net = conv(4) relu conv(4)").depth == 2
    assert fixed("net = clone(2) [conv(4) conv(3); identity] add conv(2)").depth == 3


def test_costs_are_those_of_the_arithmetic() -> None:
    made = fixed("net = conv(8, bias=1) batchnorm pool linear(10)")
    assert made.params == (3 * 9 * 8 + 8) + 16 + (8 * 10 + 10)
    assert made.flops == 2 * (3 * 9 * 8 * 32 * 32 + 8 * 10)
    assert made.size_mb == pytest.approx(made.params * 4 / 1e6)


def test_derivation_is_planned_for_another_input() -> None:
    derivation = replay(Grammar.parse("net = conv(8) batchnorm"), [], input=INPUT)
    assert plan(derivation, (1, 8, 8)).output_shapes() == {"coarse": Shape.of((8, 8, 8))}
    with pytest.raises(ShapeError, match="conv cannot take 12"):
        plan(derivation, (12,))


def test_slots_are_equal_where_only_elastic_sizes_differ() -> None:
    grammar = Grammar.parse("net = mbconv({8, 16}, {1, 2}, kernel={3, 5}, expand={2, 4})")

    def slots(*labels: str) -> list[str]:
        made = plan(replay(grammar, labels, input=INPUT))
        return [step.slot for step in made.steps if step.params]

    base = slots("out=8", "stride=1", "kernel=3", "expand=2")
    assert slots("out=16", "stride=1", "kernel=5", "expand=4") == base
    assert slots("out=8", "stride=2", "kernel=3", "expand=2") != base


def test_no_step_is_named_as_what_a_module_calls_its_own() -> None:
    assert {name for name in dir(nn.Module) if not name.startswith("_")} <= RESERVED


def test_every_operator_applied_is_in_the_plan_but_those_without_work() -> None:
    def first(site: Any, options: Any) -> int:
        return 0

    derivation = derive(Grammar.load("mobile"), first, input=INPUT)
    applied = [t.operator.name for t in derivation.terms if isinstance(t, Apply)]
    planned = [step.operator.name for step in plan(derivation).steps]
    assert "mbconv" in applied
    assert not {"mbconv", "output", "identity", "clone"} & set(planned)
    assert planned.count("depthwise") == applied.count("mbconv")


def test_heads_are_tasks_not_names() -> None:
    with pytest.raises(TypeError, match=r"heads are tasks: nas.Task.load\('digits'\)"):
        plan(fbnet(), heads=["digits"])  # type: ignore[list-item]


def made(body: str, *labels: str) -> Plan:
    return plan(replay(Grammar.parse(f"net = {body}"), labels, input=(2, 4, 4)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("conv(3) relu", "conv(3) identity relu identity"),
        ("clone(2) [conv(3); relu conv(3)] add", "clone(2) [relu conv(3); conv(3)] add"),
        ("(conv(3) relu){2}", "conv(3) relu conv(3) relu"),
        ("clone(2) [conv(3) * 2] add", "clone(2) [conv(3); conv(3)] add"),
    ],
)
def test_plans_that_compute_the_same_have_one_fingerprint(one: str, other: str) -> None:
    assert made(one).fingerprint == made(other).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("conv(3) relu", "relu conv(3)"),
        ("conv(3)", "conv(4)"),
        ("clone(2) [conv(3); relu conv(3)] concat", "clone(2) [relu conv(3); conv(3)] concat"),
        ("clone(2) [conv(3); conv(3)] add", "conv(3) clone(2) [identity; identity] add"),
        ("conv(3) output(fine)", "conv(3) output(coarse)"),
    ],
)
def test_plans_that_compute_otherwise_differ_in_their_fingerprint(one: str, other: str) -> None:
    assert made(one).fingerprint != made(other).fingerprint


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("relu", "it has no parameters"),
        ("conv(3) identity batchnorm", "nothing in it is non-linear"),
        ("linear(1) softmax", "what comes out does not depend on the input"),
        ("conv(3) relu", ""),
        ("clone(2) [linear(1) softmax; linear(1)] add", ""),
    ],
)
def test_a_trivial_plan_says_why(body: str, reason: str) -> None:
    assert made(body).trivial == reason


WINDOWS = {
    "im2col(3, 1, 1) linear(16) col2im(8, 6) norm": ((3, 8, 6), 1),
    "im2col(3, 2, 1) linear(16, bias=0) col2im(4, 3)": ((3, 8, 6), 1),
    "im2col(4, 4, 0, 1) linear(8) col2im(2, 1, 1) relu": ((3, 8), 1),
    "im2col(3, 2, 1, 3) linear(8) col2im(2, 3, 3)": ((2, 4, 5, 6), 1),
    "clone [im2col(1, 2, 0) linear(4) col2im(4, 4); im2col(2, 2) linear(4) col2im(4, 4)] add": (
        (3, 8, 8),
        2,
    ),
    "im2col(3, 1, 1) linear(16) relu col2im(8, 8)": ((3, 8, 8), 0),
    "im2col(3, 1, 1) linear(16) col2im(6, 8)": ((3, 8, 6), 0),
    "im2col(3, 1, 1) linear(16) clone [col2im(8, 8); col2im(8, 8)] add": ((3, 8, 8), 0),
    "im2col(1, 1, 0) clone [linear(4) col2im(8, 8); identity linear(4) col2im(8, 8)] add": (
        (3, 8, 8),
        0,
    ),
    "im2col(3, 1, 1) linear(16) output(fine) col2im(8, 8) output(coarse)": ((3, 8, 8), 0),
}


@pytest.mark.parametrize("text", WINDOWS)
def test_windows_a_map_and_their_grid_run_as_one_convolution(text: str) -> None:
    input, convolutions = WINDOWS[text]
    network = Network(replay(Grammar.parse(f"net = {text}"), [], input=input))
    assert len(network.plan.convolutions) == convolutions
    x = torch.randn(2, *input, requires_grad=True)
    for training in (True, False):
        phase = Phase(training=training)
        one, parts = (
            run(network.plan, network.tensors(), x, phase, fused=fused) for fused in (True, False)
        )
        for name, result in one.items():
            torch.testing.assert_close(result, parts[name], rtol=1e-4, atol=1e-5)
    weights = [x, *network.parameters()]
    grads = [
        torch.autograd.grad(sum(r.pow(2).sum() for r in results.values()), weights)
        for results in (one, parts)
    ]
    for fused, apart in zip(*grads, strict=True):
        torch.testing.assert_close(fused, apart, rtol=1e-3, atol=1e-3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(x)
    assert counter.get_total_flops() == 2 * network.plan.flops


def test_steps_nested_deep_have_short_names_all_the_same_unique() -> None:
    derivation = sample(
        Grammar.load("einspace"), random.Random(1), input=(3, 16, 16), size=(100, 200)
    )
    names = [step.name for step in plan(derivation).steps]
    assert max(map(len, (term.path for term in derivation.terms if isinstance(term, Apply)))) > 100
    assert max(map(len, names)) <= 65
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


def test_an_argument_that_came_later_leaves_the_keys_of_kept_banks_alone() -> None:
    def slot(term: str) -> str:
        derivation = replay(Grammar.parse(f"net = {term}"), [], input=(3, 8, 8))
        return plan(derivation).steps[0].slot

    assert slot("conv(8)") == "conv:conv(stride=1,groups=1,bias=0,padding=-1)"
    assert slot("conv(8, dilation=1)") == slot("conv(8)") != slot("conv(8, dilation=2)")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("net = conv(4) batchnorm relu pool", 3 * 64 + 4 * 64),  # norm and relu write in place
        ("net = clone(2) [conv(4); conv(4)] add", 3 * 64 + 4 * 64 + 4 * 64),
        ("net = clone(2) [conv(5); conv(4)] concat", 5 * 64 + 4 * 64 + 9 * 64),
        ("net = conv(8, stride=2) clone(2) [conv(8); identity] add relu", 2 * 8 * 16),
        ("net = pool linear(5)", 3 * 64 + 3),
        ("net = tokens attention(1, size=2)", 2 * 64 * 3 + 64 * (4 * 2 + 64)),
    ],
)
def test_memory_is_what_is_alive_at_once(text: str, numbers: int) -> None:
    planned = plan(replay(Grammar.parse(f"{text} output(coarse)"), [], input=(3, 8, 8)))
    most = 3 * 64 + 8 * 16 if "stride=2" in text else 0
    assert planned.memory_kb == pytest.approx(4 * max(numbers, most) / 1e3)


@pytest.mark.parametrize("space", ["mobile", "fbnetv5-small", "einspace"])
def test_memory_is_at_least_what_each_step_reads_and_writes(space: str) -> None:
    grammar = Grammar.load(space)
    for seed in range(5):
        planned = plan(sample(grammar, random.Random(seed), input=(3, 16, 16)))
        each = [
            max(sum(x.elements for x in set(step.shapes)), planned.shapes[step.outputs[0]].elements)
            for step in planned.steps
            if len(set(step.inputs)) == 1
        ]
        everything = sum(shape.elements for shape in planned.shapes)
        scratch = max(step.operator.scratch(step.shapes, step.args) for step in planned.steps)
        assert max(each) <= planned.memory_kb * 1e3 / 4 <= everything + scratch
