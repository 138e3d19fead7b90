"""Training the weights that the subnets of a finite space share, before they are evaluated."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nas.archive import Archive
from nas.front import Limit
from nas.grammar import Derivation, Grammar, GrammarError, Limits
from nas.grammar.count import extreme
from nas.measure.latency import threads
from nas.plan import plan
from nas.search.child import START_S, Child, Died
from nas.search.folder import RunError
from nas.search.propose import OPEN_SIZE, counted, within
from nas.search.run import Run, columns_of, costs_of, kept
from nas.search.schedule import Schedule
from nas.search.settings import EXECUTION, Settings
from nas.search.worker import banked, covering, longest_s, make_bank
from nas.supernet import STRATEGIES, Bank, Space, chain, strategy_of
from nas.supernet.bank import facts_of
from nas.supernet.chain import evenly
from nas.supernet.strategies import FINITE, of_user
from nas.task import Task
from nas.train import Listener, StepError, Trainer, Turn

CHECKPOINT, CLOCK = "training.safetensors", "training.clock"
DRAWS = 100  # of a turn that a bank which grows has memory for
UNTIMED = 10_000  # steps of a schedule by the clock where none may be timed beforehand
TIMED = 8  # steps from which is told what one takes
GRACE_S = 5.0  # past the end of time, for a checkpoint to be read and a bank to be written
MOST_IN_A_ROW = 10  # steps that may fail one after the other, and a tenth of all


@dataclass(frozen=True)
class Course:
    """How long the shared weights of a run are trained: so many steps, in so many seconds where
    there is a budget, but for the steps that are passed over."""

    steps: int
    seconds: float | None
    until: float = math.inf  # by time.perf_counter, the same in every process
    passed: frozenset[int] = frozenset()


class Begun(NamedTuple):
    step: int
    derivation: str


class Done(NamedTuple):
    """`done` steps are done, the last with this loss."""

    done: int
    loss: float


class Trained(NamedTuple):
    version: int
    seconds: float


class Failed(NamedTuple):
    step: int
    derivation: str
    reason: str


Event = Begun | Done | Failed | Trained


def train_bank(run: Run, archive: Archive, listener: Listener, ends: float) -> None:
    """Train the shared weights to bank.safetensors, from the last checkpoint if there is one.

    A step that fails is passed over and noted; raises RunError where that happens often.
    """
    if (run.folder / "bank.safetensors").exists() and archive.notes("bank"):
        return
    strategy = run.settings.supernet.strategy
    if strategy not in STRATEGIES and not run.trust_code:
        raise RunError(
            f"{run.folder} trains by code of its own ({strategy}): read it, then allow it with "
            "--trust-code"
        )
    steps, seconds = _length(run, archive, ends)
    until = ends
    if seconds is not None:
        left = seconds * (1 - Schedule(run.folder / CLOCK, steps, seconds).share)
        until = min(ends, time.perf_counter() + left)
    passed = {int(str(note["step"])) for note in archive.notes("passed")}
    last = run.folder / CHECKPOINT
    done, in_a_row = int(facts_of(last).get("version", 0)) if last.exists() else 0, 0
    apart = bool(run.grammar.used) or strategy not in STRATEGIES
    while True:
        given = Course(steps, seconds, until, frozenset(passed))
        for event in _apart(run, given) if apart else training(run, given):
            if isinstance(event, Done):
                done, in_a_row = event.done, 0
                listener("supernet", done, max(steps, done), {"loss": event.loss})
            elif isinstance(event, Trained):
                archive.note("bank", version=event.version, seconds=event.seconds)
                for name in (CHECKPOINT, CLOCK):
                    (run.folder / name).unlink(missing_ok=True)
                return
            elif isinstance(event, Failed):
                in_a_row += 1
                if event.step not in passed:
                    passed.add(event.step)
                    archive.note(
                        "passed", step=event.step, derivation=event.derivation, reason=event.reason
                    )
                if in_a_row >= MOST_IN_A_ROW or len(passed) > max(MOST_IN_A_ROW, done / 10):
                    raise _hopeless(run, event, len(passed), done)


def _hopeless(run: Run, event: Failed, failed: int, done: int) -> RunError:
    lr = run.settings.supernet.lr
    return RunError(
        f"{failed} steps of training the supernet failed where {done} were done, the last of "
        f"{event.derivation}: {event.reason}. Mend the operator, or where a loss or gradient is no "
        f"number lower supernet.lr, which is {lr}, in a new run"
    )


def training(run: Run, given: Course) -> Iterator[Event]:
    """Train from the last checkpoint to bank.safetensors, telling of every step."""
    settings, last = run.settings, run.folder / CHECKPOINT
    bank = make_bank(run.grammar, run.tasks, settings)
    if last.exists():
        bank.load(last)
    draw = turns(settings, run.grammar, run.tasks, given.steps, bank)
    recipe = settings.supernet.recipe(settings.seed)
    trainer = Trainer(bank, run.tasks, recipe, given.steps, settings.device)
    earlier = float(facts_of(last).get("seconds", 0)) if last.exists() else 0.0
    begun, saved, step = time.perf_counter() - earlier, float("-inf"), bank.version
    schedule = Schedule(run.folder / CLOCK, given.steps, given.seconds, given.until)
    with threads(settings.supernet.threads or torch.get_num_threads()):
        while (place := schedule.at(step)) is not None:
            if step not in given.passed:
                turn = _drawn(draw, step, place, settings)
                yield Begun(step, str(turn.derivations[0]))
                try:
                    loss = trainer.step(step, turn, place)
                except StepError as error:
                    yield Failed(error.step, error.derivation, error.reason)
                else:
                    yield Done(step + 1, loss)
            step = bank.version = step + 1
            if time.perf_counter() - saved > settings.supernet.checkpoint_s:
                spent = {"seconds": f"{time.perf_counter() - begun}"}
                bank.save(last, state=True, facts=spent)
                saved = time.perf_counter()
    bank.save(run.folder / "bank.safetensors")
    yield Trained(bank.version, time.perf_counter() - begun)


def _drawn(draw: Callable[[int, float], Turn], step: int, place: float, settings: Settings) -> Turn:
    try:
        return draw(step, place)
    except Exception as error:
        if settings.supernet.strategy in STRATEGIES:
            raise
        raise RunError(
            f"the strategy {settings.supernet.strategy} raises {type(error).__name__} at step "
            f"{step}: {error}"
        ) from error


def _apart(run: Run, given: Course) -> Iterator[Event]:
    """Training in a child, where operators of the user's own may hang, crash or exit: the step in
    which it dies is a step that failed, and the last event."""
    child = Child(_train, run.folder, run.settings, run.trust_code, given)
    limit_s, step = longest_s(run.settings), Begun(0, "")
    begun = False
    try:
        while True:
            limit = limit_s if begun else START_S
            if begun:  # to leave what was trained, it may take a little longer
                limit = min(limit, max(GRACE_S, given.until - time.perf_counter()))
            event = child.hear(time.monotonic() + limit, f"{limit:.0f} s")
            begun = True
            if isinstance(event, Begun):
                step = event
            else:
                yield event
            if isinstance(event, Trained):
                return
    except Died as death:
        if not step.derivation:
            raise RunError(f"the supernet's training could not begin: {death}") from None
        yield Failed(step.step, step.derivation, str(death))
    finally:
        child.kill()


def _train(
    connection: Connection[Any, Any],
    folder: Path,
    settings: Settings,
    trust_code: bool,
    given: Course,
) -> None:
    execution = {name: getattr(settings, name) for name in EXECUTION}
    run = Run(folder, trust_code=trust_code, **execution)
    for event in training(run, given):
        connection.send(event)


def check_shared(
    settings: Settings, grammar: Grammar, tasks: Sequence[Task], trust_code: bool
) -> None:
    """Raise RunError for what only a finite space can have and for limits that no network of a
    chain keeps, BankError where the bank of a finite space does not fit memory, and ValueError for
    a strategy of the user's that is none."""
    given = settings.supernet
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
    if grammar.finite:
        empty = Bank(
            {}, optimizer=given.optimizer, share=grammar.share, memory_mb=given.memory_mb or None
        )
        empty.require(covering(grammar, tasks))
        chained(settings, grammar, tasks)


