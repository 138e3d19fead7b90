"""What the distributions that tasks learned in a supernet's training hand to the search."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

from nas.grammar import Choose, Derivation, Option, Site, derive
from nas.search.columns import kept
from nas.search.run import Run
from nas.supernet.strategy import Preference

DRAWN = 20  # architectures of each task's distribution, beside the most probable
TRIED = 10 * DRAWN  # since some are dearer than the task's limits


def preferred(run: Run) -> list[Derivation]:
    """The first proposals of a search whose tasks learned what they want: of each task the most
    probable architecture and some draws, as far as they keep its limits, between the ends of the
    space; none where nothing was learned."""
    if not (run.settings.per_task and run.preferences):
        return []
    problem, rng = run.problem, random.Random(f"{run.settings.seed}/preferred")
    first, last = problem.space.ends()
    by_task = list[list[Derivation]]()
    for aim in problem.aims:
        preference = run.preferences[aim.task]
        chosen = [_most(preference), *(_drawn(preference, rng) for _ in range(TRIED))]
        drawn = (derive(problem.grammar, choose, input=problem.input) for choose in chosen)
        keeping = (d for d in drawn if kept(problem.costs(d), aim.limits))
        by_task.append(list(islice(keeping, 1 + DRAWN)))
    width = max(map(len, by_task))
    rows = [d for i in range(width) for drawn in by_task for d in drawn[i : i + 1]]
    return list(dict.fromkeys([first, last, *rows]))


def _most(preference: Preference) -> Choose:
    def choose(site: Site, options: Sequence[Option]) -> int:
        shares = _shares(preference, site, options)
        return shares.index(max(shares))

    return choose


def _drawn(preference: Preference, rng: random.Random) -> Choose:
    def choose(site: Site, options: Sequence[Option]) -> int:
        return rng.choices(range(len(options)), _shares(preference, site, options))[0]

    return choose


def _shares(preference: Preference, site: Site, options: Sequence[Option]) -> list[float]:
    known = preference.get(site.name, {})
    return [known.get(option.label, 0.0) + 1e-9 for option in options]
