"""`Settings`: everything that says what a run is. Written to run.toml, readable from any TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nas.evaluate import EVALUATORS, TRUTH
from nas.grammar import Grammar
from nas.measure.runtime import RUNTIMES
from nas.supernet.strategies import STRATEGIES
from nas.train import Recipe, resolved

EXECUTION = ("on", "workers", "processes", "device")  # how a run is carried on, no part of it
Sampler = Literal["auto", "predicted", "gp", "tree", "evolution", "nsga2", "tpe", "random"]
ADAM = {"lr": 0.005, "weight_decay": 0.05}  # of AdamW where nothing else is said


class SettingsError(ValueError):
    """A setting that cannot be; the message names the key, the value and the rule."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _is(default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, **bounds)


class Adam(Strict):
    """Settings of a training, with what is usual for their optimizer where nothing is said."""

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        adam = isinstance(given, Mapping) and given.get("optimizer") == "adam"
        return {**ADAM, **given} if adam else given

    def recipe(self, seed: int, **changed: float) -> Recipe:
        names = Recipe.__dataclass_fields__.keys() & type(self).model_fields.keys()
        values = {name: getattr(self, name) for name in names} | changed
        return Recipe(**values, seed=seed)


class Supernet(Adam):
    """How the shared weights are trained."""

    steps: int = _is(1500, "training steps; 0 lets the budget say", ge=0)
    strategy: str = _is(
        "spread", f"who is trained at each step: {', '.join(STRATEGIES)}, or ./file.py:name"
    )
    optimizer: Literal["sgd", "adam"] = _is(
        "sgd", "adam for a space of transformers unless it or lr is said"
    )
    lr: float = _is(0.15, "the highest learning rate; with adam 0.005", gt=0)
    momentum: float = _is(0.9, "share of the last update that is kept", ge=0, lt=1)
    weight_decay: float = _is(1e-4, "pull of the weights to zero; with adam 0.05", ge=0)
    batch: int = _is(64, "samples in a step", ge=2)
    label_smoothing: float = _is(0.1, "share of a target spread over all classes", ge=0, lt=1)
    samples: int = _is(256, "training inputs for a subnet's batch statistics", ge=2)
    share: float = _is(0.5, "of a budget, the share for this training", gt=0, lt=1)
    kernel_transform: bool = _is(
        False, "smaller kernels are larger ones' middles times a learned matrix"
    )
    nested: bool = _is(
        True, "before training, subnets of a finite space compute what the smallest inside does"
    )
    weights: str = _is("", "a bank.safetensors, with whose weights of the same names it begins")
    memory_mb: float = _is(0, "what the bank may take; 0 is all that is free", ge=0)
    checkpoint_s: float = _is(20, "seconds between checkpoints, from which it resumes", ge=0)
    parts: int = _is(
        0, "turns in a step, whose gradients are averaged; 0 is one a process", ge=0, le=1024
    )
    augment: bool = _is(False, "whether samples are augmented as their task says")
    threads: int = _is(
        0, "of a training step; 0 is what torch takes where the run begins", ge=0, le=1024
    )

    @field_validator("weights")
    @classmethod
    def _found(cls, value: str) -> str:
        return str(Path(value).expanduser().resolve()) if value else ""

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        source, _, name = value.rpartition(":")
        if value not in STRATEGIES and not source:
            known = ", ".join(STRATEGIES)
            raise ValueError(f"is none of {known}; one of your own is ./file.py:name")
        return f"{Path(source).resolve()}:{name}" if source.endswith(".py") else value

    def recipe(self, seed: int, **changed: float) -> Recipe:
        return super().recipe(seed, parts=self.parts or 1, **changed)


class Training(Adam):
    """How one network is trained."""

    epochs: float = _is(20, "passes over the training split", gt=0)
    optimizer: Literal["sgd", "adam"] = _is("sgd", "adam for transformers unless said otherwise")
    lr: float = _is(0.1, "the highest learning rate; with adam 0.005", gt=0)
    momentum: float = _is(0.9, "share of the last update that is kept", ge=0, lt=1)
    weight_decay: float = _is(5e-4, "pull of the weights to zero; with adam 0.05", ge=0)
    batch: int = _is(64, "samples in a step", ge=2)
    warmup: float = _is(0.1, "share of the steps in which the learning rate rises", ge=0, lt=1)
    label_smoothing: float = _is(0.1, "share of a target spread over all classes", ge=0, lt=1)
    augment: bool = _is(False, "whether samples are augmented as their task says")


