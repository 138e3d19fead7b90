"""A task: input, target, classes, head, metric, and where the data comes from.

A task is loaded from a shipped definition (`digits`), from a definition of the user's own
(`./mine.toml`) or from data alone (`mine=data.npz`), whose target and classes are then inferred.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from nas.task.prepare import Found

Target = Literal["class", "labels", "pixels"]
Metric = Literal["accuracy", "average_precision", "mean_iou"]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
CODE = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)")
REBUILT = ("addnist", "multnist", "language")  # kinds of data made of digits or words at hand
POOLED_HEAD = "pool linear(classes)"
DENSE_HEAD = (
    "[pointwise(32); pointwise(32); pointwise(32)] upsample_add batchnorm relu "
    "pointwise(classes, bias=1) upsample_to(height, width)"
)


class TaskError(ValueError):
    """A task that cannot be used as it is; the message names the value, the rule and the fix."""


@dataclass(frozen=True)
class Head:
    """What turns the trunk's outputs into logits."""

    reads: tuple[str, ...]  # names of the trunk's outputs, as ("coarse",)
    term: str  # in the grammar language; may use classes, height, width
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


HEADS = {
    "class": Head(("coarse",), POOLED_HEAD),
    "labels": Head(("coarse",), POOLED_HEAD),
    "pixels": Head(("fine", "middle", "coarse"), DENSE_HEAD),
}
PRIMARY: dict[str, Metric] = {
    "class": "accuracy",
    "labels": "average_precision",
    "pixels": "mean_iou",
}


