"""The page of a run: everything that is said on it, worked out here, and laid out by page.html."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from nas.archive import Archive, Measurement, Trial
from nas.evaluate import BANKED, EVALUATORS, SHARED
from nas.files import write
from nas.front import Limit, Objective, ParetoFront
from nas.measure import cost_columns, cost_named
from nas.measure.cost import MEANINGS
from nas.report import text
from nas.report.choices import choices
from nas.report.details import details
from nas.report.failures import failures
from nas.report.figures import figure, planes, usual_costs
from nas.report.history import drawing, histories
from nas.report.learning import curves
from nas.report.matters import matters
from nas.report.names import Names, column
from nas.report.steered import steered
from nas.report.trust import trust
from nas.search import Run

PACKAGES = ("nas-engine", "python", "torch")
DRAWN = 800  # trials that are drawn beside those of a front
KINDS, LISTED = 40, 100  # of failures that are told, and trials of each by id
NOTED = {
    "bank": "training shared weights",
    "scored": "calibrating",
    "finalist": "training finalists",
}
RETRAINED = {
    "retrained": "extracted, then trained fully",
    "extracted": "extracted, not trained further",
}
MEANS = {**{e.name: e.means for e in EVALUATORS.values()}, **RETRAINED, **MEANINGS}


class Shown(NamedTuple):
    """A front with its figures and table: its title, the task it is of ("" for all together), and
    the limits that it keeps."""

    title: str
    task: str
    front: ParetoFront
    limits: Sequence[Limit]


def report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, by default to its folder's report.html; what comes back is where.

    The file is whole or not there: an older page stays until the new one is complete.
    """
    path = run.folder / "report.html" if path is None else Path(path)
    page = render(run).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, page)
    return path


