"""A folder's model for other runtimes; each file is checked against torch before it is there."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.events import Listener, Told
from nas.export.error import ExportError
from nas.export.folder import MODEL, load
from nas.export.judge import judge
from nas.export.plain_model import difference, outputs, plain
from nas.export.preparing import Raw, one_preparation, preparing_onnx
from nas.files import write
from nas.measure.runtime import forward_of
from nas.network import Network
from nas.op import Shape
from nas.op.graph import OPSET, NoOnnxForm
from nas.plan.onnx import input_name, onnx_graph, onnx_model, session
from nas.task import Task
from nas.task.preparation import BYTES, Preparation

TOLERANCE = 1e-4  # in shares of the largest output, where that is above 1
BATCHES = (1, 2, 7)

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
    opset: int = OPSET,
    dynamic_batch: bool = True,
    prepared: bool = False,
    tested: bool = False,
    trust_code: bool = False,
    listener: Listener = lambda event: None,
) -> Path:
    """Write model.onnx, of the network as model.py computes it with norms folded into what is
    before them, and give its path.

    Input `x` (`input` where a task has that name) is (batch, *input), or (1, *input) where
    `dynamic_batch` is off: samples as they are found, bytes of pictures among them, or with
    `prepared`, and where tasks differ in their preparation, as model.py takes them. The outputs
    have the names of the tasks; classes and preparation are in the metadata. Where an operator of
    the user's own has no form in ONNX torch's exporter writes the file, and `listener` hears of it.
    With `tested` its metrics on the test split come onto the card beside torch's.
    Raises ExportError where it cannot, or ONNX Runtime differs from torch by more than 1e-4.
    """
    import onnx

    taken, path = plain_of(Path(folder), trust_code, prepared), Path(folder) / "model.onnx"
    batch = None if dynamic_batch else 1
    with quiet(), teaching(folder, "ONNX"):
        model = written(taken, batch, opset, listener)
        onnx.helper.set_model_props(model, taken.facts)
        known = next(each.version for each in model.opset_import if not each.domain)
        if known == opset:
            onnx.checker.check_model(model, full_check=True)
            data = model.SerializeToString()
            runs = forward_of(session(data))
    if known != opset:
        raise ExportError(
            f"{path} is not written: it can be of opset {known}, and {opset} was asked for, into "
            f"which this model cannot be converted; ask for {known}"
        )
    check(path, "ONNX Runtime", runs, taken, BATCHES if dynamic_batch else (1,))
    write(path, data)
    if tested:
        judge(path, runs, taken, at_once=50 if dynamic_batch else 1)
    return path


def written(
    taken: Plain, batch: int | None, opset: int, listener: Listener = lambda event: None
) -> Any:
    """The model as its operators write themselves, in `opset` or the least that holds them; where
    one has no form, which is told, as torch's exporter writes it."""
    try:
        return _by_operators(taken, batch, opset)
    except NoOnnxForm as reason:
        listener(Told(f"{reason}: torch's exporter writes the file, which takes longer"))
        return _by_torch(taken, batch, opset)


def _by_operators(taken: Plain, batch: int | None, opset: int) -> Any:
    network, preparation = taken.network, taken.preparation
    before = None if preparation is None else preparing_onnx(preparation, taken.input, taken.bytes)
    graph = onnx_graph(network.plan, network.tensors(), before=before)
    return onnx_model(
        graph,
        {taken.input_name: taken.input},
        network.plan.output_shapes(),
        bytes=taken.bytes,
        batch=batch,
        opset=max(opset, OPSET),
    )


def _by_torch(taken: Plain, batch: int | None, opset: int) -> Any:
    """The model as torch's exporter writes it, which knows what a user's operator computes."""
    program: Any = torch.onnx.export(
        Named(taken.model).eval(),
        (taken.batch(2 if batch is None else batch),),
        dynamo=True,
        opset_version=opset,
        verbose=False,
        input_names=[taken.input_name],
        output_names=list(taken.names),
        dynamic_shapes=dynamic(batch is None),
    )
    return program.model_proto


class Plain(NamedTuple):
    """A folder's network, the same as a plain model in eval mode that prepares samples where there
    is a preparation, and what is to be known of it."""

    network: Network
    model: nn.Module
    preparation: Preparation | None
    facts: dict[str, str]
    tasks: Sequence[Task]

    @property
    def input(self) -> Shape:
        """Of a sample as the model takes it."""
        input = self.network.plan.input
        found = self.preparation.found(input.dims) if self.preparation else input.dims
        return Shape(input.kind, found)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the results, in order."""
        return tuple(self.network.plan.outputs)

    @property
    def input_name(self) -> str:
        return input_name(self.network.plan)

    @property
    def bytes(self) -> bool:
        """Whether samples are bytes, and else float32."""
        return self.preparation is not None and self.preparation.scale == BYTES

    def batch(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Random samples."""
        if self.bytes:
            shape = (n, *self.input.dims)
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return torch.randn(n, *self.input.dims, generator=generator)


def plain_of(folder: Path, trust_code: bool, prepared: bool) -> Plain:
    """The folder's network as architecture.json and the weights have it; no code of it is run."""
    network, tasks, _, _ = load(folder, trust_code=trust_code)
    return as_plain(network, tasks, prepared)


def as_plain(network: Network, tasks: Sequence[Task], prepared: bool = False) -> Plain:
    """A network as a plain model, that takes samples as they are found or `prepared`."""
    model, known = plain(network), all(task.known for task in tasks)
    preparation = one_preparation(tasks) if known and not prepared else None
    facts = {f"classes {task.name}": json.dumps(task.classes) for task in tasks}
    facts["input"] = "prepared" if preparation is None else "as found"
    if preparation is not None:
        facts["preparation"] = json.dumps(asdict(preparation))
        model = Raw(model, preparation).eval()
    return Plain(network, model, preparation, facts, tasks)


def dynamic(batch: bool) -> Any:
    return ({0: torch.export.Dim("batch", min=1)},) if batch else None


@contextmanager
def teaching(folder: Path, format: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        first = (str(error).strip() or "no reason given").splitlines()[0]
        raise ExportError(
            f"{Path(folder) / MODEL} cannot go to {format}: {type(error).__name__}: {first}; "
            "an operator may need a fixed batch or one that the format lacks"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress, no warnings and no log from the exporter; its errors come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def check(path: Path, runtime: str, runs: Runs, taken: Plain, batches: Sequence[int]) -> None:
    """Raise ExportError where a runtime's results on random batches are not the model's."""
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        x = taken.batch(batch, generator)
        with teaching(path.parent, runtime):
            results = runs(x)
        gap = difference(results, outputs(taken.model, x, taken.names))
        if gap > TOLERANCE:
            raise ExportError(
                f"{path} is not written: on a batch of {batch} {runtime} differs from torch by "
                f"{gap:.2g}, and {TOLERANCE:g} is allowed; try another opset"
            )
