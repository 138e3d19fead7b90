"""Proposals from Optuna. The archive is the truth: Optuna proposes and is told."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection

from nas.grammar import Derivation, Grammar, derive
from nas.grammar.count import follow_table, table
from nas.grammar.derive import Size
from nas.lazy import stats
from nas.measure import cost_named
from nas.search.breed import DerivationSampler, Lineage
from nas.search.columns import Aim, finer
from nas.search.earlier import Lessons
from nas.search.error import RunError
from nas.search.evolve import EvolutionSampler, RandomDerivations
from nas.search.judge import Goal, Wanted
from nas.search.parts import SAMPLERS, SettingsError
from nas.search.predicted import COLUMNS, PredictedSampler
from nas.search.suggest import choose_with
from nas.search.told import attribute
from nas.search.tree import TreeSampler
from nas.supernet import Space
from nas.user_code import user_attribute

DRAWN = 20  # of so many proposals one is drawn at random
DRAWS = 20  # times at most, until it is one that was not proposed before
Key = Callable[[Derivation], str]


@dataclass(frozen=True)
class Bred:
    """What a sampler that breeds derivations is made of."""

    seed: int
    population: int
    start: Sequence[Derivation]
    key: Key | None
    size: Size | None
    wanted: Sequence[Wanted] = ()

    @property
    def own(self) -> tuple[Sequence[Derivation], Key | None, Size | None]:
        return self.start, self.key, self.size


# of Optuna's own, by seed and population: for finite grammars, which have a fixed table of sites
FIXED: dict[str, Callable[[int, int], BaseSampler]] = {
    "random": lambda seed, population: RandomSampler(seed=seed),
    "tpe": lambda seed, population: TPESampler(seed=seed, n_startup_trials=2 * population),
    "nsga2": lambda seed, population: NSGAIISampler(seed=seed, population_size=population),
    "gp": lambda seed, population: GPSampler(seed=seed, n_startup_trials=population),
}
BREEDING: dict[str, Callable[[Bred], DerivationSampler]] = {
    "predicted": lambda bred: PredictedSampler(bred.seed, bred.population, *bred.own, bred.wanted),
    "tree": lambda bred: TreeSampler(bred.seed, bred.population, 0.5, *bred.own),
    "evolution": lambda bred: EvolutionSampler(
        bred.seed, bred.population, max(2, bred.population // 10), *bred.own
    ),
    "random": lambda bred: RandomDerivations(bred.seed, *bred.own),
}


PARENTED = ("tree", "evolution")  # samplers whose children come of parents
PER_TASK = ("predicted", "random")  # those that serve several aims


def resolved(sampler: str, *, inherits: bool = False) -> str:
    """The sampler that `auto` is, where children inherit weights of parents or do not, and any
    other itself."""
    if sampler != "auto":
        return sampler
    return "tree" if inherits else "predicted"


def own_sampler(sampler: str, seed: int, population: int) -> BaseSampler:
    """One of Optuna's, or one that a function of the user's own gives for a seed and the trials of
    a generation, which is run; raises SettingsError where that is none."""
    if sampler in FIXED:
        return FIXED[sampler](seed, population)
    try:
        given = user_attribute(sampler)(seed, population)
    except Exception as error:  # of the user's own code, whatever it raises
        raise SettingsError(
            f"sampler {sampler}: {type(error).__name__}: {error}; it is a function of a seed and "
            "the trials of a generation that gives an optuna sampler"
        ) from None
    if not isinstance(given, BaseSampler):
        raise SettingsError(f"sampler {sampler} gives a {type(given).__name__}, no optuna sampler")
    return given


def check_sampler(sampler: str, trust_code: bool) -> None:
    """Raise RunError for a sampler that is code and not trusted, SettingsError where it is none."""
    if sampler in SAMPLERS:
        return
    if not trust_code:
        raise RunError(
            f"the sampler is code of the user's own ({sampler}), not run unasked: read it, "
            "then allow it with --trust-code"
        )
    own_sampler(sampler, 0, 2)


def breeds(sampler: str, grammar: Grammar) -> bool:
    """Whether a sampler plans whole derivations, and may start from some."""
    return sampler in BREEDING and not (sampler in FIXED and grammar.finite)


@dataclass(frozen=True)
class Candidate:
    """A derivation to evaluate, and where it comes from: parents, or a random draw that is not the
    sampler's."""

    derivation: Derivation
    lineage: Lineage | None = None
    drawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Proposal(Candidate):
    """A candidate that Optuna asks for, and the trial to answer with."""

    trial: optuna.Trial


