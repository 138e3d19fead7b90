"""What somebody's preferences and budget come to, among networks of a space with decoders.

Given its encoder, a task's score and cost hang on its own decoder alone. So as many evaluations as
a decoder has sizes tell what every combination of them comes to, and a network is chosen by adding
up: no search, no data, no weights. Among what is known the choice is exact. So to prefer a task
more never lowers its score, and to allow more never lowers what tasks come to together, both as
measured on validation. (Aich et al. 2023, arXiv 2308.11744, choose by a rule of thumb.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from operator import add, le
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, TypeAdapter

from nas.dominance import nondominated
from nas.files import refuse_links, write
from nas.front import Limit
from nas.grammar import Derivation, Grammar
from nas.grammar.derivation import Labels
from nas.measure import COSTS
from nas.op import Shape
from nas.plan import own_output
from nas.search.error import RunError

STEERING = "steering.json"
ADDED = tuple(name for name, cost in COSTS.items() if cost.counted)  # costs that add up over parts
BUDGETS, FIRST = 6, 0.8  # between the smallest and the largest; the share of one that is preferred
LARGEST = 10**8  # bytes of such a file
Number = Annotated[float, Field(allow_inf_nan=False)]
Costs = dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


@dataclass(frozen=True)
class Sized:
    """A task's decoder on one encoder: what was chosen in it, its costs, the task's score."""

    labels: Labels
    costs: Costs
    score: Number
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Encoder:
    """What was chosen in an encoder, its costs, and the decoders that were measured on it."""

    labels: Labels
    costs: Costs
    decoders: dict[str, tuple[Sized, ...]]  # by task
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Scale:
    """A task's score, and what is nothing and all on it: what always the training prior comes to,
    or the worst of all networks where none betters that, or it is not known; and the best."""

    column: str
    nothing: Number
    best: Number
    maximize: bool = True
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def share(self, score: float) -> float:
        """1 for the best, 0 for nothing."""
        span = self.best - self.nothing
        return (score - self.nothing) / span if span else 0.0


class Answer(NamedTuple):
    """A network that preferences and a budget come to: `total` is the preferred mean of the tasks'
    scores, each as a share of the best."""

    encoder: Labels
    decoders: Mapping[str, Labels]  # by the decoder's rule
    scores: Mapping[str, float]  # by task
    columns: Mapping[str, float]  # the same and the costs, by the columns of a run's tables
    total: float
    input: tuple[int, ...]
    note: str = ""

    def derivation(self, grammar: Grammar) -> Derivation:
        from nas.supernet.decoders import joined

        return joined(grammar, self.encoder, self.decoders, Shape.of(self.input))


@dataclass(frozen=True)
class Steering:
    """What is known of a run's encoders and decoders. limits: those of the run that add up, which
    every answer keeps; unkept: those that do not."""

    input: tuple[int, ...]
    scales: dict[str, Scale]  # by task
    encoders: tuple[Encoder, ...]
    limits: Costs = field(default_factory=dict)
    unkept: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @staticmethod
    def load(folder: Path) -> Steering:
        """What a run's folder says; raises RunError where it says nothing, or what is no such."""
        path = folder / STEERING
        if folder.is_dir():
            refuse_links(folder)
        if not path.exists():
            raise RunError(
                f"{folder} cannot be steered: its space has no decoder for each task, or it has "
                "not come to its end (nas resume). nas search steered --task … makes one that can"
            )
        if path.stat().st_size > LARGEST:
            raise RunError(f"{path} is larger than any run writes")
        try:
            known = TypeAdapter(Steering).validate_json(path.read_bytes())
        except ValueError as error:
            raise RunError(f"{path}: {' '.join(str(error).split()[:12])}") from None
        if not known.encoders:
            raise RunError(f"{folder}: no network was measured yet, so there is none to choose")
        if not all(map(known.whole, known.encoders)):
            raise RunError(f"{path}: holds an encoder without a decoder for each task")
        scales = (s for s in known.scales.values() if s.best != s.nothing)
        if any((scale.best > scale.nothing) != scale.maximize for scale in scales):
            raise RunError(f"{path}: holds a score whose best is worse than nothing")
        return known

    def whole(self, encoder: Encoder) -> bool:
        """Whether an encoder has decoders for all tasks, and all of it costs that add up."""
        costs = [encoder.costs, *(d.costs for own in encoder.decoders.values() for d in own)]
        tasks = encoder.decoders.keys() == self.scales.keys() and all(encoder.decoders.values())
        return (
            tasks
            and self.limits.keys() <= set(ADDED)
            and all(cost.keys() == set(ADDED) for cost in costs)
        )

    def save(self, folder: Path) -> None:
        write(folder / STEERING, json.dumps(asdict(self), allow_nan=False).encode())

    @cached_property
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Of every cost the least and the most that a network here has."""
        ends = dict[str, tuple[float, float]]()
        for name in ADDED:
            sums = [
                [
                    encoder.costs[name]
                    + sum(end(d.costs[name] for d in own) for own in encoder.decoders.values())
                    for encoder in self.encoders
                ]
                for end in (min, max)
            ]
            ends[name] = min(sums[0]), max(sums[1])
        return ends

    def answer(self, prefer: Mapping[str, float], limits: Sequence[str | Limit] = ()) -> Answer:
        """The network with the best preferred mean of the tasks' scores within limits on costs.

        prefer: what each task is worth beside the others; one that is not named is worth nothing,
        and where none is they are worth the same. limits: as flops<=2M. Raises RunError for
        preferences or limits that cannot be, ValueError for a limit that is none.
        """
        weights = self._weights(prefer or dict.fromkeys(self.scales, 1.0))
        bounds = [x if isinstance(x, Limit) else Limit.parse(x, COSTS) for x in limits]
        note = self._allowed(bounds)
        bounds += [Limit(name, bound) for name, bound in self.limits.items()]
        by_promise = sorted(
            ((self._promise(encoder, weights), i) for i, encoder in enumerate(self.encoders)),
            key=lambda pair: (-pair[0], pair[1]),
        )
        best: tuple[float, ...] | None = None
        chosen: tuple[Encoder, tuple[Sized, ...]] | None = None
        for promise, number in by_promise:
            if best is not None and promise < -best[0]:
                break
            for key, decoders in self._networks(self.encoders[number], weights, bounds):
                if best is None or key < best:
                    best, chosen = key, (self.encoders[number], decoders)
        if chosen is None:
            asked = ", ".join(map(str, bounds))
            raise RunError(f"no network of the run keeps all of {asked}: allow more of one")
        return self._answer(*chosen, weights, note)

    def _weights(self, prefer: Mapping[str, float]) -> dict[str, float]:
        known = ", ".join(self.scales)
        for name, weight in prefer.items():
            if name not in self.scales:
                raise RunError(f"{name!r} is no task of the run: prefer some of {known}")
            if not (math.isfinite(weight) and weight >= 0):
                raise RunError(f"{name} is preferred by {weight:g}: by a number from 0 on")
        total = sum(prefer.values())
        if not total:
            raise RunError(f"nothing is preferred: give one of {known} more than 0")
        return {task: prefer.get(task, 0.0) / total for task in self.scales}

    def _allowed(self, limits: Sequence[Limit]) -> str:
        """What is to be said of limits that bound nothing; raises RunError for others that cannot
        be."""
        notes = []
        for limit in limits:
            if limit.name not in ADDED:
                raise RunError(
                    f"{limit} cannot be added up over an encoder and decoders: bound some of "
                    f"{', '.join(ADDED)}, or choose among what was measured (nas front)"
                )
            least, most = self.bounds[limit.name]
            if limit.bound < least:
                raise RunError(
                    f"no network of the run has {limit}: the smallest has {least:,.6g}, and the "
                    f"largest {most:,.6g}"
                )
            if limit.bound > most:
                notes.append(f"{limit} bounds nothing: the largest here has {most:,.6g}")
        if self.unkept:
            notes.append(f"of the search's limits {', '.join(self.unkept)} cannot be added up")
        return "; ".join(notes)

    def _promise(self, encoder: Encoder, weights: Mapping[str, float]) -> float:
        """What an encoder comes to with the best decoder of each task, whatever they cost."""
        best = (
            max(self._worth(task, weights, sized) for sized in encoder.decoders[task])
            for task in weights
        )
        return sum(best) + 1e-12  # as sums are rounded

    def _worth(self, task: str, weights: Mapping[str, float], sized: Sized) -> float:
        return weights[task] * self.scales[task].share(sized.score)

    def _networks(
        self, encoder: Encoder, weights: Mapping[str, float], limits: Sequence[Limit]
    ) -> Iterator[tuple[tuple[float, ...], tuple[Sized, ...]]]:
        """Networks of an encoder within the limits, but for those that others better: what is to be
        least (minus the preferred mean, then costs), and a decoder for each task."""
        bounded = [limit.name for limit in limits] or [ADDED[0]]
        most = [limit.bound for limit in limits] or [math.inf]
        partial: list[tuple[tuple[float, ...], tuple[Sized, ...]]] = [
            ((0.0, *(encoder.costs[name] for name in bounded)), ())
        ]
        for task in weights:
            own = [
                ((-self._worth(task, weights, sized), *(sized.costs[n] for n in bounded)), sized)
                for sized in encoder.decoders[task]
            ]
            own = [own[i] for i in nondominated([key for key, _ in own])]
            more = [
                (tuple(map(add, key, part)), (*decoders, sized))
                for key, decoders in partial
                for part, sized in own
            ]
            more = [entry for entry in more if all(map(le, entry[0][1:], most))]
            partial = [more[i] for i in nondominated([key for key, _ in more])]
        yield from partial

    def _answer(
        self, encoder: Encoder, decoders: Sequence[Sized], weights: Mapping[str, float], note: str
    ) -> Answer:
        tasks = list(weights)
        scores = {self.scales[t].column: s.score for t, s in zip(tasks, decoders, strict=True)}
        costs = {n: encoder.costs[n] + sum(sized.costs[n] for sized in decoders) for n in ADDED}
        return Answer(
            encoder.labels,
            {own_output(t): sized.labels for t, sized in zip(tasks, decoders, strict=True)},
            {task: sized.score for task, sized in zip(tasks, decoders, strict=True)},
            {**scores, **costs},
            sum(self._worth(t, weights, s) for t, s in zip(tasks, decoders, strict=True)),
            self.input,
            note,
        )

    def asked(self) -> Iterator[tuple[Mapping[str, float], float, Answer]]:
        """What some preferences and budgets of FLOPs, over all that there are, come to: both, and
        the answer."""
        tasks, (least, most) = list(self.scales), self.bounds[ADDED[0]]
        others = (1 - FIRST) / max(1, len(tasks) - 1)
        prefers = [dict.fromkeys(tasks, 1.0)]
        prefers += [{t: FIRST if t == first else others for t in tasks} for first in tasks]
        for i in range(BUDGETS + 1):
            bound = max(least, 1) * (most / max(least, 1)) ** (i / BUDGETS) * (1 + 1e-9)
            for prefer in prefers:
                with suppress(RunError):  # another limit leaves none so small
                    yield prefer, bound, self.answer(prefer, [Limit(ADDED[0], bound)])
