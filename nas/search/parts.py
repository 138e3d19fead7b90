"""The parts of `Settings`: how a supernet, a candidate and an extracted network are trained, how a
network is run whose latency is measured, and what a search measures of its evaluators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nas.measure.runtime import RUNTIMES
from nas.supernet.strategies import STRATEGIES
from nas.train import Recipe
from nas.train.balance import Losses

ADAM = {"lr": 0.005, "weight_decay": 0.05}  # of AdamW where nothing else is said


class SettingsError(ValueError):
    """A setting that cannot be; the message names the key, the value and the rule."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def setting(default: Any, description: str, **bounds: Any) -> Any:
    return Field(default, description=description, **bounds)


SAMPLERS = ("auto", "predicted", "gp", "tree", "evolution", "nsga2", "tpe", "random")


def known_or_own(value: str, known: Iterable[str]) -> str:
    """A name of a table, or code of the user's own by its whole path; raises ValueError."""
    source, _, name = value.rpartition(":")
    if value not in known and not source:
        raise ValueError(f"is none of {', '.join(known)}; one of your own is ./file.py:name")
    return f"{Path(source).resolve()}:{name}" if source.endswith(".py") else value


class Adam(Strict):
    """Settings of a training, with what is usual for their optimizer where nothing is said."""

    losses: Losses = setting(
        "equal", "of several tasks: equal weights, or by uncertainty (Kendall et al. 2018)"
    )

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

    steps: int = setting(1500, "training steps; 0 lets the budget say", ge=0)
    strategy: str = setting(
        "spread", f"who is trained at each step: {', '.join(STRATEGIES)}, or ./file.py:name"
    )
    optimizer: Literal["sgd", "adam"] = setting(
        "sgd", "adam for a space of transformers unless it or lr is said"
    )
    lr: float = setting(0.15, "the highest learning rate; with adam 0.005", gt=0)
    momentum: float = setting(0.9, "share of the last update that is kept", ge=0, lt=1)
    weight_decay: float = setting(1e-4, "pull of the weights to zero; with adam 0.05", ge=0)
    batch: int = setting(64, "samples in a step", ge=2)
    label_smoothing: float = setting(0.1, "share of a target spread over all classes", ge=0, lt=1)
    samples: int = setting(256, "training inputs for a subnet's batch statistics", ge=2)
    share: float = setting(0.5, "of a budget, the share for this training", gt=0, lt=1)
    kernel_transform: bool = setting(
        False, "smaller kernels are larger ones' middles times a learned matrix"
    )
    nested: bool = setting(
        True, "before training, subnets of a finite space compute what the smallest inside does"
    )
    weights: str = setting("", "a bank.safetensors, with whose weights of the same names it begins")
    memory_mb: float = setting(0, "what the bank may take; 0 is all that is free", ge=0)
    checkpoint_s: float = setting(20, "seconds between checkpoints, from which it resumes", ge=0)
    parts: int = setting(
        0, "turns in a step, whose gradients are averaged; 0 is one a process", ge=0, le=1024
    )
    augment: bool = setting(False, "whether samples are augmented as their task says")
    threads: int = setting(
        0, "of a training step; 0 is what torch takes where the run begins", ge=0, le=1024
    )

    @field_validator("weights")
    @classmethod
    def _found(cls, value: str) -> str:
        return str(Path(value).expanduser().resolve()) if value else ""

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        return known_or_own(value, STRATEGIES)

    def recipe(self, seed: int, **changed: float) -> Recipe:
        return super().recipe(seed, parts=self.parts or 1, **changed)


class Training(Adam):
    """How one network is trained."""

    epochs: float = setting(20, "passes over the training split", gt=0)
    optimizer: Literal["sgd", "adam"] = setting("sgd", "adam for transformers unless said")
    lr: float = setting(0.1, "the highest learning rate; with adam 0.005", gt=0)
    momentum: float = setting(0.9, "share of the last update that is kept", ge=0, lt=1)
    weight_decay: float = setting(5e-4, "pull of the weights to zero; with adam 0.05", ge=0)
    batch: int = setting(64, "samples in a step", ge=2)
    warmup: float = setting(0.1, "share of the steps in which the learning rate rises", ge=0, lt=1)
    label_smoothing: float = setting(0.1, "share of a target spread over all classes", ge=0, lt=1)
    augment: bool = setting(False, "whether samples are augmented as their task says")


class Standalone(Training):
    """How a candidate is trained, where that is the evaluator."""

    epochs: float = setting(4, "passes over the training split", gt=0)
    child_epochs: float = setting(
        0, "epochs for which a child goes on from its parents' weights; 0: from scratch", ge=0
    )
    rungs: int = setting(1, "of successive halving; 1 trains all candidates to the end", ge=1, le=8)
    reduction: int = setting(
        3, "one in so many of a rung is trained on the next, for so many times its epochs", ge=2
    )
    finalists: int = setting(
        10, "of the front, trained from scratch at the end where children inherited", ge=0
    )
    limit_s: float = setting(600, "the longest that an evaluation may take", gt=0)


class Retrain(Training):
    """How an extracted network is retrained."""

    batch: int = setting(0, "samples in a step; 0 is 64, and 32 for few samples", ge=0)
    augment: bool = setting(True, "whether samples are augmented as their task says")
    parts: int = setting(1, "batches in a step, whose gradients are averaged", ge=1, le=1024)
    average: float = setting(
        0, "decay of the average of weights that is used in the end; 0 for none", ge=0, lt=1
    )
    patience: int = setting(
        0, "epochs without a better validation after which it stops; 0 for never", ge=0
    )


class Latency(Strict):
    """How a network is run whose latency is measured; there may be several, as [[latency]], and
    those with a name are always measured."""

    name: str = setting(
        "",
        "of the column latency_ms@name; without one it is latency_ms",
        pattern=r"^[\w.-]*$",
        max_length=40,
    )
    runtime: Literal["auto", *RUNTIMES] = setting(  # type: ignore[valid-type]
        "auto", f"{', '.join(RUNTIMES)}; auto is onnxruntime on a CPU, else torch"
    )
    threads: int = setting(1, "of the CPU that it runs on", ge=1, le=1024)
    batch: int = setting(1, "samples at a time", ge=1, le=65536)

    @staticmethod
    def parse(text: str) -> dict[str, str]:
        """The settings of a text such as `runtime=torch,threads=4`. Raises SettingsError."""
        pairs = [part.partition("=") for part in text.split(",")]
        if any(not (key.strip() and value.strip()) for key, _, value in pairs):
            raise SettingsError(
                f"latency {text!r} is not like runtime=torch,threads=4,batch=8,name=server"
            )
        given = {key.strip(): value.strip() for key, _, value in pairs}
        if len(given) < len(pairs):
            raise SettingsError(f"latency {text!r} says something twice")
        return given


class Trust(Strict):
    """What a search measures of its evaluators where it has a budget and may choose."""

    share: float = setting(0.2, "of the budget at most, 0 for nothing", ge=0, lt=1)
    architectures: int = setting(32, "trained from scratch at most", ge=8)
    least: int = setting(12, "with fewer nothing is told", ge=8)
    seeds: int = setting(2, "trainings of each", ge=2)
    steps: int = setting(80, "of short training, at most half those from scratch", ge=1)
    finetune: int = setting(
        20, "steps that a subnet is trained on alone, at a third of the supernet's lr", ge=1
    )

    @model_validator(mode="after")
    def _enough(self) -> Trust:
        if self.least > self.architectures:
            most = self.architectures
            raise ValueError(f"least is {self.least}, and architectures at most {most}")
        return self