class Proposer:
    """Ask and tell. The same seed, told the same, proposes the same.

    For a sampler of Optuna's own, a finite grammar has a fixed table of sites: Optuna is asked for
    all of them, so that every trial has the same parameters and evolution can cross them; sites
    that a derivation does not reach are ignored. An open grammar, and any for samplers that breed
    derivations, asks for its sites as it meets them.

    What is proposed of a finite grammar keeps the space's limits: where the sites that Optuna asks
    for do not, the nearest that do are taken.

    population: trials of a generation. start: the first proposals; without them, those of a finite
    grammar are the ends of the space, the fewest FLOPs and the most: random draws crowd around the
    middle. key: what no two proposals of a sampler that breeds share.

    Every twentieth proposal is a random draw, so that a search can say what its sampler brought.
    Where each task finds its own architecture there is an aim for each, and a sampler that serves
    them in turn.

    lessons: what earlier runs teach. Of their architectures those of which they together predict
    the best are proposed first, half of the first generation, and samplers that breed draw and
    mutate by what was learned, as long as it holds.
    """

    def __init__(
        self,
        space: Space,
        sampler: str,
        aims: Sequence[Aim],
        *,
        seed: int,
        population: int,
        start: Sequence[Derivation] = (),
        key: Key | None = None,
        lessons: Lessons | None = None,
    ):
        self.space, self.grammar = space, space.grammar
        self.aims = aims
        self.objectives = list(dict.fromkeys(o for aim in aims for o in aim.objectives))
        self.limits = list(dict.fromkeys(limit for aim in aims for limit in aim.limits))
        self.seed, self.lessons = seed, lessons or Lessons(())
        self._alike: dict[int, float] = {}
        self._told: dict[int, tuple[Derivation, tuple[float, ...]]] = {}
        bred = breeds(sampler, self.grammar)
        self.draws = sampler != "random" and (bred or not start)  # a list is gone through as it is
        self.sites: dict[str, CategoricalDistribution] = {}
        if self.grammar.finite and not bred:
            self.sites = {
                name: CategoricalDistribution(labels)
                for name, labels in table(self.grammar, input=space.input).items()
            }
        with _quiet():
            own = (
                BREEDING[sampler](
                    Bred(seed, population, start, self._keeping(key), space.size, self._wanted())
                )
                if bred
                else own_sampler(sampler, seed, population)
            )
            if isinstance(own, DerivationSampler) and self.lessons.earlier:
                own.learned = lambda first: self.lessons.taught(
                    *self._told_before(first), self._along_flops
                )
            up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
            directions = [up if o.maximize else down for o in self.objectives]
            self.study = optuna.create_study(directions=directions, sampler=own)
            ends = start if not bred else ()
            if self.grammar.finite and not start:
                ends = list(space.ends())
            for known in [*ends, *self._taught(population)]:
                text = {attribute(self.grammar): str(known)}
                self.study.enqueue_trial(dict(known.by_site) if self.sites else {}, text)

    def population(self) -> set[str]:
        """The derivations, as text, that may still become parents."""
        sampler = self.study.sampler
        if not isinstance(sampler, DerivationSampler):
            return set()
        name = attribute(self.grammar)
        return {t.user_attrs[name] for t in sampler.population(self.study, self.grammar)}

    def _keeping(self, key: Key | None) -> Key | None:
        """The key, which is "" of what the space does not keep: that is never proposed."""
        keeps = self.space.keeps
        if keeps is None:
            return key
        return lambda derivation: (key or str)(derivation) if keeps(derivation) else ""

    @property
    def agreement(self) -> Mapping[str, float]:
        """By column Kendall's τ of what the sampler predicted with what it had not seen."""
        own: Mapping[str, float] = getattr(self.study.sampler, "agreement", {})
        return {**own, **self._earlier}

    @property
    def _earlier(self) -> dict[str, float]:
        """The same of the task of an earlier run that says most."""
        known = len(self._told) // DRAWN * DRAWN
        if not (self.lessons.earlier and known):
            return {}
        if known not in self._alike:
            taus = self.lessons.alike(*self._told_before(max(self._told) + 1))
            self._alike = {known: max(taus)}
        return {"earlier runs": self._alike[known]}

    def _told_before(self, number: int) -> tuple[list[Derivation], list[float]]:
        """What was told of the trials before one, and how bad each was: of several metrics the mean
        of its ranks."""
        told = [known for at, known in self._told.items() if at < number]
        derivations, rows = [derivation for derivation, _ in told], [row for _, row in told]
        if not rows or len(rows[0]) == 1:
            return derivations, [row[0] for row in rows]
        ranks = [stats.rankdata(column, nan_policy="omit") for column in zip(*rows, strict=True)]
        return derivations, [float(sum(column)) for column in zip(*ranks, strict=True)]

    def _taught(self, population: int) -> list[Derivation]:
        """Architectures of earlier runs to begin with."""
        return self.lessons.first(self.space.allows, population // 2, self._along_flops)

    @property
    def _along_flops(self) -> bool:
        """Whether a cost is an objective, which architectures of all FLOPs are wanted for."""
        return any(cost_named(objective.name) for objective in self.objectives)

    def _wanted(self) -> list[Wanted]:
        """What candidates are judged by, for each aim. A network for one task alone may leave parts
        out, so that what it costs cannot be told of its derivation."""
        wanted = []
        for aim in self.aims:
            goals = []
            for objective in aim.objectives:
                cost = cost_named(objective.name)
                exact = cost.counted if cost and not aim.task else ""
                clocked = cost is not None and cost.of is None
                goals.append(
                    Goal(
                        objective.name,
                        objective.maximize,
                        exact,
                        spare=clocked,
                        along=cost is not None and bool(cost.counted),
                        finer=finer(objective.name),
                    )
                )
            wanted.append(Wanted(tuple(goals), tuple(limit.name for limit in aim.limits)))
        return wanted

    def ask(self) -> Proposal:
        drawn = self._draw()
        if self.sites:
            trial = self.study.ask(dict(self.sites))
            derivation = self.space.derive(follow_table(trial.params))
        else:
            trial = self.study.ask()
            derivation = derive(
                self.grammar, choose_with(trial), input=self.space.input, limits=self.space.limits
            )
        lineage = Lineage.of(self.study, trial, self.grammar)
        return Proposal(derivation, lineage, drawn, trial=trial)

    def _draw(self) -> bool:
        """Have every twentieth proposal drawn at random; whether this is one."""
        trials = self.study.get_trials(deepcopy=False)
        waiting = any(trial.state == optuna.trial.TrialState.WAITING for trial in trials)
        number = len(trials)
        if number % DRAWN != DRAWN - 1 or not self.draws or waiting:
            return False
        rng, name = random.Random(f"{self.seed}/draw {number}"), attribute(self.grammar)
        taken = {trial.user_attrs.get(name) for trial in trials}
        for _ in range(DRAWS):
            derivation = self.space.draw(rng)
            if str(derivation) not in taken:
                break
        text = {name: str(derivation)}
        self.study.enqueue_trial(dict(derivation.by_site) if self.sites else {}, text)
        return True

    def tell(self, proposal: Proposal, values: Mapping[str, float] | None) -> None:
        """Answer a proposal with the columns of its trial; None where the evaluation failed."""
        if values is None or any(o.name not in values for o in self.objectives):
            self.study.tell(proposal.trial, state=optuna.trial.TrialState.FAIL)
            return
        proposal.trial.set_user_attr(COLUMNS, dict(values))
        metrics = [o for o in self.objectives if cost_named(o.name) is None] or self.objectives[:1]
        goals = [Goal(o.name, o.maximize, finer=finer(o.name)) for o in metrics]
        told = proposal.derivation, tuple(goal.loss(values) for goal in goals)
        self._told[proposal.trial.number] = told
        for limit in (limit for limit in self.limits if limit.name in values):
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
