"""A task: input, target, classes, head, metric, and where the data comes from.

A task is loaded from a shipped definition (`digits`), from a definition of the user's own
(`./mine.toml`) or from data alone (`mine=data.npz`), whose target and classes are then inferred.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nas.task.augment import fault_of
from nas.task.definition import PATHS, Asked, Definition, nameless
from nas.task.enlarge import read_shape, shape_for_all
from nas.task.error import TaskError
from nas.task.loader import PREFIX, Loader, shipped_functions, shipped_tasks
from nas.task.preparation import Preparation
from nas.task.samples import Splits, Units
from nas.task.suited import class_weights, sample_weights, usual_augmentation
from nas.task.target import TARGETS, Head

if TYPE_CHECKING:
    from torch import Tensor

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
CODE = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)")


class Known(NamedTuple):
    """What is known of a task where its data is not at hand."""

    preparation: Preparation
    units: Units = ()


@dataclass(frozen=True)
class Task:
    """One thing a network learns; the data is read when `splits` is first called."""

    name: str
    input: tuple[int, ...]  # without the batch axis, e.g. (1, 8, 8)
    target: str  # a key of TARGETS
    classes: tuple[str, ...]  # class names, in the order of the logits
    head: Head
    metric: str  # the primary one, a key of METRICS
    source: str
    licence: str
    spec: str  # what `load` takes to find this task again, from any folder
    loader: Callable[[], Splits] = field(repr=False, compare=False)
    title: str = field(default="", repr=False, compare=False)
    weight: float = field(default=1.0, repr=False)  # of its loss among those of other tasks
    own: str = ""  # a metric of the user's own, as file.py:function or module:function
    augment: tuple[str, ...] | None = field(default=None, compare=False)  # None: what suits it
    balance: Literal["", "weights", "sampler"] = ""  # what is done about unequal classes
    known: Known | None = field(default=None, repr=False, compare=False)  # without the data
    alike: str = field(default="", repr=False)  # the spec of another task, which it is cut as

    @staticmethod
    def load(spec: str, *, trust_code: bool = False) -> Task:
        """The task `spec` names: a shipped word, a path of a TOML file, or name=source; after each
        may come how it is to be read, as `scenes-detect?size=64`.

        Raises TaskError, also when reading the data would run the user's code unallowed.
        """
        name, equals, source = spec.partition("=")
        if equals and "/" not in name and "?" not in name:
            return _from_source(_named(name, spec), source, trust_code)
        word, mark, query = spec.partition("?")
        if "/" in word or word.endswith(".toml"):
            path = _existing(word, Path.cwd())
            return _from_toml(path, f"{path}{mark}{query}", query, trust_code)
        return _from_toml(_shipped_task(word), spec, query, trust_code)

    def enlarged(self, to: tuple[int, ...], *, trust_code: bool = False) -> Task:
        """The same with pictures of another shape."""
        mark = "&" if "?" in self.spec else "?"
        return Task.load(f"{self.spec}{mark}to={'x'.join(map(str, to))}", trust_code=trust_code)

    @property
    def own_metric(self) -> str:
        """The name of the user's own metric, "" where there is none."""
        return self.own.rpartition(":")[2]

    @property
    def preparation(self) -> Preparation:
        """What is done to its samples before a network takes them."""
        return self.known.preparation if self.known else self.splits().train.inputs.preparation

    @property
    def units(self) -> Units:
        """Mean and deviation of each number that it predicts, () where it predicts none."""
        if not TARGETS[self.target].scaled:
            return ()
        return self.known.units if self.known else self.splits().units

    @cached_property
    def augmentation(self) -> tuple[str, ...]:
        """How its training samples are augmented; raises TaskError where they cannot be so."""
        if self.augment is None:
            return usual_augmentation(self.splits(), TARGETS[self.target], len(self.classes))
        fault = fault_of(self.augment, self.input, TARGETS[self.target], self.preparation)
        if fault:
            raise TaskError(f"{self.name}: augment: {fault}")
        return self.augment

    @cached_property
    def class_weights(self) -> Tensor | None:
        """(classes,) by which losses are weighted, if they are."""
        if self.balance != "weights":
            return None
        return class_weights(self.splits(), TARGETS[self.target], len(self.classes), self.name)

    def sample_weights(self) -> Tensor:
        """(n,) how often each training sample is drawn, relatively, so that classes are alike."""
        return sample_weights(self.splits(), TARGETS[self.target], self.name)

    def splits(self) -> Splits:
        """Train, valid and test in memory; the same object at every call."""
        read = self.loader()
        shape = read.train.inputs.shape
        if shape != self.input:
            raise TaskError(
                f"{self.spec}: input = {list(self.input)}, but the data has {list(shape)}; "
                f"the two must agree: write input = {list(shape)}"
            )
        return read

    def describe(self) -> str:
        """A few lines for a person: input, classes, splits, balance, preparation, source."""
        read = self.splits()
        what = "numbers" if TARGETS[self.target].scaled else "classes"
        sizes = f"{len(read.train)} train, {len(read.valid)} valid, {len(read.test)} test"
        rows = {
            self.name: self.title or self.spec,
            "input": " x ".join(map(str, self.input)),
            "target": f"{self.target}, {len(self.classes)} {what}: {_listed(self.classes)}",
            "splits": sizes,
            "balance": _balance(self),
            "memory": f"of train {read.train.inputs.memory}",
            "prepared": "; ".join(read.notes) or "as given",
            "augmented": ", ".join(self.augmentation) or "not",
            "head": f"reads {', '.join(self.head.reads)}: {self.head.term}",
            "metric": ", ".join(filter(None, (self.metric, self.own))),
            "source": self.source,
            "licence": self.licence,
        }
        width = max(map(len, rows))
        return "\n".join(f"{key:<{width}}  {value}" for key, value in rows.items())


