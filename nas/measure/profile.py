"""A device's profile: latencies of some networks there, and what they tell of any other.

A network's time is taken to be a sum over its operators, by kind: so much for each, for its
multiply-adds and for the numbers that it reads and writes, as they are and in whole vectors of
channels. The weights are fitted by non-negative least squares of relative errors with a ridge; how
far they err is told from networks that were left out, a fifth at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.archive import Measurement
from nas.lazy import optimize, stats
from nas.measure.cost import PROFILE
from nas.op import Operator, Shape, Shapes, Value
from nas.plan import Plan

FORMAT = 1
LEAST = 20  # networks of a profile
VECTOR = 16  # channels
FOLDS = 5
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2)
LARGEST_MB = 20  # of a file
CONSTANT = "each network"


def column_of(path: str | Path) -> str:
    """The column of what a device's profile predicts: its file has the device's name."""
    return f"latency_ms@{Path(path).stem}"


class ProfileError(ValueError):
    """A profile that cannot be used; the message says why."""


def features(plan: Plan) -> dict[str, float]:
    """What a network's time is a sum of: by kind of operator how many there are, their millions of
    FLOPs, and the thousands of numbers that they read, write and hold as weights."""
    totals = defaultdict[str, float](float, {CONSTANT: 1.0})
    integers = "int8 " if plan.precision.bits < 32 else ""
    for applied in _applied(plan):
        for kind, value in _of_step(*applied).items():
            totals[f"{integers}{kind}"] += value
    return {name: round(value, 9) for name, value in totals.items() if value}


Applied = tuple[Operator, tuple[tuple[str, Value], ...], Shapes, Shapes]


def _applied(plan: Plan) -> Iterator[Applied]:
    """Each operator of a plan with its arguments and the shapes that enter and come out."""
    for step in plan.steps:
        outputs = tuple([plan.shapes[value] for value in step.outputs])
        yield step.operator, tuple(step.args.items()), step.shapes, outputs


@lru_cache(maxsize=1 << 14)
def _of_step(
    operator: Operator, items: tuple[tuple[str, Value], ...], shapes: Shapes, outputs: Shapes
) -> dict[str, float]:
    """A step by its kind: one, its FLOPs and the numbers that it moves, and these as they are where
    channels are filled up to whole vectors, which runtimes do."""
    args = dict(items)
    kernel, stride = (int(args.get(name, 1)) for name in ("kernel", "stride"))
    kind = operator.name + (f" {kernel}" if "kernel" in args else "")
    kind += f" by {stride}" if stride > 1 else ""
    streams, flops = (*shapes, *outputs), operator.flops(shapes, args)
    weights = sum(prod(param.shape) for param in operator.params(shapes, args))
    within = all(shape.channels == outputs[0].channels for shape in shapes)
    full = _filled(outputs[0]) * (1.0 if within else _filled(shapes[0]))
    return {
        kind: 1.0,
        f"{kind} MFLOPs": flops / 1e6,
        f"{kind} k": (sum(shape.elements for shape in streams) + weights) / 1e3,
        f"{kind} MFLOPs of vectors": flops * full / 1e6,
        f"{kind} k of vectors": sum(shape.elements * _filled(shape) for shape in streams) / 1e3,
    }


def _filled(shape: Shape) -> float:
    """How many times as many channels a picture has where they are filled up to whole vectors."""
    if shape.kind != "image":
        return 1.0
    return -(-shape.channels // VECTOR) * VECTOR / shape.channels


class Timed(BaseModel):
    """A network that was timed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(max_length=200)
    features: dict[str, float] = Field(max_length=2_000)
    ms: float = Field(gt=0, allow_inf_nan=False)
    rounds: int = Field(ge=1, le=1_000)


