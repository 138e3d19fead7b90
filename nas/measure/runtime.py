"""What runs a network: one record a runtime, in one table."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.lazy import torch
from nas.op.graph import Graph
from nas.plan import Plan, run
from nas.plan.onnx import input_name, onnx_graph, onnx_model, session
from nas.quantize import activation_ranges, fill, quantized

if TYPE_CHECKING:
    from torch import Tensor

Params: TypeAlias = "Sequence[Mapping[str, Tensor]]"
Forward: TypeAlias = "Callable[[Tensor], dict[str, Tensor]]"
RANGED, JUDGED = 256, 16  # samples at most that ranges are taken from, and damage is told on
DRAWN = 4  # random samples, where ranges are of none of anybody's


@dataclass(frozen=True)
class Runtime:
    """What runs a plan with its tensors; `loads` makes the function that `load` gives.

    package: what must be installed for it. extra: the extra of this package that installs it, ""
    where it is always there. gpu: whether it runs on the device named, and else on the CPU. onnx:
    whether it takes a network in ONNX, and so none with operators of the user's own.
    """

    name: str
    words: str
    package: str
    loads: Callable[[Plan, Params, int, str, Tensor | None], Forward]
    extra: str = ""
    gpu: bool = False
    onnx: bool = False

    def load(
        self,
        plan: Plan,
        params: Params,
        threads: int = 1,
        device: str = "cpu",
        x: Tensor | None = None,
    ) -> Forward:
        """A function of x (batch, *input) that gives the results by name. `x` here: samples that a
        plan in integers has its ranges from; random ones will do to time it."""
        return self.loads(plan, params, threads, device, x)

    @property
    def lacks(self) -> str:
        """Why it cannot run here and what to do, "" where it can."""
        if find_spec(self.package) is not None:
            return ""
        return (
            f"the runtime {self.name} needs {self.package}, which is not installed: "
            f"pip install 'nas-engine[{self.extra}]'"
        )

    @property
    def version(self) -> str:
        try:
            return f"{self.words} {version(self.package)}"
        except PackageNotFoundError:
            return self.words


def onnx_bytes(plan: Plan, params: Params, x: Tensor | None = None) -> bytes:
    """The plan in evaluation as an ONNX model, of x to its results, in integers where its precision
    says so; `x` (samples, *input) is what ranges are taken from. Raises NoOnnxForm."""
    graph = onnx_graph(plan, params)
    if plan.precision.bits < 32:
        graph = in_integers(graph, plan, x)
    model = onnx_model(graph, {input_name(plan): plan.input}, plan.output_shapes())
    data: bytes = model.SerializeToString()
    return data


def in_integers(graph: Graph, plan: Plan, x: Tensor | None = None) -> Graph:
    """A plan's graph quantized as its precision says."""
    if x is None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(DRAWN, *plan.input.dims, generator=generator)
    samples, input = x[:RANGED].float().cpu().numpy(), (input_name(plan), plan.input)
    ranges = activation_ranges(graph, input, samples)
    bits = fill(graph, input, list(plan.outputs), samples[:JUDGED], plan.precision.low)
    return quantized(graph, ranges, bits)


def forward_of(loaded: Any) -> Forward:
    """What a session computes, from tensors to tensors by name."""
    (input,), names = loaded.get_inputs(), [result.name for result in loaded.get_outputs()]

    def forward(x: Tensor) -> dict[str, Tensor]:
        results = loaded.run(names, {input.name: x.cpu().numpy()})
        return {name: torch.from_numpy(y) for name, y in zip(names, results, strict=True)}

    return forward


def _onnxruntime(
    plan: Plan, params: Params, threads: int, device: str, x: Tensor | None
) -> Forward:
    return forward_of(session(onnx_bytes(plan, params, x), threads))


def _openvino(plan: Plan, params: Params, threads: int, device: str, x: Tensor | None) -> Forward:
    import openvino

    core = openvino.Core()
    ways = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # where bf16 is quick it would be taken
    }
    loaded = core.compile_model(core.read_model(onnx_bytes(plan, params, x)), "CPU", ways)
    names = list(plan.outputs)

    def forward(x: Tensor) -> dict[str, Tensor]:
        results = loaded([x.numpy()])
        return {name: torch.from_numpy(results[name]) for name in names}

    return forward


def _in_floats(plan: Plan) -> None:
    """Raise ValueError for a plan that runs in integers."""
    if plan.precision.bits < 32:
        raise ValueError(f"torch runs no network of {plan.precision}: onnxruntime does")


def _torch(plan: Plan, params: Params, threads: int, device: str, x: Tensor | None) -> Forward:
    _in_floats(plan)
    return partial(run, plan, params)


def _compiled(
    plan: Plan, params: Params, threads: int, device: str, x: Tensor | None = None
) -> Forward:
    """Traced with the first batch, so that each network is code of its own: dynamo would compile
    what all share anew for each, and stops after eight."""
    _in_floats(plan)
    compiled: list[Forward] = []

    def forward(x: Tensor) -> dict[str, Tensor]:
        if not compiled:
            from torch.fx.experimental.proxy_tensor import make_fx

            traced: Any = torch.compile(make_fx(partial(run, plan, params))(x), dynamic=False)
            compiled.append(traced)
        return compiled[0](x)

    return forward


RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime("onnxruntime", "ONNX Runtime", "onnxruntime", _onnxruntime, onnx=True),
        Runtime("torch", "torch", "torch", _torch, gpu=True),
        Runtime("torch.compile", "torch.compile", "torch", _compiled, gpu=True),
        Runtime("openvino", "OpenVINO", "openvino", _openvino, extra="openvino", onnx=True),
    )
}


def usual(device: str, written: bool = True) -> str:
    """The runtime by which latency is measured where nothing is said: ONNX Runtime on a CPU,
    torch on anything else, and for operators that are not `written` in ONNX."""
    return "onnxruntime" if device == "cpu" and written else "torch"


def device_name(device: str) -> str:
    """The device as a latency names it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device} {platform.processor() or platform.machine()}"
