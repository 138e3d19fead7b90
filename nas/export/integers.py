"""A folder's network in eight bits: calibrated and judged on its tasks' own data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nas.evaluate import Conditions, Fidelity
from nas.evaluate.scoring import scores, statistics_inputs
from nas.export.error import ExportError
from nas.export.folder import load
from nas.export.onnx import Plain, as_plain, teaching
from nas.export.preparing import preparing_onnx
from nas.files import write
from nas.measure.runtime import RANGED, in_integers
from nas.network import Network
from nas.op.graph import Graph, NoOnnxForm
from nas.plan import Plan, Precision
from nas.plan.onnx import onnx_graph, onnx_model, session
from nas.task import Task

FILE = "model.int8.onnx"


class Judged(NamedTuple):
    """A task's metric on its test split, in floats and in integers."""

    task: str
    metric: str
    floats: float
    integers: float


class InIntegers(NamedTuple):
    """What was written: the file, the metrics, and the sizes in MB that weights have in floats and
    in their bits."""

    path: Path
    judged: tuple[Judged, ...]
    floats_mb: float
    integers_mb: float


def to_int8(
    folder: Path, *, low: int | None = None, prepared: bool = False, trust_code: bool = False
) -> InIntegers:
    """Write model.int8.onnx: weights in eight bits for each channel, activations in eight for each
    tensor, with ranges of 256 training samples.

    low: how many percent of the weights are rounded to four bits (held in eight), those whose
    rounding does least; by default as the architecture says, or none. Input and outputs are as of
    `to_onnx`. Raises ExportError where the network has no form in ONNX; TaskError where its tasks'
    data cannot be read.
    """
    network, tasks, _, _ = load(folder, trust_code=trust_code)
    own = network.plan.precision.low if low is None else low
    floats, plan = (replace(network.plan, precision=Precision(*p)) for p in ((32, 0), (8, own)))
    taken, path = as_plain(network, tasks, prepared), Path(folder) / FILE
    x = statistics_inputs(tasks, RANGED, 0)
    try:
        graph = _beginning(taken, in_integers(onnx_graph(plan, network.tensors()), plan, x))
    except (NoOnnxForm, ValueError) as error:
        raise ExportError(f"{path} is not written: {error}") from None
    inputs = {taken.input_name: taken.input}
    model = onnx_model(graph, inputs, plan.output_shapes(), bytes=taken.bytes, facts=taken.facts)
    data = model.SerializeToString()
    with teaching(folder, "ONNX Runtime"):
        session(data)
    before, after = (_tested(p, network, tasks) for p in (floats, plan))
    judged = [Judged(t.name, t.metric, before[t.name], after[t.name]) for t in tasks]
    write(path, data)
    return InIntegers(path, tuple(judged), floats.size_mb, plan.size_mb)


def _beginning(taken: Plain, graph: Graph) -> Graph:
    """A network's graph with what is done to samples before it."""
    if taken.preparation is None:
        return graph
    whole = Graph()
    ready = preparing_onnx(taken.preparation, taken.input, taken.bytes)(whole, taken.input_name)
    whole.constants |= graph.constants
    for node in graph.nodes:
        inputs = (ready if value == taken.input_name else value for value in node.inputs)
        whole.nodes.append(node._replace(inputs=tuple(inputs)))
    return whole


def _tested(plan: Plan, network: Network, tasks: list[Task]) -> dict[str, float]:
    """Each task's metric on its test split."""
    conditions = Conditions(tasks, split="test")
    figures = scores(plan, network.tensors(), conditions, evaluator="", fidelity=Fidelity())
    metrics = {task.name: task.metric for task in tasks}
    return {m.task: m.value for m in figures if m.task and m.name == metrics[m.task]}