class Standalone(Training):
    """How a candidate is trained, where that is the evaluator."""

    epochs: float = _is(4, "passes over the training split", gt=0)
    child_epochs: float = _is(
        0, "epochs for which a child goes on from its parents' weights; 0: from scratch", ge=0
    )
    finalists: int = _is(
        10, "of the front, trained from scratch at the end where children inherited", ge=0
    )
    limit_s: float = _is(600, "the longest that an evaluation may take", gt=0)


class Retrain(Training):
    """How an extracted network is retrained."""

    batch: int = _is(0, "samples in a step; 0 is 64, and 32 for few samples", ge=0)
    augment: bool = _is(True, "whether samples are augmented as their task says")
    parts: int = _is(1, "batches in a step, whose gradients are averaged", ge=1, le=1024)
    average: float = _is(
        0, "decay of the average of weights that is used in the end; 0 for none", ge=0, lt=1
    )
    patience: int = _is(
        0, "epochs without a better validation after which it stops; 0 for never", ge=0
    )


class Latency(Strict):
    """How a network is run whose latency is measured; there may be several, as [[latency]], and
    those with a name are always measured."""

    name: str = _is(
        "",
        "of the column latency_ms@name; without one it is latency_ms",
        pattern=r"^[\w.-]*$",
        max_length=40,
    )
    runtime: Literal["auto", *RUNTIMES] = _is(  # type: ignore[valid-type]
        "auto", f"{', '.join(RUNTIMES)}; auto is onnxruntime on a CPU, else torch"
    )
    threads: int = _is(1, "of the CPU that it runs on", ge=1, le=1024)
    batch: int = _is(1, "samples at a time", ge=1, le=65536)

    @staticmethod
    def parse(text: str) -> dict[str, str]:
        """The settings of a text such as `runtime=torch,threads=4`. Raises SettingsError."""
        pairs = [part.partition("=") for part in text.split(",")]
        if any(not (key.strip() and value.strip()) for key, _, value in pairs):
            raise SettingsError(
                f"latency {text!r} is not like runtime=torch,threads=4,batch=8,name=server"
            )
        return {key.strip(): value.strip() for key, _, value in pairs}


class Trust(Strict):
    """What a search measures of its evaluators where it has a budget and may choose."""

    share: float = _is(0.2, "of the budget at most, 0 for nothing", ge=0, lt=1)
    architectures: int = _is(32, "trained from scratch at most", ge=8)
    least: int = _is(12, "with fewer nothing is told", ge=8)
    seeds: int = _is(2, "trainings of each", ge=2)
    steps: int = _is(80, "of short training, at most half those from scratch", ge=1)
    finetune: int = _is(
        20, "steps that a subnet is trained on alone, at a third of the supernet's lr", ge=1
    )

    @model_validator(mode="after")
    def _enough(self) -> Trust:
        if self.least > self.architectures:
            most = self.architectures
            raise ValueError(f"least is {self.least}, and architectures at most {most}")
        return self


