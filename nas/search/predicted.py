"""`PredictedSampler`: batches of proposals by predictors of what was measured."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from optuna import Study, Trial
from optuna.trial import FrozenTrial, TrialState

from nas.grammar import Derivation, Grammar, Limits
from nas.grammar.derive import Size
from nas.op import Shape
from nas.search.breed import Child, attribute, losses, text_of, violation
from nas.search.inner import (
    Judge,
    Judged,
    Variation,
    batch_along,
    evenly_spaced,
    explore,
    first_batch,
)
from nas.search.predictor import Predictor, Seen, facts_of
from nas.search.tree import TreeSampler, best_first
from nas.supernet.chain import ends_first

PARENTS = 40  # measured architectures at most from which a search among predictions begins
BEST, OTHERS = 250, 150  # of many trials those that predictors are made of, and some others
COLUMNS = "columns"  # the user attribute that holds all that was measured of a trial


@dataclass(frozen=True)
class Goal:
    """What candidates are judged by: an exact cost of theirs, or the predicted loss of a column."""

    column: str
    maximize: bool = False
    exact: str = ""  # its name in Derivation.cost
    spare: bool = False  # whether it is left out where it cannot be predicted
    along: bool = False  # whether batches are spread along it
    finer: str = ""  # a column of losses that ranks as this one and tells more, where there is one

    def loss(self, columns: Mapping[str, float]) -> float:
        if self.finer in columns:
            return columns[self.finer]
        value = columns.get(self.column, math.nan)
        if self.along:
            return math.log1p(value)
        return -value if self.maximize else value


@dataclass(frozen=True)
class Wanted:
    """What some proposals are for: goals, and the constraints of theirs that must be kept; None is
    all that there are."""

    goals: tuple[Goal, ...]
    constraints: tuple[str, ...] | None = None


class PredictedSampler(TreeSampler):
    """A whole batch of proposals at a time, as an Optuna sampler: predictors are fitted to the
    trials, NSGA-II searches what they say beside exact costs, and the batch is taken evenly along
    the cost of the front that comes of it.

    "A hardware-aware framework for accelerating neural architecture search across modalities"
    (LINAS, arXiv 2205.10358). What it knows it reads in the study's trials; a batch follows from
    the seed and the trials before it. Where a goal is not predicted better than by chance, unless
    it is spare, a batch is bred as the tree sampler breeds. Constraints are predicted too.
    `wanted` says what is exact and what is predicted, and from which of a trial's columns; without
    it each value is predicted. Of several, each has an equal share of a batch, by predictors of its
    own from all trials.
    """

    def __init__(
        self,
        seed: int = 0,
        batch: int = 20,
        start: Sequence[Derivation] = (),
        key: Callable[[Derivation], str] | None = None,
        size: Size | None = None,
        wanted: Sequence[Wanted] = (),
    ):
        super().__init__(seed, batch, 0.5, start, key, size)
        self.wanted = tuple(wanted)
        self.agreement: dict[str, float] = {}  # Kendall's τ by column, in the last batch
        self._batches: dict[tuple[int, str], list[Derivation]] = {}

    def _thoughts(
        self, trial: Trial, grammar: Grammar, input: Shape, limits: Limits, rng: random.Random
    ) -> Iterator[Child]:
        number, at = divmod(trial.number, self._size)
        known = number, grammar.hash
        batch = self._batches.get(known)
        if batch is None:
            chance = random.Random(f"{self.seed}/batch {number}")
            variation = Variation(grammar, input, limits, self.size, chance)
            batch = self._batch(trial.study, number, variation)
            others = {key: kept for key, kept in self._batches.items() if key[0] == number}
            self._batches = others | {known: batch}
        if trial.number >= len(self._start(grammar)):
            yield from map(Child, [*batch[at:], *batch[:at]])
        yield from super()._thoughts(trial, grammar, input, limits, rng)

    def _batch(self, study: Study, number: int, variation: Variation) -> list[Derivation]:
        """The proposals of a batch; none where there are too few trials, or predictors are no
        use."""
        grammar, first = variation.grammar, number * self._size
        if not number:
            return [] if self._start(grammar) else ends_first(first_batch(variation, self._size))
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        trials = [t for t in finished if t.number < first and text_of(t, grammar)]
        known = {
            t.number: Derivation.read(t.user_attrs[attribute(grammar)], grammar) for t in trials
        }
        if not known:
            return []
        wanted = self.wanted or [
            Wanted(tuple(Goal(str(i)) for i, _ in enumerate(study.directions)))
        ]
        looked_at = self._looked_at(study, trials, wanted)
        seen = Seen([facts_of(known[trial.number]) for trial in looked_at])
        taken, batch = set(map(self._key, known.values())), list[list[Derivation]]()
        self.agreement = {}
        for share, want in zip(_shares(self._size, len(wanted), number), wanted, strict=True):
            judge = self._judge(study, looked_at, seen, want) if share else None
            if judge is None:
                continue
            best = self._ranked(study, trials, want, PARENTS)
            candidates = explore(judge, [known[trial.number] for trial in best], variation)
            keys = [(judged, self._key(judged.derivation)) for judged in candidates]
            fresh = [judged for judged, key in keys if key and key not in taken]
            along = [i for i, goal in enumerate(want.goals) if goal.along]
            batch.append(ends_first(batch_along(fresh, share, along[0] if along else -1)))
            taken |= set(map(self._key, batch[-1]))
        return [d for row in zip_longest(*batch) for d in row if d is not None]

    def _ranked(
        self, study: Study, trials: Sequence[FrozenTrial], want: Wanted, most: int
    ) -> list[FrozenTrial]:
        """The best trials by what is wanted, best first, at most so many."""
        points = list(zip(*(self._losses(g, study, trials) for g in want.goals), strict=True))
        beyond = [violation(trial, want.constraints) for trial in trials]
        return [trials[i] for i in best_first(points, beyond, most)]

    def _looked_at(
        self, study: Study, trials: Sequence[FrozenTrial], wanted: Sequence[Wanted]
    ) -> list[FrozenTrial]:
        """The trials that predictors are made of, the same for all: of many the best by what each
        is wanted for, and some of the others, evenly."""
        if len(trials) <= BEST + OTHERS:
            return list(trials)
        each = BEST // len(wanted)
        best = {t.number for want in wanted for t in self._ranked(study, trials, want, each)}
        others = [trial for trial in trials if trial.number not in best]
        best |= {trial.number for trial in evenly_spaced(others, BEST + OTHERS - len(best))}
        return [trial for trial in trials if trial.number in best]

    def _losses(self, goal: Goal, study: Study, trials: Sequence[FrozenTrial]) -> list[float]:
        if not self.wanted:
            return [losses(study, trial)[int(goal.column)] for trial in trials]
        return [goal.loss(trial.user_attrs.get(COLUMNS, {})) for trial in trials]

    def _judge(
        self, study: Study, trials: Sequence[FrozenTrial], seen: Seen, want: Wanted
    ) -> Judge | None:
        """What judges candidates; None where a goal that must be is not predicted better than by
        chance."""
        goals = want.goals
        fitted = {
            goal: Predictor.fit(seen, self._losses(goal, study, trials))
            for goal in goals
            if not goal.exact
        }
        predictors = {goal: predictor for goal, predictor in fitted.items() if predictor}
        self.agreement |= {goal.column: p.agreement for goal, p in predictors.items()}
        if any(goal not in predictors and not goal.spare for goal in fitted):
            return None
        bounds = _bounds(seen, trials, want.constraints)

        def judge(candidates: Sequence[Derivation]) -> list[Judged]:
            facts = list(map(facts_of, candidates))
            aims = [
                predictors[goal](facts) if goal in predictors else _known(goal, candidates)
                for goal in goals
            ]
            broken = [_beyond(bound.values(facts), bound) for bound in bounds]
            return [
                Judged(d, tuple(aim[i] for aim in aims), sum(bound[i] for bound in broken))
                for i, d in enumerate(candidates)
            ]

        return judge


def _shares(size: int, aims: int, number: int) -> list[int]:
    """How many of a batch each of some aims has; what is left over goes around."""
    return [size // aims + ((i - number) % aims < size % aims) for i in range(aims)]


def _known(goal: Goal, candidates: Sequence[Derivation]) -> list[float]:
    """An exact cost of each candidate; of what cannot be told the same for all."""
    if not goal.exact:
        return [0.0] * len(candidates)
    return [float(getattr(candidate.cost, goal.exact)) for candidate in candidates]


def _beyond(excesses: Sequence[float], bound: Predictor) -> list[float]:
    """By how much a constraint is broken, in deviations of what was measured."""
    deviation = float(bound.losses.std())
    return [max(0.0, excess / deviation) for excess in excesses]


def _bounds(
    seen: Seen, trials: Sequence[FrozenTrial], among: Collection[str] | None
) -> list[Predictor]:
    """What predicts by how much constraints are broken, of those that some trial broke."""
    broken = {name for trial in trials for name, value in trial.constraints.items() if value > 0}
    names = broken if among is None else broken.intersection(among)
    fitted = (
        Predictor.fit(seen, [t.constraints.get(name, math.nan) for t in trials])
        for name in sorted(names)
    )
    return [predictor for predictor in fitted if predictor is not None]
