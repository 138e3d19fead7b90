"""What runs a network: one record a runtime, in one table."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from nas.plan import Plan, run
from nas.plan.onnx import input_name, onnx_graph, onnx_model

Params = Sequence[Mapping[str, Tensor]]
Forward = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Runtime:
    """What runs a plan with its tensors: `load` makes, of these, a number of threads and a device,
    a function of x (batch, *input) that gives the results by name.

    package: what must be installed for it. extra: the extra of this package that installs it, ""
    where it is always there. gpu: whether it runs on the device named, and else on the CPU. onnx:
    whether it takes a network in ONNX, and so none with operators of the user's own.
    """

    name: str
    words: str
    package: str
    load: Callable[[Plan, Params, int, str], Forward]
    extra: str = ""
    gpu: bool = False
    onnx: bool = False

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


def onnx_bytes(plan: Plan, params: Params) -> bytes:
    """The plan in evaluation as an ONNX model, of x to its results. Raises NoOnnxForm."""
    graph = onnx_graph(plan, params)
    model = onnx_model(graph, {input_name(plan): plan.input}, plan.output_shapes())
    data: bytes = model.SerializeToString()
    return data


def session(data: bytes, threads: int = 1) -> Any:
    """A model in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def forward_of(loaded: Any) -> Forward:
    """What a session computes, from tensors to tensors by name."""
    (input,), names = loaded.get_inputs(), [result.name for result in loaded.get_outputs()]

    def forward(x: Tensor) -> dict[str, Tensor]:
        results = loaded.run(names, {input.name: x.cpu().numpy()})
        return {name: torch.from_numpy(y) for name, y in zip(names, results, strict=True)}

    return forward


def _onnxruntime(plan: Plan, params: Params, threads: int, device: str) -> Forward:
    return forward_of(session(onnx_bytes(plan, params), threads))


def _openvino(plan: Plan, params: Params, threads: int, device: str) -> Forward:
    import openvino

    core = openvino.Core()
    ways = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # where bf16 is quick it would be taken
    }
    loaded = core.compile_model(core.read_model(onnx_bytes(plan, params)), "CPU", ways)
    names = list(plan.outputs)

    def forward(x: Tensor) -> dict[str, Tensor]:
        results = loaded([x.numpy()])
        return {name: torch.from_numpy(results[name]) for name in names}

    return forward


def _torch(plan: Plan, params: Params, threads: int, device: str) -> Forward:
    return partial(run, plan, params)


def _compiled(plan: Plan, params: Params, threads: int, device: str) -> Forward:
    """Traced with the first batch, so that each network is code of its own: dynamo would compile
    what all share anew for each, and stops after eight."""
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