class Settings(Strict):
    """A search: what a run is, and (on, workers, processes, device) how it is carried on."""

    space: str = Field(description="a shipped space, or a file as ./my.grammar")
    tasks: tuple[str, ...] = Field(
        min_length=1, description="shipped tasks, ./my.toml, or name=data.npz, folder, function"
    )
    trials: int = _is(
        200, "distinct subnets to evaluate; 0, or a budget alone: as many as fit", ge=0
    )
    budget_s: float | None = _is(None, "seconds for the run; `budget` says it as 10m", gt=0)
    seed: int = _is(0, "the same seed, the same proposals", ge=0)
    sampler: Literal["auto", "predicted", "gp", "tree", "evolution", "nsga2", "tpe", "random"] = (
        _is("auto", "who proposes; auto is predicted, or tree where children inherit weights")
    )
    objectives: tuple[str, ...] = _is(
        (), "columns, as accuracy, flops, latency_ms; by default each task's metric and FLOPs"
    )
    limits: tuple[str, ...] = _is((), "bounds, as flops<=2M or accuracy>=0.9")
    latency: tuple[Latency, ...] = _is((Latency(),), "how networks are run", max_length=16)
    evaluate_in: Literal["auto", "torch", "onnxruntime"] = _is(
        "auto", "what runs subnets that are evaluated on a CPU; auto is the faster"
    )
    evaluator: str = _is(
        "auto", f"auto, {', '.join(name for name, e in EVALUATORS.items() if e.begins)}"
    )
    on: str = _is("local", "local, ray, or ray:ADDRESS of a running cluster")
    workers: int = _is(
        0, "evaluators side by side, here or on Ray; 0 is one a core, where that saves time", ge=0
    )
    processes: int = _is(
        0, "that train the shared weights together; 0 is one a GPU, as far as parts go", ge=0
    )
    device: str = _is(
        "auto", "auto (the best there is), cpu, cuda, cuda:1 …", validate_default=True
    )
    generation: int = _is(20, "trials evaluated before the sampler is told", ge=2)
    population: int = _is(100, "of evolution, whose tournaments take a tenth of it", ge=10)
    size: tuple[int, int] | None = _is(
        None, "operators of the random derivations of recursive spaces"
    )
    start: tuple[str, ...] = _is((), "the space's seeds to begin from; mix is all that fit")
    supernet: Supernet = Supernet()
    standalone: Standalone = Standalone()
    trust: Trust = Trust()
    retrain: Retrain = Retrain()

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_fit(cls, given: Any) -> Any:
        budgeted = isinstance(given, Mapping) and given.get("budget_s") is not None
        return {"trials": 0, **given} if budgeted else given

    @field_validator("latency", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, Mapping | Latency) else given

    @field_validator("latency")
    @classmethod
    def _runs_here(cls, value: tuple[Latency, ...]) -> tuple[Latency, ...]:
        names = [entry.name for entry in value]
        if len(set(names)) < len(names):
            raise ValueError("two have one name: give each but one a name of its own")
        lacks = [RUNTIMES[entry.runtime].lacks for entry in value if entry.runtime != "auto"]
        if any(lacks):
            raise ValueError(next(filter(None, lacks)))
        return value

    @model_validator(mode="after")
    def _ends(self) -> Settings:
        if not self.trials and self.budget_s is None:
            raise ValueError("trials 0 is as many as a budget allows: give a budget or trials")
        if not self.supernet.steps and self.budget_s is None:
            raise ValueError(
                "supernet.steps 0 is as many as a budget's share allows: give a budget or steps"
            )
        evaluator = EVALUATORS.get(self.evaluator)
        cut = evaluator is not None and evaluator.alone and self.evaluator != TRUTH
        if cut and self.standalone.child_epochs:
            reason = "children go on from stand-alone training: child_epochs 0 with"
            raise ValueError(f"{reason} {self.evaluator}")
        return self

    @field_validator("evaluator")
    @classmethod
    def _begins(cls, value: str) -> str:
        if value != "auto" and not (value in EVALUATORS and EVALUATORS[value].begins):
            known = ", ".join(name for name, e in EVALUATORS.items() if e.begins)
            raise ValueError(f"is none of auto, {known}")
        return value

    @field_validator("device")
    @classmethod
    def _there(cls, value: str) -> str:
        return resolved(value)

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
                bounds = [str(bound).replace("=", sign, 1) for bound in _listed(facts.pop(flag))]
                facts["limits"] = [*facts.get("limits", ()), *bounds]
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
    value = f" is {first['input']!r:.60}" if first["type"] != "missing" else ""
    return f"{source}: {key}{value}: {reason}"


def seconds(text: str) -> float:
    """A duration as written: 90, 90s, 10m, 1.5h. Raises SettingsError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", text)
    if not match or float(match[1]) <= 0:
        raise SettingsError(f"budget {text!r} is no duration: write 90s, 10m or 1.5h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]
