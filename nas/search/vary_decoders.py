"""What is measured so that a run can be steered: encoders that preferences and budgets come to,
with decoders of every size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nas.archive import Trial
from nas.front import Objective
from nas.grammar import Derivation, Grammar
from nas.grammar.derivation import Labels
from nas.measure import COSTS
from nas.plan import Plan, own_output, plan
from nas.search.columns import column
from nas.search.steer import ADDED, Costs, Encoder, Scale, Sized, Steering
from nas.supernet.decoders import Parts, decoder_levels, parts
from nas.task import Task

if TYPE_CHECKING:
    from nas.search.run import Run

MOST = 24  # encoders that are measured with decoders of every size


Read = dict[str, tuple[Parts, dict[str, Costs]]]  # of derivations their parts, and what these cost


def steering_of(run: Run, trials: Sequence[Trial], read: Read) -> Steering:
    """What trials of a run tell; `read` keeps what was worked out of their derivations."""
    metrics = {t.name: column(t, run.named, t.own_metric) for t in run.named}
    objectives = {task: Objective.named(name, [name]) for task, name in metrics.items()}
    encoders = dict[Labels, Encoder]()
    scored = list[dict[str, float]]()
    for trial in trials:
        scores = {task: trial.columns().get(name, math.nan) for task, name in metrics.items()}
        if not all(map(math.isfinite, scores.values())):
            continue
        if trial.text not in read:
            derivation = Derivation.read(trial.text, run.grammar)
            planned = plan(derivation, heads=run.tasks)
            read[trial.text] = parts(derivation), part_costs(planned, run.tasks)
        (encoder, decoders), costs = read[trial.text]
        known = encoders.setdefault(encoder, Encoder(encoder, costs[""], {}))
        scored.append(scores)
        for task, score in scores.items():
            sized = Sized(decoders[own_output(task)], costs[task], score)
            others = known.decoders.get(task, ())
            if all(sized.labels != other.labels for other in others):
                known.decoders[task] = (*others, sized)
    scales = {
        task: _scale(objective, [scores[task] for scores in scored], run.trivial)
        for task, objective in objectives.items()
        if scored
    }
    limits = dict[str, float]()
    for limit in run.limits:
        if limit.name in ADDED:
            limits[limit.name] = min(limit.bound, limits.get(limit.name, limit.bound))
    unkept = tuple(str(limit) for limit in run.limits if limit.name not in ADDED)
    return Steering(run.problem.input, scales, tuple(encoders.values()), limits, unkept)


def part_costs(whole: Plan, tasks: Sequence[Task]) -> dict[str, Costs]:
    """What can be added up of a network: of each task's decoder with its head, and of the encoder
    under ""."""
    costs = dict[str, Costs]()
    of_tasks = {task.name: (f"{own_output(task.name)}/", f"head/{task.name}/") for task in tasks}
    steps = {task: [s for s in whole.steps if s.slot.startswith(p)] for task, p in of_tasks.items()}
    taken = {step.name for own in steps.values() for step in own}
    steps[""] = [step for step in whole.steps if step.name not in taken]
    for name, own in steps.items():
        part = replace(whole, steps=tuple(own))
        costs[name] = {cost: float(COSTS[cost].of(part)) for cost in ADDED}  # type: ignore[misc]
    return costs


def completions(steering: Steering, grammar: Grammar, done: set[Labels]) -> list[Derivation]:
    """Networks that tell all of an encoder that some preference and budget come to, for the first
    that is none of those that are `done`, which it joins; none where all are, or enough."""
    if not steering.encoders or len(done) >= MOST:
        return []
    for _, _, answer in steering.asked():
        if answer.encoder not in done:
            done.add(answer.encoder)
            return list(decoder_levels(answer.derivation(grammar)))
    return []


def _scale(objective: Objective, scores: Sequence[float], trivial: Mapping[str, float]) -> Scale:
    worst, best = (min(scores), max(scores)) if objective.maximize else (max(scores), min(scores))
    nothing = trivial.get(objective.name, worst)
    if not (best > nothing if objective.maximize else best < nothing):
        nothing = worst
    return Scale(objective.name, nothing, best, objective.maximize)
