"""Proposals from Optuna. The archive is the truth: Optuna proposes and is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection

from nas.front import Limit, Objective
from nas.grammar import Derivation, Grammar, derive
from nas.grammar.count import follow_table, table
from nas.grammar.derive import Size
from nas.search.breed import DerivationSampler, Lineage, attribute, choose_with
from nas.search.evolve import EvolutionSampler, RandomDerivations
from nas.search.tree import TreeSampler
from nas.supernet import Space

Key = Callable[[Derivation], str]


@dataclass(frozen=True)
class Bred:
    """What a sampler that breeds derivations is made of."""

    seed: int
    population: int
    start: Sequence[Derivation]
    key: Key | None
    size: Size | None

    @property
    def own(self) -> tuple[Sequence[Derivation], Key | None, Size | None]:
        return self.start, self.key, self.size


# of Optuna's own, by seed and population: for finite grammars, which have a fixed table of sites
FIXED: dict[str, Callable[[int, int], BaseSampler]] = {
    "random": lambda seed, population: RandomSampler(seed=seed),
    "tpe": lambda seed, population: TPESampler(seed=seed, n_startup_trials=2 * population),
    "nsga2": lambda seed, population: NSGAIISampler(seed=seed, population_size=population),
}
BREEDING: dict[str, Callable[[Bred], DerivationSampler]] = {
    "tree": lambda bred: TreeSampler(bred.seed, bred.population, 0.5, *bred.own),
    "evolution": lambda bred: EvolutionSampler(
        bred.seed, bred.population, max(2, bred.population // 10), *bred.own
    ),
    "random": lambda bred: RandomDerivations(bred.seed, *bred.own),
}


def resolved(sampler: str, grammar: Grammar) -> str:
    """The sampler that `auto` is in a grammar, and any other itself."""
    if sampler != "auto":
        return sampler
    return "nsga2" if grammar.finite else "tree"


def breeds(sampler: str, grammar: Grammar) -> bool:
    """Whether a sampler plans whole derivations, and may start from some."""
    return sampler in BREEDING and not (sampler in FIXED and grammar.finite)


@dataclass(frozen=True)
class Proposal:
    """A derivation that Optuna asks for, the trial to answer with, and where it comes from."""

    derivation: Derivation
    trial: optuna.Trial
    lineage: Lineage | None = None


class Proposer:
    """Ask and tell. The same seed, told the same, proposes the same.

    sampler: "auto" is nsga2 where a grammar is finite, and tree where it is recursive.

    For a sampler of Optuna's own, a finite grammar has a fixed table of sites: Optuna is asked for
    all of them, so that every trial has the same parameters and evolution can cross them; sites
    that a derivation does not reach are ignored. An open grammar, and any for samplers that breed
    derivations, asks for its sites as it meets them.

    What is proposed of a finite grammar keeps the space's limits: where the sites that Optuna asks
    for do not, the nearest that do are taken.

    population: trials of a generation. start: the first proposals; without them, those of a finite
    grammar are the ends of the space, the fewest FLOPs and the most: random draws crowd around the
    middle. key: what no two proposals of a sampler that breeds share.
    """

    def __init__(
        self,
        space: Space,
        sampler: str,
        objectives: Sequence[Objective],
        limits: Sequence[Limit],
        *,
        seed: int,
        population: int,
        start: Sequence[Derivation] = (),
        key: Key | None = None,
    ):
        self.space, self.grammar = space, space.grammar
        self.objectives, self.limits = objectives, limits
        sampler = resolved(sampler, self.grammar)
        bred = breeds(sampler, self.grammar)
        self.sites: dict[str, CategoricalDistribution] = {}
        if self.grammar.finite and not bred:
            self.sites = {
                name: CategoricalDistribution(labels)
                for name, labels in table(self.grammar, input=space.input).items()
            }
        with _quiet():
            own = (
                BREEDING[sampler](Bred(seed, population, start, key, space.size))
                if bred
                else FIXED[sampler](seed, population)
            )
            up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
            directions = [up if o.maximize else down for o in self.objectives]
            self.study = optuna.create_study(directions=directions, sampler=own)
            ends = start if not bred else ()
            if self.grammar.finite and not start:
                ends = list(space.ends())
            for end in ends:
                text = {attribute(self.grammar): str(end)}
                self.study.enqueue_trial(dict(end.by_site) if self.sites else {}, text)

    def population(self) -> set[str]:
        """The derivations, as text, that may still become parents."""
        sampler = self.study.sampler
        if not isinstance(sampler, DerivationSampler):
            return set()
        name = attribute(self.grammar)
        return {t.user_attrs[name] for t in sampler.population(self.study, self.grammar)}

    def ask(self) -> Proposal:
        if self.sites:
            trial = self.study.ask(dict(self.sites))
            derivation = self.space.derive(follow_table(trial.params))
        else:
            trial = self.study.ask()
            derivation = derive(
                self.grammar, choose_with(trial), input=self.space.input, limits=self.space.limits
            )
        return Proposal(derivation, trial, Lineage.of(self.study, trial, self.grammar))

    def tell(self, proposal: Proposal, values: Mapping[str, float] | None) -> None:
        """Answer a proposal with the columns of its trial; None where the evaluation failed."""
        if values is None or any(o.name not in values for o in self.objectives):
            self.study.tell(proposal.trial, state=optuna.trial.TrialState.FAIL)
            return
        for limit in self.limits:
            proposal.trial.set_constraint(limit.name, limit.excess(values[limit.name]))
        self.study.tell(proposal.trial, [values[o.name] for o in self.objectives])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's lines for each study and its notes on what is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
