"""`Settings`: everything that says what a run is. Written to run.toml, readable from any TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas.grammar import Grammar
from nas.supernet.strategies import STRATEGIES
from nas.train import Recipe

EXECUTION = ("on", "workers", "device")  # how a run is carried on, each time anew: no part of it
ADAM = {"lr": 0.005, "weight_decay": 0.05}  # of AdamW where nothing else is said


def usual(given: Any) -> Any:
    """Settings of training with what is usual for their optimizer where nothing is said."""
    adam = isinstance(given, Mapping) and given.get("optimizer") == "adam"
    return {**ADAM, **given} if adam else given


class SettingsError(ValueError):
    """A setting that cannot be; the message names the key, the value and the rule."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Supernet(_Strict):
    """How the shared weights are trained; `steps` 0 lets the budget say.

    strategy: who is trained at each step, one of the library's or a function of the user's own,
    ./file.py:name. optimizer: adam for a space of transformers unless it or lr is said; with it lr
    and weight_decay are 0.005 and 0.05 unless said. kernel_transform: smaller kernels are larger
    ones' middles times a learned matrix. nested: before training subnets of a finite space compute
    what the smallest inside them does. memory_mb: what the bank may take, 0 all that is free.
    checkpoint_s: seconds between checkpoints, from which training resumes. threads: of a training
    step, on which its results depend in the last digits; 0 is what torch takes on the machine that
    begins the run, which is written down.
    """

    steps: int = Field(1500, ge=0)
    strategy: str = "spread"
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = Field(0.15, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    batch: int = Field(64, ge=2)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    samples: int = Field(512, ge=2)
    share: float = Field(0.5, gt=0, lt=1)
    kernel_transform: bool = False
    nested: bool = True
    memory_mb: float = Field(0, ge=0)
    checkpoint_s: float = Field(20, ge=0)
    threads: int = Field(0, ge=0, le=1024)

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        return usual(given)

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        source, _, name = value.rpartition(":")
        if value not in STRATEGIES and not source:
            known = ", ".join(STRATEGIES)
            raise ValueError(f"is none of {known}; one of your own is ./file.py:name")
        return f"{Path(source).resolve()}:{name}" if source.endswith(".py") else value

    def recipe(self, seed: int) -> Recipe:
        return Recipe(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch=self.batch,
            label_smoothing=self.label_smoothing,
            seed=seed,
            optimizer=self.optimizer,
        )


class Training(_Strict):
    """How one network is trained; `warmup` is its share of all steps."""

    epochs: float = Field(20, gt=0)
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    batch: int = Field(64, ge=2)
    warmup: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        return usual(given)

    def recipe(self, seed: int, **changed: float) -> Recipe:
        return Recipe(
            **{name: getattr(self, name) for name in Training.model_fields} | changed, seed=seed
        )


class Standalone(Training):
    """How a candidate is trained, where that is the evaluator.

    With `child_epochs` a child goes on from its parents' weights for so many epochs, where the
    sampler has parents; in the end up to `finalists` of the front are trained from scratch.
    limit_s: the longest that an evaluation may take.
    """

    epochs: float = Field(4, gt=0)
    child_epochs: float = Field(0, ge=0)
    finalists: int = Field(10, ge=0)
    limit_s: float = Field(600, gt=0)


class Retrain(Training):
    """How an extracted network is retrained; `batch` 0 is 64, and 32 for few samples."""

    batch: int = Field(0, ge=0)


class Trust(_Strict):
    """What a search measures of its evaluators where it has a budget and may choose: at most
    `share` of the budget (0: nothing) trains up to so many architectures stand-alone, with so many
    seeds each; with fewer than `least` nothing is told. `steps` are those of short training, which
    takes at most half the steps of stand-alone training; `finetune` those that a subnet is
    trained on alone from the shared weights, at a third of the supernet's lr.
    """

    share: float = Field(0.2, ge=0, lt=1)
    architectures: int = Field(32, ge=8)
    least: int = Field(12, ge=8)
    seeds: int = Field(2, ge=2)
    steps: int = Field(80, ge=1)
    finetune: int = Field(20, ge=1)

    @model_validator(mode="after")
    def _enough(self) -> Trust:
        if self.least > self.architectures:
            most = self.architectures
            raise ValueError(f"least is {self.least}, and architectures at most {most}")
        return self


class Settings(_Strict):
    """A search. Times in seconds; `trials` 0 means as many as the budget allows, which is also
    meant where there is a budget and nothing is said of trials.

    on, workers and device say how it is carried on and are no part of what it is. generation:
    trials evaluated before the sampler is told. population: of evolution, whose tournaments take a
    tenth of it. size: operators of the random derivations of recursive grammars. start: the space's
    seeds to begin from, by name; "mix" is all that fit the input and the limits.
    """

    space: str
    tasks: tuple[str, ...] = Field(min_length=1)
    trials: int = Field(200, ge=0)
    budget_s: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0)
    sampler: Literal["auto", "tree", "evolution", "nsga2", "tpe", "random"] = "auto"
    objectives: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    evaluator: Literal["auto", "shared", "finetuned", "short", "standalone"] = "auto"
    on: str = "local"
    workers: int = Field(0, ge=0)
    device: str = "cpu"
    generation: int = Field(20, ge=2)
    population: int = Field(100, ge=10)
    size: tuple[int, int] | None = None
    start: tuple[str, ...] = ()
    supernet: Supernet = Supernet()
    standalone: Standalone = Standalone()
    trust: Trust = Trust()
    retrain: Retrain = Retrain()

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_fit(cls, given: Any) -> Any:
        budgeted = isinstance(given, Mapping) and given.get("budget_s") is not None
        return {"trials": 0, **given} if budgeted else given

    @model_validator(mode="after")
    def _ends(self) -> Settings:
        if not self.trials and self.budget_s is None:
            raise ValueError("trials 0 is as many as a budget allows: give a budget or trials")
        if not self.supernet.steps and self.budget_s is None:
            raise ValueError(
                "supernet.steps 0 is as many as a budget's share allows: give a budget or steps"
            )
        if self.workers and self.on == "local":
            raise ValueError("workers are Ray's: say --on ray, or leave workers out")
        if self.evaluator == "short" and self.standalone.child_epochs:
            raise ValueError("children go on from stand-alone training: child_epochs 0 with short")
        return self

    @field_validator("on")
    @classmethod
    def _executor(cls, value: str) -> str:
        if value != "local" and not re.match(r"ray(://.+|:.+)?$", value):
            raise ValueError("is local, ray, or ray:ADDRESS of a running cluster")
        return value

    def suited(self, grammar: Grammar) -> Settings:
        """With AdamW wherever nothing is said of optimizer and lr, for a finite space in which
        networks attend: SGD trains those slowly. Otherwise as they are."""
        if not (grammar.finite and "attention" in grammar.calls):
            return self
        parts = {name: getattr(self, name) for name in ("supernet", "standalone", "retrain")}
        return self.model_copy(
            update={
                name: type(part)(**part.model_dump(include=part.model_fields_set), optimizer="adam")
                for name, part in parts.items()
                if not {"optimizer", "lr"} & part.model_fields_set
            }
        )

    @staticmethod
    def of(facts: Mapping[str, Any], source: str = "settings") -> Settings:
        """Settings from plain values; raises SettingsError naming key, value and rule."""
        try:
            return Settings.model_validate(facts)
        except ValidationError as error:
            raise SettingsError(_first(error, source)) from None

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """The plain values of a TOML file, or of a shipped one by its bare name. The command's
        flags may be written by their own names: `task`, `max`, and `budget` as "10m"."""
        if path.name == str(path) and not path.suffix:
            path = _preset(path.name)
        try:
            facts = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SettingsError(f"{path}: is no TOML: {error}") from None
        if "budget" in facts:
            facts["budget_s"] = seconds(str(facts.pop("budget")))
        if "task" in facts:
            facts["tasks"] = _listed(facts.pop("task"))
        for flag, sign in (("max", "<="), ("min", ">=")):
            if flag in facts:
                said = [str(one).replace("=", sign, 1) for one in _listed(facts.pop(flag))]
                facts["limits"] = [*facts.get("limits", ()), *said]
        return facts

    def written(self) -> dict[str, Any]:
        """What a run is, as plain values: all but how it is carried on."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set(EXECUTION))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _preset(name: str) -> Path:
    known = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.toml"))}
    if name not in known:
        raise SettingsError(
            f"{name!r} is no shipped configuration: there are {', '.join(known)}; a file of your "
            f"own is ./{name}.toml"
        )
    return known[name]


def _first(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"])) or "settings"
    if first["type"] == "extra_forbidden":
        *within, last = first["loc"]
        fields: Any = Settings.model_fields
        for part in within:
            fields = getattr(fields[part].annotation, "model_fields", {}) if part in fields else {}
        close = get_close_matches(str(last), fields, n=1)
        there = ", ".join(fields)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {there}"
        return f"{source}: {key!r} is no setting; {hint}"
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"{source}: {reason}"
    said = f" is {first['input']!r:.60}" if first["type"] != "missing" else ""
    return f"{source}: {key}{said}: {reason}"


def seconds(text: str) -> float:
    """A duration as written: 90, 90s, 10m, 1.5h. Raises SettingsError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", text)
    if not match or float(match[1]) <= 0:
        raise SettingsError(f"budget {text!r} is no duration: write 90s, 10m or 1.5h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]
