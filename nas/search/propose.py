"""Proposals from Optuna. The archive is the truth: Optuna proposes and is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from nas.front import Limit, Objective
from nas.grammar import Derivation, Grammar, Limits, derive
from nas.grammar.count import follow_table, table
from nas.grammar.derive import Size
from nas.search.breed import DerivationSampler, Lineage, attribute, choose_with
from nas.search.evolve import EvolutionSampler, RandomDerivations
from nas.search.tree import TreeSampler
from nas.supernet import Space

OPEN_TERMINALS, OPEN_PARAMS, OPEN_FLOPS, OPEN_ACTIVATIONS = 256, 5_000_000, 50_000_000, 1_000_000

OPEN_SIZE = (8, 200)  # operators of a random derivation of an open grammar

FIXED: dict[str, Callable[[int, int], BaseSampler]] = {
    "random": lambda seed, population: RandomSampler(seed=seed),
    "tpe": lambda seed, population: TPESampler(seed=seed, n_startup_trials=2 * population),
    "nsga2": lambda seed, population: NSGAIISampler(seed=seed, population_size=population),
}
Key = Callable[[Derivation], str]
Start = Sequence[Derivation]
BRED: dict[str, Callable[[int, int, Start, Key | None, Size | None], DerivationSampler]] = {
    "tree": lambda seed, population, *rest: TreeSampler(seed, population, 0.5, *rest),
    "evolution": lambda seed, population, *rest: EvolutionSampler(
        seed, population, max(2, population // 10), *rest
    ),
    "random": lambda seed, population, *rest: RandomDerivations(seed, *rest),
}


@dataclass(frozen=True)
class Proposal:
    """A derivation that Optuna asks for, the trial to answer with, and where it comes from."""

    derivation: Derivation
    trial: optuna.Trial
    lineage: Lineage | None = None


class Proposer:
    """Ask and tell. The same seed, told the same, proposes the same.

    sampler: "auto" is nsga2 where a grammar is finite, and tree where it is recursive. For a
    sampler of Optuna's own, a finite grammar has a fixed table of sites: Optuna is asked for all of
    them, so that every trial has the same parameters and evolution can cross them; sites that a
    derivation does not reach are ignored. An open grammar, and any for samplers that breed
    derivations, asks for its sites as it meets them.

    What is proposed of a finite grammar keeps the space's limits: where the sites that Optuna asks
    for do not, the nearest that do are taken.

    start: the first proposals; without them, those of a finite grammar are the ends of the space,
    the fewest FLOPs and the most: random draws crowd around the middle. key: what no two proposals
    of a sampler that breeds share. size: the operators of its random derivations; 8 to 200 where a
    grammar is recursive.
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
            self.study = optuna.create_study(
                directions=["maximize" if o.maximize else "minimize" for o in objectives],
                sampler=BRED[sampler](seed, population, start, key, space.size)
                if bred
                else FIXED[sampler](seed, population),
            )
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


def resolved(sampler: str, grammar: Grammar) -> str:
    """The sampler that `auto` is in a grammar, and any other itself."""
    if sampler != "auto":
        return sampler
    return "nsga2" if grammar.finite else "tree"


def breeds(sampler: str, grammar: Grammar) -> bool:
    """Whether a sampler plans whole derivations, and may start from some."""
    return sampler in BRED and not (sampler in FIXED and grammar.finite)


def within(limits: Sequence[Limit]) -> Limits:
    """What derivations of an open grammar may cost at most: the run's limits on parameters, FLOPs
    and activations, and otherwise what can be trained from scratch in reasonable time."""
    most = {"params": OPEN_PARAMS, "flops": OPEN_FLOPS, "activations": OPEN_ACTIVATIONS}
    return Limits(OPEN_TERMINALS, **(most | counted(limits)))


def counted(limits: Sequence[Limit]) -> dict[str, int]:
    """The bounds on what can be counted of a derivation, by the name that `Limits` has for it."""
    found: dict[str, int] = {}
    for limit in limits:
        name = "params" if limit.name == "size_mb" else limit.name
        bound = int(limit.bound * 1e6 / 4 if limit.name == "size_mb" else limit.bound)
        if name in ("params", "flops", "activations"):
            found[name] = min(bound, found.get(name, bound))
    return found


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
