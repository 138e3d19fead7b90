"""Retraining an extracted network: the whole training split, test metrics before and after."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nas.archive import Measurement
from nas.evaluate import measured, network_of
from nas.export import ExportError, load, note, save_weights
from nas.journal import JSON
from nas.network import Network
from nas.plan import Plan
from nas.supernet import Bank
from nas.supernet.bank import facts_of
from nas.train import Listener, Trainer, Turn, train

CHECKPOINT_S = 20.0


def retrain(
    folder: Path, *, epochs: float | None = None, lr: float | None = None, device: str = "cpu",
    from_scratch: bool = True, listener: Listener | None = None, trust_code: bool = False,
    kept: Callable[[Path, int, int, float], None] | None = None,
) -> tuple[list[Measurement], list[Measurement]]:  # fmt: skip
    """Train the network of a `net` folder by its recipe, and keep the weights there.

    It begins with new weights, or, with `from_scratch` off, with those of the folder: where
    the supernet's are nearly at rest, a fresh start has ended better.

    What comes back are the test metrics before and after. An interrupted retraining carries on
    from `training.safetensors`; a finished one starts anew. With `kept`
    a checkpoint is written each epoch and told of: its file, steps done, all steps, the loss.
    Raises ExportError for a folder that is no network, TrainingError where the loss is no number.
    """
    network, tasks, recipe, _ = load(folder, trust_code=trust_code)
    recipe = replace(
        recipe, epochs=recipe.epochs if epochs is None else epochs,
        lr=recipe.lr if lr is None else lr,
    )  # fmt: skip
    if recipe.epochs <= 0 or not 0 < recipe.lr <= 10:
        raise ExportError(
            f"epochs {recipe.epochs:g} and lr {recipe.lr:g}: epochs are above 0, lr above 0 and "
            "at most 10; the weights are as they were"
        )
    made = {"recipe": f"{recipe}", "from_scratch": f"{from_scratch}"}
    derivation, last = network.derivation, folder / "training.safetensors"
    weights = Bank.of([network.plan], seed=recipe.seed, device=device, optimizer=recipe.optimizer)
    before = measured(network, tasks, recipe, split="test", evaluator="extracted")
    if not from_scratch:
        _copy(network, weights, network.plan)
    trainer = Trainer(weights, tasks, recipe, recipe.steps(tasks), device)
    if last.exists():
        _same(last, made)
        weights.load(last)
    saved, epoch = time.perf_counter(), max(1, round(trainer.steps / (recipe.epochs or 1)))

    def on_step(done: int, value: float) -> None:
        nonlocal saved
        weights.version = done
        if listener:
            listener("retraining", done, trainer.steps, {"loss": value})
        at_end = kept is not None and (done % epoch == 0 or done == trainer.steps)
        if at_end or time.perf_counter() - saved > CHECKPOINT_S:
            weights.save(last, state=True, facts=made)
            saved = time.perf_counter()
            if kept:
                kept(last, done, trainer.steps, value)

    try:
        train(trainer, lambda step: Turn((derivation,)), start=weights.version, on_step=on_step)
    except KeyboardInterrupt:
        weights.save(last, state=True, facts=made)
        raise
    trained = network_of(weights, derivation, tasks, seed=recipe.seed, device=device).cpu()
    after = measured(trained, tasks, recipe, split="test", evaluator="retrained")
    save_weights(trained, folder)
    metrics: list[JSON] = [asdict(m) for m in after if m.task]
    note(folder, test_before=_values(before), test_after=_values(after), epochs=recipe.epochs,
         measurements=metrics)  # fmt: skip
    last.unlink(missing_ok=True)
    return before, after


def _same(last: Path, made: dict[str, str]) -> None:
    """Raise ExportError where a checkpoint was made by another recipe than is asked for."""
    before = facts_of(last)
    for name, value in made.items():
        if before.get(name) != value:
            raise ExportError(
                f"{last} is of an interrupted retraining with {name} {before.get(name)}, and "
                f"{value} is asked for: repeat that one's options, or remove the file"
            )


def retrained(
    folder: Path, *, epochs: float | None = None, trust_code: bool = False
) -> list[Measurement] | None:
    """The test metrics that a retraining of as many epochs left in its folder, without costs;
    None where there was none, or it has not ended."""
    _, _, recipe, facts = load(folder, trust_code=trust_code)
    wanted = recipe.epochs if epochs is None else epochs
    found: Any = facts.get("measurements")
    if found is None or facts["epochs"] != wanted or (folder / "training.safetensors").exists():
        return None
    return [Measurement(**{**each, "value": float(each["value"])}) for each in found]


def _copy(network: Network, weights: Bank, plan: Plan) -> None:
    with torch.no_grad():
        for views, tensors in zip(weights.views(plan), network.tensors(), strict=True):
            for name, view in views.items():
                view.copy_(tensors[name])


def _values(measurements: list[Measurement]) -> dict[str, float]:
    return {f"{m.task}_{m.name}": m.value for m in measurements if m.task}


