"""What reads a task's data, and where the definitions that come with the package lie."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from nas.task.definition import Definition
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.samples import Prepared, Splits

PREFIX = "hf:"  # of a data set of Hugging Face's hub, by name


@dataclass(frozen=True)
class Loader:
    """Reads a task's data once; pickled without it, so that another process reads it anew."""

    source: str  # a file, a folder, or module:function
    code: bool = False  # whether it is a function
    layout: str | None = None
    options: Options = field(default_factory=Options)
    target: str | None = None  # declared, or None to infer
    classes: tuple[str, ...] | None = None  # declared, or None to infer
    arguments: str = "{}"  # what the function is called with, as JSON
    like: Loader | None = None  # of another task with the same samples, which are cut as there
    to: tuple[int, ...] | None = None  # the shape that pictures are enlarged to
    labels: str = ""  # a file of what is to be said of the samples

    def __call__(self) -> Splits:
        return self.prepared.splits

    @cached_property
    def prepared(self) -> Prepared:
        """The data ready to train on; raises TaskError where it is not what was declared."""
        from nas.task.prepare import prepare
        from nas.task.relabel import Labels
        from nas.task.source import read_path
        from nas.task.source.code import read_function
        from nas.task.source.hub import read_hub

        if self.code:
            function = shipped_functions().get(self.source, self.source)
            samples = read_function(function, json.loads(self.arguments), self.options)
        elif self.source.startswith(PREFIX):
            samples = read_hub(self.source, self.options)
        else:
            samples = read_path(Path(self.source), self.options)
        labels = Labels.read(Path(self.labels), samples) if self.labels else None
        if labels:
            samples = labels.given_to(samples, Path(self.labels))
        layout, target = self.layout or samples.layout, self.target or samples.target
        named = samples.classes if target == samples.target or not samples.target else None
        if labels and named and self.classes not in (None, named):
            raise TaskError(
                f"{self.labels}: its classes are {', '.join(named)}, and the definition says "
                f"{', '.join(self.classes or ())}: leave classes out of it"
            )
        classes = self.classes or named
        prepared = prepare(
            replace(samples, layout=layout, classes=classes, target=target),
            self.like.prepared if self.like else None,
            self.to,
        )
        if labels:
            labels.check(prepared, Path(self.labels))
        for key, declared, actual in (
            ("target", self.target, prepared.target),
            ("classes", self.classes, prepared.classes),
        ):
            if declared not in (None, actual):
                raise TaskError(
                    f"{self.source}: {key} = {declared!r}, but the data has {actual!r}; "
                    f"the two must agree: correct {key} or the data"
                )
        return prepared

    def shares_with(self, other: Loader) -> bool:
        """Whether both read the same samples in the same order, of whichever size."""
        mine, theirs = self.prepared, other.prepared
        if self.source == other.source and self.options.trials != other.options.trials:
            raise TaskError(
                f"{self.source}: the trials of one task hold speakers out, and another would learn "
                "them: give both the same trials, or search them in runs of their own"
            )
        if mine.content == theirs.content:
            return True
        same = self.source == other.source and self.code == other.code and not self.code
        left_out = self.options.skip_corrupt, other.options.skip_corrupt
        counts = [[len(split.inputs.raw) for split in p.splits.every] for p in (mine, theirs)]
        cut = [p.parts is None or sorted(p.parts) for p in (mine, theirs)]
        return same and len(set(left_out)) == 1 and counts[0] == counts[1] and cut[0] == cut[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return Loader, tuple(getattr(self, field.name) for field in fields(self))


def shipped(kind: str) -> Path:
    """The folder of the definitions that come with the package: "tasks", "search_spaces"."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_data" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_tasks() -> dict[str, Path]:
    """The shipped definitions by name."""
    return {path.stem: path for path in sorted(shipped("tasks").glob("*.toml"))}


@cache
def shipped_functions() -> dict[str, str]:
    """The functions that shipped definitions name, which alone are trusted: where each is."""
    names = {Definition.read(path).data.function for path in shipped_tasks().values()} - {""}
    parts = {name: name.split(":") for name in names}
    return {n: f"{shipped('tasks') / module}.py:{of}" for n, (module, of) in parts.items()}