class Profile(BaseModel):
    """Latencies of networks on a device, as time_models.py wrote them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = Field(ge=FORMAT, le=FORMAT)
    name: str = Field(pattern=r"^[\w.-]{1,40}$")
    space: str = Field(pattern=r"^[0-9a-f]{1,64}$")
    input: tuple[int, ...] = Field(min_length=1, max_length=4)
    tasks: tuple[str, ...] = Field(min_length=1, max_length=64)
    runtime: str = Field(max_length=200)
    device: str = Field(max_length=200)
    threads: int = Field(ge=1, le=1024)
    networks: tuple[Timed, ...] = Field(min_length=LEAST, max_length=10_000)

    @staticmethod
    def load(path: str | Path) -> Profile:
        """A profile from its file, of whom it may be: it is data alone. Raises ProfileError."""
        path = Path(path)
        try:
            if path.stat().st_size > LARGEST_MB * 1e6:
                raise ProfileError(f"{path} is no profile: it has more than {LARGEST_MB} MB")
            profile = Profile.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ProfileError(f"{path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ProfileError(
                f"{path} is no profile that can be used: {place}: {first['msg']}; let "
                "time_models.py end, or write it anew with nas probe"
            ) from None
        except (ValueError, RecursionError) as error:
            raise ProfileError(f"{path} is no profile: {error}") from None
        if profile.name != path.stem:
            raise ProfileError(f"{path} is of {profile.name}: call it {profile.name}.json")
        return profile

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Of what times are sums."""
        return tuple(sorted({kind for timed in self.networks for kind in timed.features}))

    @cached_property
    def _fitted(self) -> tuple[dict[str, float], float, float]:
        """The milliseconds of each kind's unit; the median of relative errors of networks left out,
        and how their ranks agree."""
        ms = np.array([timed.ms for timed in self.networks])
        rows = np.array(
            [[timed.features.get(kind, 0.0) for kind in self.kinds] for timed in self.networks]
        )
        folds = np.arange(len(ms)) % FOLDS
        told = {}
        for ridge in RIDGES:
            predicted = np.empty(len(ms))
            for fold in range(FOLDS):
                weights = _fit(rows[folds != fold], ms[folds != fold], ridge)
                predicted[folds == fold] = rows[folds == fold] @ weights
            errors = np.abs(predicted / ms - 1)
            told[ridge] = float(np.median(errors)), float(stats.spearmanr(predicted, ms).statistic)
        best = min(told, key=lambda ridge: told[ridge][0])
        weights = dict(zip(self.kinds, _fit(rows, ms, best).tolist(), strict=True))
        return weights, *told[best]

    @property
    def error(self) -> float:
        """The median of the relative errors of networks that were left out."""
        return self._fitted[1]

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of networks that were left out: what is predicted against what they take."""
        return self._fitted[2]

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.runtime}, {self.device}, threads {self.threads}, predicted from "
            f"{len(self.networks)} networks, median error {100 * self.error:.1f} %"
        )

    def lacks(self, plans: Sequence[Plan], input: Sequence[int]) -> str:
        """Why nothing can be told of some networks, "" where it can."""
        if tuple(input) != self.input:
            return f"it is of an input of {list(self.input)}, and this is of {list(input)}"
        known = set(self.kinds)
        missing = sorted({kind for plan in plans for kind in features(plan)} - known)
        if not missing:
            return ""
        return f"it knows nothing of {', '.join(missing[:6])}: probe this space"

    def predict(self, plan: Plan) -> float:
        """The milliseconds that a network takes there. Kinds that were never met count nothing."""
        weights, known, total = self._fitted[0], self._known, 0.0
        integers = "int8 " if plan.precision.bits < 32 else ""
        for applied in _applied(plan):
            key = integers, applied
            if key not in known:
                parts = _of_step(*applied).items()
                known[key] = sum(weights.get(f"{integers}{kind}", 0.0) * v for kind, v in parts)
            total += known[key]
        return total + weights[CONSTANT]

    @cached_property
    def _known(self) -> dict[tuple[str, Applied], float]:
        """The milliseconds of operators that were asked for."""
        return {}

    def measurement(self, plan: Plan, task: str | None = None) -> Measurement:
        """The same as what a trial has of it."""
        value = self.predict(plan)
        spread = self.error * value
        return Measurement(
            f"latency_ms@{self.name}",
            value,
            "ms",
            task,
            evaluator=PROFILE,
            device=str(self),
            spread=spread,
        )


def _fit(rows: Any, ms: Any, ridge: float) -> Any:
    """Non-negative weights with which rows come to ms, relative errors counted."""
    relative = rows / ms[:, None]
    scale = np.sqrt(np.square(relative).mean(0))
    scale[scale == 0] = 1.0
    count = relative.shape[1]
    penalty = np.sqrt(ridge * len(ms)) * np.eye(count)
    stacked = np.vstack([relative / scale, penalty])
    wanted = np.concatenate([np.ones(len(ms)), np.zeros(count)])
    weights, _ = optimize.nnls(stacked, wanted, maxiter=50 * count)
    return weights / scale


def loaded(paths: Sequence[str | Path]) -> Mapping[str, Profile]:
    """Profiles by their column. Raises ProfileError where two have one name."""
    named = {column_of(path): Profile.load(path) for path in paths}
    if len(named) < len(paths):
        raise ProfileError("two profiles have one name: time one anew with another --name")
    return named
