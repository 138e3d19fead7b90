"""`Settings`: everything that says what a run is. Written to run.toml, readable from any TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from nas.evaluate import EVALUATORS, SHARED, TRUTH
from nas.grammar import Grammar
from nas.search.parts import (
    SAMPLERS,
    Latency,
    Retrain,
    SettingsError,
    Standalone,
    Strict,
    Supernet,
    Trust,
    known_or_own,
    setting,
)
from nas.supernet.decoders import decoders_of
from nas.supernet.strategies import ALIGNED
from nas.train import resolved

EXECUTION = ("on", "workers", "processes", "device")  # how a run is carried on, no part of it
Sampler = Literal["auto", "predicted", "gp", "tree", "evolution", "nsga2", "tpe", "random"]


class Settings(Strict):
    """A search: what a run is, and (on, workers, processes, device) how it is carried on."""

    space: str = Field(description="a shipped space, or a file as ./my.grammar")
    tasks: tuple[str, ...] = Field(
        min_length=1, description="shipped tasks, ./my.toml, or name=data.npz, folder, function"
    )
    trials: int = setting(
        200, "distinct subnets to evaluate; 0, or a budget alone: as many as fit", ge=0
    )
    budget_s: float | None = setting(None, "seconds for the run; `budget` says it as 10m", gt=0)
    seed: int = setting(0, "the same seed, the same proposals", ge=0)
    sampler: str = setting(
        "auto",
        f"who proposes: {', '.join(SAMPLERS)}, or ./file.py:name of an Optuna sampler; auto is "
        "predicted, or tree where children inherit weights",
    )
    per_task: bool = setting(
        False, "each task finds an architecture of its own, where there are several"
    )
    objectives: tuple[str, ...] = setting(
        (), "columns, as accuracy, flops, latency_ms; by default each task's metric and FLOPs"
    )
    limits: tuple[str, ...] = setting((), "bounds, as flops<=2M or accuracy>=0.9")
    latency: tuple[Latency, ...] = setting(
        (Latency(),), "how networks are run", min_length=1, max_length=16
    )
    profiles: tuple[str, ...] = setting(
        (), "files of devices, as nas probe has them made: latency_ms@NAME of each, predicted"
    )
    learn_from: tuple[str, ...] = setting(
        (), "folders of earlier runs, or of many, whose best architectures are tried first"
    )
    evaluate_in: Literal["auto", "torch", "onnxruntime"] = setting(
        "auto", "what runs subnets that are evaluated on a CPU; auto is the faster"
    )
    evaluator: str = setting(
        "auto", f"auto, {', '.join(name for name, e in EVALUATORS.items() if e.begins)}"
    )
    on: str = setting("local", "local, ray, or ray:ADDRESS of a running cluster")
    workers: int = setting(
        0, "evaluators side by side, here or on Ray; 0 is one a core, where that saves time", ge=0
    )
    processes: int = setting(
        0, "that train the shared weights together; 0 is one a GPU, as far as parts go", ge=0
    )
    device: str = setting(
        "auto", "auto (the best there is), cpu, cuda, cuda:1 …", validate_default=True
    )
    generation: int = setting(20, "trials evaluated before the sampler is told", ge=2)
    population: int = setting(100, "of evolution, whose tournaments take a tenth of it", ge=10)
    size: tuple[int, int] | None = setting(
        None, "operators of the random derivations of recursive spaces"
    )
    start: tuple[str, ...] = setting((), "the space's seeds to begin from; mix is all that fit")
    supernet: Supernet = Supernet()
    standalone: Standalone = Standalone()
    trust: Trust = Trust()
    retrain: Retrain = Retrain()

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_fit(cls, given: Any) -> Any:
        budgeted = isinstance(given, Mapping) and given.get("budget_s") is not None
        return {"trials": 0, **given} if budgeted else given

    @field_validator("sampler")
    @classmethod
    def _sampler(cls, value: str) -> str:
        return known_or_own(value, SAMPLERS)

    @field_validator("latency", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, Mapping | Latency) else given

    @field_validator("latency")
    @classmethod
    def _named_apart(cls, value: tuple[Latency, ...]) -> tuple[Latency, ...]:
        names = [entry.name for entry in value]
        if len(set(names)) < len(names):
            raise ValueError("two have one name: give each but one a name of its own")
        return value

    @model_validator(mode="after")
    def _devices_apart(self) -> Settings:
        devices = [Path(path).stem for path in self.profiles]
        names = [*devices, *(entry.name for entry in self.latency if entry.name)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two latencies are latency_ms@{twice}: give one another name")
        return self

    @model_validator(mode="after")
    def _ends(self) -> Settings:
        if not self.trials and self.budget_s is None:
            raise ValueError("trials 0 is as many as a budget allows: give a budget or trials")
        if not self.supernet.steps and self.budget_s is None:
            raise ValueError(
                "supernet.steps 0 is as many as a budget's share allows: give a budget or steps"
            )
        if self.standalone.rungs > 1 and self.standalone.child_epochs:
            raise ValueError(
                "children that go on from their parents are trained equally long: rungs 1 with "
                "child_epochs, or child_epochs 0"
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
        return value if value == "auto" else resolved(value)  # which takes torch

    @property
    def resolved_device(self) -> str:
        """The device, of which auto is the best that there is."""
        return resolved("auto") if self.device == "auto" else self.device

    @field_validator("on")
    @classmethod
    def _executor(cls, value: str) -> str:
        if value != "local" and not re.match(r"ray(://.+|:.+)?$", value):
            raise ValueError("is local, ray, or ray:ADDRESS of a running cluster")
        return value

    def suited(self, grammar: Grammar) -> Settings:
        """What suits a space, where nothing else is said: AdamW for a finite space in which
        networks attend, which SGD trains slowly; features held alike where tasks have decoders."""
        changed: dict[str, Any] = {}
        if decoders_of(grammar) and "strategy" not in self.supernet.model_fields_set:
            changed["supernet"] = self.supernet.model_copy(update={"strategy": ALIGNED})
        if decoders_of(grammar) and self.evaluator == "auto":
            changed["evaluator"] = SHARED  # by which alone tasks' scores hang on their own decoder
        return self.model_copy(update=changed)._of_transformers(grammar)

    def _of_transformers(self, grammar: Grammar) -> Settings:
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
            if not isinstance(part, int):  # which of several
                fields = _fields(fields[part].annotation) if part in fields else {}
        close = get_close_matches(str(last), fields, n=1)
        there = ", ".join(fields)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {there}"
        return f"{source}: {key!r} is no setting; {hint}"
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"{source}: {reason}"
    value = f" is {first['input']!r:.60}" if first["type"] != "missing" else ""
    return f"{source}: {key}{value}: {reason}"


def _fields(annotation: Any) -> Any:
    """The settings of a part, or of each of several parts."""
    of = next(iter(get_args(annotation)), annotation)
    return getattr(of, "model_fields", {})


def seconds(text: str) -> float:
    """A duration as written: 90, 90s, 10m, 1.5h. Raises SettingsError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h)?\s*", text)
    if not match or float(match[1]) <= 0:
        raise SettingsError(f"budget {text!r} is no duration: write 90s, 10m or 1.5h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]
