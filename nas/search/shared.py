"""Training the weights that the subnets of a finite space share, before they are evaluated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from nas.archive import Archive
from nas.front import Limit
from nas.grammar import Derivation, Grammar
from nas.plan import plan
from nas.search.propose import OPEN_SIZE, within
from nas.search.run import Run, RunError, columns_of, costs_of
from nas.search.settings import Settings
from nas.search.worker import banked, covering, make_bank
from nas.supernet import STRATEGIES, Bank, Space, chain, strategy_of
from nas.supernet.bank import facts_of
from nas.supernet.chain import evenly
from nas.supernet.strategies import FINITE, of_user
from nas.task import Task
from nas.train import Listener, Trainer, TrainingError, Turn, train

DRAWS = 100  # of a turn that a bank which grows has memory for
TIMED = 8  # steps from which is told what one takes


def train_bank(run: Run, archive: Archive, listener: Listener) -> None:
    """Train the shared weights to bank.safetensors, from the last checkpoint if there is one."""
    final, last = run.folder / "bank.safetensors", run.folder / "training.safetensors"
    if final.exists() and archive.notes("bank"):
        return
    settings = run.settings
    bank = make_bank(run.grammar, run.tasks, settings)
    if last.exists():
        bank.load(last)
    strategy = settings.supernet.strategy
    if strategy not in STRATEGIES and not run.trust_code:
        raise RunError(
            f"{run.folder} trains by code of its own ({strategy}): read it, then allow it with "
            "--trust-code"
        )
    steps = _steps(run, archive)
    turn = turns(settings, run.grammar, run.tasks, steps, bank)
    recipe = settings.supernet.recipe(settings.seed)
    trainer = Trainer(bank, run.tasks, recipe, steps, settings.device)
    earlier = float(facts_of(last).get("seconds", 0)) if last.exists() else 0.0
    begun, saved = time.perf_counter() - earlier, float("-inf")

    def on_step(done: int, value: float) -> None:
        nonlocal saved
        bank.version = done
        listener("supernet", done, steps, {"loss": value})
        if time.perf_counter() - saved > settings.supernet.checkpoint_s:
            spent = {"seconds": f"{time.perf_counter() - begun}"}
            bank.save(last, state=True, facts=spent)
            saved = time.perf_counter()

    try:
        train(trainer, turn, start=bank.version, on_step=on_step)
    except TrainingError as error:
        lr = settings.supernet.lr
        raise RunError(f"{error} supernet.lr is {lr} in {run.folder / 'run.toml'}") from None
    bank.save(final)
    archive.note("bank", version=bank.version, seconds=time.perf_counter() - begun)
    last.unlink(missing_ok=True)


def check_shared(settings: Settings, grammar: Grammar, tasks: Sequence[Task]) -> None:
    """Raise RunError for what only a finite space can have and for limits that no network of a
    chain keeps, BankError where the bank of a finite space does not fit memory, and ValueError for
    a strategy of the user's that is none."""
    given = settings.supernet
    if given.strategy not in STRATEGIES:
        of_user(given.strategy)
    finite = [f"the strategy {given.strategy}"] if given.strategy in FINITE else []
    finite += ["kernel_transform"] if given.kernel_transform else []
    if finite and not grammar.finite:
        raise RunError(
            f"{grammar.name} is recursive, and {finite[0]} needs a finite space: say "
            "strategy = \"spread\" or \"single-path\", and no kernel_transform"
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
    whole = chain(space_of(settings, grammar, tasks).largest)
    found = [one for one in whole if costs_of(one, tasks, limits)]
    if not found:
        raise RunError(
            f"none of the {len(whole)} networks of the chain keeps the limits "
            f"{', '.join(settings.limits)}: allow more, or take another supernet.strategy"
        )
    last = len(found) - 1
    between = (round(evenly(i) * last) for i in range(1, 4 * len(found)))
    return [found[i] for i in dict.fromkeys([0, last, *between])]


def space_of(settings: Settings, grammar: Grammar, tasks: Sequence[Task]) -> Space:
    """What a run draws from at random: of a recursive space what its limits and size allow.

    A finite space is whole: limits are on networks with heads, in which parts of a derivation that
    no head reads cost nothing.
    """
    if grammar.finite:
        return Space(grammar, tasks[0].input)
    limits = [Limit.parse(text, columns_of(tasks)) for text in settings.limits]
    return Space(grammar, tasks[0].input, within(limits), settings.size or OPEN_SIZE)


def turns(
    settings: Settings, grammar: Grammar, tasks: Sequence[Task], steps: int, bank: Bank
) -> Callable[[int], Turn]:
    """Who is trained at each of `steps` steps, by the run's strategy and seed. Whom a growing bank
    has no memory for is drawn anew."""
    space = space_of(settings, grammar, tasks)
    strategy = strategy_of(settings.supernet.strategy, space, steps)

    def turn(step: int) -> Turn:
        found = strategy(step, random.Random(f"{settings.seed}/supernet/{step}"))
        for again in range(DRAWS if bank.grows else 0):
            if bank.fits(plan(one, heads=tasks) for one in found.derivations):
                break
            found = strategy(step, random.Random(f"{settings.seed}/supernet/{step}/{again}"))
        return found

    return turn


def step_s(settings: Settings, grammar: Grammar, tasks: Sequence[Task]) -> tuple[float, Bank]:
    """Seconds of a training step, by trying some from all over the training; and the bank used."""
    bank, steps = make_bank(grammar, tasks, settings), 1000
    trainer = Trainer(bank, tasks, settings.supernet.recipe(settings.seed), steps, settings.device)
    turn = turns(settings, grammar, tasks, steps, bank)
    for warming in (0, steps - 1):
        trainer.step(warming, turn(warming))
    begun = time.perf_counter()
    for step in range(0, steps, steps // TIMED):
        trainer.step(step, turn(step))
    return (time.perf_counter() - begun) / TIMED, bank


def _steps(run: Run, archive: Archive) -> int:
    """Training steps: as set, or as many as fit the budget's share; decided once for a run."""
    settings, noted = run.settings, archive.notes("training")
    if noted:
        return int(str(noted[0]["steps"]))
    steps = settings.supernet.steps
    if settings.budget_s is not None:
        each, _ = step_s(settings, run.grammar, run.tasks)
        fitting = int(settings.budget_s * settings.supernet.share / each)
        steps = max(20, min(steps, fitting) if steps else fitting)
    archive.note("training", steps=steps)
    return steps
