"""What earlier runs teach of a space: architectures to try first, and how probable options are.

After AutoTransfer (Cao et al. 2023, arXiv 2303.07669): a prior over options from the best of
earlier tasks, which fades as a run learns. Tasks are alike as far as a predictor of the one ranks
the trials of the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from nas.grammar import Derivation, Option, Site
from nas.grammar.derive import Weigh
from nas.grammar.options import probabilities
from nas.lazy import stats
from nas.search.breed import Judge, Taught
from nas.search.inner import Judged, batch_along
from nas.search.predictor import FEWEST, Predictor, Seen, facts_of

Key = TypeVar("Key")
BEST = 0.1  # of an earlier task's architectures, by which options are weighted
LEAST = 5  # of them
SMOOTHED = 5.0  # times that the grammar's own weights count among them
EVEN = 0.25  # share of what is written of options alike
UNKNOWN = 0.5  # share of the prior where it is not known yet how alike tasks are
FADES = 30  # trials after which the prior has half its share


@dataclass(frozen=True)
class Earlier:
    """A task of an earlier run, in the space that is searched now: its architectures, and how bad
    each was, by validation."""

    name: str  # of the run and the task
    derivations: tuple[Derivation, ...]
    losses: tuple[float, ...]

    @cached_property
    def predictor(self) -> Predictor | None:
        """What it says of others; None where it says nothing better than by chance."""
        return Predictor.fit(Seen(list(map(facts_of, self.derivations))), self.losses)

    @cached_property
    def best(self) -> tuple[Derivation, ...]:
        order = sorted(range(len(self.losses)), key=self.losses.__getitem__)
        most = max(LEAST, round(BEST * len(order)))
        return tuple(self.derivations[i] for i in order[:most])

    @cached_property
    def by_site(self) -> Mapping[str, Counter[str]]:
        """How often the best chose what, by site."""
        return _counted(self.best, lambda site: site.name)

    @cached_property
    def by_rule(self) -> Mapping[tuple[str, str], Counter[str]]:
        """The same by rule and suffix, wherever the rule is used."""
        return _counted(self.best, lambda site: (site.rule, site.suffix))


@dataclass(frozen=True)
class Lessons:
    """What several earlier tasks teach together."""

    earlier: tuple[Earlier, ...]

    def first(
        self, keeps: Callable[[Derivation], bool], n: int, along_flops: bool
    ) -> list[Derivation]:
        """So many of their architectures to begin with, of which all together predict the best,
        along FLOPs where these are judged too. How alike the tasks are is not known then."""
        predictors = [task.predictor for task in self.earlier if task.predictor]
        every = dict.fromkeys(d for task in self.earlier for d in task.derivations)
        candidates = [derivation for derivation in every if keeps(derivation)]
        if not predictors or not candidates:
            return []
        facts = list(map(facts_of, candidates))
        scores = [sum(column) for column in zip(*(p(facts) for p in predictors), strict=True)]
        judged = [
            Judged(d, (score, float(d.cost.flops)) if along_flops else (score,))
            for d, score in zip(candidates, scores, strict=True)
        ]
        return batch_along(judged, n, -1)

    def alike(self, derivations: Sequence[Derivation], losses: Sequence[float]) -> list[float]:
        """Of each task Kendall's τ of what it predicts with what was measured now, 0 where nothing
        can be said."""
        pairs = zip(derivations, losses, strict=True)
        finite = [(facts_of(d), loss) for d, loss in pairs if math.isfinite(loss)]
        facts, measured = [f for f, _ in finite], [loss for _, loss in finite]
        taus = list[float]()
        for task in self.earlier:
            predicted = task.predictor(facts) if task.predictor else []
            tau = float(stats.kendalltau(predicted, measured)[0]) if len(predicted) > 1 else 0.0
            taus.append(0.0 if math.isnan(tau) else tau)
        return taus

    def taught(
        self, derivations: Sequence[Derivation], losses: Sequence[float], along_flops: bool
    ) -> Taught:
        """What is taught once that was measured: nothing, where no task was alike by more than
        chance. Children are judged only where tasks are known to be alike, and along FLOPs where
        these are judged too."""
        n = len(losses)
        if n < FEWEST:
            return Taught(self.mixed([1.0] * len(self.earlier), UNKNOWN))
        chance = math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))  # the deviation of τ by chance
        weights = [tau if tau > chance else 0.0 for tau in self.alike(derivations, losses)]
        if not any(weights):
            return Taught()
        weigh = self.mixed(weights, FADES / (FADES + n))
        return Taught(weigh, self.judge(weights, along_flops))

    def judge(self, weights: Sequence[float], along_flops: bool) -> Judge:
        """How bad derivations will be, by what the tasks say by their weights; and their FLOPs."""
        heard = [
            (task.predictor, weight)
            for task, weight in zip(self.earlier, weights, strict=True)
            if task.predictor and weight
        ]

        def points(derivations: Sequence[Derivation]) -> list[tuple[float, ...]]:
            facts = list(map(facts_of, derivations))
            columns = [[weight * s for s in predictor(facts)] for predictor, weight in heard]
            scores = list(map(sum, zip(*columns, strict=True)))
            if not along_flops:
                return [(score,) for score in scores]
            pairs = zip(scores, derivations, strict=True)
            return [(score, float(derivation.cost.flops)) for score, derivation in pairs]

        return points

    def mixed(self, weights: Sequence[float], share: float) -> Weigh:
        """The grammar's weights with a share of what the best of the tasks chose, each task by its
        weight."""
        whole = sum(weights)

        def weigh(site: Site, options: Sequence[Option]) -> list[float]:
            own, prior = probabilities(options), [0.0] * len(options)
            for task, weight in zip(self.earlier, weights, strict=True):
                by_rule = task.by_rule.get((site.rule, site.suffix), Counter[str]())
                counts = task.by_site.get(site.name, by_rule)
                times = [counts[option.label] for option in options]
                total = sum(times) + SMOOTHED
                for i, probability in enumerate(own):
                    prior[i] += weight * (times[i] + SMOOTHED * probability) / total
            return [(1 - share) * p + share * q / whole for p, q in zip(own, prior, strict=True)]

        return weigh

    def shares(self, rule: str, suffix: str) -> dict[str, float]:
        """How probable the options of a rule's site are by what the best of all tasks chose,
        wherever the rule is used: {} where none came by it."""
        counts = Counter[str]()
        labels = set[str]()
        for task in self.earlier:
            own = task.by_rule.get((rule, suffix), Counter())
            total = sum(own.values())
            counts.update({label: n / total for label, n in own.items() if n})
            labels |= own.keys()
        if not counts:
            return {}
        even = EVEN / len(labels)
        heard = sum(counts.values())
        return {label: even + (1 - even * len(labels)) * counts[label] / heard for label in labels}


def _counted(
    derivations: Sequence[Derivation], key: Callable[[Site], Key]
) -> dict[Key, Counter[str]]:
    """How often what was chosen, and of what was offered and never chosen 0."""
    counts = dict[Key, Counter[str]]()
    for derivation in derivations:
        for chosen in derivation.choices:
            own = counts.setdefault(key(chosen.site), Counter())
            own.update({option.label: 0 for option in chosen.options})
            own[chosen.options[chosen.index].label] += 1
    return counts
