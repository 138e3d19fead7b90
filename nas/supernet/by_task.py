"""FBNetV5's search: while shared weights are trained, each task learns which options it wants.

Wu et al. 2021, "FBNetV5: Neural Architecture Search for Multiple Tasks in One Run", arXiv
2111.10007, section 3. No code of it was published; where this goes another way it says so.
"""

from __future__ import annotations

import random
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from math import log
from typing import Any, NamedTuple

import numpy as np

from nas.grammar import Choose, Derivation, Option, Site, derive
from nas.grammar.count import table
from nas.journal import JSON
from nas.plan import plan
from nas.supernet.space import Space
from nas.supernet.strategy import Choice, Preference, Strategy
from nas.train import StepLosses, Turn

Array = np.ndarray[Any, Any]
Sites = Mapping[str, Sequence[str]]  # the labels of each site of a finite grammar
RATE, MEAN, SQUARE, LEAST = 0.05, 0.9, 0.999, 1e-8  # of Adam on the logits
SEEN = 0.99  # share of what is known of losses that a step keeps
SCALED = 0.999  # and of their variance: a price is held against it
RIDGE = 1.0
TRUSTED = 0.5  # share of what the linear model does not explain that moves the distributions
PRICE, DAMPED = 0.24, 8.0  # added to the price of cost at twice the budget: a step, and now
AIMED = 0.95  # share of a budget that costs shall have on average, so that most keep it
TINY = 1e-300  # in place of a probability of nothing
SPAN = 4.0  # of a site's logits at most: what was given up can still be drawn, and come back
SMOOTHED = 0.9  # share of the expected cost that a step keeps
WARM = 0.3  # share of the training before distributions move
SCORED = 4  # architectures that are scored in a step


class Taken(NamedTuple):
    """An architecture among the options of all sites in a row: which were offered at the sites that
    it has, and which it took."""

    offered: Array  # (options,) bool
    took: Array  # (options,) bool


