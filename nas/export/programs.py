"""A network as a file of other runtimes than ONNX's: torch.export's, OpenVINO's, ExecuTorch's,
LiteRT's."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.export.error import ExportError
from nas.export.judge import judge
from nas.export.onnx import BATCHES, Named, check, dynamic, plain_of, quiet, teaching, written
from nas.files import write
from nas.op.graph import OPSET

LARGEST_BATCH = 64  # for which ExecuTorch plans memory


def to_torch_export(
    folder: Path, *, prepared: bool = False, tested: bool = False, trust_code: bool = False
) -> Path:
    """Write model.pt2, a program for torch.export.load, of the network as model.py computes it.

    Its input, and `tested`, are as of `to_onnx`; its results are a tuple in the order of the tasks.
    Raises ExportError where torch cannot export the model, or what is read back differs by more
    than 1e-4.
    """
    taken, path = plain_of(Path(folder), trust_code, prepared), Path(folder) / "model.pt2"
    buffer = BytesIO()
    with quiet(), teaching(folder, "torch.export"):
        example = taken.batch(2)
        program = torch.export.export(
            Named(taken.model).eval(), (example,), dynamic_shapes=dynamic(True)
        )
        torch.export.save(program, buffer)
        buffer.seek(0)
        back = torch.export.load(buffer).module()

    def runs(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(taken.names, back(x), strict=True))

    check(path, "torch.export", runs, taken, BATCHES)
    write(path, buffer.getvalue())
    if tested:
        judge(path, runs, taken)
    return path


def to_openvino(
    folder: Path, *, prepared: bool = False, tested: bool = False, trust_code: bool = False
) -> Path:
    """Write openvino/model.xml and model.bin, of the network's ONNX form, run by OpenVINO on the
    CPU and compared; the .xml's path. Input, outputs and `tested` are as of `to_onnx`. Raises
    ExportError where OpenVINO is not installed, or differs from torch by more than 1e-4.
    """
    openvino: Any = _needed("openvino")
    taken, target = plain_of(Path(folder), trust_code, prepared), Path(folder) / "openvino"
    with teaching(folder, "OpenVINO"):
        core = openvino.Core()
        with quiet():
            data = written(taken, None, OPSET).SerializeToString()
        model = core.read_model(data)
        precise = {"INFERENCE_PRECISION_HINT": "f32"}  # where bf16 is quick it would be taken
        compiled = core.compile_model(model, "CPU", precise)

    def runs(x: Tensor) -> dict[str, Tensor]:
        results = compiled([x.numpy()])
        return {name: torch.from_numpy(results[name].copy()) for name in taken.names}

    check(target, "OpenVINO", runs, taken, BATCHES)
    with tempfile.TemporaryDirectory(prefix="nas-") as scratch:
        openvino.save_model(model, Path(scratch) / "model.xml", compress_to_fp16=False)
        target.mkdir(exist_ok=True)
        for name in ("model.bin", "model.xml"):
            write(target / name, (Path(scratch) / name).read_bytes())
    if tested:
        judge(target, runs, taken)
    return target / "model.xml"


def to_executorch(
    folder: Path, *, prepared: bool = False, tested: bool = False, trust_code: bool = False
) -> Path:
    """Write model.pte, for ExecuTorch with XNNPACK, for batches of up to 64; it is run in the
    runtime and compared. Its input, and `tested`, are as of `to_onnx`, its results are in the order
    of the tasks. Raises ExportError where ExecuTorch is not installed or cannot take the network,
    or differs from torch by more than 1e-4.
    """
    for part in ("runtime", "exir", "backends.xnnpack.partition.xnnpack_partitioner"):
        _needed("executorch", part)
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    taken, path = plain_of(Path(folder), trust_code, prepared), Path(folder) / "model.pte"
    with quiet(), teaching(folder, "ExecuTorch"):
        batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
        shapes = ({0: batch},)
        program = torch.export.export(
            Named(taken.model).eval(), (taken.batch(2),), dynamic_shapes=shapes
        )
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        data = bytes(lowered.to_executorch().buffer)
        method: Any = Runtime.get().load_program(data).load_method("forward")

    def runs(x: Tensor) -> dict[str, Tensor]:
        results = (result.clone() for result in method.execute([x]))
        return dict(zip(taken.names, results, strict=True))

    check(path, "ExecuTorch", runs, taken, BATCHES)
    write(path, data)
    if tested:
        judge(path, runs, taken)
    return path


def to_litert(
    folder: Path, *, prepared: bool = False, tested: bool = False, trust_code: bool = False
) -> Path:
    """Write model.tflite, for LiteRT (TensorFlow Lite), for one sample at a time, with which it is
    run in the runtime and compared. Its input, and `tested`, are as of `to_onnx`, its results are
    in the order of the tasks. Raises ExportError where LiteRT is not installed or cannot take the
    network, or differs from torch by more than 1e-4.
    """
    converter = _needed("litert_torch", extra="litert")
    interpreters = _needed("ai_edge_litert", "interpreter", extra="litert")
    taken, path = plain_of(Path(folder), trust_code, prepared), Path(folder) / "model.tflite"
    with tempfile.TemporaryDirectory(prefix="nas-") as scratch:
        file = Path(scratch) / path.name
        with quiet(), teaching(folder, "LiteRT"):
            converter.convert(Named(taken.model).eval(), (taken.batch(1),)).export(str(file))
            loaded = interpreters.Interpreter(model_path=str(file), num_threads=1)
            run_sample = loaded.get_signature_runner()
        data = file.read_bytes()
        (input,), given = run_sample.get_input_details(), run_sample.get_output_details()
        results = sorted(given, key=lambda name: int(name.split("_")[-1]))

    def runs(x: Tensor) -> dict[str, Tensor]:
        answers = [run_sample(**{input: sample.numpy()}) for sample in x.split(1)]
        return {
            name: torch.cat([torch.from_numpy(answer[result].copy()) for answer in answers])
            for name, result in zip(taken.names, results, strict=True)
        }

    check(path, "LiteRT", runs, taken, BATCHES)
    write(path, data)
    if tested:
        judge(path, runs, taken)
    return path


def _needed(package: str, part: str = "", extra: str = "") -> Any:
    from importlib import import_module

    try:
        return import_module(f"{package}.{part}".strip("."))
    except ImportError as error:
        raise ExportError(
            f"{package} is not here ({error}): pip install 'nas-engine[{extra or package}]'"
        ) from None
