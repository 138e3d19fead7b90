"""A task as its TOML file says it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from nas.task.decode import Fit
from nas.task.error import TaskError
from nas.task.options import Options
from nas.task.spectrum import Features
from nas.task.target import TARGETS, Head

Layout: TypeAlias = Literal["nf", "nhw", "ncl", "nlc", "nchw", "nhwc"]
Balance: TypeAlias = Literal["", "weights", "sampler"]
STRICT: dict[str, Any] = {"extra": "forbid"}
PATHS = ("folder", "path")  # arguments of a function that are relative to the definition


@dataclass(frozen=True)
class DataSource:
    """The [data] table of a definition."""

    kind: Literal["file", "code"]
    path: str = ""  # an .npz or a folder, relative to the definition
    function: str = ""  # of kind code: package.module:function, ./file.py:function or a shipped one
    arguments: dict[str, Any] = field(default_factory=dict)  # what the function is called with
    layout: Layout | None = None
    input: str = ""  # which column is x
    target: str = ""  # which array or column is y; of pictures class or masks
    without: tuple[str, ...] = ()  # columns that are left out
    config: str = ""  # which of the configurations of a data set on the hub
    size: int | tuple[int, int] | None = None  # of pictures: a square's side, or height, width
    fit: Fit = "crop"
    skip_corrupt: bool = False  # whether pictures that cannot be read are left out
    to: str = ""  # a shape that pictures are enlarged to, as 3x32x32
    labels: str = ""  # an .npz file of y, relative to the definition, in place of the source's
    rate: int = 0  # of recordings, samples a second; 0 for their own, 16,000 at most
    seconds: float = 0  # of a recording that are taken; 0 for 2
    trim: bool = False  # whether silence around recordings is left out
    features: Features = "log-mel"  # what becomes of recordings
    bands: int = 0  # mel bands of these; 0 for 80, or below 16,000 samples a second 40
    trials: str = ""  # a file of pairs of recordings that are compared, relative to the definition
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @property
    def options(self) -> Options:
        """How the samples are to be read."""
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        given = self.input, self.target, self.without, self.config
        return Options(*given, size, self.fit, self.skip_corrupt, *_of_sound(self))


@dataclass(frozen=True)
class Asked:
    """What may be asked for after the source of a task: name=source?size=96&fit=stretch."""

    layout: Layout | None = None
    image: str = ""  # the same as input
    input: str = ""
    label: str = ""  # the same as target
    target: str = ""
    without: str = ""  # with commas between
    config: str = ""
    predict: Literal[tuple(TARGETS)] | None = None  # type: ignore[valid-type]
    size: int | None = None
    fit: Fit = "crop"
    skip_corrupt: bool = False
    augment: str = "auto"  # with commas between
    balance: Balance = ""
    to: str = ""  # a shape that pictures are enlarged to, as 3x32x32
    labels: str = ""  # an .npz file of y, in place of the source's
    rate: int = 0  # of recordings: see DataSource
    seconds: float = 0
    trim: bool = False
    features: Features = "log-mel"
    bands: int = 0
    trials: str = ""
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @property
    def augmentation(self) -> tuple[str, ...] | None:
        return _names(self.augment.split(","))

    @staticmethod
    def read(text: str, spec: str) -> Asked:
        """Raises TaskError naming what is wrong."""
        from pydantic import TypeAdapter, ValidationError

        pairs = [part.partition("=")[::2] for part in text.split("&") if part]
        try:
            return TypeAdapter(Asked).validate_python(dict(pairs))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise TaskError(
                f"{spec!r}: {key} = {first['input']!r}: {first['msg']}; after ? there may be "
                f"{', '.join(f.name for f in fields(Asked))}: mine=./photos?size=96&fit=stretch"
            ) from None

    @property
    def options(self) -> Options:
        size = None if self.size is None else (self.size, self.size)
        without = tuple(name for name in self.without.split(",") if name)
        input, target = self.input or self.image, self.target or self.label
        given = input, target, without, self.config, size, self.fit, self.skip_corrupt
        return Options(*given, *_of_sound(self))


def _of_sound(asked: DataSource | Asked) -> tuple[Any, ...]:
    """What is asked for of recordings."""
    given = asked.rate, asked.seconds, asked.trim, asked.features, asked.bands
    return *given, asked.trials


@dataclass(frozen=True)
class Definition:
    """None is inferred from the data or from the target."""

    name: str
    data: DataSource
    title: str = ""
    source: str = "not stated"
    licence: str = "not stated"
    input: tuple[int, ...] | None = None
    target: Literal[tuple(TARGETS)] | None = None  # type: ignore[valid-type]
    classes: tuple[str, ...] | None = None
    metric: str | None = None  # the target's own, or ./file.py:function of one's own beside it
    head: Head | None = None
    weight: float = 1.0  # of its loss among those of other tasks
    augment: str | tuple[str, ...] = "auto"  # none, or some of AUGMENTATIONS
    balance: Balance = ""  # weights of losses, or a sampler, by which classes are alike
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    @property
    def augmentation(self) -> tuple[str, ...] | None:
        return _names([self.augment] if isinstance(self.augment, str) else self.augment)

    def asked(self, asked: Asked, spec: str) -> Definition:
        """The same with samples of another size, augmented or balanced otherwise. Raises TaskError
        for anything else."""
        usual = Asked()
        names = [f.name for f in fields(Asked)]
        names = [name for name in names if getattr(asked, name) != getattr(usual, name)]
        able = ("size", "fit", "augment", "balance", "to")
        if wrong := [name for name in names if name not in able]:
            raise TaskError(
                f"{spec!r}: {wrong[0]} cannot be asked of a definition, which says it itself; "
                f"{', '.join(able)} may be"
            )
        data, input = self.data, self.input
        if asked.size is not None:
            input = None
            size = {"size": asked.size}
            code = data.kind == "code"
            if code and "size" not in data.arguments:
                raise TaskError(f"{spec!r}: {self.name} has one size: leave size out")
            changed = {"arguments": {**data.arguments, **size}} if code else size
            data = replace(data, **changed)
        if "fit" in names:
            data = replace(data, fit=asked.fit)
        if asked.to:
            data, input = replace(data, to=asked.to), None
        augment = tuple(asked.augment.split(",")) if "augment" in names else self.augment
        balance = asked.balance or self.balance
        return replace(self, data=data, input=input, augment=augment, balance=balance)

    @staticmethod
    def read(path: Path) -> Definition:
        """The definition in a file; raises TaskError with the file and the key."""
        from pydantic import TypeAdapter, ValidationError

        if path.suffix != ".toml":
            raise TaskError(nameless(str(path)))
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
            definition = TypeAdapter(Definition).validate_python(_renamed(table))
        except ValidationError as error:
            raise TaskError("\n".join(_explained(path, e) for e in error.errors())) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
            raise TaskError(f"{path}: cannot be read as TOML: {error}; correct the file") from None
        if not 0 < definition.weight < float("inf"):
            raise TaskError(f"{path}: weight = {definition.weight}: a loss's weight is above 0")
        return definition


def _names(given: Sequence[str]) -> tuple[str, ...] | None:
    """Names of augmentations as they are written; None for what suits the data."""
    names = tuple(name.strip() for name in given if name.strip())
    if names == ("auto",):
        return None
    return () if names == ("none",) else names


def _renamed(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """With sets that once were kinds of their own as the functions that they are now."""
    data = table.get("data")
    if isinstance(data, dict) and data.get("function") == "digits:scenes":
        return {**table, "data": {**data, "function": "scenes:scenes"}}
    if not isinstance(data, dict) or data.get("kind") not in RENAMED:
        return table
    function, arguments = RENAMED[data["kind"]]
    arguments = {**arguments, **{k: v for k, v in data.items() if k in ("sizes", "seed")}}
    if data.get("path"):
        arguments["folder"] = data["path"]
    if data["kind"] == "scenes" and table.get("target") == "pixels":
        arguments["target"] = "pixels"
    if data["kind"] == "language" and "classes" in table:
        arguments["languages"] = table["classes"]
    return {**table, "data": {"kind": "code", "function": function, "arguments": arguments}}


RENAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("digits:digits", {}),
    "scenes": ("scenes:scenes", {}),
    "addnist": ("unseen:addnist", {}),
    "multnist": ("unseen:multnist", {}),
    "language": ("unseen:language", {}),
}


def nameless(path: str) -> str:
    return f"{path!r} is data, not a definition; data of your own needs a name: mine={path}"


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