class Distributions:
    """Of each task a probability of every option: p_t(a) = Π_b softmax(π_t,b)[a_b], over the sites
    b that an architecture has, at each among what is offered there (equation 4).

    logits: (tasks, options), π, the options of all sites in a row.
    """

    def __init__(self, sites: Sites, tasks: int):
        names = [(name, label) for name, labels in sites.items() for label in labels]
        self.sites, self.column = sites, {name: i for i, name in enumerate(names)}
        self.sizes = np.array([len(labels) for labels in sites.values()])
        self.first = (np.cumsum(self.sizes) - self.sizes).astype(int)
        self.logits: Array = np.zeros((tasks, len(names)))

    @staticmethod
    def read(sites: Sites, preferences: Sequence[Preference]) -> Distributions:
        """Those that say what some tasks prefer; of what is not said nothing is expected."""
        known = Distributions(sites, len(preferences))
        for logits, preference in zip(known.logits, preferences, strict=True):
            for (site, label), column in known.column.items():
                logits[column] = log(preference.get(site, {}).get(label, 0.0) + LEAST)
        return known

    def choose(self, task: int, rng: random.Random) -> Choose:
        """A choice by a task's distribution."""

        def choice(site: Site, options: Sequence[Option]) -> int:
            logits = self._logits(task, site, options)
            shares = np.exp(logits - logits.max()).tolist()
            return rng.choices(range(len(options)), shares)[0]

        return choice

    def choose_most(self, task: int) -> Choose:
        """A choice of what a task finds most probable at each site."""
        return lambda site, options: int(self._logits(task, site, options).argmax())

    def _logits(self, task: int, site: Site, options: Sequence[Option]) -> Array:
        if len(options) == 1:
            return np.zeros(1)
        return self.logits[task, [self.column[site.name, option.label] for option in options]]

    def taken(self, derivation: Derivation) -> Taken:
        offered, took = np.zeros((2, len(self.column)), dtype=bool)
        for site, options, index in derivation.choices:
            if len(options) > 1:
                columns = [self.column[site.name, option.label] for option in options]
                offered[columns] = True
                took[columns[index]] = True
        return Taken(offered, took)

    def shares(self, offered: Array) -> Array:
        """(tasks, options) of each site the probabilities of what is offered there, else 0."""
        weights = np.exp(self.logits) * offered  # a site's highest logit is 0
        shares: Array = weights / np.maximum(self.by_site(weights), TINY)
        return shares

    def move(self, down: Array) -> None:
        """Take something off the logits, of which each site's highest is 0 again."""
        self.logits -= down
        highest = np.maximum.reduceat(self.logits, self.first, axis=1)
        self.logits -= np.repeat(highest, self.sizes, axis=1)
        np.maximum(self.logits, -SPAN, out=self.logits)

    def by_site(self, values: Array) -> Array:
        """(tasks, options) the sum over each site's options, at each of them."""
        sums: Array = np.repeat(np.add.reduceat(values, self.first, axis=1), self.sizes, axis=1)
        return sums

    def log_probability(self, taken: Taken) -> Array:
        """(tasks,) log p_t of an architecture."""
        shares = self.shares(taken.offered)[:, taken.took]
        logs: Array = np.log(np.maximum(shares, TINY)).sum(axis=1)
        return logs

    def importance(self, taken: Taken) -> Array:
        """(tasks,) ω_t = p_t / q of an architecture, where q is the mean of all p_t: what makes
        losses of architectures drawn from q those of a task's own (equation 6). 0 ≤ ω_t ≤ T, and
        Σ_t ω_t = T."""
        logs = self.log_probability(taken)
        weights: Array = np.exp(logs - logs.max())
        shares: Array = weights / float(weights.mean())
        return shares

    def __call__(self, task: int) -> dict[str, dict[str, float]]:
        """A task's probability of each label at each site."""
        if not self.column:
            return {}
        shares = self.shares(np.ones(len(self.column), dtype=bool))[task].tolist()
        table: dict[str, dict[str, float]] = {}
        for (site, label), share in zip(self.column, shares, strict=True):
            table.setdefault(site, {})[label] = share
        return table


class Scored(NamedTuple):
    """What came of one architecture: its loss and its cost for each task, costs in shares of the
    task's budget."""

    taken: Taken
    losses: Array  # (tasks,)
    costs: Array  # (tasks,)


