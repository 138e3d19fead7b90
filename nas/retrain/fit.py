"""The training of one network from its checkpoint, with a look at validation after each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nas.evaluate import Conditions, Fidelity, network_of, network_scores
from nas.events import Event, Listener, StepDone
from nas.export import load
from nas.export.curve import Curve, Row, merit
from nas.retrain.options import Retraining
from nas.retrain.teacher import teacher_of
from nas.supernet import Bank
from nas.supernet.bank_file import facts_of, load_bank, save_bank
from nas.task import Task
from nas.train import Group, Recipe, Trainer, Turn, train

CHECKPOINT, BEST = "training.safetensors", "training.best.safetensors"
CHECKPOINT_S = 20.0  # between checkpoints within an epoch
SAMPLES = 512  # for batch statistics of a look at validation

Kept = Callable[[Path, int, int, Row], None]


def bank_of(plan: Any, recipe: Recipe, device: str) -> Bank:
    """A bank that holds one network, with what its recipe keeps of it."""
    return Bank.of(
        [plan],
        seed=recipe.seed,
        device=device,
        optimizer=recipe.optimizer,
        average=bool(recipe.average),
    )


class Fit:
    """Trains the network of a folder from training.safetensors, to its end or until validation has
    not become better for as long as the recipe says. In a group the first process alone looks and
    writes."""

    def __init__(
        self,
        folder: Path,
        options: Retraining,
        device: str,
        listener: Listener,
        group: Group | None = None,
        kept: Kept | None = None,
    ):
        network, tasks, recipe, _ = load(folder, trust_code=options.trust_code)
        self.tasks = [_with_validation(task) for task in tasks] if options.whole else tasks
        self.whole = options.whole
        self.folder, self.listener, self.group, self.kept = folder, listener, group, kept
        self.recipe, self.derivation = options.changed(recipe), network.derivation
        self.weights = bank_of(network.plan, self.recipe, device)
        load_bank(self.weights, folder / CHECKPOINT)
        self.facts = facts_of(folder / CHECKPOINT)
        self.curve = Curve.read(self.facts.get("curve", "[]"))
        steps = self.recipe.steps(self.tasks)
        self.trainer = Trainer(
            self.weights,
            self.tasks,
            self.recipe,
            steps,
            device,
            group=group,
            teacher=teacher_of(options, tasks, device),
            listener=listener,
        )
        self.trainer.balance.restore(self.facts)
        self.epoch = max(1, round(steps / (self.recipe.epochs or 1)))  # in steps
        self.conditions = Conditions(self.tasks, self.recipe, device=device)
        self.saved = self.begun = time.perf_counter()
        self.losses = list[float]()

    def run(self) -> None:
        """Train; the checkpoint is then that of the last step."""
        if self.curve.stale(self.recipe.patience):
            return
        turn = Turn((self.derivation,))
        train(self.trainer, lambda step: turn, start=self.weights.version, on_step=self.on_step)

    def on_step(self, done: int, loss: float) -> bool:
        """Whether training is over before its last step."""
        self.weights.version = done
        self.losses.append(loss)
        figures = {"loss": loss}
        if self.curve.rows:
            figures["valid"] = self.curve.rows[-1]["merit"]
        self.listener(StepDone("retraining", done, self.trainer.steps, figures))
        first = self.group is None or self.group.rank == 0
        if done % self.epoch == 0 or done == self.trainer.steps:
            if first:
                self.look(done)
            over = float(self.curve.stale(self.recipe.patience))
            return bool(self.group.agreed(over) if self.group else over)
        if first and time.perf_counter() - self.saved > CHECKPOINT_S:
            self.save()
        return False

    def look(self, done: int) -> None:
        """Score validation, and keep the weights if they are the best so far; where validation is
        learned from, keep them at the end."""
        weights = self.weights.averaged
        if self.whole:
            if done == self.trainer.steps:
                save_bank(weights, self.folder / BEST)
            return self.save()
        network = network_of(weights, self.derivation, self.conditions, SAMPLES)
        fidelity = Fidelity(steps=done)
        measured = network_scores(
            network, self.conditions, evaluator="retrained", fidelity=fidelity
        )
        row = {
            "epoch": round(done / self.epoch, 3),
            "step": done,
            "lr": self.recipe.rate(done - 1, self.trainer.steps),
            "loss": sum(self.losses) / max(1, len(self.losses)),
            **{_column(m.task, m.name, len(self.tasks)): m.value for m in measured if m.task},
            "merit": merit(measured, self.tasks),
            "seconds": round(time.perf_counter() - self.begun, 2),
        }
        self.losses.clear()
        self.curve.rows.append(row)
        if self.curve.best is row:
            save_bank(weights, self.folder / BEST)
        self.curve.save(self.folder)
        self.save()
        if self.kept:
            self.kept(self.folder / CHECKPOINT, done, self.trainer.steps, row)

    def save(self) -> None:
        """Write the checkpoint."""
        facts = {**self.facts, **self.trainer.balance.facts, "curve": self.curve.text}
        save_bank(self.weights, self.folder / CHECKPOINT, state=True, facts=facts)
        self.saved = time.perf_counter()


def _with_validation(task: Task) -> Task:
    """The task, with what validation has in training too."""
    splits = task.splits().with_validation()
    return replace(task, loader=lambda: splits)


def _column(task: str, metric: str, tasks: int) -> str:
    return metric if tasks == 1 else f"{task}_{metric}"


def fit_in_child(
    send: Callable[[Event], None],
    device: str,
    group: Group | None,
    folder: Path,
    options: Retraining,
) -> None:
    """The same in one of several processes."""
    torch.set_num_threads(1)
    Fit(folder, options, device, send, group).run()
