"""The checks of a search before anything is written: space, tasks and settings together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch

from nas.grammar import Grammar, sample
from nas.measure.latency import Deployment
from nas.measure.runtime import RUNTIMES
from nas.plan import FEATURES_RESULT, plan
from nas.search.columns import column_clash
from nas.search.error import RunError
from nas.search.parts import SettingsError
from nas.search.problem import Problem
from nas.search.propose import PARENTED, PER_TASK, breeds, check_sampler, resolved
from nas.search.settings import Settings
from nas.search.trial_run import tried
from nas.supernet import STRATEGIES, Bank
from nas.supernet.bank_file import check_names
from nas.supernet.decoders import decoders_of, with_decoders
from nas.supernet.slots import named
from nas.supernet.strategies import ALIGNED, FINITE, LEARNING, of_user
from nas.task import Task, TaskError, check_shape, load_tasks
from nas.train import Feed, Recipe

TRIED = 4  # networks with operators of the user's own, of which one must run


def prepare(
    settings: Settings, grammar: Grammar | None = None, *, trust_code: bool = False
) -> Problem:
    """What is to be searched, the settings as they suit the space."""
    grammar = grammar or Grammar.load(settings.space, trust_code=trust_code)
    tasks = load_tasks(settings.tasks, trust_code=trust_code)
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise TaskError(f"task names must differ, and these are {', '.join(names)}")
    if fault := column_clash(tasks) or same_input(tasks):
        raise TaskError(fault)
    grammar = with_decoders(grammar, names)
    problem = Problem(settings.suited(grammar), grammar, tuple(tasks))
    check(problem, trust_code)
    return problem


def same_input(tasks: Sequence[Task]) -> str:
    """Why some tasks cannot share a trunk, "" where they can."""
    for task in tasks[1:]:
        if task.input != tasks[0].input:
            return (
                f"tasks of one run share their input's shape: {tasks[0].name} takes "
                f"{tasks[0].input}, {task.name} takes {task.input}; pictures of as many channels "
                "as each other, or of one, are enlarged to the largest, and nothing else"
            )
    return ""


def check(problem: Problem, trust_code: bool) -> None:
    """Raise for objectives, limits and heads that cannot be, with a first derivation."""
    _ = problem.aims
    sampler = resolved(problem.settings.sampler, inherits=problem.inherits)
    check_sampler(sampler, trust_code)
    if problem.settings.per_task:
        check_per_task(problem, sampler)
    if problem.inherits and sampler not in PARENTED:
        raise SettingsError(
            f"with child_epochs children go on from their parents' weights, and {sampler} knows no "
            f"parents: say {' or '.join(PARENTED)}, or child_epochs 0"
        )
    if problem.settings.start and not breeds(sampler, problem.grammar):
        raise SettingsError(f"start is for samplers that breed, and this is {sampler}: say tree")
    check_runtimes(problem)
    check_precision(problem)
    _ = problem.profiles
    problem.seeds()
    _ = problem.space
    check_data(problem)
    if problem.banked:
        check_supernet(problem, trust_code)
    most = None if problem.grammar.finite else problem.most
    rng = random.Random(0)
    first = sample(problem.grammar, rng, input=problem.input, limits=most)
    results = plan(first, heads=problem.tasks).output_shapes()
    for task in problem.tasks:
        check_shape(task, results[task.name].dims)
    if problem.grammar.used:
        rng = random.Random(0)
        draws = [
            sample(problem.grammar, rng, input=problem.input, limits=most) for _ in range(TRIED)
        ]
        tried(draws, problem.settings, trust_code)


def check_per_task(problem: Problem, sampler: str) -> None:
    """Raise SettingsError where an architecture for each task is asked for and cannot be had."""
    if len(problem.tasks) < 2:
        raise SettingsError("per_task is for several tasks, and this is one: leave it out")
    if problem.inherits:
        raise SettingsError("children inherit weights for all tasks together: per_task or this")
    if sampler not in PER_TASK:
        raise SettingsError(
            f"with per_task each task has proposals of its own, and {sampler} has none: say "
            f"{' or '.join(PER_TASK)}"
        )


def check_data(problem: Problem) -> None:
    """Raise TaskError for weights of classes and augmentations that do not suit the tasks."""
    for task in problem.tasks:
        _ = task.class_weights
    Feed(problem.tasks, Recipe(augment=True), torch.device("cpu"), ahead=False)


def check_features(problem: Problem) -> None:
    """Raise RunError where encoders differ in the size of what the decoders of tasks read."""
    sizes = {planned.output_shapes()[FEATURES_RESULT].space for planned in problem.covering()}
    if len(sizes) > 1:
        raise RunError(
            f"the encoders of {problem.grammar.name} end in features of {sorted(sizes)}, and "
            "decoders of tasks read one size: let none of its choices change it"
        )


def check_precision(problem: Problem) -> None:
    """Raise where a space says in how many bits networks run, and something here runs none of
    integers."""
    if "precision" not in problem.grammar.calls:
        return
    if decoders_of(problem.grammar):
        raise RunError(
            f"{problem.grammar.name} has a decoder for each task, whose bits would hang on each "
            "other: leave precision out, and quantize what is taken home (nas export --int8)"
        )
    if problem.grammar.used:
        names = ", ".join(problem.grammar.used)
        raise RunError(
            f"{problem.grammar.name} runs networks in integers, and operators of your own "
            f"({names}) have no form there: leave precision out"
        )
    for deployment in problem.deployments:
        if not RUNTIMES[deployment.runtime].onnx:
            raise SettingsError(
                f"{problem.grammar.name} runs networks in integers, and {deployment.runtime} runs "
                f"none: measure {deployment.columns[0]} in onnxruntime (latency.runtime)"
            )


def check_runtimes(problem: Problem) -> None:
    """Raise SettingsError for a runtime that is not installed or cannot hold the space's networks,
    and for a latency that is asked for where every one has a name."""
    settings = problem.settings
    named = {f"latency.runtime {entry.runtime}": entry.runtime for entry in settings.latency}
    named["evaluate_in onnxruntime"] = settings.evaluate_in
    for key, runtime in ((k, RUNTIMES[name]) for k, name in named.items() if name != "auto"):
        if runtime.lacks:
            raise SettingsError(runtime.lacks)
        if problem.grammar.used and runtime.onnx:
            raise SettingsError(
                f"{key}: operators of your own ({', '.join(problem.grammar.used)}) have no form in "
                "ONNX: say torch"
            )
    if settings.evaluate_in == "onnxruntime" and settings.resolved_device != "cpu":
        raise SettingsError(
            "evaluate_in onnxruntime is for a CPU, and the device is "
            f"{settings.resolved_device}: say torch"
        )
    if all(entry.name for entry in settings.latency) and problem.reads(Deployment()):
        column, *_ = Deployment().columns
        raise SettingsError(
            f"{column} is asked for, and every latency has a name: ask for "
            f"{column}@{settings.latency[0].name}, or leave one without"
        )


def check_supernet(problem: Problem, trust_code: bool) -> None:
    """Raise RunError for what only a finite space can have and for limits that no network of a
    chain keeps, BankError where the bank of a finite space does not fit memory, and ValueError for
    a strategy of the user's that is none."""
    given, grammar = problem.settings.supernet, problem.grammar
    if given.strategy not in STRATEGIES:
        if not trust_code:
            raise RunError(
                f"the supernet's strategy is code of the user's own ({given.strategy}), which is "
                "not run unasked: read it, then allow it with --trust-code"
            )
        of_user(given.strategy)
    finite = [f"the strategy {given.strategy}"] if given.strategy in FINITE else []
    finite += ["kernel_transform"] if given.kernel_transform else []
    if finite and not grammar.finite:
        raise RunError(
            f"{grammar.name} is recursive, and {finite[0]} needs a finite space: say "
            'strategy = "spread" or "single-path", and no kernel_transform'
        )
    if given.strategy in LEARNING and not (problem.settings.per_task and problem.budgets):
        raise RunError(
            f"the strategy {given.strategy} learns what each task wants within a budget: say "
            "per_task (--per-task) and what a network may cost, as --max flops=20M"
        )
    if given.strategy == ALIGNED and not decoders_of(grammar):
        raise RunError(
            f"the strategy {ALIGNED} holds the features alike that decoders of tasks read, and "
            f"{grammar.name} has none: say net = encoder decoder, with a rule for each, as the "
            "space steered does"
        )
    if problem.features is not None:
        check_features(problem)
    if grammar.finite:
        empty = Bank(
            {}, optimizer=given.optimizer, share=grammar.share, memory_mb=given.memory_mb or None
        )
        covering = problem.covering()
        empty.require(covering)
        _ = problem.chain
        if given.weights:
            slots = {key for p in covering for step in named(p, grammar.share) for _, key in step}
            check_names(Path(given.weights), slots)