class Learner:
    """Moves the distributions of tasks by the score function, towards architectures of small loss
    whose expected cost is the budget.

    Of architectures drawn from q and scored on one batch:  V = L/sd + λ cost, sd of losses about
    their mean in a step. A linear model θ·one-hot of V, fitted by discounted ridge regression on
    what was seen before, is taken out of V and put back in closed form (a control variate), which
    leaves r; the gradient of E_p[V] is then

        (1/n) Σ_i ω_i [ κ (r_i − mean_{j≠i} r_j) ∇ log p(a_i)  +  Cov_p(one-hot) θ ]

    where the covariance is that of each site which a_i has, with κ = 1. Of many tasks ω is large,
    and so is the noise of the first part: a smaller κ costs a bias, and finds planted optima of 8
    tasks in half the steps, of losses that are far from linear too (benchmarks/planted.py).

    λ, the price of cost, is the multiplier of E_p[cost] ≤ 1: a budget is asked for, not a weight.
    It moves by dual ascent with a term in proportion, without which it swings (Stooke et al. 2020,
    "Responsive Safety in Reinforcement Learning by PID Lagrangian Methods", arXiv 2007.03964). The
    paper takes the cost's gradient in closed form instead, which does not hold with dead code or
    elastic sizes.
    """

    def __init__(self, distributions: Distributions):
        tasks, options = distributions.logits.shape
        self.distributions, self.steps = distributions, 0
        self.arrays = {
            "logits": distributions.logits,
            "mean": np.zeros((tasks, options)),  # of Adam's gradients, and of their squares
            "square": np.zeros((tasks, options)),
            "normal": np.zeros((options, options)),  # of the regression of losses, by option
            "right": np.zeros((tasks, options)),
            "normal_of_costs": np.zeros((options, options)),  # which stay what they are
            "right_of_costs": np.zeros((tasks, options)),
            "variance": np.zeros(tasks),  # of losses about their mean in a step
            "price": np.zeros(tasks),  # λ
            "expected": np.zeros(tasks),  # cost
        }

    def hear(self, scored: Sequence[Scored]) -> None:
        """Move by architectures that were drawn from q and scored on the same batch."""
        known, n = self.arrays, len(scored)
        losses = np.array([entry.losses for entry in scored])  # (n, tasks)
        costs = np.array([entry.costs for entry in scored])
        weights = np.array([self.distributions.importance(entry.taken) for entry in scored])
        first = self.steps == 0
        known["expected"] = _blended(known["expected"], (weights * costs).mean(0), SMOOTHED, first)
        beyond = known["expected"] - 1
        known["price"] = np.maximum(0, known["price"] + PRICE * beyond)
        price = np.maximum(0, known["price"] + DAMPED * beyond)
        apart, dear = losses - losses.mean(0), costs - costs.mean(0)
        variance = (apart**2).sum(0) / (n - 1)
        kept = min(SCALED, self.steps / (self.steps + 1))
        known["variance"] = _blended(known["variance"], variance, kept)
        scale = 1 / np.sqrt(np.maximum(known["variance"], LEAST))
        ridge = RIDGE * np.eye(len(known["normal"]))
        of_losses = np.linalg.solve(known["normal"] + ridge, known["right"].T).T
        of_costs = np.linalg.solve(known["normal_of_costs"] + ridge, known["right_of_costs"].T).T
        theta = scale[:, None] * of_losses + price[:, None] * of_costs
        values, drawn = losses * scale + price * costs, [entry.taken for entry in scored]
        self._step(gradient(self.distributions, drawn, values, theta, TRUSTED))
        took = np.array([entry.taken.took for entry in scored], dtype=float)
        took -= took.mean(0)
        known["normal"] = SEEN * known["normal"] + took.T @ took
        known["right"] = SEEN * known["right"] + apart.T @ took
        known["normal_of_costs"] += took.T @ took
        known["right_of_costs"] += dear.T @ took

    def _step(self, slope: Array) -> None:
        """One step of Adam down a slope."""
        known, self.steps = self.arrays, self.steps + 1
        known["mean"] = _blended(known["mean"], slope, MEAN)
        known["square"] = _blended(known["square"], slope**2, SQUARE)
        mean = known["mean"] / (1 - MEAN**self.steps)
        square = known["square"] / (1 - SQUARE**self.steps)
        self.distributions.move(RATE * mean / (np.sqrt(square) + LEAST))


def gradient(
    distributions: Distributions,
    drawn: Sequence[Taken],  # architectures from q
    values: Array,  # (architectures, tasks)
    theta: Array,  # (tasks, options), a linear model of the values
    trusted: float = 1.0,  # κ: with 1 there is no bias
) -> Array:  # (tasks, options)
    """An estimate of the gradient of E_p[V] by π of each task; see `Learner`."""
    n = len(drawn)
    shares = [distributions.shares(taken.offered) for taken in drawn]
    scores = [taken.took - p for taken, p in zip(drawn, shares, strict=True)]
    rest = values - np.array([(theta * score).sum(1) for score in scores])
    advantages = trusted * (rest - (rest.sum(0) - rest) / (n - 1))
    slope = np.zeros_like(theta)
    for taken, advantage, score, p in zip(drawn, advantages, scores, shares, strict=True):
        modelled = p * (theta - distributions.by_site(p * theta))
        weights = distributions.importance(taken)
        slope += weights[:, None] * (advantage[:, None] * score + modelled) / n
    return slope


