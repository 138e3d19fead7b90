"""Who is trained at each step: functions of the step and a random stream of its own.

All but `by_task` have no state, so that training resumes from the number of the step alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from nas.grammar import Option, Site, choose_at_random
from nas.grammar.count import cover, table
from nas.supernet.by_task import ByTask
from nas.supernet.chain import chain, follow
from nas.supernet.sites import Dimension, dimension, order
from nas.supernet.space import Space
from nas.supernet.strategy import Choice, Strategy
from nas.train import Turn
from nas.user_code import user_attribute

STAGES: tuple[Dimension, ...] = ("kernel", "depth", "width")


def single_path(space: Space, steps: int) -> Choice:
    """One derivation at a step, drawn from the grammar (SPOS, Guo et al. 2020, section 3.2)."""
    return lambda step, rng: Turn((space.draw(rng),))


def spread(space: Space, steps: int) -> Choice:
    """One derivation at a step, small and large ones as often as those between.

    A rate r in [0, 1] is drawn first, and each site with n sizes takes the binomial(n - 1, r)-th.
    Sites drawn by themselves would nearly never be large, or small, together. In a recursive space,
    whose sites are no sizes, it is as `single_path`.
    """
    if not space.grammar.finite:
        return single_path(space, steps)

    def turn(step: int, rng: random.Random) -> Turn:
        rate, at_random = rng.random(), choose_at_random(rng)

        def choose(site: Site, options: Sequence[Option]) -> int:
            ranks = order(site, options)
            if ranks is None:
                return at_random(site, options)
            return ranks[sum(rng.random() < rate for _ in ranks[1:])]

        return Turn((space.derive(choose),))

    return turn


def fair(space: Space, steps: int) -> Choice:
    """So many derivations at a step as a site has options at most, and each site's options in turn
    (strict fairness, FairNAS, Chu et al. 2019, section 3.1).

    An option of a site with the most is trained exactly once in a step; at sites with fewer, or
    inside parts that not all derivations choose, options differ by one at most in how often.
    """
    most = max(map(len, table(space.grammar, input=space.input).values()), default=1)

    def turn(step: int, rng: random.Random) -> Turn:
        dealt: dict[tuple[str, Sequence[Option]], list[int]] = {}

        def choose(site: Site, options: Sequence[Option]) -> int:
            left = dealt.setdefault((site.name, options), [])
            if not left:
                left += rng.sample(range(len(options)), len(options))
            return left.pop()

        return Turn(tuple(space.derive(choose) for _ in range(most)))

    return turn


def sandwich(space: Space, steps: int, *, between: int = 2) -> Choice:
    """The largest, which teaches, the smallest, and some at random `between` them (BigNAS, Yu et
    al. 2020, section 3.1: the sandwich rule and in-place distillation)."""
    ends = space.largest, space.smallest
    return lambda step, rng: Turn((*ends, *(space.draw(rng) for _ in range(between))), teach=True)


def aligned(space: Space, steps: int, *, between: int = 2, weight: float = 0.1) -> Choice:
    """The largest, the smallest and some at random `between` them, all by the labels; the features
    that decoders read are held to the largest's (configuration-invariant distillation, Aich et al.
    2023, arXiv 2308.11744, with `weight` its alpha)."""
    ends = space.largest, space.smallest
    return lambda step, rng: Turn((*ends, *(space.draw(rng) for _ in range(between))), align=weight)


def progressive(space: Space, steps: int) -> Choice:
    """One derivation at a step, from the largest alone to all: at equal parts of the training
    kernels, then depth, then width begin to be drawn (Once-for-all, Cai et al. 2020, section 3.3).

    The input's resolution is drawn from the beginning, as there. A site not yet open takes what
    the largest derivation has.
    """
    grammar, closed = space.grammar, follow(space.largest.by_site)
    chosen = [c for d in cover(grammar, input=space.input) for c in d.choices]
    dimensions = {_place(c.site): dimension(grammar, c.site, c.options) for c in chosen}
    stages: list[Dimension] = ["resolution", *(k for k in STAGES if k in dimensions.values())]

    def turn(step: int, rng: random.Random) -> Turn:
        at_random = choose_at_random(rng)
        opened = stages[: 1 + step * len(stages) // max(steps, 1)]

        def choose(site: Site, options: Sequence[Option]) -> int:
            free = dimensions[_place(site)] in opened
            return (at_random if free else closed)(site, options)

        return Turn((space.derive(choose),))

    return turn


def _place(site: Site) -> tuple[str, str]:
    """Where in the grammar's text a site is written."""
    return site.rule, site.suffix


def sorted_nested(space: Space, steps: int, *, at_once: int = 4) -> Choice:
    """So many random members of one chain, each on a batch of its own (SortedNet, arXiv
    2309.00255, section 3). What to select is on the chain: `chain(space.largest)`."""
    members = chain(space.largest)
    return lambda step, rng: Turn(tuple(rng.choices(members, k=at_once)), batches="each")


def of_user(target: str) -> Callable[[Space, int], Strategy]:
    """The strategy of the user's own: a class that is made with the space and the number of steps
    and answers as `Strategy`; or a function of the space, the step and its random stream, which
    yields the derivations of that step, to see one batch, or returns a `Turn`.

    Raises ValueError where there is no such thing.
    """
    try:
        written = user_attribute(target)
    except (ImportError, AttributeError, OSError) as error:
        raise ValueError(
            f"{target} is no strategy: {error}; there are {', '.join(STRATEGIES)}, or "
            "./file.py:name of a function(space, step, rng) that yields derivations"
        ) from None
    if isinstance(written, type):
        return written

    def strategy(space: Space, steps: int) -> Strategy:
        def turn(step: int, rng: random.Random) -> Turn:
            given = written(space, step, rng)
            if isinstance(given, Turn):
                return given
            if not (derivations := tuple(given)):
                raise ValueError(f"{target} yields no derivation at step {step}: one at least")
            return Turn(derivations)

        return Strategy(turn)

    return strategy


def by_task(space: Space, steps: int, *, weighted: bool = False) -> Strategy:
    """What each task wants is learned on the way (FBNetV5); see `ByTask`."""
    return ByTask(space, steps, spread(space, steps), weighted=weighted)


def strategy_of(name: str, space: Space, steps: int) -> Strategy:
    """The strategy of a name, or of the user's `./file.py:name`, for a training."""
    if name not in STRATEGIES:
        return of_user(name)(space, steps)
    made = STRATEGIES[name](space, steps)
    return made if isinstance(made, Strategy) else Strategy(made)


STRATEGIES: dict[str, Callable[[Space, int], Choice | Strategy]] = {
    "single-path": single_path,
    "spread": spread,
    "fair": fair,
    "sandwich": sandwich,
    "aligned": aligned,
    "progressive": progressive,
    "sorted": sorted_nested,
    "by-task": by_task,
    "fbnetv5": partial(by_task, weighted=True),
}
ALIGNED = "aligned"  # the one that holds features alike
LEARNING = ("by-task", "fbnetv5")  # those that learn what tasks want
FINITE = (
    "fair",
    "sandwich",
    ALIGNED,
    "progressive",
    "sorted",
    *LEARNING,
)  # those that ask for a space's ends or sites
