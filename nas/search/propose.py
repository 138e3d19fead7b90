"""Proposals from Optuna. The archive is the truth: Optuna proposes and is told."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from nas.front import Limit, Objective
from nas.grammar import Choose, Derivation, Grammar, Limits, Option, Site, derive
from nas.grammar.count import extreme, follow_table, table
from nas.grammar.derive import Input

optuna.logging.set_verbosity(optuna.logging.WARNING)

OPEN_TERMINALS, OPEN_PARAMS, OPEN_FLOPS = 256, 5_000_000, 50_000_000

SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "random": lambda seed, generation: RandomSampler(seed=seed),
    "tpe": lambda seed, generation: TPESampler(seed=seed, n_startup_trials=2 * generation),
    "nsga2": lambda seed, generation: NSGAIISampler(seed=seed, population_size=generation),
}


@dataclass(frozen=True)
class Proposal:
    """A derivation that Optuna asks for, and the trial to answer with."""

    derivation: Derivation
    trial: optuna.Trial


class Proposer:
    """Ask and tell. The same seed, told the same, proposes the same.

    A finite grammar has a fixed table of sites: Optuna is asked for all of them, so that every
    trial has the same parameters and evolution can cross them; sites that a derivation does not
    reach are ignored. Its first proposals are the ends of the space, the fewest FLOPs and the most:
    random draws crowd around the middle. An open grammar asks for its sites as it meets them.
    """

    def __init__(
        self, grammar: Grammar, input: Input, sampler: str, objectives: Sequence[Objective],
        limits: Sequence[Limit], *, seed: int, generation: int,
    ):  # fmt: skip
        self.grammar, self.input = grammar, input
        self.objectives, self.limits = objectives, limits
        self.within = None if grammar.finite else within(limits)
        self.sites: dict[str, CategoricalDistribution] = {}
        if grammar.finite:
            self.sites = {
                name: CategoricalDistribution(labels)
                for name, labels in table(grammar, input=input).items()
            }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study = optuna.create_study(
                directions=["maximize" if o.maximize else "minimize" for o in objectives],
                sampler=SAMPLERS[sampler](seed, generation),
            )
            for largest in (False, True) if grammar.finite else ():
                end = extreme(grammar, input=input, largest=largest)
                self.study.enqueue_trial(dict(end.by_site))

    def ask(self) -> Proposal:
        if self.grammar.finite:
            trial = self.study.ask(dict(self.sites))
            choose = follow_table(trial.params)
        else:
            trial = self.study.ask()
            choose = choose_with(trial)
        return Proposal(derive(self.grammar, choose, input=self.input, limits=self.within), trial)

    def tell(self, proposal: Proposal, values: Mapping[str, float] | None) -> None:
        """Answer a proposal with the columns of its trial; None where the evaluation failed."""
        if values is None or any(o.name not in values for o in self.objectives):
            self.study.tell(proposal.trial, state=optuna.trial.TrialState.FAIL)
            return
        for limit in self.limits:
            proposal.trial.set_constraint(limit.name, values[limit.name] - limit.at_most)
        self.study.tell(proposal.trial, [values[o.name] for o in self.objectives])


def within(limits: Sequence[Limit]) -> Limits:
    """What derivations of an open grammar may cost at most: the run's limits on FLOPs and
    parameters, and otherwise what can be trained from scratch in reasonable time."""
    most = {limit.name: int(limit.at_most) for limit in limits}
    return Limits(OPEN_TERMINALS, most.get("params", OPEN_PARAMS), most.get("flops", OPEN_FLOPS))


def choose_with(trial: Any) -> Choose:
    """A choice by an Optuna trial, in any study: `derive(grammar, choose_with(trial), …)`.

    Optuna refuses one parameter name with other options, so a site's name carries its options'
    hash.
    """

    def choose(site: Site, options: Sequence[Option]) -> int:
        labels = [option.label for option in options]
        if len(labels) == 1:
            return 0
        identity = hashlib.sha1("\0".join([site.name, *labels]).encode()).hexdigest()[:12]
        return labels.index(trial.suggest_categorical(f"{site.name[-200:]}#{identity}", labels))

    return choose