@dataclass(frozen=True)
class Split:
    """Samples in memory."""

    x: Tensor  # (n, *input) float32, normalised
    y: Tensor  # class: (n,) int64; labels: (n, classes) float32; pixels: (n, h, w) int64

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Splits:
    """The three splits; `notes` say what was done to the data, a line each."""

    train: Split
    valid: Split
    test: Split
    notes: tuple[str, ...] = ()

    @cached_property
    def inputs(self) -> str:
        """A digest of every x: the same where two tasks have the same samples in the same order."""
        digest = hashlib.blake2b(digest_size=16)
        for split in (self.train, self.valid, self.test):
            digest.update(str(tuple(split.x.shape)).encode())
            digest.update(split.x.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Task:
    """One thing a network learns; the data is read when `splits` is first called."""

    name: str
    input: tuple[int, ...]  # without the batch axis, e.g. (1, 8, 8)
    target: Target
    classes: tuple[str, ...]  # class names, in the order of the logits
    head: Head
    metric: str  # the primary one, a key of METRICS
    source: str
    licence: str
    spec: str  # what `load` takes to find this task again, from any folder
    loader: Callable[[], Splits] = field(repr=False, compare=False)
    title: str = field(default="", repr=False, compare=False)

    @staticmethod
    def load(spec: str, *, trust_code: bool = False) -> Task:
        """The task `spec` names: a shipped word, a path of a TOML file, or name=source.

        Raises TaskError, also when reading the data would run the user's code unallowed.
        """
        name, equals, source = spec.partition("=")
        if equals and "/" not in name:
            return _from_source(_named(name, spec), source, trust_code)
        if "/" in spec or spec.endswith(".toml"):
            path = _existing(spec, Path.cwd())
            return _from_toml(path, str(path), trust_code)
        return _from_toml(_shipped_task(spec), spec, trust_code)

    def splits(self) -> Splits:
        """Train, valid and test in memory; the same object at every call."""
        found = self.loader()
        shape = tuple(found.train.x.shape[1:])
        if shape != self.input:
            raise TaskError(
                f"{self.spec}: input = {list(self.input)}, but the data has {list(shape)}; "
                f"the two must agree: write input = {list(shape)}"
            )
        return found

    def describe(self) -> str:
        """A few lines for a person: input, classes, splits, balance, preparation, source."""
        found = self.splits()
        sizes = f"{len(found.train)} train, {len(found.valid)} valid, {len(found.test)} test"
        rows = {
            self.name: self.title or self.spec,
            "input": " x ".join(map(str, self.input)),
            "target": f"{self.target}, {len(self.classes)} classes: {_listed(self.classes)}",
            "splits": sizes,
            "balance": _balance(self),
            "prepared": "; ".join(found.notes) or "as given",
            "head": f"reads {', '.join(self.head.reads)}: {self.head.term}",
            "metric": self.metric,
            "source": self.source,
            "licence": self.licence,
        }
        width = max(map(len, rows))
        return "\n".join(f"{key:<{width}}  {value}" for key, value in rows.items())


@dataclass(frozen=True)
class Loader:
    """Reads a task's data once; pickled without it, so that another process reads it anew."""

    kind: str  # a reader of nas.task.data, as in DataSource
    source: str = ""
    layout: str | None = None
    target: Target | None = None  # declared, or None to infer
    classes: tuple[str, ...] | None = None  # declared, or None to infer
    sizes: tuple[int, int, int] | None = None  # of a rebuilt set, as in DataSource
    seed: int = 0
    like: Loader | None = None  # of another task with the same samples, which are cut as there

    def __call__(self) -> Splits:
        return self.found.splits

    @cached_property
    def found(self) -> Found:
        from nas.task.data import read

        return read(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes; those of languages are known before any word is read."""
        if self.kind != "language":
            return self.classes or self.found.classes
        from nas.task.words import languages

        return self.classes or languages(self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        return Loader, tuple(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class DataSource:
    """The [data] table of a definition."""

    kind: Literal["digits", "scenes", "addnist", "multnist", "language", "file", "code"]
    path: str = ""  # an .npz or a folder, relative to the definition; of idx files or word lists
    function: str = ""  # of kind code: package.module:function or ./file.py:function
    layout: Literal["nf", "nhw", "ncl", "nlc", "nchw", "nhwc"] | None = None
    sizes: tuple[int, int, int] | None = None  # samples of a rebuilt set; None for as published
    seed: int = 0  # of a rebuilt set
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Definition:
    """A task as its TOML file says it; None is inferred from the data or from the target."""

    name: str
    data: DataSource
    title: str = ""
    source: str = "not stated"
    licence: str = "not stated"
    input: tuple[int, ...] | None = None
    target: Target | None = None
    classes: tuple[str, ...] | None = None
    metric: Metric | None = None
    head: Head | None = None
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


def load_tasks(specs: Sequence[str], *, trust_code: bool = False) -> list[Task]:
    """The tasks that specs name. Where two have the same samples, they are cut alike, as the first
    is, so that no task learns from what another is validated with. Raises TaskError."""
    tasks: list[Task] = []
    for spec in specs:
        task = Task.load(spec, trust_code=trust_code)
        tasks.append(_cut_alike(task, tasks))
    return tasks


def _cut_alike(task: Task, others: Sequence[Task]) -> Task:
    own = task.loader
    if not isinstance(own, Loader) or own.kind not in ("file", "code"):
        return task
    for other in others:
        theirs = other.loader
        if not isinstance(theirs, Loader) or theirs.kind not in ("file", "code"):
            continue
        if own.found.content == theirs.found.content:
            return replace(task, loader=replace(own, like=theirs))
    return task


def shipped(kind: str) -> Path:
    """The folder of the definitions that come with the package: "tasks", "search_spaces"."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_data" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_tasks() -> dict[str, Path]:
    """The shipped definitions by name."""
    return {path.stem: path for path in sorted(shipped("tasks").glob("*.toml"))}


def _shipped_task(word: str) -> Path:
    found = shipped_tasks()
    if word in found:
        return found[word]
    if Path(word).exists():
        raise TaskError(_nameless(word))
    close = get_close_matches(word, found, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise TaskError(
        f"{word!r} is no shipped task. {hint}Shipped: {', '.join(found)}. "
        "Your own: mine=data.npz, mine=./folder, mine=package:function or ./mine.toml"
    )


def _nameless(path: str) -> str:
    return f"{path!r} is data, not a definition; data of your own needs a name: mine={path}"


def _named(name: str, where: str) -> str:
    if not NAME.fullmatch(name):
        raise TaskError(
            f"{where}: {name!r} is no task name; a name is a letter, then letters, digits, "
            "- or _: choose one such as 'mine'"
        )
    return name


def _existing(text: str, base: Path) -> Path:
    path = (base / Path(text).expanduser()).resolve()
    if path.exists():
        return path
    raise TaskError(f"{text!r}: there is no {path}; a path is relative to {base}: correct it")


def _located(text: str, base: Path, trust_code: bool) -> tuple[str, str]:
    """(kind, source) of a file, a folder or a function, with every path made absolute."""
    code = CODE.fullmatch(text)
    if not code:
        return "file", str(_existing(text, base))
    module, function = code["module"], code["function"]
    if module.endswith(".py"):
        module = str(_existing(module, base))
    if not trust_code:
        raise TaskError(
            f"{text!r}: reading this data would run {function}() of {module}; "
            "code runs only where it is trusted: read it, then allow it with --trust-code "
            "(from Python trust_code=True)"
        )
    return "code", f"{module}:{function}"


def _from_source(name: str, text: str, trust_code: bool) -> Task:
    text, asked, layout = text.partition("?layout=")
    if text.endswith(".toml"):
        raise TaskError(f"{text!r}: a definition is read by its path alone: {text}")
    kind, source = _located(text, Path.cwd(), trust_code)
    loader = Loader(kind, source, layout or None)
    return Task(
        name=name,
        input=tuple(loader().train.x.shape[1:]),
        target=loader.found.target,
        classes=loader.found.classes,
        head=HEADS[loader.found.target],
        metric=PRIMARY[loader.found.target],
        source=source,
        licence="not stated",
        spec=f"{name}={source}{asked}{layout}",
        loader=loader,
    )


def _from_toml(path: Path, spec: str, trust_code: bool) -> Task:
    says = _definition(path)
    loader = _loader(says, path, trust_code)
    target = says.target or loader.found.target
    if says.metric not in (None, PRIMARY[target]):
        raise TaskError(
            f"{path}: metric = {says.metric!r} does not measure a target of {target!r}: "
            f"write metric = {PRIMARY[target]!r}"
        )
    return Task(
        name=_named(says.name, str(path)),
        input=says.input or tuple(loader().train.x.shape[1:]),
        target=target,
        classes=loader.names,
        head=says.head or HEADS[target],
        metric=PRIMARY[target],
        source=says.source,
        licence=says.licence,
        spec=spec,
        loader=loader,
        title=says.title,
    )


def _loader(says: Definition, path: Path, trust_code: bool) -> Loader:
    data = says.data
    if data.kind in ("digits", "scenes"):
        return Loader(data.kind, "", None, says.target, says.classes)
    if data.kind in REBUILT:
        folder = str(_existing(data.path, path.parent)) if data.path else ""
        return Loader(data.kind, folder, None, says.target, says.classes, data.sizes, data.seed)
    key = "path" if data.kind == "file" else "function"
    text = getattr(data, key)
    if bool(CODE.fullmatch(text)) != (data.kind == "code") or not text:
        raise TaskError(f"{path}: data.{key} = {text!r}: kind {data.kind!r} needs a {key} there")
    kind, source = _located(text, path.parent, trust_code)
    return Loader(kind, source, data.layout, says.target, says.classes)


def _definition(path: Path) -> Definition:
    """The definition in a TOML file; raises TaskError with the file and the key."""
    from pydantic import TypeAdapter, ValidationError

    if path.suffix != ".toml":
        raise TaskError(_nameless(str(path)))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return TypeAdapter(Definition).validate_python(table)
    except ValidationError as error:
        raise TaskError("\n".join(_explained(path, e) for e in error.errors())) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise TaskError(f"{path}: cannot be read as TOML: {error}; correct the file") from None


def _explained(path: Path, error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{path}: {key} is missing; every definition says it: add {key} = ..."
    if error["type"] == "unexpected_keyword_argument":
        known = [*Definition.__annotations__, *DataSource.__annotations__, "reads", "term"]
        close = get_close_matches(key.rpartition(".")[2], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "remove it"
        return f"{path}: {key} is no key of a definition; {hint}"
    return f"{path}: {key} = {error['input']!r}: {error['msg']}; correct the value"


def _listed(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _balance(task: Task) -> str:
    from nas.task.metrics import prior

    share = prior(task).tolist()
    low, high = share.index(min(share)), share.index(max(share))
    said = [f"{task.classes[i]!r} {share[i]:.1%}" for i in (low, high)]
    of = "pixels" if task.target == "pixels" else "samples"
    return f"of the training {of}, rarest {said[0]}, most frequent {said[1]}"