def load_tasks(specs: Sequence[str], *, trust_code: bool = False) -> list[Task]:
    """The tasks that specs name. Where two have the same samples, they are cut alike, as the first
    is, at whichever size, so that no task learns from what another is validated with; where
    pictures differ in size, the smaller are enlarged. Raises TaskError."""
    loaded, tasks = [Task.load(spec, trust_code=trust_code) for spec in specs], list[Task]()
    to = shape_for_all([task.input for task in loaded])
    while loaded:
        task = loaded.pop(0)
        if to and task.input != to:
            task = task.enlarged(to, trust_code=trust_code)
        tasks.append(_cut_alike(task, tasks) if len(specs) > 1 else task)
    return _augmented_alike(tasks)


def _augmented_alike(tasks: Sequence[Task]) -> list[Task]:
    """Where nothing is asked for, tasks of the same samples are augmented as one of them asks, or
    by what suits all of them."""
    by_content: dict[str, list[Task]] = {}
    for task in tasks if len(tasks) > 1 else ():
        by_content.setdefault(task.splits().content, []).append(task)
    changed = dict[str, Task]()
    for group in (group for group in by_content.values() if len(group) > 1):
        asked = next((task.augment for task in group if task.augment is not None), None)
        if asked is None:
            suited = [set(task.augmentation) for task in group]
            asked = tuple(n for n in group[0].augmentation if all(n in some for some in suited))
        for task in (task for task in group if task.augment is None):
            changed[task.name] = replace(task, augment=asked)
    return [changed.get(task.name, task) for task in tasks]


def _cut_alike(task: Task, others: Sequence[Task]) -> Task:
    own = task.loader
    for other in others:
        theirs = other.loader
        if isinstance(own, Loader) and isinstance(theirs, Loader) and own.shares_with(theirs):
            loader = replace(own, like=theirs)
            return replace(task, loader=loader, alike=other.alike or other.spec)
    return task


