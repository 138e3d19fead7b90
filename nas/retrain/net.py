"""Retraining an extracted network: the whole training split, test metrics before and after."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from nas.archive import Measurement, plain
from nas.evaluate import Conditions, Fidelity, network_of, network_scores
from nas.evaluate.alone import STATISTICS
from nas.events import Listener, StepDone, silent
from nas.export import ExportError, load, note, save_weights
from nas.export.folder import WEIGHTS
from nas.files import sweep, write
from nas.journal import JSON
from nas.network import Network
from nas.plan import Plan
from nas.supernet import Bank
from nas.supernet.bank import facts_of
from nas.task import Task
from nas.train import Recipe, Trainer, Turn, train

CHECKPOINT, BEFORE = "training.safetensors", "weights.before.safetensors"
CHECKPOINT_S = 20.0


def retrain(
    folder: Path,
    *,
    epochs: float | None = None,
    lr: float | None = None,
    device: str = "cpu",
    from_scratch: bool = True,
    listener: Listener | None = None,
    trust_code: bool = False,
    kept: Callable[[Path, int, int, float], None] | None = None,
) -> tuple[list[Measurement], list[Measurement]]:
    """Train the network of a `net` folder by its recipe, and keep the weights there; those that
    were there before stay beside them as weights.before.safetensors.

    It begins with new weights, or, with `from_scratch` off, with those of the folder: where
    the supernet's are nearly at rest, a fresh start has ended better.

    What comes back are the test metrics before and after. An interrupted retraining carries on
    from `training.safetensors`; a finished one starts anew. With `kept`
    a checkpoint is written each epoch and told of: its file, steps done, all steps, the loss.
    Raises ExportError for a folder that is no network, TrainingError where the loss is no number.
    """
    network, tasks, recipe, source = load(folder, trust_code=trust_code)
    sweep(folder)
    recipe = _changed(recipe, epochs, lr)
    derivation, last = network.derivation, folder / CHECKPOINT
    weights = Bank.of([network.plan], seed=recipe.seed, device=device, optimizer=recipe.optimizer)
    if not from_scratch:
        _copy(network, weights, network.plan)
    trainer = Trainer(weights, tasks, recipe, recipe.steps(tasks), device)
    training = {"recipe": f"{recipe}", "from_scratch": f"{from_scratch}"}
    if last.exists():
        known = _same(last, training)
        if source.get("training") == known["training"]:  # it had ended, but for this file
            return _end(folder, figures(source))
        weights.load(last)
    else:
        before = _tested(network, tasks, recipe, "extracted")
        known = training | {"training": token_hex(8), "before": json.dumps([*map(plain, before)])}
        write(folder / BEFORE, (folder / WEIGHTS).read_bytes())
        weights.save(last, state=True, facts=known)
    epoch = max(1, round(trainer.steps / (recipe.epochs or 1)))
    on_step = _Checkpoints(last, weights, known, trainer.steps, epoch, listener or silent, kept)
    train(trainer, lambda step: Turn((derivation,)), start=weights.version, on_step=on_step)
    conditions = Conditions(tasks, recipe, device=device)
    trained = network_of(weights, derivation, conditions, STATISTICS).cpu()
    after = _tested(trained, tasks, recipe, "retrained")
    facts: dict[str, JSON] = {
        **training,
        "training": known["training"],
        "epochs": recipe.epochs,
        "before": json.loads(known["before"]),
        "measurements": [plain(m) for m in after],
    }
    save_weights(trained, folder, facts)  # the weights and what is said of them, at once
    return _end(folder, figures(facts))


@dataclass
class _Checkpoints:
    """Told of every step, it keeps the weights: often enough, and with `kept` at each epoch's end,
    which then hears of it."""

    file: Path
    weights: Bank
    facts: Mapping[str, str]
    steps: int
    epoch: int  # in steps
    listener: Listener
    kept: Callable[[Path, int, int, float], None] | None
    saved: float = field(default_factory=time.perf_counter)

    def __call__(self, done: int, loss: float) -> None:
        self.weights.version = done
        self.listener(StepDone("retraining", done, self.steps, {"loss": loss}))
        at_end = self.kept is not None and (done % self.epoch == 0 or done == self.steps)
        if at_end or time.perf_counter() - self.saved > CHECKPOINT_S:
            self.weights.save(self.file, state=True, facts=self.facts)
            self.saved = time.perf_counter()
            if self.kept:
                self.kept(self.file, done, self.steps, loss)


def _tested(
    network: Network, tasks: Sequence[Task], recipe: Recipe, evaluator: str
) -> list[Measurement]:
    """A network's metrics on the test split, and its costs."""
    conditions, fidelity = Conditions(tasks, recipe, split="test"), Fidelity(epochs=recipe.epochs)
    return network_scores(network, conditions, evaluator=evaluator, fidelity=fidelity)