def _blended(old: Array, new: Array, kept: float, first: bool = False) -> Array:
    return new if first else kept * old + (1 - kept) * new


class ByTask(Strategy):
    """A strategy: a step trains one architecture drawn from the mean of the tasks' distributions,
    for all tasks; after a warm-up some are scored besides, all on one batch that is not trained on,
    and the distributions move by that. Within a step the tasks whose distributions are drawn from
    follow each other from one at random, which is nearly as drawing from the mean, with less noise.

    The paper weights each task's loss by ω_t in training too (equation 6), so that where tasks want
    different things a step trains one of them. All heads share the pass of the trunk, so that the
    others' losses cost next to nothing, and with them every task learned more in as many steps
    (benchmarks/importance.py); `weighted` does as the paper does.
    """

    def __init__(self, space: Space, steps: int, warm: Choice, *, weighted: bool = False):
        if len(space.budgets) != len(space.tasks) or not space.tasks:
            raise ValueError(
                "by-task learns what tasks want within a budget: give both to the space"
            )
        self.space, self.steps, self.warm, self.weighted = space, steps, warm, weighted
        self.names = [task.name for task in space.tasks]
        sites = table(space.grammar, input=space.input)
        sites = {name: labels for name, labels in sites.items() if len(labels) > 1}
        self.distributions = Distributions(sites, len(self.names))
        self.learner = Learner(self.distributions)

    def __call__(self, step: int, rng: random.Random) -> Turn:
        count = len(self.names)
        if step < WARM * self.steps or not self.distributions.sites:
            return self.warm(step, rng)
        first = rng.randrange(count)
        tasks = [(first + i) % count for i in range(1 + SCORED)]
        drawn = [self._draw(self.distributions.choose(task, rng)) for task in tasks]
        if not self.weighted:
            return Turn(tuple(drawn), scored=SCORED)
        importance = self.distributions.importance(self.distributions.taken(drawn[0])).tolist()
        weights = dict(zip(self.names, importance, strict=True))
        return Turn(tuple(drawn), weights=(weights,), scored=SCORED)

    def _draw(self, choose: Choose) -> Derivation:
        """An architecture of the whole space: what it may cost is a matter of its price."""
        return derive(self.space.grammar, choose, input=self.space.input)

    def hear(self, step: int, turn: Turn, losses: StepLosses) -> None:
        if not turn.scored:
            return
        first = len(turn.trained)
        self.learner.hear(
            [
                Scored(
                    self.distributions.taken(derivation),
                    np.array([by_task[name] for name in self.names]),
                    self._costs(derivation),
                )
                for derivation, by_task in zip(
                    turn.derivations[first:], losses.by_derivation[first:], strict=True
                )
            ]
        )

    def _costs(self, derivation: Derivation) -> Array:
        """(tasks,) FLOPs of a network for each task alone, in shares of what is aimed at."""
        whole = plan(derivation, heads=self.space.tasks)
        flops = np.array([whole.only(name).flops for name in self.names], dtype=float)
        return flops / np.multiply(self.space.budgets, AIMED)

    def state(self) -> dict[str, JSON]:
        arrays: dict[str, JSON] = {
            name: b64encode(values.tobytes()).decode()
            for name, values in self.learner.arrays.items()
        }
        return {"steps": self.learner.steps, **arrays}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.learner.steps = int(state["steps"])
        for name, values in self.learner.arrays.items():
            known = np.frombuffer(b64decode(state[name]), dtype=values.dtype)
            self.learner.arrays[name] = known.reshape(values.shape).copy()
        self.distributions.logits = self.learner.arrays["logits"]

    def preferences(self) -> dict[str, Preference]:
        """Each task's probability of each label at each site."""
        return {name: self.distributions(i) for i, name in enumerate(self.names)}
