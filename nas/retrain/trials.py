"""Trials of a run, retrained: here one after the other, or side by side as Tune trials."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from nas.archive import Archive, Measurement, Trial, plain
from nas.events import Listener, silent
from nas.export import facts
from nas.export.folder import read_record
from nas.front import Objective, ParetoFront
from nas.retrain.net import figures, retrain, retrained
from nas.retrain.options import BY_RECIPE, Retraining
from nas.search import load


def retrain_trials(
    folder: Path,
    ids: Sequence[str],
    options: Retraining = BY_RECIPE,
    *,
    on: str = "local",
    asha: bool = False,
    listener: Listener = silent,
) -> list[dict[str, Any]]:
    """Extract trials of a run to its `nets/ID`, retrain them, and add their test metrics to the
    archive. What comes back is a row a network and metric, with its values before and after. One
    that was retrained by the same recipe is not again.

    With `asha`, on Ray, those that fall behind are stopped and have no row. Raises ValueError
    without ids, and for `asha` elsewhere; ArchiveError for unknown ones.
    """
    if asha and on == "local":
        raise ValueError("asha compares trainings that run side by side: say --on ray")
    if not ids:
        raise ValueError(f"say which trials: nas retrain {folder} --id ID (see nas front {folder})")
    run = load(folder, trust_code=options.trust_code)
    trials = [run.trial(id) for id in dict.fromkeys(ids)]
    nets = [folder / "nets" / trial.id for trial in trials]
    rows: list[dict[str, Any]] = []
    with Archive.open(folder, write=True) as archive:
        for trial, net in zip(trials, nets, strict=True):
            if not net.exists():
                run.save(trial.id, net)

        def measured(net: Path, after: list[Measurement]) -> None:
            id = trials[nets.index(net)].id
            known = [plain(m) for m in archive.trial(id).measurements]
            new = [m for m in after if m.task and plain(m) not in known]
            if new:
                archive.measure({id: new})
            rows.extend(row_of(net, m) for m in after if m.task)

        if on == "local":
            for net in nets:
                done = retrained(net, options)
                measured(net, done or retrain(net, options, listener=listener)[1])
        else:
            from nas.retrain.tune import retrain_on_ray

            by_net = retrain_on_ray(
                nets, options, on=on, listener=listener, storage=folder / "tune", asha=asha
            )
            for net in nets:
                measured(net, by_net[net])
    return rows


def front_of(folders: Sequence[Path], objectives: Sequence[str] = ()) -> ParetoFront:
    """The front of retrained networks: by default each task's metric on the test split and FLOPs.

    Raises ExportError for a folder that is no network, ValueError for one that was not retrained.
    """
    trials, metrics = [], list[str]()
    for number, folder in enumerate(folders):
        record, known = read_record(folder), facts(folder)
        measured = [m for m in figures(known)[1] if m.task]
        if not measured:
            raise ValueError(f"{folder} was not retrained yet: nas retrain {folder}")
        for name in ("flops", "params"):
            measured.append(Measurement(name, getattr(record, name), evaluator="arithmetic"))
        id = sha256(f"{folder.resolve()}".encode()).hexdigest()[:8]
        trials.append(
            Trial(number, id, {"": str(folder)}, "finished", measurements=tuple(measured))
        )
        for task in record.tasks:
            alone = len(record.tasks) == 1
            name = f"test_{task.metric}"
            metrics.append(name if alone else f"{task.name.replace('-', '_')}_{name}")
    known_columns = {name for trial in trials for name in trial.columns()}
    names = objectives or [*dict.fromkeys(metrics), "flops"]
    return ParetoFront.of(trials, [Objective.named(name, known_columns) for name in names])


def row_of(net: Path, after: Measurement) -> dict[str, Any]:
    known = facts(net)
    before, trivial, seeds = (
        noted if isinstance(noted := known.get(name), dict) else {}
        for name in ("test_before", "trivial", "seeds")
    )
    name = f"{after.task}_{after.name}"
    means, deviations = (
        noted if isinstance(noted := seeds.get(of), dict) else {} for of in ("mean", "deviation")
    )
    over = {"mean": means[name], "deviation": deviations.get(name)} if name in means else {}
    return {
        "network": str(net),
        "task": after.task,
        "metric": after.name,
        "before": before.get(f"{after.task}_{after.name}"),
        "after": after.value,
        **over,
        "without looking": trivial.get(f"{after.task}_{after.name}"),
    }