def _shipped_task(word: str) -> Path:
    known = shipped_tasks()
    if word in known:
        return known[word]
    if Path(word).exists():
        raise TaskError(nameless(word))
    close = get_close_matches(word, known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise TaskError(
        f"{word!r} is no shipped task. {hint}Shipped: {', '.join(known)}. "
        "Your own: mine=data.npz, mine=./folder, mine=package:function or ./mine.toml"
    )


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


def _located(text: str, base: Path, trust_code: bool) -> tuple[str, bool]:
    """A file or folder made absolute, or a function and True; code that ships is trusted."""
    if text.startswith(PREFIX):
        return text, False
    code = CODE.fullmatch(text)
    if not code:
        return str(_existing(text, base)), False
    module, function = code["module"], code["function"]
    if text in shipped_functions():
        return text, True
    if module.endswith(".py"):
        module = str(_existing(module, base))
    if not trust_code:
        raise TaskError(
            f"{text!r}: this task would run {function}() of {module}; "
            "code runs only where it is trusted: read it, then allow it with --trust-code "
            "(from Python trust_code=True)"
        )
    return f"{module}:{function}", True


def _from_source(name: str, text: str, trust_code: bool) -> Task:
    text, mark, query = text.partition("?")
    asked = Asked.read(query, f"{name}={text}?{query}")
    if text.endswith(".toml"):
        raise TaskError(f"{text!r}: a definition is read by its path alone: {text}")
    source, code = _located(text, Path.cwd(), trust_code)
    to = read_shape(asked.to, f"{name}={text}?{query}")
    paths = {key: getattr(asked, key) for key in ("labels", "trials") if getattr(asked, key)}
    for key, given in paths.items():
        paths[key] = str(_existing(given, Path.cwd()))
        if "&" in paths[key]:
            raise TaskError(f"{paths[key]!r}: a path after ? holds no &: rename it, or move it")
        query = query.replace(f"{key}={given}", f"{key}={paths[key]}")
    labels, options = (
        paths.get("labels", ""),
        replace(asked.options, trials=paths.get("trials", "")),
    )
    loader = Loader(source, code, asked.layout, options, asked.predict, to=to, labels=labels)
    target = TARGETS[loader.prepared.target]
    return Task(
        name=name,
        input=loader().train.inputs.shape,
        target=target.name,
        classes=loader.prepared.classes,
        head=target.head,
        metric=target.metrics[0].name,
        source=source,
        licence="not stated",
        spec=f"{name}={source}{mark}{query}",
        loader=loader,
        augment=asked.augmentation,
        balance=asked.balance,
    )


def _from_toml(path: Path, spec: str, query: str, trust_code: bool) -> Task:
    definition = Definition.read(path)
    if query:
        definition = definition.asked(Asked.read(query, spec), spec)
    loader = _loader(definition, path, trust_code)
    target = TARGETS[definition.target or loader.prepared.target]
    primary, metric, own = target.metrics[0].name, definition.metric, ""
    if metric and CODE.fullmatch(metric):
        own, _ = _located(metric, path.parent, trust_code)
    elif metric not in (None, primary):
        raise TaskError(
            f"{path}: metric = {metric!r} does not measure a target of {target.name!r}: write "
            f"metric = {primary!r}, or one of your own beside it as './file.py:function'"
        )
    return Task(
        name=_named(definition.name, str(path)),
        input=definition.input or loader().train.inputs.shape,
        target=target.name,
        classes=definition.classes or loader.prepared.classes,
        head=definition.head or target.head,
        metric=primary,
        source=definition.source,
        licence=definition.licence,
        spec=spec,
        loader=loader,
        title=definition.title,
        own=own,
        weight=definition.weight,
        augment=definition.augmentation,
        balance=definition.balance,
    )


def _loader(definition: Definition, path: Path, trust_code: bool) -> Loader:
    data = definition.data
    key = "path" if data.kind == "file" else "function"
    text = getattr(data, key)
    is_code = bool(CODE.fullmatch(text)) and not text.startswith(PREFIX)
    if is_code != (data.kind == "code") or not text:
        raise TaskError(f"{path}: data.{key} = {text!r}: kind {data.kind!r} needs a {key} there")
    source, code = _located(text, path.parent, trust_code)
    arguments = json.dumps(_arguments(data.arguments, path.parent), sort_keys=True)
    declared, to = (definition.target, definition.classes), read_shape(data.to, str(path))
    labels, trials = (
        str(_existing(given, path.parent)) if given else "" for given in (data.labels, data.trials)
    )
    options = replace(data.options, trials=trials)
    return Loader(source, code, data.layout, options, *declared, arguments, to=to, labels=labels)


def _arguments(given: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Arguments of a function, those that name a place relative to the definition made absolute."""
    return {
        name: str(_existing(value, base)) if name in PATHS and isinstance(value, str) else value
        for name, value in given.items()
    }


def _listed(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _balance(task: Task) -> str:
    target = TARGETS[task.target]
    prior = target.prior(task.splits().train.stored_y, len(task.classes))
    return target.balance(prior, task.classes)
