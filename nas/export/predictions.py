"""What an extracted network says of files: pictures, or arrays of samples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nas.export.error import ExportError
from nas.export.folder import load
from nas.files import write
from nas.network import Network
from nas.plan import run
from nas.task import TARGETS, Task, TaskError
from nas.task.decode import Unreadable, decode
from nas.task.prepare import check_numbers, lay_out
from nas.task.sound import decode as decode_sound
from nas.task.source.tables import is_table
from nas.task.table import read_frame

AT_ONCE = 64  # samples of an array that go through a network together


class Prediction(NamedTuple):
    """What a network says of one sample: by task shares by class, the likeliest first, boxes, the
    surest first, or class numbers and others that are to be drawn."""

    sample: str  # a file, and its number where the file holds several
    tasks: dict[str, Any]
    targets: dict[str, str]  # what each task predicts, a key of TARGETS

    def words(self, task: str, most: int) -> str:
        """What is said for a task in a line, of classes the `most` likeliest."""
        return TARGETS[self.targets[task]].words(self.tasks[task], most)


def predict(
    folder: Path, files: Sequence[Path], *, trust_code: bool = False
) -> Iterator[Prediction]:
    """A prediction for each picture, each row of a table, or each sample of an .npy file.

    Raises ExportError for a network that does not know how its samples were prepared, and for a
    file that it cannot take.
    """
    network, tasks, _, _ = load(folder, trust_code=trust_code)
    unknown = [task.name for task in tasks if task.known is None]
    if unknown or not tasks:
        raise ExportError(
            f"{folder} does not say how samples of {', '.join(unknown) or 'any task'} are "
            "prepared, as networks of older versions: extract it again"
        )
    targets = {task.name: task.target for task in tasks}
    for file in files:
        for name, sample in _samples(file, tasks):
            yield Prediction(name, _said(network, tasks, sample), targets)


def _samples(file: Path, tasks: Sequence[Task]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each sample of a file with its name, as each task's network takes it."""
    if is_table(file):
        frame = read_frame(file)
        rows = {task.name: _rows(frame, task, file) for task in tasks}
        for number in range(len(frame)):
            sample = {name: x[number : number + 1] for name, x in rows.items()}
            yield f"{file}[{number}]", sample
        return
    if file.suffix != ".npy":
        yield str(file), {task.name: _opened(file, task) for task in tasks}
        return
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ExportError(f"{file}: is no array: {error}") from None
    if not array.ndim or not array.size:
        raise ExportError(f"{file}: holds no sample")
    for start in range(0, len(array), AT_ONCE):
        part = array[start : start + AT_ONCE]
        rows = {task.name: _array(part, task, file) for task in _taking(part, tasks)}
        for number in range(len(part)):
            sample = {name: x[number : number + 1] for name, x in rows.items()}
            yield f"{file}[{start + number}]", sample


def _taking(array: Any, tasks: Sequence[Task]) -> Sequence[Task]:
    """Those of the tasks that take samples of an array's shape; all where none does."""
    fits = []
    for task in tasks:
        assert task.known is not None
        preparation = task.known.preparation
        try:
            laid = lay_out(array, preparation.layout, task.name)
        except TaskError:
            continue
        if laid.shape[1:] == preparation.found(task.input):
            fits.append(task)
    return fits or tasks


def _opened(file: Path, task: Task) -> Tensor:
    assert task.known is not None
    picture = task.known.preparation.picture
    if sound := task.known.preparation.sound:
        wave = decode_sound(file, sound)
        if isinstance(wave, Unreadable):
            raise ExportError(f"{file}: is no readable recording: {wave.reason}")
        return _prepared(wave[None, None], "ncl", task, file)
    if picture is None:
        raise ExportError(
            f"{file}: {task.name} was not learned from pictures in files; give an .npy file of "
            f"samples laid out as {task.known.preparation.layout}"
        )
    pixels = decode(file, picture)
    if isinstance(pixels, Unreadable):
        raise ExportError(f"{file}: is no readable picture: {pixels.reason}")
    return _prepared(pixels[None], "nhw" if pixels.ndim == 2 else "nhwc", task, file)


def _rows(frame: Any, task: Task, file: Path) -> Tensor:
    assert task.known is not None
    table = task.known.preparation.table
    if table is None:
        raise ExportError(f"{file}: {task.name} was not learned from a table")
    return _prepared(table.encode(frame, str(file)), "nf", task, file)


def _array(array: Any, task: Task, file: Path) -> Tensor:
    assert task.known is not None
    return _prepared(np.asarray(array), task.known.preparation.layout, task, file)


def _prepared(array: Any, layout: str, task: Task, file: Path) -> Tensor:
    assert task.known is not None
    laid = lay_out(array, layout, str(file))
    found = task.known.preparation.found(task.input)
    if laid.shape[1:] != found:
        raise ExportError(
            f"{file}: a sample is {list(laid.shape[1:])}, and {task.name} takes {list(found)}"
        )
    check_numbers(laid, str(file))
    known = laid if laid.dtype == np.uint8 else laid.astype(np.float32)
    return task.known.preparation(torch.from_numpy(np.array(known)))


def _said(network: Network, tasks: Sequence[Task], sample: dict[str, Tensor]) -> dict[str, Any]:
    said = {}
    for task in (task for task in tasks if task.name in sample):
        with torch.no_grad():
            logits = run(network.plan, network.tensors(), sample[task.name])[task.name]
        said[task.name] = TARGETS[task.target].shown(logits[0].float(), task.classes, task.units)
    return said


def draw(numbers: Any, folder: Path, prediction: Prediction, task: str) -> Path:
    """Write class numbers (height, width) as a grey PNG, a class a grey, and other numbers as an
    .npy file, named for the sample; its path. Raises ExportError where there is such a file."""
    from io import BytesIO

    from PIL import Image

    stem, number = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", prediction.sample, re.S).groups()  # type: ignore[union-attr]
    classes = numbers.dtype.kind in "iu"
    kind = "png" if classes else "npy"
    name = f"{Path(stem).stem}{f'-{number}' if number else ''}.{task}.{kind}"
    if (folder / name).exists():
        raise ExportError(f"{folder / name} is there already: name another folder with --to")
    folder.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    if classes:
        deep = np.uint8 if numbers.max() < 256 else np.uint16
        Image.fromarray(numbers.astype(deep)).save(buffer, "PNG")
    else:
        np.save(buffer, numbers)
    write(folder / name, buffer.getvalue())
    return folder / name
