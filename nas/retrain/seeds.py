"""One network retrained several times, which differ by chance alone: how much that matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from statistics import mean, stdev

from nas.archive import Measurement
from nas.events import Listener, Told, silent
from nas.export import ExportError, load, note
from nas.export.curve import CURVE, Curve
from nas.export.folder import ARCHITECTURE, MODEL, RECIPE, WEIGHTS
from nas.files import new_folder, write
from nas.journal import JSON
from nas.retrain.net import BEFORE, retrain, retrained
from nas.retrain.options import BY_RECIPE, Retraining

SEEDS = "seeds"  # the folder in a network's own where each has one


def retrain_seeds(
    folder: Path, number: int, options: Retraining = BY_RECIPE, *, listener: Listener = silent
) -> list[Measurement]:
    """Retrain a network with `number` seeds, the recipe's and those that follow it, each in a
    folder of its own below `seeds`, from what there was before any retraining; the best by
    validation, of equal ones the first, is kept, and its test metrics come back. Their mean and
    deviation over seeds are noted with it. Interrupted, it goes on; seeds that were trained by the
    same recipe are not again.

    Raises ExportError for less than two, and what `retrain` raises.
    """
    if number < 2:
        raise ExportError(f"seeds {number}: give two or more, or none for a single training")
    _, _, recipe, _ = load(folder, trust_code=options.trust_code)
    first = options.changed(recipe).seed
    nets, measured = list[Path](), list[list[Measurement]]()
    before, recipe_toml = folder / BEFORE, (folder / RECIPE).read_bytes()
    from_own = options.weights is not None and options.weights.resolve() == folder.resolve()
    for seed in range(first, first + number):
        net = folder / SEEDS / str(seed)
        own = replace(options, seed=seed, weights=net if from_own else options.weights)
        if not net.exists():
            with new_folder(net) as part:
                for name in (MODEL, ARCHITECTURE):
                    write(part / name, (folder / name).read_bytes())
                start = before if before.exists() else folder / WEIGHTS
                write(part / WEIGHTS, start.read_bytes())
        if not (net / RECIPE).exists() or (net / RECIPE).read_bytes() != recipe_toml:
            write(net / RECIPE, recipe_toml)
        listener(Told(f"seed {seed}, {seed - first + 1} of {number}"))
        known = retrained(net, own)
        measured.append(retrain(net, own, listener=listener)[1] if known is None else known)
        nets.append(net)
    best = max(range(number), key=lambda n: (_merit(nets[n]), -n))
    if not before.exists():
        write(before, (folder / WEIGHTS).read_bytes())
    for name in (WEIGHTS, CURVE):
        if (nets[best] / name).exists():
            write(folder / name, (nets[best] / name).read_bytes())
    _, _, _, facts = load(nets[best], trust_code=options.trust_code)
    noted: dict[str, JSON] = {name: facts[name] for name in ("test_before", "test_after")}
    note(folder, **noted, seeds=_over_seeds(measured))
    return measured[best]


def _merit(net: Path) -> float:
    """The best of a network's validation, the least there is where nothing was seen of it."""
    best = Curve.load(net).best
    return best["merit"] if best else -inf


def _over_seeds(measured: Sequence[Sequence[Measurement]]) -> dict[str, JSON]:
    """How many seeds there were, and of each task's metrics the mean and deviation over them."""
    values = dict[str, list[float]]()
    for measurements in measured:
        for m in measurements:
            if m.task:
                values.setdefault(f"{m.task}_{m.name}", []).append(m.value)
    return {
        "number": len(measured),
        "mean": {name: mean(of_all) for name, of_all in values.items()},
        "deviation": {name: stdev(of_all) for name, of_all in values.items()},
    }
