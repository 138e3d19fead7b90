"""`choose_with`, by which an Optuna trial comes by its derivation, site by site."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from optuna import Trial
from optuna.trial import BaseTrial

from nas.grammar import Derivation, Grammar, Guide, Limits, Option, Site
from nas.op import Shape
from nas.search.breed import DerivationSampler
from nas.search.told import attribute


def choose_with(trial: BaseTrial) -> Guide:
    """A choice by an Optuna trial, in any study: `derive(grammar, choose_with(trial), …)`.

    The trial keeps the derivation's text as its user attribute `derivation:` and the grammar's
    name. Where the study's sampler breeds derivations it plans this one.
    """
    return _Suggested(trial)


def parameter(site: Site, labels: Sequence[str]) -> str:
    """The name of a site as a categorical parameter. Optuna refuses one name with other options, so
    it carries a hash of both."""
    identity = hashlib.sha1("\0".join([site.name, *labels]).encode()).hexdigest()[:12]
    return f"{site.name[-200:]}#{identity}"


class _Suggested(Guide):
    """Sites as categorical parameters."""

    def __init__(self, trial: BaseTrial):
        self.trial = trial
        self.sampler: DerivationSampler | None = None
        self.planned: dict[str, str] = {}

    def begin(self, grammar: Grammar, input: Shape, limits: Limits) -> Derivation | None:
        sampler = self.trial.study.sampler if isinstance(self.trial, Trial) else None
        if not isinstance(sampler, DerivationSampler):
            return None
        child = sampler.propose(self.trial, grammar, input, limits)  # type: ignore[arg-type]
        self.sampler, self.planned = sampler, child.by_site
        return child

    def __call__(self, site: Site, options: Sequence[Option]) -> int:
        labels = [option.label for option in options]
        if len(labels) == 1:
            return 0
        name = parameter(site, labels)
        planned = self.planned.get(site.name)
        if self.sampler is None or planned not in labels:
            return labels.index(self.trial.suggest_categorical(name, labels))
        return labels.index(self.sampler.suggest(self.trial, name, labels, planned))

    def end(self, derivation: Derivation) -> None:
        name, text = attribute(derivation.grammar), str(derivation)
        if self.trial.user_attrs.get(name) != text:
            self.trial.set_user_attr(name, text)