def _changed(recipe: Recipe, epochs: float | None, lr: float | None) -> Recipe:
    recipe = replace(
        recipe,
        epochs=recipe.epochs if epochs is None else epochs,
        lr=recipe.lr if lr is None else lr,
    )
    if not 0 < recipe.epochs < inf or not 0 < recipe.lr <= 10:
        raise ExportError(
            f"epochs {recipe.epochs:g} and lr {recipe.lr:g}: epochs are above 0, lr above 0 and "
            "at most 10; the weights are as they were"
        )
    return recipe


def _end(
    folder: Path, figures: tuple[list[Measurement], list[Measurement]]
) -> tuple[list[Measurement], list[Measurement]]:
    """Say in architecture.json what the weights' own file says already, and drop the checkpoint."""
    before, after = figures
    note(folder, test_before=_values(before), test_after=_values(after))
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return figures


def figures(facts: Mapping[str, Any]) -> tuple[list[Measurement], list[Measurement]]:
    """The test metrics before and after that are known of weights."""
    return _measurements(facts.get("before")), _measurements(facts.get("measurements"))


def _measurements(given: Any) -> list[Measurement]:
    try:
        return TypeAdapter(list[Measurement]).validate_python([] if given is None else given)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ExportError(f"the figures of a retrained network cannot be read: {reason}") from None


def _same(last: Path, training: dict[str, str]) -> dict[str, str]:
    """What a checkpoint says of itself; raises ExportError where it was made by another recipe than
    is asked for."""
    before = facts_of(last)
    for name, value in training.items():
        if before.get(name) != value:
            raise ExportError(
                f"{last} is of an interrupted retraining with {name} {before.get(name)}, and "
                f"{value} is asked for: repeat that one's options, or remove the file"
            )
    if "training" not in before or "before" not in before:
        raise ExportError(f"{last} is of an older version of nas: remove it to start anew")
    return before


def retrained(
    folder: Path,
    *,
    epochs: float | None = None,
    lr: float | None = None,
    from_scratch: bool = True,
    trust_code: bool = False,
) -> list[Measurement] | None:
    """The test metrics that a retraining by the same recipe left in its folder, without costs;
    None where there was none, or it has not ended."""
    _, _, recipe, facts = load(folder, trust_code=trust_code)
    training = {"recipe": f"{_changed(recipe, epochs, lr)}", "from_scratch": f"{from_scratch}"}
    if any(facts.get(k) != v for k, v in training.items()) or (folder / CHECKPOINT).exists():
        return None
    return [m for m in figures(facts)[1] if m.task]


def _copy(network: Network, weights: Bank, plan: Plan) -> None:
    with torch.no_grad():
        for views, tensors in zip(weights.views(plan), network.tensors(), strict=True):
            for name, view in views.items():
                view.copy_(tensors[name])


def _values(measurements: list[Measurement]) -> dict[str, float]:
    return {f"{m.task}_{m.name}": m.value for m in measurements if m.task}