def chained(settings: Settings, grammar: Grammar, tasks: Sequence[Task]) -> list[Derivation]:
    """What there is to select from in a run whose strategy is sorted, the members of the chain that
    keep the limits: the ends first, and then those between them, so that any first part is spread
    over it. Raises RunError where there are none."""
    if settings.supernet.strategy != "sorted" or not banked(settings, grammar):
        return []
    limits = [Limit.parse(text, columns_of(tasks)) for text in settings.limits]
    whole = chain(Space(grammar, tasks[0].input).largest)
    found = [one for one in whole if kept(costs_of(one, tasks), limits)]
    if not found:
        raise RunError(
            f"none of the {len(whole)} networks of the chain keeps the limits "
            f"{', '.join(settings.limits)}: allow more, or take another supernet.strategy"
        )
    last = len(found) - 1
    between = (round(evenly(i) * last) for i in range(1, 4 * len(found)))
    return [found[i] for i in dict.fromkeys([0, last, *between])]


def space_of(settings: Settings, grammar: Grammar, tasks: Sequence[Task]) -> Space:
    """What a run draws from: what its limits on what can be counted allow, of a recursive space by
    the derivation's own cost, of a finite one by that of the whole network with its heads.

    Raises RunError where no network of a finite space keeps them.
    """
    limits = [Limit.parse(text, columns_of(tasks)) for text in settings.limits]
    input = tasks[0].input
    if not grammar.finite:
        return Space(grammar, input, within(limits), settings.size or OPEN_SIZE)
    most = counted(limits)
    if not most:
        return Space(grammar, input)

    def keeps(one: Derivation) -> bool:
        return kept(costs_of(one, tasks), limits)

    # heads cost something too, and parts that no head reads nothing
    heads = costs_of(extreme(grammar, input=input), tasks)
    alone = plan(extreme(grammar, input=input))
    ends = {name: extreme(grammar, input=input, of=name, largest=False) for name in most}
    spare = {name: max(0, int(heads[name]) - getattr(alone, name)) for name in most}
    for bounds in ({name: bound - spare[name] for name, bound in most.items()}, most):
        tight = Space(grammar, input, Limits(**bounds), keeps=keeps)
        with suppress(GrammarError):
            tight.smallest  # noqa: B018
            return tight
    loose = Space(grammar, input, keeps=keeps)
    with suppress(GrammarError):
        loose.smallest  # noqa: B018
        return loose
    for name, end in ends.items():
        least = costs_of(end, tasks)[name]
        if least > most[name]:
            raise RunError(
                f"no network of {grammar.name} has {name} of at most {most[name]:,}: the smallest "
                f"for {', '.join(task.name for task in tasks)} has {least:,.0f}; allow that much"
            )
    raise RunError(
        f"no network of {grammar.name} was found that keeps all of {', '.join(settings.limits)}: "
        "each alone can be kept; allow more of one"
    )


