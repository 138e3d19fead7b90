"""A folder's model for other runtimes; each file is checked against torch before it is there."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.export.code import ExportError
from nas.export.folder import MODEL, load
from nas.export.plain import difference, outputs, plain
from nas.files import write
from nas.op import Shape

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
    folder: Path, *, opset: int = 18, dynamic_batch: bool = True, trust_code: bool = False
) -> Path:
    """Write model.onnx, of the network as model.py computes it, and give its path.

    Input `x` is (batch, *input), or (1, *input) where `dynamic_batch` is off; the outputs have the
    names of the tasks. Raises ExportError where torch cannot export the model, or ONNX Runtime
    differs from it by more than 1e-4.
    """
    import onnx

    taken, path = _plain(Path(folder), trust_code), Path(folder) / "model.onnx"
    example = torch.zeros(2 if dynamic_batch else 1, *taken.input.dims)
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


def to_torch_export(folder: Path, *, trust_code: bool = False) -> Path:
    """Write model.pt2, a program for torch.export.load, of the network as model.py computes it.

    Its results are a tuple in the order of the tasks. Raises ExportError where torch cannot
    export the model, or what is read back differs from it by more than 1e-4.
    """
    taken, path = _plain(Path(folder), trust_code), Path(folder) / "model.pt2"
    buffer = BytesIO()
    with _quiet(), _teaching(folder, "torch.export"):
        example = torch.zeros(2, *taken.input.dims)
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
    """A folder's model in eval mode, the shape of its input, and its results' names in order."""

    model: nn.Module
    input: Shape
    names: tuple[str, ...]


def _plain(folder: Path, trust_code: bool) -> Plain:
    """The folder's network as architecture.json and the weights have it; no code of it is run."""
    network, _, _, _ = load(folder, trust_code=trust_code)
    return Plain(plain(network), network.plan.input, tuple(network.plan.outputs))


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
        x = torch.randn(batch, *taken.input.dims, generator=generator)
        with _teaching(path.parent, runtime):
            results = runs(x)
        gap = difference(results, outputs(taken.model, x, taken.names))
        if gap > TOLERANCE:
            raise ExportError(
                f"{path} is not written: on a batch of {batch} {runtime} differs from torch by "
                f"{gap:.2g}, and {TOLERANCE:g} is allowed; try another opset"
            )
