"""Labels that a teacher gives to samples which nobody labelled, as a file that a task names.

Wu et al. 2021, FBNetV5 (arXiv 2111.10007), section 4.1: a search for several tasks wants one set of
samples, on which a trained network of each task says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.events import Listener, Progress, silent
from nas.export.error import ExportError
from nas.export.folder import load
from nas.plan import run
from nas.task import TARGETS, Task
from nas.task.enlarge import COLOURS
from nas.task.loader import Loader
from nas.task.options import LEAST
from nas.task.preparation import BYTES, Preparation
from nas.task.relabel import Labels
from nas.task.samples import SPLITS, Prepared, Units
from nas.task.target import Target
from nas.user_code import user_network

Array = npt.NDArray[Any]
AT_ONCE, MOST = 2**22, 64  # values of samples, and samples, that go through a teacher together


@dataclass(frozen=True)
class Teacher:
    """What says something of samples as they are found: logits (n, ...) of x (n, *sample). Of a
    network it is known how its own samples were prepared, and of which shape it takes them."""

    name: str
    target: str  # a key of TARGETS
    classes: tuple[str, ...]  # () where logits alone say how many
    logits: Callable[[Tensor], Tensor]
    units: Units = ()
    preparation: Preparation | None = None
    input: tuple[int, ...] = ()


def network_teacher(
    folder: Path, task: str = "", *, device: str = "cpu", trust_code: bool = False
) -> Teacher:
    """A network that was extracted, by one of its tasks; it prepares samples as its own, pictures
    of another size are brought to what it takes. Raises ExportError."""
    network, tasks, _, _ = load(folder, trust_code=trust_code)
    chosen = [entry for entry in tasks if entry.name == (task or tasks[0].name)]
    if not chosen or (len(tasks) > 1 and not task):
        names = ", ".join(entry.name for entry in tasks)
        raise ExportError(
            f"{folder} is for {names or 'no task'}: say which of them with --head, not {task!r}"
        )
    (own,) = chosen
    known = own.known
    if known is None:
        raise ExportError(f"{folder} does not say how samples are prepared: extract it again")
    network.to(device)
    found = known.preparation.found(own.input)

    def logits(x: Tensor) -> Tensor:
        prepared = known.preparation(_fitted(x, found))
        return run(network.plan, network.tensors(), prepared)[own.name]

    given = str(folder), own.target, own.classes, logits, known.units
    return Teacher(*given, known.preparation, found)


def module_teacher(
    function: str, target: str, classes: Sequence[str] = (), *, device: str = "cpu"
) -> Teacher:
    """A module that a function of one's own returns (`./file.py:function`), which takes samples
    (n, channels, ...) as float32, bytes as shares of 255, and gives logits as heads of the target
    do. The function is run. Raises ExportError where it returns no module."""
    try:
        module = user_network(function)
    except ValueError as error:
        raise ExportError(str(error)) from None
    module.to(device).eval()

    def logits(x: Tensor) -> Tensor:
        given = module(x.float() / 255 if x.dtype == torch.uint8 else x.float())
        return one_result(given, function)

    return Teacher(function, target, tuple(classes), logits)


def label(
    task: Task, teacher: Teacher, path: Path, *, device: str = "cpu", listener: Listener = silent
) -> Labels:
    """What a teacher says of all samples of a task, written to an .npz file that a task of the same
    samples may name: `mask=./photos?labels=mask.npz`. Classes of which it sees too little to be
    learned are left out, and it chooses among the others. Raises ExportError where it cannot take
    the samples or says nothing of the kind."""
    if not isinstance(task.loader, Loader):
        raise ExportError(f"{task.name} was made in Python: give a task that is read from a source")
    if path.suffix != ".npz" or path.exists() or not path.absolute().parent.is_dir():
        fault = "is there already" if path.exists() else "is no .npz in a folder that there is"
        raise ExportError(f"{path}: {fault}; name a new file, as labels.npz")
    prepared, target = task.loader.prepared, TARGETS[teacher.target]
    if target.holds_out:
        raise ExportError(
            f"{teacher.name} tells apart {target.name}s that it did not learn, and says no "
            "classes: label by a network that was trained on classes"
        )
    raw = _as_found(prepared)
    _check(teacher, raw["train"], prepared.preparation)
    ys, width = _said(teacher, raw, device, listener)
    classes = teacher.classes or tuple(map(str, range(width - _beside(target))))
    seen = ys["train"] if prepared.parts is None else ys["train"][prepared.parts["train"]]
    learned = target.occurring(seen, len(classes))
    if not learned or (target.name == "class" and len(learned) < 2):
        raise ExportError(
            f"{teacher.name} is sure of nothing in these samples, or says the same of all: there "
            "would be nothing to learn"
        )
    if len(learned) < len(classes):
        columns = [*learned, *range(len(classes), width)]  # of classes, and what is beside them
        classes = tuple(classes[number] for number in learned)
        fewer = replace(teacher, classes=classes, logits=lambda x: teacher.logits(x)[:, columns])
        ys, _ = _said(fewer, raw, device, listener)
    if target.boxed:
        most = max(int((y[..., 0] >= 0).sum(1).max(initial=1)) for y in ys.values())
        ys = {split: y[:, :most] for split, y in ys.items()}  # the surest are the first
    labels = Labels(ys, teacher.target, classes, prepared.content, teacher.name)
    labels.save(path)
    return labels


def _said(
    teacher: Teacher, raw: Mapping[str, Array], device: str, listener: Listener
) -> tuple[dict[str, Array], int]:
    """What is said of every sample, by split, and of how many things logits tell."""
    done, total, width, ys = 0, sum(map(len, raw.values())), 0, dict[str, Array]()
    for split, x in raw.items():
        answers = []
        for part in _parts(x, prod(teacher.input)):
            answer, width = _answer(teacher, part, device)
            answers.append(answer)
            done += len(part)
            listener(Progress("labelling", done, total))
        ys[split] = np.concatenate(answers)
    return ys, width


def _answer(teacher: Teacher, x: Array, device: str) -> tuple[Array, int]:
    """What is said of x (n, *sample), and of how many things logits tell."""
    target, input = TARGETS[teacher.target], tuple(x.shape[1:])
    samples = torch.from_numpy(np.array(x, dtype=None if x.dtype == np.uint8 else np.float32))
    try:
        with torch.no_grad():
            logits = teacher.logits(samples.to(device)).float().cpu()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ExportError(
            f"{teacher.name} cannot take samples of {list(input)}: {type(error).__name__}: {error}"
        ) from None
    given = tuple(logits.shape[1:])
    seen = max(1, given[0] - _beside(target)) if given else 1
    wanted = target.logits(len(teacher.classes) or seen, input)
    fits = len(given) == len(wanted) and given[0] == wanted[0] and len(logits) == len(x)
    if not fits or not logits.isfinite().all():
        shape = ", ".join([str(len(x)), *(str(size) if size > 0 else "any" for size in wanted)])
        raise ExportError(
            f"{teacher.name}: what it says of {len(x)} samples is {list(logits.shape)}; as "
            f"{target.name} it must be ({shape}), of finite numbers: say another --predict or "
            "other --classes"
        )
    return target.answer(logits, input, teacher.units), given[0]


def _beside(target: Target) -> int:
    """How many numbers logits tell beside those of classes."""
    return target.logits(1, (1, 1, 1))[0] - 1


def _check(teacher: Teacher, x: Array, preparation: Preparation) -> None:
    """Raise ExportError where samples are of another kind than a network learned from."""
    own, shape = teacher.preparation, tuple(x.shape[1:])
    if own is None:
        return
    pictures = all(len(s) == 3 and min(s[1:]) >= LEAST for s in (shape, teacher.input))
    grown = shape[0] == teacher.input[0] or (shape[0], teacher.input[0]) == (1, COLOURS)
    if own.table != preparation.table:
        raise ExportError(f"{teacher.name} learned from another table: columns must be the same")
    if shape != teacher.input and not (pictures and grown):
        raise ExportError(
            f"{teacher.name} takes samples of {list(teacher.input)}, and these are {list(shape)}"
        )
    if (own.scale == BYTES) != (x.dtype == np.uint8):
        raise ExportError(
            f"{teacher.name} learned from samples that are divided by {own.scale:g}, and these are "
            f"{x.dtype}: give both as bytes, or neither"
        )


def _as_found(prepared: Prepared) -> dict[str, Array]:
    """Every sample by the split in which it was given."""
    cut = prepared.parts or {}
    return {
        split: getattr(prepared.splits, split).inputs.raw
        for split in SPLITS
        if split == "train" or split not in cut
    }


def _parts(x: Array, taken: int) -> Iterator[Array]:
    """Some samples after others, as many as may go together where each becomes `taken` values."""
    step = max(1, min(MOST, AT_ONCE // max(taken, prod(x.shape[1:]))))
    for start in range(0, len(x), step):
        yield x[start : start + step]


def _fitted(x: Tensor, found: tuple[int, ...]) -> Tensor:
    """Samples (n, ...) of the shape that a network takes; pictures are brought to it."""
    shape = tuple(x.shape[1:])
    if shape == found:
        return x
    sized = F.interpolate(
        x.float(), size=found[1:], mode="bilinear", align_corners=False, antialias=True
    )
    return sized.repeat_interleave(found[0] // shape[0], dim=1)


def one_result(given: Any, function: str) -> Tensor:
    """The logits among what a module gives: a tensor, `logits`, `out`, or the only one there is."""
    given = getattr(given, "logits", given)
    kind = type(given).__name__
    if isinstance(given, Mapping):
        kind += f" of {', '.join(map(str, given))}"
        only = next(iter(given.values())) if len(given) == 1 else None
        given = given.get("logits", given.get("out", only))
    if not isinstance(given, Tensor):
        raise ExportError(
            f"{function} gives a {kind}; let it give a tensor of logits, or a dict of one"
        )
    return given
