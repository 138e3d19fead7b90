"""`Problem`: what is searched. Settings, a grammar and tasks, and all that follows from them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

from nas.archive import Measurement
from nas.evaluate import BANKED, EVALUATORS, Conditions, usual
from nas.grammar import Derivation, Grammar, GrammarError, Limits, sample, seed
from nas.grammar.count import count, cover, extreme
from nas.measure import COSTS, costs
from nas.measure.latency import Deployment
from nas.measure.profile import Profile, ProfileError, loaded
from nas.measure.runtime import usual as usual_runtime
from nas.plan import FEATURES_RESULT, Plan, plan
from nas.search.columns import Aim, aims_of, column, counted, counted_by_any, kept_by_any
from nas.search.error import RunError
from nas.search.settings import Settings
from nas.supernet import Bank, Space, chain
from nas.supernet.chain import ends_first
from nas.supernet.decoders import decoders_of
from nas.supernet.nested import nest
from nas.task import Task

PROFILED = 20  # networks that are drawn to see whether a profile knows a space
FEWEST_BITS = 4  # of a weight, where a space says in how many a network runs
OPEN_TERMINALS = 256  # of a derivation of a recursive space, where nothing else is said
OPEN_LIMITS = {"params": 5_000_000, "flops": 50_000_000, "activations": 1_000_000}
OPEN_SIZE = (8, 200)  # operators of its random derivations
SORTED = "sorted"  # the strategy whose architectures form one chain
GENTLY = 3  # times less than the supernet's lr, to train a subnet on alone


@dataclass(frozen=True, eq=False)
class Problem:
    """What a run searches; what is worked out of it is worked out once."""

    settings: Settings
    grammar: Grammar
    tasks: tuple[Task, ...]

    @property
    def input(self) -> tuple[int, ...]:
        return self.tasks[0].input

    @cached_property
    def aims(self) -> tuple[Aim, ...]:
        """What architectures are chosen by: one aim for all tasks, or one for each."""
        return aims_of(self.settings, self.tasks)

    @property
    def columns(self) -> set[str]:
        """Those that objectives and limits read."""
        objectives = {objective.name for aim in self.aims for objective in aim.objectives}
        return objectives | {limit.name for aim in self.aims for limit in aim.limits}

    @cached_property
    def deployments(self) -> tuple[Deployment, ...]:
        """How networks are run whose latency is measured: those with a name, and the other where
        an objective or a limit reads its column."""
        device, written = self.settings.resolved_device, not self.grammar.used
        wanted = []
        for given in self.settings.latency:
            runtime = usual_runtime(device, written) if given.runtime == "auto" else given.runtime
            wanted.append(Deployment(runtime, given.threads, given.batch, device, given.name))
        return tuple(d for d in wanted if d.name or self.reads(d))

    def reads(self, deployment: Deployment) -> bool:
        """Whether an objective or a limit reads latencies that are measured so."""
        tasks = self.tasks if self.settings.per_task else self.tasks[:1]
        return any(
            self.latency_column(deployment, task, number) in self.columns
            for task in tasks
            for number, _ in enumerate(deployment.columns)
        )

    def latency_column(
        self, deployment: Deployment, task: Task | None = None, number: int = 0
    ) -> str:
        """The column of a deployment's latency; where each task finds its own, of one task's."""
        name = deployment.columns[number]
        return column(task or self.tasks[0], self.tasks, name) if self.settings.per_task else name

    @property
    def evaluator(self) -> str:
        """The evaluator that the settings name, or the space's default. A run with a budget may
        have measured that another is better: see `Run.evaluator`."""
        named = self.settings.evaluator
        return usual(self.grammar).name if named == "auto" else named

    @property
    def inherits(self) -> bool:
        """Whether children go on from the weights of their parents."""
        alone = EVALUATORS[self.evaluator].alone
        return alone and self.settings.standalone.child_epochs > 0

    @property
    def banked(self) -> bool:
        """Whether the run trains shared weights."""
        return self.evaluator in BANKED

    def costs(self, derivation: Derivation) -> dict[str, float]:
        """What can be counted of an architecture with the heads of the tasks, and of a network for
        each task alone where each finds its own."""
        whole = plan(derivation, heads=self.tasks)
        named = {m.name: m.value for m in self._told(whole)}
        for task in self.tasks if self.settings.per_task else ():
            own = self._told(whole, task.name)
            named |= {column(task, self.tasks, m.name): m.value for m in own}
        return named

    def _told(self, whole: Plan, task: str | None = None) -> list[Measurement]:
        """What can be counted of a network, or of what a task takes of it, and what profiles of
        devices tell of it."""
        own = whole.only(task) if task else whole
        predicted = [profile.measurement(own, task) for profile in self.profiles.values()]
        return [*costs(whole, task), *predicted]

    @cached_property
    def profiles(self) -> Mapping[str, Profile]:
        """Of devices whose latencies are predicted, by column. Raises ProfileError for one that
        tells nothing of this space."""
        profiles = loaded(self.settings.profiles)
        if profiles:
            rng = random.Random(0)
            drawn = [sample(self.grammar, rng, input=self.input) for _ in range(PROFILED)]
            plans = [plan(derivation, heads=self.tasks) for derivation in drawn]
            for name, profile in profiles.items():
                if lacking := profile.lacks(plans, self.input):
                    raise ProfileError(f"{name} cannot be told of {self.grammar.name}: {lacking}")
        return profiles

    def _least(self, derivation: Derivation) -> dict[str, float]:
        """What can be counted of an architecture; where each task finds its own, of the cheapest
        network for one of them."""
        every = self.costs(derivation)
        if not self.settings.per_task:
            return every
        return {
            name: min(every[column(task, self.tasks, name)] for task in self.tasks)
            for name in [*(name for name, cost in COSTS.items() if cost.of), *self.profiles]
        }

    def more_costs(self, derivation: Derivation) -> list[Measurement]:
        """What an evaluator does not tell: costs of a network for each task alone, where each finds
        its own, and what profiles of devices predict."""
        if not (self.settings.per_task or self.profiles):
            return []
        whole = plan(derivation, heads=self.tasks)
        predicted = [profile.measurement(whole) for profile in self.profiles.values()]
        tasks = self.tasks if self.settings.per_task else ()
        return [*predicted, *(cost for task in tasks for cost in self._told(whole, task.name))]

    def keeps(self, derivation: Derivation) -> bool:
        """Whether an architecture keeps the limits, as far as it can be counted; where each task
        finds its own, those of one of them."""
        return kept_by_any(self.costs(derivation), self.aims)

    @cached_property
    def architectures(self) -> int | None:
        """How many the space holds; None of a recursive one."""
        return count(self.grammar, input=self.input) if self.grammar.finite else None

    @property
    def most(self) -> Limits:
        """What derivations of a recursive grammar may cost at most."""
        return within(counted_by_any(self.aims, self._bits))

    @cached_property
    def space(self) -> Space:
        """What is drawn from: what the limits on what can be counted allow, of a recursive space by
        the derivation's own cost, of a finite one by that of the whole network with its heads.

        Raises RunError where no network of a finite space keeps them.
        """
        if not self.grammar.finite:
            return Space(self.grammar, self.input, self.most, self.settings.size or OPEN_SIZE)
        served = partial(Space, self.grammar, self.input, tasks=self.tasks, budgets=self.budgets)
        limited = [limit.name for aim in self.aims for limit in aim.limits]
        if not limited:
            return served()
        bounds = counted_by_any(self.aims, self._bits)
        top = extreme(self.grammar, input=self.input)
        if self.costs(top).keys().isdisjoint(limited):
            return served()
        if not bounds:
            space = served(None, keeps=self.keeps)
            with suppress(GrammarError):
                _ = space.smallest
                return space
            raise self._too_tight(bounds)
        # heads cost something too, and parts that no head reads nothing
        whole, alone = self._least(top), plan(top)
        spare = {name: max(0, int(whole[name]) - getattr(alone, name)) for name in bounds}
        trunk = {name: bound - spare[name] for name, bound in bounds.items()}
        for limits in (Limits(**trunk), Limits(**bounds), None):
            space = served(limits, keeps=self.keeps)
            with suppress(GrammarError):
                _ = space.smallest
                return space
        raise self._too_tight(bounds)

    @property
    def _bits(self) -> int:
        """Those of a weight that has the fewest."""
        return FEWEST_BITS if "precision" in self.grammar.calls else 32

    @property
    def budgets(self) -> tuple[float, ...]:
        """The FLOPs that a network for each task alone may have, () where some may have any."""
        bounds = [counted(aim.limits).get("flops") for aim in self.aims]
        return tuple(map(float, filter(None, bounds))) if all(bounds) else ()

    def _too_tight(self, bounds: dict[str, int]) -> RunError:
        for name, bound in bounds.items():
            end = extreme(self.grammar, input=self.input, of=name, largest=False)
            least = self._least(end)[name]
            if least > bound:
                return RunError(
                    f"no network of {self.grammar.name} has {name} of at most {bound:,}: the "
                    f"smallest for {', '.join(task.name for task in self.tasks)} has {least:,.0f}; "
                    "allow that much"
                )
        smallest = self.costs(extreme(self.grammar, input=self.input, largest=False))
        broken = [
            f"{limit.name} is {smallest[limit.name]:.4g} and {limit} is asked for"
            for aim in self.aims
            for limit in aim.limits
            if limit.name in smallest and not limit.keeps(smallest)
        ]
        if broken:
            return RunError(
                f"no network of {self.grammar.name} was found that keeps the limits: of the one "
                f"with the fewest FLOPs {'; '.join(broken)}"
            )
        return RunError(
            f"no network of {self.grammar.name} was found that keeps all of "
            f"{', '.join(self.settings.limits)}: each alone can be kept; allow more of one"
        )

    @cached_property
    def chain(self) -> tuple[Derivation, ...]:
        """What there is to select from where the supernet's strategy is sorted, () where it is not:
        the members of the chain that keep the limits, the ends first, and then those between them,
        so that any first part is spread over it. Raises RunError where there are none."""
        if self.settings.supernet.strategy != SORTED or not self.banked:
            return ()
        whole = chain(Space(self.grammar, self.input).largest)
        members = [member for member in whole if self.keeps(member)]
        if not members:
            raise RunError(
                f"none of the {len(whole)} networks of the chain keeps the limits "
                f"{', '.join(self.settings.limits)}: allow more, or take another supernet.strategy"
            )
        return tuple(ends_first(members))

    def seeds(self) -> list[Derivation]:
        """The seeds that the search begins from. Raises RunError for one that is over a limit, and
        GrammarError for one that does not fit the input."""
        start, most, seeds = self.settings.start, self.most, list[Derivation]()
        every = "mix" in start
        for name in self.grammar.seeds if every else start:
            try:
                network = seed(self.grammar, name, input=self.input)
            except GrammarError:
                if every:
                    continue
                raise
            cost = network.cost
            if most.allow(cost):
                seeds.append(network)
            elif not every:
                raise RunError(
                    f"the seed {name} has {cost}, and this search allows {most}: allow more with "
                    "--max, or start from another"
                )
        return seeds

    def covering(self, *, largest: bool = True) -> list[Plan]:
        """Networks of a finite space with all its slots, each as large, or as small, as any."""
        derivations = cover(self.grammar, input=self.input, largest=largest)
        features = self.features
        return [plan(d, heads=self.tasks, features=features) for d in derivations]

    @cached_property
    def features(self) -> int | None:
        """The channels that features are mapped to where tasks have decoders, else None."""
        if not decoders_of(self.grammar):
            return None
        whole = plan(self.space.largest, heads=(), features=0)
        return whole.output_shapes()[FEATURES_RESULT].channels

    def bank(self, *, trained: bool = False) -> Bank:
        """The untrained bank of the space with the heads of all tasks; of a recursive space an
        empty one, which grows. One to read `trained` weights into has no optimizer's state."""
        given = self.settings.supernet
        words = {
            "seed": self.settings.seed,
            "device": self.settings.resolved_device,
            "optimizer": None if trained else given.optimizer,
            "share": self.grammar.share,
            "memory_mb": given.memory_mb or None,
        }
        if not self.grammar.finite:
            return Bank({}, grows=True, **words)  # type: ignore[arg-type]
        plans = self.covering()
        bank = Bank.of(plans, kernel_transform=given.kernel_transform, **words)  # type: ignore[arg-type]
        if given.nested and not trained:
            nest(bank, plans, self.covering(largest=False))
        return bank

    def conditions(self, bank: Bank | None = None, *, seed: int | None = None) -> Conditions:
        """Under which the run's evaluators measure, as the settings have it."""
        settings, chance = self.settings, self.settings.seed if seed is None else seed
        recipe, supernet = settings.standalone.recipe(chance), settings.supernet
        return Conditions(
            self.tasks,
            recipe,
            bank,
            replace(supernet.recipe(chance), lr=supernet.lr / GENTLY),
            short_steps=max(1, min(settings.trust.steps, recipe.steps(self.tasks) // 2)),
            finetune_steps=settings.trust.finetune,
            samples=supernet.samples,
            seed=chance,
            device=settings.resolved_device,
            limit_s=settings.standalone.limit_s,
            going_on=settings.standalone.child_epochs,
            runtime="torch" if settings.evaluate_in == "auto" else settings.evaluate_in,
        )

    def with_settings(self, settings: Settings) -> Problem:
        """The same space and tasks by other settings."""
        return Problem(settings, self.grammar, self.tasks)


def within(bounds: Mapping[str, int]) -> Limits:
    """What derivations of a recursive grammar may cost at most: what is given, and otherwise what
    can be trained from scratch in reasonable time."""
    return Limits(OPEN_TERMINALS, **(OPEN_LIMITS | dict(bounds)))
