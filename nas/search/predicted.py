"""`PredictedSampler`: batches of proposals by predictors of what was measured."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

from optuna import Study, Trial
from optuna.trial import FrozenTrial, TrialState

from nas.grammar import Derivation, Grammar, Limits
from nas.grammar.derive import Size
from nas.op import Shape
from nas.search.breed import Child
from nas.search.inner import Judged, Variation, batch_along, evenly_spaced, explore, first_batch
from nas.search.judge import Goal, Predicted, Wanted, improving_any
from nas.search.predictor import Seen, facts_of
from nas.search.told import attribute, losses, text_of, violation
from nas.search.tree import TreeSampler, best_first
from nas.supernet.chain import ends_first

PARENTS = 40  # measured architectures at most from which a search among predictions begins
BEST, OTHERS = 250, 150  # of many trials those that predictors are made of, and some others
COLUMNS = "columns"  # the user attribute that holds all that was measured of a trial


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
    own from all trials; where all want one thing that is predicted, and nothing that bounds it was
    broken, a batch is what most probably betters the best of any (`improving_any`).
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
        judges = list[tuple[int, Predicted]]()
        for share, want in zip(_shares(self._size, len(wanted), number), wanted, strict=True):
            losses = {goal: self._losses(goal, study, looked_at) for goal in want.goals}
            if judge := Predicted.fit(seen, looked_at, want, losses):
                judges.append((share, judge))
        self.agreement = {c: tau for _, judge in judges for c, tau in judge.agreement.items()}
        taken, explored = set(map(self._key, known.values())), list[list[Judged]]()
        for _, judge in judges:
            best = self._ranked(study, trials, judge.want, PARENTS)
            candidates = explore(judge, [known[trial.number] for trial in best], variation)
            keys = [(judged, self._key(judged.derivation)) for judged in candidates]
            explored.append([judged for judged, key in keys if key and key not in taken])
        if all(judge.single for _, judge in judges):
            pool = {self._key(j.derivation): j.derivation for fresh in explored for j in fresh}
            some = [judge for _, judge in judges]
            return improving_any(some, list(pool.values()), self._size)
        batch = list[list[Derivation]]()
        for (share, judge), fresh in zip(judges, explored, strict=True):
            along = [i for i, goal in enumerate(judge.want.goals) if goal.along]
            left = [judged for judged in fresh if self._key(judged.derivation) not in taken]
            batch.append(ends_first(batch_along(left, share, along[0] if along else -1)))
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


def _shares(size: int, aims: int, number: int) -> list[int]:
    """How many of a batch each of some aims has; what is left over goes around."""
    return [size // aims + ((i - number) % aims < size % aims) for i in range(aims)]
