"""What an exported file says of the test split, beside what torch says: for the card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nas.export.folder import note, read_record
from nas.export.plain_model import outputs
from nas.journal import JSON
from nas.task import Scorer

if TYPE_CHECKING:
    from nas.export.onnx import Plain

MOST = 2_000  # test samples that are looked at


def judge(
    path: Path, runs: Callable[[Tensor], dict[str, Tensor]], taken: Plain, at_once: int = 50
) -> None:
    """Note, in the network's folder, each task's metric by a file and by torch, on at most 2,000
    samples of the test split, as the file takes them. Raises TaskError where the data cannot be
    read."""
    figures = dict[str, JSON]()
    for task in taken.tasks:
        split = task.splits().test
        by_file, by_torch, n = Scorer(task), Scorer(task), min(MOST, len(split))
        for at in torch.arange(n).split(at_once):
            found = taken.preparation is not None
            x = split.inputs.as_found(at.numpy()) if found else split.x_at(at)
            y = split.y_at(at)
            by_file.add(runs(x)[task.name], y)
            by_torch.add(outputs(taken.model, x, taken.names)[task.name], y)
        values = [scorer.score()[task.metric] for scorer in (by_file, by_torch)]
        figures[f"{task.name}_{task.metric}"] = [*values, n]
    known = read_record(path.parent).source.get("exports")
    note(path.parent, exports={**(known if isinstance(known, dict) else {}), path.name: figures})