def turns(
    settings: Settings, grammar: Grammar, tasks: Sequence[Task], steps: int, bank: Bank
) -> Callable[[int, float], Turn]:
    """Who is trained at a step, which is at a place of a schedule of `steps`, by the run's strategy
    and seed. Whom a growing bank has no memory for is drawn anew."""
    space = space_of(settings, grammar, tasks)
    strategy = strategy_of(settings.supernet.strategy, space, steps)

    def turn(step: int, place: float) -> Turn:
        found = strategy(int(place), random.Random(f"{settings.seed}/supernet/{step}"))
        for again in range(DRAWS if bank.grows else 0):
            if bank.fits(plan(one, heads=tasks) for one in found.derivations):
                break
            rng = random.Random(f"{settings.seed}/supernet/{step}/{again}")
            found = strategy(int(place), rng)
        return found

    return turn


def step_s(settings: Settings, grammar: Grammar, tasks: Sequence[Task]) -> tuple[float, Bank]:
    """Seconds of a training step, by trying some from all over the training; and the bank used."""
    bank, steps = make_bank(grammar, tasks, settings), 1000
    trainer = Trainer(bank, tasks, settings.supernet.recipe(settings.seed), steps, settings.device)
    draw = turns(settings, grammar, tasks, steps, bank)
    for warming in (0, steps - 1):
        trainer.step(warming, draw(warming, warming))
    begun = time.perf_counter()
    for step in range(0, steps, steps // TIMED):
        trainer.step(step, draw(step, step))
    return (time.perf_counter() - begun) / TIMED, bank


def _length(run: Run, archive: Archive, ends: float) -> tuple[int, float | None]:
    """Training steps, decided once for a run, and seconds where there is a budget: steps as set, or
    as many as seem to fit the budget's share, of which the clock has the last word."""
    settings, noted, seconds = run.settings, archive.notes("training"), None
    if noted and (settings.budget_s is None or noted[0].get("seconds") is not None):
        known = noted[0].get("seconds")
        return int(str(noted[0]["steps"])), None if known is None else float(str(known))
    if settings.budget_s is not None and math.isfinite(settings.budget_s):
        seconds = settings.budget_s * settings.supernet.share
        seconds = max(0.0, min(seconds, ends - time.perf_counter()))
    steps = int(str(noted[0]["steps"])) if noted else settings.supernet.steps
    if not noted and seconds is not None:
        begun = time.perf_counter()
        fitting = UNTIMED
        if not run.grammar.used and settings.supernet.strategy in STRATEGIES:
            each, _ = step_s(settings, run.grammar, run.tasks)
            fitting = int(seconds / each)
        steps = max(20, min(steps, fitting) if steps else fitting)
        seconds = max(0.0, seconds - (time.perf_counter() - begun))
    steps = steps or UNTIMED
    archive.note("training", steps=steps, **({} if seconds is None else {"seconds": seconds}))
    return steps, seconds
