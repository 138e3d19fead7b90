"""Retraining an extracted network: the whole training split, test metrics before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nas.archive import Measurement, plain
from nas.evaluate import Conditions, Fidelity, network_of, network_scores
from nas.evaluate.alone import STATISTICS
from nas.events import Listener, Told, silent
from nas.export import ExportError, load, note, save_weights
from nas.export.curve import CURVE, Curve
from nas.export.folder import WEIGHTS, fill_by_name, read_record
from nas.files import sweep, write
from nas.journal import JSON
from nas.network import Network
from nas.retrain.fit import BEST, CHECKPOINT, Fit, Kept, bank_of, fit_in_child
from nas.retrain.options import BY_RECIPE, Retraining
from nas.retrain.teacher import teacher_of
from nas.search.apart import members, usual_processes
from nas.search.child import Died
from nas.search.crew import MOST_LOST
from nas.supernet.bank_file import facts_of, load_bank, save_bank
from nas.task import Task, trivial_score
from nas.train import Lost, Recipe, TrainingError, resolved

BEFORE = "weights.before.safetensors"


def retrain(
    folder: Path,
    options: Retraining = BY_RECIPE,
    *,
    listener: Listener = silent,
    kept: Kept | None = None,
) -> tuple[list[Measurement], list[Measurement]]:
    """Train the network of a `net` folder by its recipe, and keep its best weights there, by
    validation after each epoch; those that were there before stay beside them as
    weights.before.safetensors, and what was seen as curve.csv.

    It begins with new weights, or those that the options name: where the supernet's are nearly at
    rest, a fresh start has ended better.

    What comes back are the test metrics before and after. An interrupted retraining carries on
    from `training.safetensors`; a finished one starts anew. `kept` is told of each epoch: the
    checkpoint's file, steps done, all steps, and the curve's row.
    Raises ExportError for a folder that is no network, TrainingError where the loss is no number,
    DeviceError for a device that is not there.
    """
    network, tasks, recipe, source = load(folder, trust_code=options.trust_code)
    sweep(folder)
    device, recipe, last = resolved(options.device), options.changed(recipe), folder / CHECKPOINT
    training = options.facts(recipe, folder)
    if last.exists():
        known = _same(last, training)
        if source.get("training") == known["training"]:  # it had ended, but for this file
            return _end(folder, figures(source))
    else:
        teacher_of(options, tasks, device)  # which may not fit: nothing is written then
        known = _begin(folder, network, tasks, recipe, training, options, listener)
    _train(folder, options, device, recipe.parts, listener, kept)
    curve = Curve.read(facts_of(last).get("curve", "[]"))
    weights = bank_of(network.plan, recipe, device)
    load_bank(weights, folder / BEST)
    conditions = Conditions(tasks, recipe, device=device)
    trained = network_of(weights, network.derivation, conditions, STATISTICS).cpu()
    after = _tested(trained, tasks, recipe, "retrained")
    facts: dict[str, JSON] = {
        **training,
        "training": known["training"],
        "epochs": recipe.epochs,
        "best_epoch": curve.best["epoch"] if curve.best else recipe.epochs,
        "before": json.loads(known["before"]),
        "measurements": [plain(m) for m in after],
        "trivial": {
            f"{task.name}_{name}": value
            for task in tasks
            for name, value in trivial_score(task).items()
        },
    }
    save_weights(trained, folder, facts)  # the weights and what is said of them, at once
    return _end(folder, figures(facts))


def _begin(
    folder: Path,
    network: Network,
    tasks: Sequence[Task],
    recipe: Recipe,
    training: Mapping[str, str],
    options: Retraining,
    listener: Listener,
) -> dict[str, str]:
    """Write the checkpoint of no step; what it says of itself."""
    before = _tested(network, tasks, recipe, "extracted")
    weights = bank_of(network.plan, recipe, "cpu")
    if options.weights is not None:
        start = Network(network.derivation, network.plan.input, tasks, seed=recipe.seed)
        listener(Told(fill_by_name(start, options.weights)))
        weights.fill(start.plan, start.tensors())
    known = {**training, "training": token_hex(8), "before": json.dumps([*map(plain, before)])}
    write(folder / BEFORE, (folder / WEIGHTS).read_bytes())
    (folder / CURVE).unlink(missing_ok=True)
    save_bank(weights, folder / CHECKPOINT, state=True, facts=known)
    return known


def _train(
    folder: Path,
    options: Retraining,
    device: str,
    parts: int,
    listener: Listener,
    kept: Kept | None,
) -> None:
    """Train to the end, here or in several processes, of which one that is lost begins again."""
    processes = min(parts, usual_processes(device, options.processes))
    if processes == 1:
        Fit(folder, options, device, listener, kept=kept).run()
        return
    for lost in range(MOST_LOST + 1):
        try:
            where = folder.resolve(), options
            begin = partial(members(options.on), fit_in_child, *where, processes=processes)
            with closing(begin(device=device)) as events:
                for event in events:
                    listener(event)
            return
        except (Died, Lost) as death:
            if lost == MOST_LOST:
                raise TrainingError(f"a process was lost {lost + 1} times: {death}") from None
            listener(Told(f"goes on from the last checkpoint: {death}"))


def _tested(
    network: Network, tasks: Sequence[Task], recipe: Recipe, evaluator: str
) -> list[Measurement]:
    """A network's metrics on the test split, and its costs."""
    conditions, fidelity = Conditions(tasks, recipe, split="test"), Fidelity(epochs=recipe.epochs)
    return network_scores(network, conditions, evaluator=evaluator, fidelity=fidelity)


def _end(
    folder: Path, figures: tuple[list[Measurement], list[Measurement]]
) -> tuple[list[Measurement], list[Measurement]]:
    """Say in architecture.json what the weights' own file says already, and drop the checkpoint."""
    before, after = figures
    stale = {"seeds", "exports"} & read_record(folder).source.keys()  # of the weights before
    over: dict[str, JSON] = {name: {} for name in stale}
    note(folder, test_before=_values(before), test_after=_values(after), **over)
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)
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
        if before.get(name, "") != value:
            raise ExportError(
                f"{last} is of an interrupted retraining with {name} {before.get(name)}, and "
                f"{value} is asked for: repeat that one's options, or remove the file"
            )
    if "training" not in before or "before" not in before:
        raise ExportError(f"{last} is of an older version of nas: remove it to start anew")
    return before


def retrained(folder: Path, options: Retraining = BY_RECIPE) -> list[Measurement] | None:
    """The test metrics that a retraining by the same recipe left in its folder, without costs;
    None where there was none, or it has not ended."""
    _, _, recipe, facts = load(folder, trust_code=options.trust_code)
    training = options.facts(options.changed(recipe), folder)
    if any(facts.get(k, "") != v for k, v in training.items()) or (folder / CHECKPOINT).exists():
        return None
    return [m for m in figures(facts)[1] if m.task]


def _values(measurements: list[Measurement]) -> dict[str, float]:
    return {f"{m.task}_{m.name}": m.value for m in measurements if m.task}
