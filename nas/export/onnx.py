"""A folder's model for other runtimes; each file is checked against torch before it is there."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.export.code import ExportError
from nas.export.folder import MODEL, load
from nas.export.plain import difference, outputs, plain
from nas.export.preparing import Raw, one_preparation
from nas.files import write
from nas.op import Shape

BYTES = 255.0  # the scale of samples that are bytes
TOLERANCE = 1e-4  # in shares of the largest output, where that is above 1
BATCHES = (1, 5)

Runs = Callable[[Tensor], dict[str, Tensor]]


class Named(nn.Module):
    """A model whose results are a tuple in their order, each a tensor of its own."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        result = self.model(x)
        values = result.values() if isinstance(result, dict) else (result,)
        seen: list[Tensor] = []
        for value in values:
            seen.append(value.clone() if any(value is other for other in (x, *seen)) else value)
        return tuple(seen)


def to_onnx(
    folder: Path,
    *,
    opset: int = 18,
    dynamic_batch: bool = True,
    prepared: bool = False,
    trust_code: bool = False,
) -> Path:
    """Write model.onnx, of the network as model.py computes it, and give its path.

    Input `x` is (batch, *input), or (1, *input) where `dynamic_batch` is off: samples as they are
    found, bytes of pictures among them, or with `prepared`, and where tasks differ in their
    preparation, as model.py takes them. The outputs have the names of the tasks; classes and
    preparation are in the metadata. Raises ExportError where torch cannot export the model, or ONNX
    Runtime differs from it by more than 1e-4.
    """
    import onnx

    taken, path = _plain(Path(folder), trust_code, prepared), Path(folder) / "model.onnx"
    example = taken.batch(2 if dynamic_batch else 1)
    with _quiet(), _teaching(folder, "ONNX"):
        program: Any = torch.onnx.export(
            Named(taken.model).eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            verbose=False,
            input_names=["x"],
            output_names=list(taken.names),
            dynamic_shapes=_dynamic(dynamic_batch),
        )
        exported = program.model_proto
        onnx.helper.set_model_props(exported, taken.facts)
        onnx.checker.check_model(exported, full_check=True)
        data = exported.SerializeToString()
        runs = _runtime(data, taken.names)
    written = next(each.version for each in exported.opset_import if not each.domain)
    if written != opset:
        raise ExportError(
            f"{path} is not written: torch wrote opset {written}, and {opset} was asked for, into "
            f"which this model cannot be converted; ask for {written}"
        )
    _check(path, "ONNX Runtime", runs, taken, BATCHES if dynamic_batch else (1,))
    write(path, data)
    return path


def to_torch_export(folder: Path, *, prepared: bool = False, trust_code: bool = False) -> Path:
    """Write model.pt2, a program for torch.export.load, of the network as model.py computes it.

    Its input is as of `to_onnx`; its results are a tuple in the order of the tasks. Raises
    ExportError where torch cannot export the model, or what is read back differs by more than 1e-4.
    """
    taken, path = _plain(Path(folder), trust_code, prepared), Path(folder) / "model.pt2"
    buffer = BytesIO()
    with _quiet(), _teaching(folder, "torch.export"):
        example = taken.batch(2)
        program = torch.export.export(
            Named(taken.model).eval(), (example,), dynamic_shapes=_dynamic(True)
        )
        torch.export.save(program, buffer)
        buffer.seek(0)
        back = torch.export.load(buffer).module()

    def runs(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(taken.names, back(x), strict=True))

    _check(path, "torch.export", runs, taken, BATCHES)
    write(path, buffer.getvalue())
    return path


class Plain(NamedTuple):
    """A folder's model in eval mode, the shape and type of its input, its results' names in order,
    and what is to be known of it."""

    model: nn.Module
    input: Shape
    names: tuple[str, ...]
    bytes: bool  # whether samples are bytes, and else float32
    facts: dict[str, str]

    def batch(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Random samples."""
        if self.bytes:
            shape = (n, *self.input.dims)
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return torch.randn(n, *self.input.dims, generator=generator)


def _plain(folder: Path, trust_code: bool, prepared: bool) -> Plain:
    """The folder's network as architecture.json and the weights have it; no code of it is run."""
    network, tasks, _, _ = load(folder, trust_code=trust_code)
    model, known = plain(network), all(task.known for task in tasks)
    preparation = one_preparation(tasks) if known and not prepared else None
    facts = {f"classes {task.name}": json.dumps(task.classes) for task in tasks}
    facts["input"] = "prepared" if preparation is None else "as found"
    if preparation is not None:
        facts["preparation"] = json.dumps(asdict(preparation))
        model = Raw(model, preparation).eval()
    names = tuple(network.plan.outputs)
    as_bytes = preparation is not None and preparation.scale == BYTES
    return Plain(model, network.plan.input, names, as_bytes, facts)


def _dynamic(batch: bool) -> Any:
    return ({0: torch.export.Dim("batch", min=1)},) if batch else None


@contextmanager
def _teaching(folder: Path, format: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        first = (str(error).strip() or "no reason given").splitlines()[0]
        raise ExportError(
            f"{Path(folder) / MODEL} cannot go to {format}: {type(error).__name__}: {first}; "
            "an operator may need a fixed batch or one that the format lacks"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress, no warnings and no log from the exporter; its errors come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _runtime(data: bytes, names: Sequence[str]) -> Runs:
    """ONNX Runtime on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def runs(x: Tensor) -> dict[str, Tensor]:
        results = session.run(list(names), {"x": x.numpy()})
        return {name: torch.from_numpy(y) for name, y in zip(names, results, strict=True)}

    return runs


def _check(path: Path, runtime: str, runs: Runs, taken: Plain, batches: Sequence[int]) -> None:
    """Raise ExportError where a runtime's results on random batches are not the model's."""
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        x = taken.batch(batch, generator)
        with _teaching(path.parent, runtime):
            results = runs(x)
        gap = difference(results, outputs(taken.model, x, taken.names))
        if gap > TOLERANCE:
            raise ExportError(
                f"{path} is not written: on a batch of {batch} {runtime} differs from torch by "
                f"{gap:.2g}, and {TOLERANCE:g} is allowed; try another opset"
            )