def render(run: Run) -> str:
    """The page as HTML. It is whole: it asks for nothing from anywhere, and works from a file."""
    trials, fronts = run.trials, run.fronts()
    names = Names.of(run, trials, fronts.values())
    shown = [
        Shown(f"The front for {task}" if task else "The front", task, front, run.aim(task).limits)
        for task, front in fronts.items()
    ]
    shown += _retrained(run, trials)
    chosen = {trial.id for entry in shown for trial in entry.front.trials}
    drawn = _thinned(trials, chosen)
    here = Environment(
        loader=PackageLoader("nas.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    trivial = run.trivial
    sections = [
        _section(number, entry, drawn, names, trivial) for number, entry in enumerate(shown)
    ]
    columns = _columns(drawn, [entry.front for entry in shown], names)
    data = {
        "trials": details(run, drawn, fronts, names, [name for name, *_ in columns]),
        "figures": [section.pop("figures") for section in sections],
        "first": [e.front.trials[0].id if e.front.trials else None for e in shown],
        "columns": columns,
        "thinned": len(drawn) < len(trials),
        "fronts": [_rule(entry, drawn) for entry in shown],
    }
    return here.get_template("page.html").render(
        space=_space(run),
        tasks=run.named,
        facts=_facts(run, trials),
        sections=sections,
        failures=failures(run, trials),
        most=LISTED,
        kinds=KINDS,
        all_failed=bool(trials) and all(trial.state == "failed" for trial in trials),
        finished=_finished(trials),
        drawn=len(drawn) if len(drawn) < len(trials) else 0,
        gain=str(run.gain or ""),
        trivial=[(names.label(k), text.human(k, value)) for k, value in trivial.items()],
        objectives=[(names.label(o.name), o.name, o.maximize) for o in run.objectives],
        limits=[
            (
                names.label(m.name),
                str(m),
                ("at least " if m.least else "at most ") + text.human(m.name, m.bound),
            )
            for m in run.limits
        ],
        histories=[drawing(history) for history in histories(run, trials)],
        curves=curves(run, trials, chosen),
        matters=list(filter(None, [matters(run, trials, next(iter(fronts.values())))])),
        label=names.label,
        choices=choices(run, fronts),
        steered=steered(run, names),
        trust=trust(run.folder / "trust.json"),
        provenance=_provenance(trials, names),
        reading=_reading(trials),
        after=bool(names.after),
        folder=text.shown(run.folder),
        settings=_file(run.folder / "run.toml"),
        grammar=_file(run.folder / "space.grammar"),
        data=data,
        plotly=_plotly(),
    )


def _retrained(run: Run, trials: Sequence[Trial]) -> list[Shown]:
    """The fronts of what was retrained, by the test split and FLOPs, whatever the limits: of each
    task of which two trials and more were."""
    known = {name for trial in trials for name in trial.columns()}
    alone, shown = len(run.named) == 1, list[Shown]()
    for task in run.named:
        prefix = "" if alone else task.name.replace("-", "_") + "_"
        column = f"{prefix}test_{task.metric}"
        tested = [trial for trial in trials if trial.value(column) is not None]
        if len(tested) > 1:
            objectives = [Objective.named(name, known) for name in (column, "flops")]
            aim = task.name if run.settings.per_task else ""
            title = "What was retrained, on the test split" + ("" if alone else f": {task.name}")
            shown.append(Shown(title, aim, ParetoFront.of(tested, objectives), ()))
    return shown


def _columns(
    trials: Sequence[Trial], fronts: Iterable[ParetoFront], names: Names
) -> list[tuple[str, str, bool]]:
    """Each column that may be an axis: its name, its label, whether it is a cost."""
    measured = {name for trial in trials for name in trial.columns()}
    asked = [entry.name for front in fronts for entry in front.objectives]
    return [
        (name, names.label(name), cost_named(name) is not None)
        for name in dict.fromkeys([*names.columns, *cost_columns(measured), *asked])
        if name in measured
    ]


def _rule(shown: Shown, trials: Sequence[Trial]) -> dict[str, Any]:
    """By what a front is chosen, from which trials, and which are on it: objectives with the sign
    by which less is better, trials by their place among those drawn."""
    place = {trial.id: i for i, trial in enumerate(trials)}
    asked = [objective.name for objective in shown.front.objectives]
    return {
        "objectives": [(o.name, -1 if o.maximize else 1) for o in shown.front.objectives],
        "candidates": [
            place[trial.id]
            for trial in _finished(trials)
            if all(math.isfinite(trial.columns().get(name, math.nan)) for name in asked)
            and all(limit.keeps(trial.columns()) for limit in shown.limits)
        ],
        "members": [place[trial.id] for trial in shown.front.trials],
    }


def _thinned(trials: Sequence[Trial], chosen: Collection[str]) -> tuple[Trial, ...]:
    """The trials of the fronts, and of the others as many, evenly taken, as a page may hold."""
    others = [trial for trial in trials if trial.id not in chosen]
    every = -(-len(others) // DRAWN) if others else 1
    kept = set(chosen) | {trial.id for trial in others[::every]}
    return tuple(trial for trial in trials if trial.id in kept)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _finished(trials: Iterable[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.state == "finished"]


def _space(run: Run) -> str:
    """The space's name: of a path only the file's."""
    return Path(run.settings.space).name.removesuffix(".grammar")


def _file(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _facts(run: Run, trials: Sequence[Trial]) -> list[str]:
    """The run in a line: counts, time, device, seed, versions."""
    failed = sum(trial.state == "failed" for trial in trials)
    stopped = sum(trial.state == "stopped" for trial in trials)
    with Archive.open(run.folder) as archive:
        notes = archive.notes()
    spent = {
        words: sum(float(str(note["seconds"])) for note in notes if note["kind"] == kind)
        for kind, words in NOTED.items()
    }
    spent["evaluating"] = sum(trial.seconds for trial in trials)
    dates = [str(note[key]) for note in notes for key in ("date", "started") if note.get(key)]
    machine = run.facts.get("machine", {})
    measured = (m for trial in trials for m in trial.measurements)
    scored = [m.device for m in measured if m.task and m.device and m.split == "valid"]
    device = scored[-1] if scored else ""
    where = machine.get("processor") if device == "cpu" else None
    versions = run.facts.get("versions", {})
    return [
        f"{len(_finished(trials))} finished, {failed} failed" if trials else "no trials yet",
        *([f"{stopped} stopped early"] if stopped else []),
        *(f"{text.duration(spent_s)} of {words}" for words, spent_s in spent.items() if spent_s),
        *dates[:1],
        *([device + (f" ({where})" if where else "")] if device else []),
        f"seed {run.settings.seed}",
        *(f"{name} {versions[name]}" for name in PACKAGES if name in versions),
    ]


def _section(
    number: int, shown: Shown, trials: Sequence[Trial], names: Names, trivial: Mapping[str, float]
) -> dict[str, Any]:
    """A front: its figures by plane, and its table."""
    front = shown.front
    looked_at = [plane for plane in planes(front, trials) if _finished(trials)]
    return {
        "number": number,
        "name": shown.task,
        "size": len(front.trials),
        "title": shown.title,
        "limited": bool(shown.limits),
        "objectives": text.listed([names.label(objective.name) for objective in front.objectives]),
        "ys": {y.name: names.label(y.name) for y, _ in looked_at},
        "xs": {x: names.label(x) for _, x in looked_at},
        "figures": {
            f"{y.name} {x}": figure(front, trials, y, x, shown.limits, names.label, trivial)
            for y, x in looked_at
        },
        **_table(front, shown.task, names),
    }


def _table(front: ParetoFront, task: str, names: Names) -> dict[str, Any]:
    """The front's rows: metrics, the same after retraining, costs; each value short and exact."""
    asked = {entry.name: entry.maximize for entry in front.objectives}
    measured = {name for trial in front.trials for name in trial.columns()}
    prefix = task.replace("-", "_") + "_" if task else ""
    after = [
        name
        for name in names.columns
        if name in names.after and name.startswith(prefix) and not name.endswith("nll")
    ]
    metrics = [name for name in asked if cost_named(name) is None]
    costs = usual_costs(measured, asked)
    shown = [name for name in [*metrics, *after, *costs] if name in measured]
    heads = [(name, names.label(name), asked.get(name, name not in costs)) for name in shown]
    rows = [
        (entry.id, [_cell(name, entry.value(name)) for name in shown]) for entry in front.trials
    ]
    return {"heads": heads, "rows": rows}


def _cell(name: str, value: float | None) -> tuple[str, str, float | None]:
    return text.human(name, value), text.exact(name, value), value


def _provenance(trials: Sequence[Trial], names: Names) -> list[dict[str, Any]]:
    """How each column was measured: a row for each way there is, in the order of the columns."""
    ways: Counter[tuple[str, Measurement]] = Counter()
    for trial in trials:
        for measurement in trial.measurements:
            way = Measurement(
                measurement.name,
                0.0,
                measurement.unit,
                measurement.task,
                measurement.split,
                measurement.evaluator,
                None,
                measurement.fidelity,
                None,
                measurement.device,
            )
            ways[column(measurement, names.tasks, names.columns), way] += 1
    order = {name: i for i, name in enumerate(names.columns)}
    return [
        {
            "name": name,
            "label": names.label(name),
            "unit": way.unit,
            "split": way.split or "",
            "evaluator": way.evaluator,
            "means": MEANS.get(way.evaluator, ""),
            "fidelity": way.fidelity,
            "device": way.device,
            "count": count,
        }
        for (name, way), count in sorted(ways.items(), key=lambda item: order[item[0][0]])
    ]


def _reading(trials: Sequence[Trial]) -> str:
    """How far the validation figures can be trusted, in a sentence or two."""
    evaluators = {
        measurement.evaluator
        for trial in trials
        for measurement in trial.measurements
        if measurement.task
    }
    if SHARED in evaluators:
        how = "on the validation split, with weights that all trials of the run share"
    elif evaluators & set(BANKED):
        how = "on the validation split, each trained on for a few steps from weights that all share"
    elif evaluators & EVALUATORS.keys():
        how = "on the validation split, each network trained alone for the time stated"
    else:
        return ""
    return (
        f"Metrics were measured {how}. They ranked and chose these networks, so they are no "
        "estimate of what a network reaches once retrained. Test figures, of retrained networks "
        "above all, are columns of their own."
    )
