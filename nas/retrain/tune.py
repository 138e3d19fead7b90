"""Networks retrained side by side, each a Ray Tune trial.

Tune's memory is not used: what a retraining reached stands in its folder.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nas.archive import Measurement
from nas.events import Listener, StepDone, silent
from nas.export.curve import Curve, Row
from nas.export.folder import RECIPE
from nas.export.recipe import read_recipe
from nas.retrain.net import retrain, retrained
from nas.retrain.options import BY_RECIPE, Retraining
from nas.search import RunError
from nas.search.ray import connected, own_device, settle
from nas.train import resolved


def retrain_on_ray(
    folders: Sequence[Path],
    options: Retraining = BY_RECIPE,
    *,
    on: str,
    listener: Listener = silent,
    storage: Path,
    again: bool = False,
    asha: bool = False,
) -> dict[Path, list[Measurement]]:
    """Retrain the networks of some `net` folders side by side, a Tune trial each; their test
    metrics. Folders and `storage`, where Tune keeps its files, are seen by all machines of a
    cluster under the same path.

    Interrupted ones carry on from their `training.safetensors`; those that have been retrained
    by the same recipe are not again, unless `again`. With `asha` (Li et al. 2020, arXiv 1810.05934)
    those that are behind by validation after a ninth, and a third, of the epochs are stopped, two
    of three each time: they have no metrics, and carry on if they are asked for again. Raises
    RunError naming those that failed, after the others have finished, and for `asha` where
    validation is learned from.
    """
    if asha and options.whole:
        raise RunError("asha compares by validation, which train+valid learns: say one of both")
    options = replace(options, processes=1)  # each trial is one
    todo = [f for f in folders if again or retrained(f, options) is None]
    if todo:
        with connected(on, min(len(todo), os.cpu_count() or 1)):
            failed = _tune(todo, options, listener, storage, asha)
        if failed:
            reasons = "; ".join(f"{folder}: {reason}" for folder, reason in failed.items())
            raise RunError(
                f"{len(failed)} of {len(folders)} networks were not retrained: {reasons}"
            )
    return {folder: retrained(folder, options) or [] for folder in folders}


def _tune(
    folders: Sequence[Path], options: Retraining, listener: Listener, storage: Path, asha: bool
) -> dict[str, str]:
    """Run the trials; the reasons of those that failed, by folder."""
    from ray import tune

    gpus, own = own_device(resolved(options.device))
    words = asdict(replace(options, device=own, processes=1, on="local"))
    name = time.strftime("retrain-%Y%m%d-%H%M%S")
    storage.mkdir(parents=True, exist_ok=True)
    paths = {str(folder.resolve()): folder for folder in folders}
    tuner = tune.Tuner(
        tune.with_resources(_trial, {"cpu": 1, "gpu": gpus}),
        param_space={
            "folder": tune.grid_search(list(paths)),
            "where": os.getcwd(),
            "options": words,
        },
        tune_config=tune.TuneConfig(
            trial_dirname_creator=lambda trial: _safe(trial.config["folder"], trial.trial_id),
            scheduler=_halving(folders, options) if asha else None,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage.resolve()),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            callbacks=[_progress(listener, len(paths))],
        ),
    )
    tuning = logging.getLogger("ray.tune")
    level = tuning.level
    tuning.setLevel(logging.CRITICAL)  # it logs the tracebacks of what is raised in one line here
    try:
        results: Any = tuner.fit()
        return {
            str(paths[result.config["folder"]]): str(result.error).strip().splitlines()[-1]
            for result in results
            if result.error and result.config
        }
    finally:
        tuning.setLevel(level)
        _forget(storage / name)


def _halving(folders: Sequence[Path], options: Retraining) -> Any:
    """ASHA over epochs, by validation; the report of the test metrics comes after the last one."""
    from ray.tune.schedulers import ASHAScheduler

    epochs = max(options.changed(read_recipe(folder / RECIPE)).epochs for folder in folders)
    first = max(1, round(epochs / 9))
    return ASHAScheduler(
        time_attr="epoch",
        metric="merit",
        mode="max",
        max_t=5 * first,  # so that there are two rungs, at `first` and thrice that
        grace_period=first,
        reduction_factor=3,
        stop_last_trials=False,
    )


def _forget(experiment: Path) -> None:
    """Remove what Tune would restore from: pickles, which a run has none of. Checkpoints stay."""
    for path in [*experiment.glob("*"), *experiment.glob("*/error.*")]:
        if path.is_file():
            path.unlink()


def _safe(folder: str, id: str) -> str:
    """A trial's own folder: Ray would take any path."""
    return re.sub(r"[^\w-]", "-", Path(folder).name) + f"-{id}"


def _trial(config: dict[str, Any]) -> None:
    """Retrain one folder; Tune hears of every epoch, with the checkpoint, and of the result."""
    from ray import tune

    settle(config["where"])

    def kept(checkpoint: Path, done: int, total: int, row: Row) -> None:
        with tempfile.TemporaryDirectory(prefix="nas-") as copy:
            shutil.copy(checkpoint, copy)
            names = ("epoch", "merit", "loss")
            facts = {"steps": done, "of": total, **{name: row[name] for name in names}}
            tune.report(facts, checkpoint=tune.Checkpoint.from_directory(copy))

    folder = Path(config["folder"])
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not seen by this machine of the cluster")
    _, after = retrain(folder, Retraining(**config["options"]), kept=kept)
    tested = {f"{m.task}_test_{m.name}": m.value for m in after if m.task}
    best = Curve.load(folder).best or {"epoch": 0, "merit": 0}
    tune.report({**tested, "epoch": best["epoch"], "merit": best["merit"]})


def _progress(listener: Listener, count: int) -> Any:
    """A Tune callback that tells of the steps of all trials together."""
    from ray.tune import Callback

    seen: dict[str, tuple[int, int]] = {}

    class Progress(Callback):
        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
        ) -> None:
            if "steps" not in result:
                return
            seen[trial.trial_id] = result["steps"], result["of"]
            total = sum(of for _, of in seen.values())
            total += (count - len(seen)) * max(of for _, of in seen.values())
            done = sum(steps for steps, _ in seen.values())
            listener(StepDone("retraining", done, total, {"loss": result["loss"]}))

    return Progress()
