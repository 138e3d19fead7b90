"""What the distributions that tasks learned in a supernet's training hand to the search."""

from __future__ import annotations

import random
from itertools import islice

from nas.grammar import Derivation, derive
from nas.grammar.count import table
from nas.search.columns import kept
from nas.search.run import Run
from nas.supernet.by_task import Distributions

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
    sites = table(problem.grammar, input=problem.input)
    known = Distributions.read(sites, [run.preferences[aim.task] for aim in problem.aims])
    by_task = list[list[Derivation]]()
    for number, aim in enumerate(problem.aims):
        chosen = [known.choose_most(number), *[known.choose(number, rng)] * TRIED]
        drawn = (derive(problem.grammar, choose, input=problem.input) for choose in chosen)
        keeping = (d for d in drawn if kept(problem.costs(d), aim.limits))
        by_task.append(list(islice(keeping, 1 + DRAWN)))
    width = max(map(len, by_task))
    rows = [d for i in range(width) for drawn in by_task for d in drawn[i : i + 1]]
    return list(dict.fromkeys([first, last, *rows]))
