"""Training the weights that the subnets of a finite space share, before they are evaluated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from nas.archive import Archive
from nas.grammar import Derivation
from nas.search.run import Run, RunError
from nas.search.worker import make_bank
from nas.supernet import STRATEGIES
from nas.train import Trainer, TrainingError, train

Listener = Callable[[str, int, int, dict[str, Any]], None]
CHECKPOINT_S = 20.0


def train_bank(run: Run, archive: Archive, listener: Listener) -> None:
    """Train the shared weights to bank.safetensors, from the last checkpoint if there is one."""
    final, last = run.folder / "bank.safetensors", run.folder / "training.safetensors"
    if final.exists():
        return
    settings = run.settings
    bank = make_bank(run.grammar, run.tasks, settings)
    if last.exists():
        bank.load(last)
    strategy = STRATEGIES[settings.supernet.strategy](run.grammar, input=run.tasks[0].input)

    def subnets(step: int) -> Sequence[Derivation]:
        return strategy(random.Random(f"{settings.seed}/supernet/{step}"))

    steps = _steps(run, archive, subnets)
    recipe = settings.supernet.recipe(settings.seed)
    trainer = Trainer(bank, run.tasks, recipe, steps, settings.device)
    begun = saved = time.perf_counter()

    def on_step(done: int, value: float) -> None:
        nonlocal saved
        bank.version = done
        listener("supernet", done, steps, {"loss": value})
        if time.perf_counter() - saved > CHECKPOINT_S:
            bank.save(last, momenta=True)
            saved = time.perf_counter()

    try:
        train(trainer, subnets, start=bank.version, on_step=on_step)
    except KeyboardInterrupt:
        bank.save(last, momenta=True)
        raise
    except TrainingError as error:
        lr = settings.supernet.lr
        raise RunError(f"{error} supernet.lr is {lr} in {run.folder / 'run.toml'}") from None
    bank.save(final)
    archive.note("bank", version=bank.version, seconds=time.perf_counter() - begun)
    last.unlink(missing_ok=True)


def _steps(
    run: Run, archive: Archive, subnets: Callable[[int], Sequence[Derivation]]
) -> int:
    """Training steps: as set, or as many as fit the budget's share; decided once for a run."""
    settings, noted = run.settings, archive.notes("training")
    if noted:
        return int(str(noted[0]["steps"]))
    steps = settings.supernet.steps
    if settings.budget_s is not None:
        trial = make_bank(run.grammar, run.tasks, settings)
        recipe = settings.supernet.recipe(settings.seed)
        trainer = Trainer(trial, run.tasks, recipe, 1000, settings.device)
        for step in range(3):
            trainer.step(step, subnets(step))
        begun = time.perf_counter()
        for step in range(3, 11):
            trainer.step(step, subnets(step))
        each = (time.perf_counter() - begun) / 8
        fitting = int(settings.budget_s * settings.supernet.share / each)
        steps = max(20, min(steps, fitting) if steps else fitting)
    archive.note("training", steps=steps)
    return steps
