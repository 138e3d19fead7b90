"""On a recursive space with a planted optimum, samplers that breed derivations beat chance.

300 trials a study, 10 seeds, nothing is trained: the distance of a plan to the planted one counts
the pairs of operators, one fed by the other, that it has too many or too few of. In one study the
distance alone is minimised, in the other the operators too (hypervolume below 14 and 30). Peers in
the same run: Optuna's random sampler, NSGA-II and TPE, asked for the same sites by `choose_with`.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from measure import report

from nas.dominance import hypervolume, nondominated
from nas.grammar import Grammar, Limits, derive
from nas.plan import plan
from nas.search import EvolutionSampler, PredictedSampler, TreeSampler, choose_with

SEEDS, TRIALS = range(10), 300
SPACE = Grammar.parse(
    """
net   = part output(coarse)
part  = 0.5: leaf | part part | clone(2) [part; part] add
leaf  = relu | sigmoid | tanh | silu | linear(4) | linear(8)
""",
    name="planted",
)
PLANTED = Counter(
    {
        "input linear": 1,
        "linear relu": 2,
        "relu linear": 2,
        "linear add": 1,
        "relu add": 1,
        "add tanh": 1,
        "add sigmoid": 1,
        "tanh add": 2,
        "sigmoid add": 2,
    }
)
SAMPLERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "evolution": lambda seed: EvolutionSampler(seed),
    "evolution of 25": lambda seed: EvolutionSampler(seed, population_size=25),
    "tree": lambda seed: TreeSampler(seed),
    "predicted": lambda seed: PredictedSampler(seed),
}


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = {
        (name, aims): [study(make(seed), aims) for seed in SEEDS]
        for name, make in SAMPLERS.items()
        for aims in (1, 2)
    }
    rows = [row(name, studies) for name in SAMPLERS]
    said = "; ".join(
        f"{r['sampler']} {r['distance']:.1f} ({r['nearer']}) and {r['volume']:.0f} ({r['wider']})"
        for r in rows
    )
    report(
        "samplers",
        __doc__,
        aim="tree and evolution beat random on 10 of 10 seeds",
        rows=rows,
        seeds=list(SEEDS),
        figure=f"mean distance and hypervolume (seeds of 10 that beat random): {said}",
    )


def study(sampler: optuna.samplers.BaseSampler, aims: int) -> tuple[float, int, float]:
    """The distance at best or the hypervolume, distinct derivations, and CPU seconds."""
    found = optuna.create_study(directions=["minimize"] * aims, sampler=sampler)
    texts = set[str]()

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        derivation = derive(SPACE, choose_with(trial), input=(8, 4), limits=Limits(40))
        texts.add(str(derivation))
        one = plan(derivation)
        return (distance(one), float(len(one.steps)))[:aims]

    begun = time.process_time()
    found.optimize(objective, n_trials=TRIALS)
    seconds = time.process_time() - begun
    points = [tuple(trial.values) for trial in found.trials]
    front = [points[i] for i in nondominated(points)]
    best = front[0][0] if aims == 1 else hypervolume(front, (14.0, 30.0))
    return best, len(texts), seconds


def distance(one: Any) -> float:
    made, pairs = {0: "input"}, Counter[str]()
    for step in one.steps:
        pairs.update(f"{made[i]} {step.operator.name}" for i in step.inputs)
        made |= dict.fromkeys(step.outputs, step.operator.name)
    return float(sum(abs(pairs[pair] - PLANTED[pair]) for pair in {*pairs, *PLANTED}))


def row(name: str, studies: Mapping[tuple[str, int], list[Any]]) -> Mapping[str, Any]:
    near, wide = studies[name, 1], studies[name, 2]
    chance = studies["random", 1], studies["random", 2]
    return {
        "sampler": name,
        "distance": statistics.mean(one[0] for one in near),
        "nearer": sum(one[0] < other[0] for one, other in zip(near, chance[0], strict=True)),
        "volume": statistics.mean(one[0] for one in wide),
        "wider": sum(one[0] > other[0] for one, other in zip(wide, chance[1], strict=True)),
        "distinct": min(one[1] for one in near),
        "ms a trial": statistics.median(one[2] for one in near) * 1e3 / TRIALS,
    }


if __name__ == "__main__":
    main()
