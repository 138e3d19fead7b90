"""A plan as an ONNX model, written directly: torch's exporter takes seconds, this milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas.op import Shape
from nas.op.graph import OPSET, Graph
from nas.op.linear import scaled_map
from nas.op.sequence import convolution_onnx
from nas.plan.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from nas.op.graph import Arrays

IR_VERSION = 8  # of files with opset 18
Before = Callable[[Graph, str], str]


def input_name(plan: Plan) -> str:
    """What the input is called: x, unless a result is."""
    names = ("x", "input", *(f"input_{number}" for number in range(len(plan.outputs))))
    return next(name for name in names if name not in plan.outputs)


def onnx_graph(
    plan: Plan, params: Sequence[Mapping[str, Tensor]], *, before: Before | None = None
) -> Graph:
    """The graph that computes a plan in evaluation, from its `input_name` to the names of its
    results. A norm that alone reads what a map gives is part of the map.

    params: for each step its tensors by local name, running statistics among them. before: writes
    what is done to samples first. Raises NoOnnxForm where an operator has none.
    """
    arrays: list[Arrays] = [
        {name: value.detach().cpu().numpy() for name, value in given.items()} for given in params
    ]
    folded = _fold_norms(plan, arrays)
    graph, convolutions = Graph(), plan.convolutions
    within = {i for steps in convolutions.values() for i in steps}
    x = input_name(plan)
    names = {0: before(graph, x) if before else x}
    for number, step in enumerate(plan.steps):
        graph.step = step.name
        if number in within:
            continue
        if number in folded:
            names[step.outputs[0]] = names[step.inputs[0]]
        elif number in convolutions:
            first, linear = convolutions[number]
            shape, args = plan.steps[first].shapes[0], plan.steps[first].args
            image = names[plan.steps[first].inputs[0]]
            written = convolution_onnx(graph, image, shape, arrays[linear], args)
            names[step.outputs[0]] = written
        else:
            values = tuple(names[i] for i in step.inputs)
            results = step.operator.onnx(graph, values, step.shapes, arrays[number], step.args)
            names.update(zip(step.outputs, results, strict=True))
    for name, value in plan.outputs.items():
        graph.result(names[value], name)
    return graph


def _fold_norms(plan: Plan, arrays: list[Arrays]) -> set[int]:
    """Put norms into the maps before them, where nothing else reads what those give; the numbers
    of their steps."""
    maker = {value: i for i, step in enumerate(plan.steps) for value in step.outputs}
    folded = set()
    for number, step in enumerate(plan.steps):
        before, affine = maker.get(step.inputs[0]), step.operator.affine(arrays[number], step.args)
        if before is None or affine is None or plan.readers[step.inputs[0]] != 1:
            continue
        if before in plan.convolutions:
            before = plan.convolutions[before][1]
            params: Arrays | None = scaled_map(arrays[before], *affine)
        else:
            made = plan.steps[before]
            params = made.operator.scaled(made.shapes, arrays[before], *affine)
        if params is not None:
            arrays[before] = params
            folded.add(number)
    return folded


def onnx_model(
    graph: Graph,
    inputs: Mapping[str, Shape],
    results: Mapping[str, Shape],
    *,
    bytes: bool = False,
    batch: int | None = None,
    opset: int = OPSET,
    facts: Mapping[str, str] | None = None,
) -> Any:
    """A graph from inputs to results as onnx.ModelProto.

    bytes: whether samples arrive as uint8, and not as float32. batch: samples in a batch, any
    number where it is None. facts: the model's metadata.
    """
    from onnx import TensorProto, helper, numpy_helper

    def values(shapes: Mapping[str, Shape], kind: int) -> list[Any]:
        rows: list[int | str] = ["batch" if batch is None else batch]
        return [
            helper.make_tensor_value_info(name, kind, [*rows, *shape.dims])
            for name, shape in shapes.items()
        ]

    nodes = [
        helper.make_node(node.op, node.inputs, node.outputs, node.outputs[0], **node.attributes)
        for node in graph.nodes
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            values(inputs, TensorProto.UINT8 if bytes else TensorProto.FLOAT),
            values(results, TensorProto.FLOAT),
            constants,
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSION,
        producer_name="nas",
    )
    helper.set_model_props(model, dict(facts or {}))
    return model


def session(data: bytes, threads: int = 1, profile: str = "") -> Any:
    """A model in ONNX Runtime on the CPU; in integers exact where x86 has no VNNI too, where sums
    of two products of bytes would be held in 16 bits, which they may exceed. `profile`: how the
    file begins in which it keeps what each kernel takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
